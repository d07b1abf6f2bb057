"""What the tests of the HTTP APIs share."""

from collections.abc import Iterator

import pytest

from tests.http.client import HttpClient
from tests.server import ServerProcess

HTTP = ("--http", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a module share: each uses queues and ids of its own."""
    with ServerProcess(*HTTP) as process:
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[HttpClient]:
    """A connection to the HTTP listener of `server`."""
    with HttpClient(server) as client:
        yield client

"""A server with the HQ door, a web worker that it sends jobs to, and short ways to use both."""

from collections.abc import Iterator

import pytest

from tests.http.hq.door import Hq
from tests.server import ServerProcess
from tests.webworker import WebWorker

FLAGS = ("--http", "127.0.0.1:0", "--hq-listen", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a module share: each looks at jobs of its own."""
    with ServerProcess(*FLAGS) as process:
        yield process


@pytest.fixture
def hq(server: ServerProcess) -> Iterator[Hq]:
    """A client of the door of `server`, at the root of its own listener."""
    with Hq(server) as client:
        yield client


@pytest.fixture
def worker() -> Iterator[WebWorker]:
    with WebWorker() as worker:
        yield worker

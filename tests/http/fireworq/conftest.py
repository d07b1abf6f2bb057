"""A server with the Fireworq door, and a web worker behind it."""

from collections.abc import Iterator

import pytest

from tests.http.client import HttpClient
from tests.http.fireworq.workers import Fireworq
from tests.server import ServerProcess
from tests.webworker import WebWorker

FLAGS = ("--fireworq-listen", "127.0.0.1:0", "--http", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*FLAGS) as process:
        yield process


@pytest.fixture
def worker() -> Iterator[WebWorker]:
    with WebWorker() as web_worker:
        yield web_worker


@pytest.fixture(params=["root", "mounted"])
def http(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[HttpClient]:
    """The door at the root of its own listener, and below the path that it has beside our own API."""
    with HttpClient(server, *(("fireworq", "") if request.param == "root" else ("", "/fireworq"))) as client:
        yield client


@pytest.fixture
def fireworq(server: ServerProcess, worker: WebWorker) -> Iterator[Fireworq]:
    """The door at the root, and a web worker."""
    with HttpClient(server, "fireworq") as client:
        yield Fireworq(client, worker)

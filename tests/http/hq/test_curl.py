"""The line of HQ's manual, as somebody types it who has HQ's port in his fingers."""

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.http.hq.door import Hq
from tests.http.ports import need
from tests.server import PATIENCE_S, ServerProcess
from tests.webworker import WebWorker

HQ_PORT = 19900
WORKER_PORT = 8000


@pytest.fixture(autouse=True)
def free_ports() -> None:
    """These ports are in the line, so they have to be free."""
    need(HQ_PORT, WORKER_PORT)


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--hq-listen", f"127.0.0.1:{HQ_PORT}") as server:
        yield server


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_it_works_to_the_letter(server: ServerProcess) -> None:
    line = (
        'curl -XPOST http://localhost:19900/job -H "Content-Type: application/json" '
        """-d '{"url": "http://localhost:8000/", "payload": {"message": "Hello world!"}}'"""
    )
    with WebWorker(port=WORKER_PORT) as worker, Hq(server) as hq:
        ended = subprocess.run(line, shell=True, capture_output=True, timeout=PATIENCE_S, check=True)
        job = json.loads(ended.stdout)
        assert (job["status"], job["payload"]) == ("unfinished", {"message": "Hello world!"})
        (request,) = worker.wait_for_requests(1)
        assert request.body == b'{"message": "Hello world!"}'
        assert hq.finished(job["id"])["status"] == "success"

"""The lines of the manuals, as somebody types them who has the ports of the old servers in his fingers."""

import json
import shutil
import subprocess

import pytest

from tests.http.fireworq.workers import says
from tests.http.ports import need
from tests.server import PATIENCE_S, ServerProcess
from tests.webworker import WebWorker

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


def typed(line: str) -> str:
    """What a line in a shell prints."""
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout


def test_fireworqs_line_works_to_the_letter() -> None:
    need(8080, 3000)
    line = (
        """curl -XPOST -d '{"url":"http://localhost:3000/work","payload":{"id":12345}}' http://localhost:8080/job/foo"""
    )
    with (
        WebWorker({"/work": says("success")}, port=3000) as worker,
        ServerProcess("--fireworq-listen", "127.0.0.1:8080"),
    ):
        pushed = json.loads(typed(line))
        assert (pushed["id"], pushed["queue_name"], pushed["category"]) == (1, "default", "foo")
        (request,) = worker.wait_for_requests(1)
        assert (request.path, request.body) == ("/work", b'{"id":12345}')


def test_the_line_of_the_message_queue_works_to_the_letter() -> None:
    need(9999)
    line = "curl -XPOST 'http://localhost:9999/queues?name=q1&max_attempts=5&visibility_timeout_seconds=30'"
    with ServerProcess("--messages-listen", "127.0.0.1:9999"):
        assert typed(line) == ""
        shown = json.loads(typed("curl http://localhost:9999/queues/q1"))
        assert (shown["max_attempts"], shown["visibility_timeout_seconds"]) == (5, 30)

"""A client of the HQ door for tests."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.http.client import Answer, HttpClient
from tests.server import PATIENCE_S, ServerProcess

# Nobody listens there: a job that is sent to it fails at once.
NOWHERE = "http://127.0.0.1:1/"
KEYS = (
    "canceled",
    "comment",
    "createdAt",
    "err",
    "failure",
    "finishedAt",
    "headers",
    "id",
    "name",
    "output",
    "payload",
    "running",
    "startedAt",
    "status",
    "statusCode",
    "success",
    "timeout",
    "url",
    "waiting",
)


class Hq(HttpClient):
    """A connection to the door, unless told otherwise at the root of its own listener."""

    def __init__(self, server: ServerProcess, door: str = "hq", prefix: str = "") -> None:
        super().__init__(server, door, prefix)

    def push(self, url: str, **fields: object) -> Any:
        """Push a job; the job object that is answered."""
        answer = self.post("/job", {"url": url, **fields})
        assert answer.status == 200, answer.text
        return answer.json

    def job(self, job_id: str) -> Any:
        """The job object of a job."""
        answer = self.get(f"/job/{job_id}")
        assert answer.status == 200, answer.text
        return answer.json

    def wait_for(self, job_id: str, *statuses: str) -> Any:
        """Ask until the job has one of `statuses`; the job object then."""
        give_up = time.monotonic() + PATIENCE_S
        while (job := self.job(job_id))["status"] not in statuses:
            assert time.monotonic() < give_up, f"it does not become {statuses}: {job}"
        return job

    def finished(self, job_id: str) -> Any:
        """Ask until the job has finished; the job object then."""
        return self.wait_for(job_id, "success", "failure", "canceled")

    def done(self, url: str, **fields: object) -> Any:
        """Push a job and wait until it has finished."""
        return self.finished(self.push(url, **fields)["id"])

    def list(self, query: str = "") -> Any:
        """The answer to a list request."""
        answer = self.get(f"/job?{query}")
        assert answer.status == 200, answer.text
        return answer.json


def error_of(answer: Answer, status: int) -> str:
    """The text of an error, after checking that it has the form of all errors."""
    assert answer.status == status, answer.text
    assert answer.type == "application/json; charset=UTF-8"
    assert set(answer.json) == {"status", "error"}
    assert answer.json["status"] == status
    return str(answer.json["error"])


@contextlib.contextmanager
def configured(settings: str, *flags: str, listen: str | None = "127.0.0.1:0") -> Iterator[ServerProcess]:
    """A server with the door, started with a TOML file of this text, and flags."""
    flags += () if listen is None else ("--hq-listen", listen)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "workq.toml"
        file.write_text(settings)
        with ServerProcess("--config", str(file), *flags) as server:
            yield server

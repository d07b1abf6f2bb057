"""The queue log: a line of JSON for what happens to each job."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import HttpClient
from tests.http.fireworq.conftest import FLAGS
from tests.http.fireworq.workers import Fireworq, says
from tests.server import ServerProcess, run_server
from tests.webworker import WebWorker

KEYS = [
    *("level", "time", "tag", "action", "queue", "category", "id", "status", "created_at", "elapsed", "url", "payload"),
    *("next_try", "retry_count", "retry_delay", "fail_count", "timeout", "message"),
]


@contextmanager
def logging(file: Path, worker: WebWorker, **variables: str) -> Iterator[Fireworq]:
    """A door that logs into a file."""
    env = {
        "FIREWORQ_QUEUE_LOG": str(file),
        **{f"FIREWORQ_QUEUE_LOG_{key.upper()}": variables[key] for key in variables},
    }
    with ServerProcess(*FLAGS, env=env) as server:
        with HttpClient(server, "fireworq") as http:
            yield Fireworq(http, worker)
        stop(server)
        assert "Traceback" not in server.log()


def stop(server: ServerProcess) -> None:
    """End the server in good order, so that all lines are written."""
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_happens_to_a_job_is_told(tmp_path: Path, worker: WebWorker) -> None:
    file = tmp_path / "queue.log"
    worker.behaviours["/x"] = says("failure", "no luck")
    with logging(file, worker) as fireworq:
        queue = fireworq.queue()
        fireworq.push(queue, "/x", payload={"a": 1}, max_retries=1, timeout=9)
        fireworq.wait_until_completed(queue, 1)
        fireworq.push(queue, "/ok", payload="text")
        fireworq.wait_until_completed(queue, 2)
    told = lines(file)
    assert [list(line) for line in told] == [KEYS] * 5
    assert [(line["action"], line["status"], line["id"]) for line in told] == [
        ("push", "claimed", 1),
        ("retry", "claimed", 1),
        ("complete", "failed", 1),
        ("push", "claimed", 2),
        ("complete", "completed", 2),
    ]
    assert [(line["retry_count"], line["fail_count"]) for line in told[:3]] == [(1, 0), (0, 1), (0, 2)]
    assert [line["message"] for line in told] == ["", "no luck", "no luck", "", ""]
    for line in told:
        assert (line["level"], line["tag"], line["queue"], line["category"]) == ("info", "fireworq.queue", queue, queue)
        assert line["created_at"] <= line["time"] == line["created_at"] + line["elapsed"]
    assert (told[0]["payload"], told[3]["payload"], told[0]["timeout"]) == ('{"a": 1}', "text", 9)
    assert told[1]["next_try"] >= told[0]["next_try"] > 0


def test_jobs_that_are_taken_are_told_for_debugging(tmp_path: Path, worker: WebWorker) -> None:
    file = tmp_path / "queue.log"
    with logging(file, worker, level="debug", tag="here") as fireworq:
        queue = fireworq.queue()
        fireworq.push(queue)
        fireworq.wait_until_completed(queue, 1)
    told = {line["action"]: line for line in lines(file)}
    assert {action: told[action]["status"] for action in told} == {
        "push": "claimed",
        "pop": "grabbed",
        "complete": "completed",
    }
    assert {line["tag"] for line in told.values()} == {"here"}
    assert told["pop"]["level"] == "debug"


@pytest.mark.parametrize("level", ["warn", "3"])
def test_nothing_is_bad_enough_for_a_higher_level(tmp_path: Path, worker: WebWorker, level: str) -> None:
    file = tmp_path / "queue.log"
    worker.behaviours["/x"] = says("permanent-failure")
    with logging(file, worker, level=level) as fireworq:
        queue = fireworq.queue()
        fireworq.push(queue, "/x")
        fireworq.wait_until_completed(queue, 1)
    assert file.read_text() == ""


def test_jobs_of_others_in_the_queue_do_no_harm(tmp_path: Path, worker: WebWorker) -> None:
    file = tmp_path / "queue.log"
    env = {"FIREWORQ_QUEUE_LOG": str(file), "FIREWORQ_QUEUE_LOG_LEVEL": "debug"}
    with ServerProcess(*FLAGS, env=env) as server:
        with HttpClient(server, "fireworq") as http, HttpClient(server) as own:
            fireworq = Fireworq(http, worker)
            queue = fireworq.queue()
            fireworq.push(queue)
            fireworq.wait_until_completed(queue, 1)
            assert own.post("/v1/jobs", {"queue": f"fireworq.{queue}", "url": worker.url("/ok")}).status == 201
            worker.wait_for_requests(2)
            fireworq.wait_until_completed(queue, 2)
        stop(server)
    assert {line["id"] for line in lines(file)} == {1}


def test_what_cannot_be_written_is_told_and_stops_no_job(tmp_path: Path, worker: WebWorker) -> None:
    file = tmp_path / "logs" / "queue.log"
    file.parent.mkdir()
    with ServerProcess(*FLAGS, env={"FIREWORQ_QUEUE_LOG": str(file)}) as server:
        with HttpClient(server, "fireworq") as http:
            fireworq = Fireworq(http, worker)
            queue = fireworq.queue()
            file.unlink()
            file.parent.rmdir()
            fireworq.push(queue)
            fireworq.wait_until_completed(queue, 1)
        stop(server)
    told = [line.split(" ", 2)[2] for line in server.log().splitlines() if "queue log" in line]
    assert told == [f"ERROR cannot write the queue log {file}: No such file or directory"]


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    config = tmp_path / "workq.toml"
    config.write_text(f'[fireworq]\nqueue_log = "{tmp_path}"\n')
    ended = run_server("--port", "0", "--http", "127.0.0.1:0", "--config", str(config))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"workq-server: cannot write {tmp_path}: Is a directory"

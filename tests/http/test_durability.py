"""HTTP and the command log: what was answered is on disk, and what cannot be written is not done."""

import errno
import os
import resource
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.http.client import HttpClient, until
from tests.server import ServerProcess

HTTP = ("--http", "127.0.0.1:0")


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    flags = (*HTTP, f"--data-dir={tmp_path}")
    with ServerProcess(*flags) as server:

        def produce(queue: str) -> list[str]:
            with HttpClient(server) as http:
                return [http.post("/v1/jobs", {"queue": queue, "payload": "x"}).json["id"] for _ in range(50)]

        with ThreadPoolExecutor(8) as threads:
            added = [job_id for ids in threads.map(produce, ["a", "b"] * 4) for job_id in ids]
        with HttpClient(server) as http:
            done = http.post("/v1/queues/a/lease").json["jobs"][0]["id"]
            assert http.post(f"/v1/jobs/{done}/complete", {"result": "y"}).status == 204
            server.kill()
    assert len(set(added)) == 400
    with ServerProcess(*flags) as server, HttpClient(server) as http:
        for job_id in added:
            expected = "completed" if job_id == done else "new"
            assert http.get(f"/v1/jobs/{job_id}").json["state"] == expected
        assert http.get(f"/v1/jobs/{done}/result").json["result"] == "y"


def test_a_long_poll_is_answered_when_its_lease_is_on_disk(tmp_path: Path) -> None:
    flags = (*HTTP, f"--data-dir={tmp_path}")
    with ServerProcess(*flags) as server:
        with HttpClient(server) as http, HttpClient(server) as worker:
            worker.send("POST", "/v1/queues/a/lease", json={"wait_ms": 60_000})
            job_id = http.post("/v1/jobs", {"queue": "a"}).json["id"]
            assert worker.answer().json["jobs"][0]["id"] == job_id
        server.kill()
    with ServerProcess(*flags) as server, HttpClient(server) as http:
        assert http.get(f"/v1/jobs/{job_id}").json["attempts"] == 1


def test_a_full_disk_refuses_changes_and_nothing_else(tmp_path: Path) -> None:
    with (
        ServerProcess(*HTTP, f"--data-dir={tmp_path}", "--log-segment-size=1MiB") as server,
        HttpClient(server) as http,
    ):
        kept = http.post("/v1/jobs", {"queue": "a"}).json["id"]
        unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (500_000, unlimited[1]))
        job_id = str(uuid.uuid4())
        while (answer := http.post("/v1/jobs", {"queue": "a", "id": job_id, "payload": "x" * 50_000})).status == 201:
            job_id = str(uuid.uuid4())
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        reason = f"Nothing was changed: the command log cannot grow: {os.strerror(errno.EFBIG)}"
        assert answer.json["detail"] == reason
        assert http.get(f"/v1/jobs/{job_id}").status == 404
        assert http.get(f"/v1/jobs/{kept}").status == 200
        assert http.post("/v1/queues/a/lease").status == 503
        ready = http.get("/readyz")
        assert (ready.status, ready.text) == (503, f"{reason}\n")
        assert http.get("/healthz").status == 200
        assert "workq_accepting 0.0" in http.get("/metrics").text
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
        until(lambda: http.get("/readyz").status == 200)
        assert http.post("/v1/jobs", {"queue": "a", "id": job_id}).status == 201


def is_waited(metrics: str) -> bool:
    return 'workq_waiters{for="job"} 1.0' in metrics and 'workq_waiters{for="result"} 2.0' in metrics


def test_stopping_answers_long_polls_and_keeps_what_was_done(tmp_path: Path) -> None:
    flags = (*HTTP, f"--data-dir={tmp_path}")
    with ServerProcess(*flags) as server, HttpClient(server) as http:
        job_id = http.post("/v1/jobs", {"queue": "a"}).json["id"]
        polls = [
            ("POST", "/v1/queues/none/lease", {"wait_ms": 60_000}),
            ("POST", "/v1/run", {"queue": "nobody-serves", "wait_ms": 60_000}),
            ("GET", f"/v1/jobs/{job_id}/result?wait_ms=60000", None),
        ]
        waiting = [HttpClient(server) for _ in polls]
        for client, (method, path, json) in zip(waiting, polls, strict=True):
            client.send(method, path, json=json)
        until(lambda: is_waited(http.get("/metrics").text))
        server.signal(signal.SIGTERM)
        for client in waiting:
            answer = client.answer()
            assert (answer.status, answer.json["detail"]) == (503, "The server is stopping")
            client.close()
        assert server.wait() == 0
        assert "Traceback" not in server.log()
    with ServerProcess(*flags) as server, HttpClient(server) as http:
        assert http.get(f"/v1/jobs/{job_id}").json["state"] == "new"

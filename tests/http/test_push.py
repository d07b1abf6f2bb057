"""Push delivery through our own API, with a real server and a real web worker."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import HttpClient, until
from tests.server import PATIENCE_S, ServerProcess, reserved_port
from tests.webworker import Request, WebWorker, answer

HTTP = ("--http", "127.0.0.1:0")


@pytest.fixture
def worker() -> Iterator[WebWorker]:
    with WebWorker() as made:
        yield made


def add(http: HttpClient, queue: str, url: str, **options: object) -> str:
    """Add a job; its id."""
    added = http.post("/v1/jobs", {"queue": queue, "url": url, **options})
    assert added.status == 201, added.text
    return str(added.json["id"])


def outcome(http: HttpClient, job_id: str) -> Any:
    """What the dispatcher says of a job, as soon as it has finished."""
    answered = http.get(f"/v1/jobs/{job_id}/result?wait_ms={PATIENCE_S * 1_000:.0f}")
    assert answered.status == 200, answered.text
    result = json.loads(answered.json["result"])
    assert answered.json["success"] == (result["outcome"] == "success")
    return result


class TestJobs:
    def test_a_job_with_a_url_is_sent_there(self, http: HttpClient, worker: WebWorker) -> None:
        worker.behaviours["/work"] = lambda *_: answer(201, b"done")
        job_id = add(http, "push.one", worker.url("/work"), payload='{"id": 1}', headers={"X-A": "1"})
        result = outcome(http, job_id)
        assert (result["status_code"], result["output"]) == (201, "done")
        (request,) = worker.requests
        assert (request.method, request.path, request.body) == ("POST", "/work", b'{"id": 1}')
        assert request.values("content-type") == ["application/json"]
        assert request.values("x-a") == ["1"]
        assert request.values("user-agent")[0].startswith("workq/")

    def test_bytes_are_sent_as_they_are_and_headers_of_ours_may_be_chosen(
        self, http: HttpClient, worker: WebWorker
    ) -> None:
        headers = {"content-type": "image/png", "User-Agent": "me"}
        outcome(http, add(http, "push.bytes", worker.url(), payload_base64="/wA=", headers=headers))
        (request,) = worker.requests
        assert request.body == b"\xff\x00"
        assert request.values("content-type") == ["image/png"]
        assert request.values("user-agent") == ["me"]

    def test_options_may_come_in_the_query(self, http: HttpClient, worker: WebWorker) -> None:
        added = http.post(
            f"/v1/jobs?queue=push.query&url={worker.url()}", body=b"\x00", Content_Type="application/octet-stream"
        )
        assert outcome(http, added.json["id"])["outcome"] == "success"
        assert worker.requests[0].body == b"\x00"

    def test_retries_verdicts_and_timeouts(self, http: HttpClient, worker: WebWorker) -> None:
        worker.behaviours |= {"/500": lambda *_: answer(500), "/hang": worker.hang}
        failed = add(http, "push.retries", worker.url("/500"), max_fails=3, retry_delay_ms=1)
        assert outcome(http, failed)["error"] == "500 Internal Server Error"
        assert len(worker.requests) == 3
        late = add(http, "push.retries", worker.url("/hang"), timeout_ms=20)
        assert outcome(http, late)["error"] == "no answer within 20 ms"
        junk = add(http, "push.retries", worker.url(), verdict="json-status")
        assert outcome(http, junk)["error_kind"] == "answer"

    @pytest.mark.parametrize(
        ("options", "detail"),
        [
            ({"url": "ftp://a/"}, "url: 'ftp://a/' is not a URL like http://localhost:8000/work"),
            ({"url": ""}, "url: '' is not a URL like"),
            ({"url": "http://["}, "url: cannot parse the URL 'http://['"),
            ({"url": "http://a:99999/"}, "url: cannot parse the URL 'http://a:99999/'"),
            ({"url": 1}, "url: '1' is not a URL like"),
            ({"url": "http://a/", "timeout_ms": -1}, "timeout_ms: '-1' is not a whole number from 0 to 86400000 ms"),
            ({"url": "http://a/", "headers": ["a"]}, "headers: '[\"a\"]' is not an object of texts"),
            ({"url": "http://a/", "headers": {"a": 1}}, "headers: '{\"a\":1}' is not an object of texts"),
            ({"url": "http://a/", "verdict": "3xx"}, "verdict: '3xx' is not 200, 2xx or json-status"),
            ({"timeout_ms": 1}, "timeout_ms: is for jobs with a url"),
            ({"headers": {}}, "headers: is for jobs with a url"),
            ({"url": "http://a/" + "x" * 1_048_576}, "Invalid meta size: "),
        ],
    )
    def test_bad_options(self, http: HttpClient, options: dict[str, Any], detail: str) -> None:
        refused = http.post("/v1/jobs", {"queue": "push.bad", **options})
        assert refused.status == 400
        assert refused.json["detail"].startswith(detail)
        assert http.get("/v1/queues/push.bad").status == 404

    def test_a_queue_that_workers_pull_from_is_not_taken_from_them(self, http: HttpClient, worker: WebWorker) -> None:
        http.post("/v1/jobs", {"queue": "push.pulled"})
        refused = http.post("/v1/jobs", {"queue": "push.pulled", "url": worker.url()})
        assert refused.status == 409
        assert refused.json["detail"] == (
            "The queue push.pulled has jobs and is not pushed; "
            "PUT /v1/queues/push.pulled/push if they are to be pushed too"
        )


class TestQueues:
    def test_one_that_is_not_pushed(self, http: HttpClient) -> None:
        http.post("/v1/jobs", {"queue": "push.never"})
        assert http.get("/v1/queues/push.never/push").json["pushed"] is False

    def test_pushing_can_be_turned_on_and_off(self, http: HttpClient, worker: WebWorker) -> None:
        path = "/v1/queues/push.switch/push"
        worker.behaviours["/"] = lambda *_: worker.stopping.wait(0.002) or answer()  # its time is counted in ms
        missing = http.get(path)
        assert (missing.status, missing.json["detail"]) == (404, "There is no queue push.switch")
        assert http.put(path, {}).status == 204
        assert http.get(path).json["pushed"] is True
        outcome(http, add(http, "push.switch", worker.url()))
        assert http.delete(path).status == 204
        assert http.delete(path).status == 204
        figures = http.get(path).json
        assert figures.pop("seconds") > 0
        assert figures.pop("concurrency") == 20
        assert figures == {"pushed": False, "sending": 0, "tries": 1, "failed_tries": 0, "succeeded": 1, "failed": 0}

    def test_so_many_are_sent_at_a_time(self, worker: WebWorker, tmp_path: Path) -> None:
        """Twenty unless it is said otherwise; a new number counts at once, and after a restart."""
        worker.behaviours["/hang"] = worker.hang
        path, flags = "/v1/queues/q/push", (*HTTP, "--data-dir", str(tmp_path))
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            for _ in range(30):
                add(http, "q", worker.url("/hang"))
            worker.wait_for_requests(20)
            assert (http.get(path).json["sending"], http.get("/v1/queues/q").json["ready"]) == (20, 10)
            assert http.put(path, {"concurrency": 25}).status == 204
            worker.wait_for_requests(25)
            assert http.put(path, {}).status == 204  # changes nothing
            assert (http.get(path).json["sending"], http.get("/v1/queues/q").json["ready"]) == (25, 5)
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            worker.wait_for_requests(50)
            assert (http.get(path).json["concurrency"], http.get(path).json["sending"]) == (25, 25)

    def test_a_job_without_a_url_fails_there_and_says_so(self, http: HttpClient) -> None:
        http.put("/v1/queues/push.plain/push", {})
        added = http.post("/v1/jobs", {"queue": "push.plain"})
        assert outcome(http, added.json["id"])["error"] == "the job has no URL"

    @pytest.mark.parametrize("concurrency", [0, 1_001, "many"])
    def test_bad_options(self, http: HttpClient, concurrency: object) -> None:
        refused = http.put("/v1/queues/push.bad/push", {"concurrency": concurrency})
        assert refused.status == 400
        assert refused.json["detail"] == f"concurrency: '{concurrency}' is not a whole number from 1 to 1000"

    def test_metrics(self, http: HttpClient, worker: WebWorker) -> None:
        outcome(http, add(http, "push.metrics", worker.url()))
        assert 'workq_push_jobs_total{outcome="success",queue="push.metrics"} 1.0' in http.get("/metrics").text


class TestRestart:
    def test_a_job_that_was_being_sent_is_sent_again(self, worker: WebWorker, tmp_path: Path) -> None:
        flags = (*HTTP, "--data-dir", str(tmp_path))
        worker.behaviours["/"] = worker.hang
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            job_id = add(http, "q", worker.url())
            later = add(http, "q", worker.url(), delay_ms=86_400_000)
            worker.wait_for_requests(1)
        # It was killed. The job does not wait for the end of its TTR, which is a minute.
        worker.behaviours["/"] = lambda *_: answer(200, b"second")
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            assert outcome(http, job_id)["output"] == "second"
            assert "jobs of q that were being pushed when the server ended: 1" in server.log()
            assert http.get(f"/v1/jobs/{later}").json["attempts"] == 0
            assert http.get(f"/v1/jobs/{job_id}").json["attempts"] == 2
            assert http.get("/v1/queues/q/push").json["pushed"] is True

    def test_a_server_that_stops_waits_for_the_answer(self, worker: WebWorker, tmp_path: Path) -> None:
        flags = (*HTTP, "--data-dir", str(tmp_path))
        go_on = threading.Event()

        def slow(_: Request, connection: socket.socket) -> bytes:
            assert go_on.wait(10)
            return answer(200, b"late, but welcome")

        worker.behaviours["/"] = slow
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            job_id = add(http, "q", worker.url())
            worker.wait_for_requests(1)
            server.signal(signal.SIGTERM)
            go_on.set()
            assert server.wait() == 0
            assert "giving back" not in server.log()
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            assert outcome(http, job_id)["output"] == "late, but welcome"
        assert len(worker.requests) == 1

    def test_and_gives_back_what_takes_too_long(self, worker: WebWorker, tmp_path: Path) -> None:
        flags = (*HTTP, "--data-dir", str(tmp_path), "--dispatch-shutdown-timeout", "0.01")
        worker.behaviours["/"] = worker.hang
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            job_id = add(http, "q", worker.url())
            worker.wait_for_requests(1)
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert "giving back jobs that were not answered within 0.01 s: 1" in server.log()
            assert "Traceback" not in server.log()
        worker.behaviours["/"] = lambda *_: answer()
        with ServerProcess(*flags) as server, HttpClient(server) as http:
            assert outcome(http, job_id)["outcome"] == "success"


class TestRules:
    def test_where_pushes_may_go_is_a_setting(self, worker: WebWorker) -> None:
        with ServerProcess(*HTTP, "--dispatch-deny", "127.0.0.0/8") as server, HttpClient(server) as http:
            result = outcome(http, add(http, "q", worker.url()))
        assert result["error"] == "127.0.0.1 is denied by --dispatch-deny 127.0.0.0/8"
        assert worker.requests == []

    def test_metadata_addresses_are_denied_from_the_start(self, http: HttpClient, worker: WebWorker) -> None:
        metadata = "http://169.254.169.254/latest/meta-data/"
        worker.behaviours["/"] = lambda *_: answer(302, b"", f"Location: {metadata}")
        for url in (metadata, worker.url()):
            assert "cloud metadata address" in outcome(http, add(http, "push.metadata", url))["error"]


class TestNeighbours:
    def test_hanging_web_workers_slow_down_nobody(self, server: ServerProcess, http: HttpClient) -> None:
        """Three hundred pushes hang, in two queues; a third, and the text protocol, do not notice."""
        with WebWorker() as hanging, WebWorker() as good:
            hanging.behaviours["/"] = hanging.hang
            for number in range(300):
                add(http, f"push.hangs{number % 2}", hanging.url())
            hanging.wait_for_requests(2)
            assert outcome(http, add(http, "push.good", good.url()))["outcome"] == "success"
            with server.connect() as client:
                client.send(b"add 6ba7b810-9dad-11d1-80b4-00c04fd43001 pulled 60000 60000 0\r\n\r\n")
                client.expect(b"+OK")
                client.send(b"lease pulled 1000\r\n")
                client.expect(b"+OK 1")


def test_the_five_lines_of_the_readme(tmp_path: Path) -> None:
    """The web worker and the job are as they stand there, on other ports."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## Push delivery")[2].partition("\n## ")[0]
    console = section.partition("```console\n")[2].partition("```")[0]
    program = console.partition("python3 -c '")[2].partition("' &")[0]
    body = json.loads(console.partition("--json '")[2].rpartition("'")[0])
    assert "8000" in program
    with (
        reserved_port() as port,
        subprocess.Popen(
            [sys.executable, "-u", "-c", program.replace("8000", str(port))],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
        ServerProcess(*HTTP) as server,
        HttpClient(server) as http,
    ):
        try:
            body["url"] = body["url"].replace("8000", str(port))
            until(lambda: is_listened_on(port))
            added = http.post("/v1/jobs", body)
            assert outcome(http, added.json["id"])["outcome"] == "success"
            assert process.stdout is not None
            assert process.stdout.readline() == repr(body["payload"].encode()) + "\n"
        finally:
            process.kill()


def is_listened_on(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

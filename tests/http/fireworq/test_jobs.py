"""Jobs: pushed, sent, tried again, inspected, deleted; and the log of those that failed for good."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import HttpClient
from tests.http.fireworq.conftest import FLAGS
from tests.http.fireworq.workers import Fireworq, Gate, replies, says
from tests.server import ServerProcess
from tests.webworker import Behaviour, Request, WebWorker, answer
from workq.broker import Broker, Clock
from workq.commands import Lease, Release, Schedule
from workq.dispatch.dispatcher import Dispatcher
from workq.engine import Engine
from workq.gateway import Gateway
from workq.http.fireworq.jobs import spec_of, target_of
from workq.http.fireworq.listing import list_jobs, read_page
from workq.http.fireworq.structs import PushRequest
from workq.http.names import numbered_jobs, queue_name
from workq.replies import LeasedJobs
from workq.version import VERSION

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?(Z|[+-]\d\d:\d\d)")


class TestPush:
    def test_the_answer_repeats_what_was_pushed(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        pushed = fireworq.http.post(
            f"/job/{queue}",
            body=b'{"url": "http://127.0.0.1:9/", "payload": {"b": 1.50, "a": [ ]}, "run_after": 60, "timeout": 5, '
            b'"retry_delay": 7, "max_retries": 2, "category": "other", "more": true}',
        )
        assert (pushed.status, pushed.type) == (200, "application/json")
        assert pushed.text == (
            f'{{"id":1,"queue_name":"{queue}","category":"{queue}","url":"http://127.0.0.1:9/",'
            '"payload":{"b":1.50,"a":[]},"run_after":60,"timeout":5,"retry_delay":7,"max_retries":2}'
        )

    def test_defaults_are_nought_and_null(self, fireworq: Fireworq) -> None:
        pushed = fireworq.push(fireworq.queue(), payload=None, run_after=None, timeout=None)
        assert pushed["payload"] is None
        assert [pushed[key] for key in ("run_after", "timeout", "retry_delay", "max_retries")] == [0, 0, 0, 0]

    def test_numbers_count_up_in_each_queue(self, fireworq: Fireworq) -> None:
        first, second = fireworq.queue(), fireworq.queue()
        assert [fireworq.push(first)["id"] for _ in range(3)] == [1, 2, 3]
        assert fireworq.push(second)["id"] == 1

    def test_a_category_without_a_routing_goes_to_the_default_queue(self, fireworq: Fireworq) -> None:
        pushed = fireworq.push("nobody/routed this")
        assert (pushed["queue_name"], pushed["category"]) == ("default", "nobody/routed this")
        fireworq.worker.wait_for_requests(1)

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"{}", "Missing field: url"),
            (b"null", "Missing field: url"),
            (b'{"url": ""}', "Missing field: url"),
            (b'{"url": 5}', "$.url"),
            (b'{"url": "http://x", "run_after": -1}', "$.run_after"),
            (b'{"url": "http://x", "run_after": 1.5}', "$.run_after"),
            (b'{"url": "http://x", "max_retries": "3"}', "$.max_retries"),
            (b'{"url": "http://x", "timeout": []}', "$.timeout"),
            (b'{"url": "http://x", "payload": %b}' % (b"[" * 501 + b"]" * 501), "nested too deeply"),
            (b"[]", "Expected `object | null`"),
            (b"x", "Invalid JSON"),
            (b"", "Invalid JSON"),
            (b"\xff", "Invalid JSON"),
        ],
    )
    def test_a_wrong_push_is_refused(self, fireworq: Fireworq, body: bytes, text: str) -> None:
        queue = fireworq.queue()
        refused = fireworq.http.post(f"/job/{queue}", body=body)
        assert refused.status == 400
        assert text in refused.text
        assert fireworq.stats(queue)["total_pushes"] == 0

    @pytest.mark.parametrize("form", ['"%s"', "[%s]"])
    def test_a_payload_has_a_longest_length(self, fireworq: Fireworq, form: str) -> None:
        queue = fireworq.queue()
        push = b'{"url": "http://127.0.0.1:9/", "run_after": 60, "payload": %b}'
        longest = form % ("1" * (2**20 if form[0] == '"' else 2**20 - 2))
        assert fireworq.http.post(f"/job/{queue}", body=push % longest.encode()).status == 200
        refused = fireworq.http.post(f"/job/{queue}", body=push % longest.replace("1", "11", 1).encode())
        assert (refused.status, "1048577 bytes, at most 1048576" in refused.text) == (413, True)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    def test_only_post_pushes(self, fireworq: Fireworq, method: str) -> None:
        refused = fireworq.http.ask(method, "/job/x")
        assert (refused.status, refused.headers["Allow"]) == (405, "POST")

    def test_a_queue_that_is_full_takes_nothing(self, server: ServerProcess, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        with server.connect() as tcp:
            assert tcp.ask(f"queue fireworq.{queue} -max-len=1\r\n".encode()) == b"+OK"
        fireworq.push(queue, run_after=3600)
        refused = fireworq.http.post(f"/job/{queue}", {"url": "http://x"})
        assert (refused.status, "Queue full" in refused.text) == (503, True)
        assert fireworq.http.get(f"/queue/{queue}/stats").json["total_pushes"] == 1

    def test_a_queue_that_is_gone_takes_nothing_but_keeps_its_jobs(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        fireworq.push(queue, run_after=3600)
        fireworq.http.delete(f"/queue/{queue}")
        refused = fireworq.http.post(f"/job/{queue}", {"url": "http://x"})
        assert (refused.status, f"Undefined queue: {queue}" in refused.text) == (500, True)
        fireworq.http.put(f"/queue/{queue}", {})
        assert fireworq.job(queue, 1).json["id"] == 1


class TestWhatIsSent:
    @pytest.mark.parametrize(
        ("payload", "body"),
        [
            (b'{"a" : 1.0, "b":[ ]}', b'{"a" : 1.0, "b":[ ]}'),
            (b'"plain \\"text\\" \\u00e4"', 'plain "text" ä'.encode()),
            (b'""', b""),
            (b"null", b""),
            (b"5", b"5"),
            (b'"{\\"id\\": 1}"', b'{"id": 1}'),
            (b'"cut \\ud83d"', "cut \N{REPLACEMENT CHARACTER}".encode()),
            (rb'["\ud83d\ud83d\ude00", "\\ud83d", "\ude00\n"]', rb'["\ufffd\ud83d\ude00", "\\ud83d", "\ufffd\n"]'),
        ],
    )
    def test_the_payload_is_the_body(self, fireworq: Fireworq, payload: bytes, body: bytes) -> None:
        url = json.dumps(fireworq.worker.url("/ok?a=b")).encode()
        pushed = fireworq.http.post(f"/job/{fireworq.queue()}", body=b'{"url":%b,"payload":%b}' % (url, payload))
        assert pushed.status == 200
        (request,) = fireworq.worker.wait_for_requests(1)
        assert (request.method, request.path, request.body) == ("POST", "/ok?a=b", body)
        assert request.values("Content-Type") == ["application/json"]
        assert request.values("User-Agent") == [f"Fireworq/{VERSION}"]
        assert request.values("Content-Length") == [str(len(body))]
        assert request.values("Accept-Encoding") == ["gzip"]
        assert request.values("Connection") == ["close"]

    def test_redirects_are_followed(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/old"] = lambda request, connection: answer(307, b"", "Location: /ok")
        queue = fireworq.queue()
        fireworq.push(queue, "/old", payload={"a": 1})
        fireworq.wait_until_completed(queue, 1)
        assert fireworq.stats(queue)["total_successes"] == 1
        assert [request.body for request in fireworq.worker.requests] == [b'{"a": 1}'] * 2


def broken_off(request: Request, connection: socket.socket) -> None:
    connection.sendall(answer(200, b'{"sta', length=100))


class TestOutcomes:
    @pytest.mark.parametrize("code", [200, 404, 500])
    def test_only_the_body_counts(self, fireworq: Fireworq, code: int) -> None:
        fireworq.worker.behaviours["/x"] = says("success", code=code)
        queue = fireworq.queue()
        number = fireworq.push(queue, "/x")["id"]
        fireworq.wait_until_completed(queue, 1)
        assert fireworq.job(queue, number).status == 404
        assert fireworq.failures(queue) == {"failed_jobs": [], "next_cursor": ""}

    @pytest.mark.parametrize(
        ("behaviour", "status", "code", "message"),
        [
            (says("failure", "no luck", 500), "failure", 500, "no luck"),
            (says("permanent-failure", "never", 200), "permanent-failure", 200, "never"),
            (says("failure"), "failure", 200, ""),
            (says("done"), "failure", 200, '.*done.*{"status": "done"}'),
            (replies(b"{}", 201), "failure", 201, ".*{}"),
            (replies(b"<html>", 200), "failure", 200, "Cannot parse body as JSON.*<html>"),
            (replies(b"", 204), "failure", 204, "Cannot parse body as JSON.*"),
            (replies(b"[]"), "failure", 200, r"Cannot parse body as JSON.*\[\]"),
            (replies(b'{"status":"success","message":5}'), "failure", 200, "Cannot parse body as JSON.*"),
            (broken_off, "failure", 200, ".+"),
        ],
    )
    def test_a_failure_is_logged(
        self, fireworq: Fireworq, behaviour: Behaviour, status: str, code: int, message: str
    ) -> None:
        fireworq.worker.behaviours["/x"] = behaviour
        queue = fireworq.queue()
        number = fireworq.push(queue, "/x", payload={"a": 1})["id"]
        fireworq.wait_until_completed(queue, 1)
        (entry,) = fireworq.failures(queue)["failed_jobs"]
        assert (entry["id"], entry["job_id"], entry["category"]) == (1, number, queue)
        assert (entry["url"], entry["payload"], entry["fail_count"]) == (fireworq.worker.url("/x"), {"a": 1}, 1)
        assert (entry["result"]["status"], entry["result"]["code"]) == (status, code)
        assert re.fullmatch(message, entry["result"]["message"], re.DOTALL)
        assert TIME.fullmatch(entry["created_at"])
        assert TIME.fullmatch(entry["failed_at"])
        assert fireworq.job(queue, number).status == 404

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("http://127.0.0.1:1/", "Request failed: .+"),
            ("http://nosuch.invalid/", "Request failed: .+"),
            ("nonsense", "Request failed: .+"),
            ("ftp://127.0.0.1/", "Request failed: .+"),
            ("http://[", "Cannot create http request: .+"),
        ],
    )
    def test_without_an_answer_the_failure_is_internal(self, fireworq: Fireworq, url: str, message: str) -> None:
        queue = fireworq.queue()
        fireworq.http.post(f"/job/{queue}", {"url": url})
        fireworq.wait_until_completed(queue, 1)
        result = fireworq.failures(queue)["failed_jobs"][0]["result"]
        assert (result["status"], result["code"]) == ("internal-failure", 0)
        assert re.fullmatch(message, result["message"], re.DOTALL)

    def test_a_timeout_is_an_internal_failure(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/x"] = lambda request, connection: fireworq.worker.hang(request, connection)
        queue = fireworq.queue()
        fireworq.push(queue, "/x", timeout=1)
        fireworq.wait_until_completed(queue, 1)
        result = fireworq.failures(queue)["failed_jobs"][0]["result"]
        assert (result["status"], result["code"]) == ("internal-failure", 0)
        assert result["message"].startswith("Request failed:")

    def test_failures_are_tried_again_and_counted(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/x"] = says("failure")
        queue = fireworq.queue()
        fireworq.push(queue, "/x", max_retries=2)
        fireworq.wait_until_completed(queue, 1)
        assert len(fireworq.worker.requests) == 3
        assert fireworq.failures(queue)["failed_jobs"][0]["fail_count"] == 3

    def test_a_permanent_failure_is_not_tried_again(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/x"] = says("permanent-failure")
        queue = fireworq.queue()
        fireworq.push(queue, "/x", max_retries=5)
        fireworq.wait_until_completed(queue, 1)
        assert len(fireworq.worker.requests) == 1

    def test_figures_are_those_of_the_example(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours |= {
            "/fail": says("failure"),
            "/never": says("permanent-failure"),
            "/junk": replies(b"junk"),
        }
        queue = fireworq.queue()
        for path, retries in (("/ok", 0), ("/ok", 0), ("/fail", 2), ("/never", 2), ("/junk", 0)):
            fireworq.push(queue, path, max_retries=retries)
        fireworq.wait_until_completed(queue, 5)
        stats = fireworq.stats(queue)
        assert stats["total_pushes"] == 5
        assert stats["total_pops"] == 7
        assert stats["total_successes"] == 2
        assert stats["total_failures"] == 5
        assert stats["total_permanent_failures"] == 3
        assert stats["total_completes"] == 5


class TestInspection:
    def test_a_job_that_waits_for_its_time_is_deferred(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        fireworq.push(queue, payload={"a": 1}, run_after=3600, timeout=9, retry_delay=8, max_retries=7)
        job = fireworq.job(queue, 1).json
        times = [datetime.fromisoformat(job.pop(key)) for key in ("created_at", "next_try")]
        assert job == {
            "id": 1,
            "category": queue,
            "url": fireworq.worker.url("/ok"),
            "payload": {"a": 1},
            "status": "claimed",
            "timeout": 9,
            "fail_count": 0,
            "max_retries": 7,
            "retry_delay": 8,
        }
        assert (times[1] - times[0]).total_seconds() == 3600
        assert [each["id"] for each in listed(fireworq, queue, "deferred")] == [1]
        assert listed(fireworq, queue, "waiting") == listed(fireworq, queue, "grabbed") == []

    @pytest.mark.parametrize(
        ("payload", "shown"),
        [("text", "text"), ('{"a":1}', {"a": 1}), (None, ""), ("", ""), ([1, "ü"], [1, "ü"]), (0, 0)],
    )
    def test_payloads_are_shown_as_json(self, fireworq: Fireworq, payload: object, shown: object) -> None:
        queue = fireworq.queue()
        fireworq.push(queue, payload=payload, run_after=60)
        assert fireworq.job(queue, 1).json["payload"] == shown

    def test_a_job_that_is_being_sent_is_grabbed_and_the_next_waits(self, fireworq: Fireworq) -> None:
        gate = fireworq.worker.behaviours["/x"] = Gate()
        queue = fireworq.queue(max_workers=1)
        fireworq.push(queue, "/x")
        fireworq.worker.wait_for_requests(1)
        fireworq.push(queue, "/x")
        (grabbed,) = listed(fireworq, queue, "grabbed")
        assert (grabbed["id"], grabbed["status"]) == (1, "grabbed")
        assert [each["id"] for each in listed(fireworq, queue, "waiting")] == [2]
        stats = fireworq.stats(queue)
        assert (stats["total_workers"], stats["idle_workers"]) == (1, 0)
        gate.open()
        fireworq.wait_until_completed(queue, 2)

    def test_a_failed_job_with_a_delay_is_deferred(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/x"] = says("failure")
        queue = fireworq.queue()
        fireworq.push(queue, "/x", max_retries=3, retry_delay=600)
        fireworq.worker.wait_for_requests(1)
        while not listed(fireworq, queue, "deferred"):
            fireworq.idle()
        job = fireworq.job(queue, 1).json
        assert (job["fail_count"], job["max_retries"], job["status"]) == (1, 3, "claimed")
        waits = datetime.fromisoformat(job["next_try"]) - datetime.fromisoformat(job["created_at"])
        assert 600 <= waits.total_seconds() < 640

    def test_pages_follow_the_next_try(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        for run_after in (300, 100, 200, 100, 400):
            fireworq.push(queue, run_after=run_after)
        ascending = [2, 4, 3, 1, 5]
        for order, expected in (("asc", ascending), ("desc", ascending[::-1]), ("other", ascending[::-1])):
            found, cursor, pages = [], "", 0
            while pages == 0 or cursor:
                page = fireworq.http.get(f"/queue/{queue}/deferred?limit=2&order={order}&cursor={cursor}").json
                found += [job["id"] for job in page["jobs"]]
                cursor, pages = page["next_cursor"], pages + 1
            assert (found, pages) == (expected, 3)

    @pytest.mark.parametrize(
        ("query", "count"), [("limit=0", 0), ("limit=x", 3), ("cursor=garbage", 3), ("cursor=%F0", 3), ("limit=-1", 3)]
    )
    def test_odd_parameters_are_forgiven(self, fireworq: Fireworq, query: str, count: int) -> None:
        queue = fireworq.queue()
        for _ in range(3):
            fireworq.push(queue, run_after=60)
        page = fireworq.http.get(f"/queue/{queue}/deferred?{query}").json
        assert (len(page["jobs"]), page["next_cursor"]) == (count, "")

    @pytest.mark.parametrize(("path", "status"), [("job/x", 400), ("job/7", 404), ("failed/x", 400), ("failed/7", 404)])
    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_what_is_not_there(self, fireworq: Fireworq, method: str, path: str, status: int) -> None:
        assert fireworq.http.ask(method, f"/queue/{fireworq.queue()}/{path}").status == status

    def test_a_deleted_job_never_runs(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue()
        fireworq.push(queue, run_after=3600)
        job = fireworq.job(queue, 1).json
        assert fireworq.http.delete(f"/queue/{queue}/job/1").json == job
        assert fireworq.job(queue, 1).status == 404

    def test_a_job_deleted_while_it_is_sent_is_not_tried_again(self, fireworq: Fireworq) -> None:
        gate = Gate()
        fireworq.worker.behaviours["/x"] = lambda request, connection: (
            gate(request, connection) and answer(200, b"junk")
        )
        queue = fireworq.queue()
        fireworq.push(queue, "/x", max_retries=5)
        fireworq.worker.wait_for_requests(1)
        assert fireworq.http.delete(f"/queue/{queue}/job/1").status == 200
        gate.open()
        fireworq.worker.wait_for(lambda: fireworq.worker.closed == 1)
        assert fireworq.job(queue, 1).status == 404
        assert len(fireworq.worker.requests) == 1

    def test_the_failure_log_is_paged_in_both_orders_and_entries_go_when_deleted(self, fireworq: Fireworq) -> None:
        gate = Gate()
        failing = fireworq.worker.behaviours["/x"] = says("failure")
        fireworq.worker.behaviours["/last"] = lambda request, connection: (
            gate(request, connection) and failing(request, connection)
        )
        queue = fireworq.queue(max_workers=2)
        fireworq.push(queue, "/last")
        fireworq.worker.wait_for_requests(1)
        for _ in range(2):
            fireworq.push(queue, "/x")
        fireworq.wait_until_completed(queue, 2)
        gate.open()
        fireworq.wait_until_completed(queue, 3)
        for order, expected in (("", [1, 3, 2]), ("created", [3, 2, 1])):
            found, cursor, pages = [], "", 0
            while pages == 0 or cursor:
                page = fireworq.failures(queue, f"?limit=2&order={order}&cursor={cursor}")
                found += [entry["job_id"] for entry in page["failed_jobs"]]
                cursor, pages = page["next_cursor"], pages + 1
            assert (found, pages) == (expected, 2)
        entry = fireworq.http.get(f"/queue/{queue}/failed/3").json
        assert entry["job_id"] == 1
        assert fireworq.http.delete(f"/queue/{queue}/failed/3").json == entry
        assert fireworq.http.get(f"/queue/{queue}/failed/3").status == 404

    @pytest.mark.parametrize("payload", ["[" * 500 + "]" * 500, json.dumps("[" * 975 + "]" * 975)])
    def test_what_is_nested_deeply_spoils_no_list(self, fireworq: Fireworq, payload: str) -> None:
        queue = fireworq.queue()
        pushed = fireworq.http.post(
            f"/job/{queue}", body=b'{"url": "http://127.0.0.1:1/", "payload": %b}' % payload.encode()
        )
        assert pushed.status == 200
        fireworq.wait_until_completed(queue, 1)
        (entry,) = fireworq.failures(queue)["failed_jobs"]
        assert entry["payload"] == json.loads(payload)


class TestOrderAndPace:
    def test_one_worker_runs_jobs_one_after_the_other_by_their_time(self, fireworq: Fireworq) -> None:
        gate = fireworq.worker.behaviours["/gate"] = Gate()
        queue = fireworq.queue(max_workers=1)
        fireworq.push(queue, "/gate")
        fireworq.worker.wait_for_requests(1)
        for payload, run_after in (("later", 1), ("now", 0)):
            fireworq.push(queue, payload=payload, run_after=run_after)
        while len(waiting := listed(fireworq, queue, "waiting")) < 2:
            fireworq.idle()
        waiting.sort(key=lambda job: (datetime.fromisoformat(job["next_try"]), job["id"]))
        by_time = [job["payload"].encode() for job in waiting]  # "now" is first if its push took less than a second
        fireworq.push(queue, payload="last")
        gate.open()
        fireworq.wait_until_completed(queue, 4)
        assert [request.body for request in fireworq.worker.requests] == [b"", *by_time, b"last"]

    def test_a_job_that_is_deleted_while_it_is_sent_keeps_its_worker_busy(self, fireworq: Fireworq) -> None:
        gate = fireworq.worker.behaviours["/gate"] = Gate()
        queue = fireworq.queue(max_workers=1)
        fireworq.push(queue, "/gate")
        fireworq.worker.wait_for_requests(1)
        fireworq.push(queue)
        assert fireworq.http.delete(f"/queue/{queue}/job/1").status == 200
        other = fireworq.queue()
        for _ in range(3):  # time in which it must not be sent
            fireworq.push(other, "/other")
        fireworq.worker.wait_for_requests(4)
        assert "/ok" not in [request.path for request in fireworq.worker.requests]
        gate.open()
        fireworq.worker.wait_for_requests(5)
        assert fireworq.worker.requests[-1].path == "/ok"

    def test_a_throttled_queue_keeps_its_pace(self, fireworq: Fireworq) -> None:
        queue = fireworq.queue(max_dispatches_per_second=0.001, max_burst_size=2)
        for _ in range(4):
            fireworq.push(queue)
        fireworq.wait_until_completed(queue, 2)
        assert len(listed(fireworq, queue, "waiting")) == 2

    def test_a_stuck_queue_holds_up_no_other(self, fireworq: Fireworq) -> None:
        fireworq.worker.behaviours["/x"] = lambda request, connection: fireworq.worker.hang(request, connection)
        stuck, free = fireworq.queue(max_workers=1), fireworq.queue()
        for _ in range(3):
            fireworq.push(stuck, "/x")
        fireworq.push(free)
        fireworq.wait_until_completed(free, 1)


def listed(fireworq: Fireworq, queue: str, state: str) -> list[Any]:
    jobs: list[Any] = fireworq.http.get(f"/queue/{queue}/{state}").json["jobs"]
    return jobs


@pytest.mark.parametrize("restarted", [False, True])
def test_jobs_of_a_default_queue_that_was_deleted_are_sent(tmp_path: Path, worker: WebWorker, restarted: bool) -> None:
    flags = (*FLAGS, "--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        fireworq = Fireworq(http, worker)
        http.put("/queue/default", {"max_workers": 3})
        fireworq.push("any", run_after=1)
        assert http.delete("/queue/default").json["max_workers"] == 3
        assert http.get("/queue/default").json["max_workers"] == 20
        if restarted:
            server.kill()
        else:
            worker.wait_for_requests(1)
    if restarted:
        with ServerProcess(*flags):
            worker.wait_for_requests(1)


def test_jobs_of_a_queue_that_becomes_the_default_one_are_sent(tmp_path: Path, worker: WebWorker) -> None:
    flags = (*FLAGS, "--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        fireworq = Fireworq(http, worker)
        queue = fireworq.queue()
        fireworq.push(queue, run_after=1)
        http.delete(f"/queue/{queue}")
    with ServerProcess(*flags, env={"FIREWORQ_QUEUE_DEFAULT": queue}):
        worker.wait_for_requests(1)


def test_jobs_and_failures_survive_a_kill_and_numbers_go_on(tmp_path: Path, worker: WebWorker) -> None:
    flags = (*FLAGS, "--data-dir", str(tmp_path))
    gate = worker.behaviours["/x"] = Gate()
    worker.behaviours["/bad"] = says("permanent-failure")
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        fireworq = Fireworq(http, worker)
        queue = fireworq.queue()
        fireworq.push(queue, "/bad")
        fireworq.wait_until_completed(queue, 1)
        failures = fireworq.failures(queue)
        fireworq.push(queue, "/x", payload="being sent")
        fireworq.push(queue, run_after=3600)
        worker.wait_for_requests(2)
        server.kill()
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        fireworq = Fireworq(http, worker)
        assert fireworq.failures(queue) == failures
        assert fireworq.job(queue, 3).json["status"] == "claimed"
        assert fireworq.push(queue)["id"] > 3
        gate.open()
        worker.wait_for(lambda: [request.body for request in worker.requests].count(b"being sent") == 2)


@pytest.mark.parametrize(
    ("limit", "expected"), [("5", 5), ("10001", 10_000), ("9" * 10, 10_000), ("9" * 5_000, 10_000)]
)
def test_a_page_has_a_highest_limit(limit: str, expected: int) -> None:
    assert read_page({"limit": limit}).limit == expected


@pytest.fixture
async def waiting() -> AsyncIterator[tuple[Gateway, Dispatcher]]:
    """3000 jobs wait in the queue `q`."""
    broker = Broker(Engine(Clock().now_ms()), Clock(), asyncio.get_running_loop())
    gateway = Gateway(broker)
    nobody: Any = None
    dispatcher = Dispatcher(gateway, lambda: nobody)
    request = PushRequest("http://127.0.0.1:9/")
    for number in range(1, 3_001):
        meta = target_of(request, "q", number, "c", "", False).to_meta()
        job_id = numbered_jobs("fireworq", "q").job_id(number)
        await gateway.execute(Schedule(job_id, spec_of(request, "q"), gateway.now_ms(), b"", meta))
    yield gateway, dispatcher
    await dispatcher.stop(0)
    await broker.close()


@pytest.mark.parametrize("leaving", [40, 400])
async def test_a_list_misses_no_job_and_has_none_twice_while_others_come_and_go(
    waiting: tuple[Gateway, Dispatcher], leaving: int
) -> None:
    gateway, dispatcher = waiting
    listing = asyncio.create_task(list_jobs(gateway, dispatcher, "q", "waiting", read_page({"limit": "10000"})))
    await asyncio.sleep(0)
    gone = 0
    while not listing.done():
        leased = gateway.post(Lease((queue_name("fireworq", "q"),), 0, fenced=True, count=leaving))
        assert isinstance(leased, LeasedJobs)
        gone += len(leased.jobs) - 1
        gateway.post(Release(leased.jobs[0].job_id))  # this one is back, before all others
        await asyncio.sleep(0)
    numbers = [job.id for job in listing.result().jobs]
    assert gone > 0
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) >= set(range(2 + gone, 3_001))  # all that were never leased; the first came back


async def test_a_long_list_is_shown_in_several_turns(waiting: tuple[Gateway, Dispatcher]) -> None:
    """10 000 jobs in one took half a second."""
    gateway, dispatcher = waiting

    async def turns(limit: int) -> int:
        page = read_page({"limit": str(limit)})
        listing = asyncio.create_task(list_jobs(gateway, dispatcher, "q", "waiting", page))
        count = 0
        while not listing.done():
            await asyncio.sleep(0)
            count += 1
        assert len(listing.result().jobs) == limit
        return count

    assert await turns(3_000) >= await turns(1) + 5

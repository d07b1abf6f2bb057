"""Our own API, request by request, on a live server."""

import base64
import socket
import uuid
from collections.abc import Iterator

import pytest

from tests.http.client import HttpClient
from tests.server import Dialogue, ServerProcess
from workq.http.native.structs import ALLOWED

NOBODY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
RAW = "application/octet-stream"


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"q-{uuid.uuid4()}"


@pytest.fixture
def worker(server: ServerProcess) -> Iterator[HttpClient]:
    """A second connection."""
    with HttpClient(server) as client:
        yield client


def add(http: HttpClient, queue: str, **options: object) -> str:
    answer = http.post("/v1/jobs", {"queue": queue, **options})
    assert answer.status == 201, answer.text
    return str(answer.json["id"])


def refused(http: HttpClient, method: str, path: str, status: int, json: object = None) -> str:
    """Ask for something that is refused with `status`; return the words."""
    answer = http.ask(method, path, json=json)
    assert answer.status == status, answer.text
    assert answer.type == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return str(problem["detail"])


def bad(http: HttpClient, json: object, path: str = "/v1/jobs") -> str:
    return refused(http, "POST", path, 400, json)


class TestLife:
    def test_of_a_job_from_its_beginning_to_its_end(self, http: HttpClient, worker: HttpClient, queue: str) -> None:
        answer = http.post("/v1/jobs", {"queue": queue, "payload": "hello", "ttr_ms": 5000})
        assert answer.status == 201
        job_id = answer.json["id"]
        assert answer.headers["Location"] == f"/v1/jobs/{job_id}"
        assert worker.post(f"/v1/queues/{queue}/lease").json == {
            "jobs": [{"id": job_id, "queue": queue, "ttr_ms": 5000, "attempt": 1, "payload": "hello"}]
        }
        assert http.get(f"/v1/jobs/{job_id}/result").status == 204
        http.send("GET", f"/v1/jobs/{job_id}/result?wait_ms=60000")
        assert worker.post(f"/v1/jobs/{job_id}/complete", {"result": "world"}).status == 204
        assert http.answer().json == {"id": job_id, "success": True, "result": "world"}
        assert http.delete(f"/v1/jobs/{job_id}").status == 204
        assert refused(http, "GET", f"/v1/jobs/{job_id}", 404) == f"There is no job {job_id}"

    def test_of_a_job_that_is_run(self, http: HttpClient, worker: HttpClient, queue: str) -> None:
        http.send("POST", "/v1/run", json={"queue": queue, "payload": "hello"})
        job = worker.post(f"/v1/queues/{queue}/lease?wait_ms=60000").json["jobs"][0]
        worker.post(f"/v1/jobs/{job['id']}/fail", {"result": "no"})
        assert http.answer().json == {"id": job["id"], "success": False, "result": "no"}

    def test_over_http_and_tcp_it_is_the_same_job(self, http: HttpClient, client: Dialogue, queue: str) -> None:
        job_id = add(http, queue, payload="hello", ttr_ms=5000)
        client.send(f"lease {queue} 0\r\n".encode())
        client.expect(b"+OK 1", f"{job_id} {queue} 5000 5".encode(), b"hello")
        assert client.ask(f"complete {job_id} 5\r\nworld\r\n".encode()) == b"+OK"
        assert http.get(f"/v1/jobs/{job_id}/result").json["result"] == "world"

    def test_a_run_that_nobody_serves_in_time_is_dropped(self, http: HttpClient, queue: str) -> None:
        assert http.post("/v1/run", {"queue": queue, "wait_ms": 1}).status == 204
        assert http.post(f"/v1/queues/{queue}/lease").json == {"jobs": []}


class TestAdd:
    def test_the_defaults(self, http: HttpClient, queue: str) -> None:
        job = http.get(f"/v1/jobs/{add(http, queue)}").json
        assert job.pop("created_at").endswith("Z")
        assert uuid.UUID(job.pop("id")).version == 7
        assert job == {
            "queue": queue,
            "state": "new",
            "payload": "",
            "ttr_ms": 60_000,
            "ttl_ms": 86_400_000,
            "priority": 0,
            "max_attempts": 0,
            "attempts": 0,
            "max_fails": 0,
            "fails": 0,
            "scheduled_at": None,
        }

    def test_every_option(self, http: HttpClient, queue: str) -> None:
        job_id = str(uuid.uuid4())
        options = {"ttr_ms": 1, "ttl_ms": 2**64 - 1, "priority": -(2**31), "max_attempts": 255, "max_fails": 255}
        assert add(http, queue, id=job_id.upper(), run_at="2999-01-01T01:00:00.5+01:00", **options) == job_id
        job = http.get(f"/v1/jobs/{job_id}").json
        assert job["scheduled_at"] == "2999-01-01T00:00:00.500000Z"
        assert {name: job[name] for name in options} == options

    def test_ids_made_by_the_server_sort_by_their_time(self, http: HttpClient, queue: str) -> None:
        stamps = [uuid.UUID(add(http, queue)).int >> 80 for _ in range(20)]
        assert stamps == sorted(stamps)

    def test_a_job_that_is_there_already(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        assert refused(http, "POST", "/v1/jobs", 409, {"queue": queue, "id": job_id}) == "Duplicate job"
        assert refused(http, "POST", "/v1/run", 409, {"queue": queue, "id": job_id}) == "Duplicate job"

    def test_a_delay(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue, delay_ms=3_600_000)
        assert [job["id"] for job in http.get(f"/v1/queues/{queue}/jobs?state=scheduled").json["jobs"]] == [job_id]
        both = {"queue": queue, "delay_ms": 1, "run_at": "2999-01-01T00:00:00Z"}
        assert bad(http, both) == "run_at and delay_ms are both given, one is allowed"

    def test_a_time_that_is_over(self, http: HttpClient, queue: str) -> None:
        text = bad(http, {"queue": queue, "run_at": "1970-01-01T00:00:00Z"})
        assert text.startswith("Invalid Time: ")

    @pytest.mark.parametrize("run_at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
    def test_a_time_that_no_calendar_has(self, http: HttpClient, queue: str, run_at: str) -> None:
        allowed = "0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        assert bad(http, {"queue": queue, "run_at": run_at}) == f"Invalid Time: '{run_at}' is not from {allowed}"

    def test_the_last_time_of_all(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue, run_at="9999-12-31T21:59:59-02:00")
        assert http.get(f"/v1/jobs/{job_id}").json["scheduled_at"] == "9999-12-31T23:59:59Z"


class TestBytes:
    @pytest.mark.parametrize("payload", ["", "hello", "ä€😀", '\x00\x1f"\\'])
    def test_text_comes_back_as_text(self, http: HttpClient, queue: str, payload: str) -> None:
        job_id = add(http, queue, payload=payload)
        assert http.get(f"/v1/jobs/{job_id}").json["payload"] == payload
        assert http.post(f"/v1/queues/{queue}/lease").json["jobs"][0]["payload"] == payload

    def test_what_is_not_text_comes_back_in_base64(self, http: HttpClient, queue: str) -> None:
        data = base64.b64encode(b"\xff\x00").decode()
        job_id = add(http, queue, payload_base64=data)
        job = http.get(f"/v1/jobs/{job_id}").json
        assert job["payload_base64"] == data
        assert "payload" not in job
        http.post(f"/v1/jobs/{job_id}/complete", {"result_base64": data})
        assert http.get(f"/v1/jobs/{job_id}/result").json == {"id": job_id, "success": True, "result_base64": data}

    def test_bytes_as_they_are(self, http: HttpClient, queue: str) -> None:
        data = bytes(range(256))
        path = f"/v1/jobs?queue={queue}&ttr_ms=7000"
        job_id = http.post(path, body=data, Content_Type=RAW).json["id"]
        leased = http.post(f"/v1/queues/{queue}/lease", Accept=RAW)
        assert (leased.status, leased.type, leased.body) == (200, RAW, data)
        assert leased.headers["Workq-Id"] == job_id
        assert (leased.headers["Workq-Queue"], leased.headers["Workq-Ttr-Ms"]) == (queue, "7000")
        assert http.post(f"/v1/queues/{queue}/lease", Accept=RAW).status == 204
        assert http.post(f"/v1/jobs/{job_id}/fail", body=data, Content_Type=RAW).status == 204
        result = http.get(f"/v1/jobs/{job_id}/result", Accept=RAW)
        assert (result.status, result.type, result.body) == (200, RAW, data)
        assert result.headers["Workq-Success"] == "false"

    def test_the_largest(self, http: HttpClient, queue: str) -> None:
        for payload in ["\x01" * 2**20, "x" * 2**20]:
            job_id = add(http, queue, payload=payload)
            assert http.get(f"/v1/jobs/{job_id}").json["payload"] == payload
            assert http.delete(f"/v1/jobs/{job_id}").status == 204

    def test_too_large(self, http: HttpClient, queue: str) -> None:
        text = "The payload has 1048577 bytes, 1048576 are allowed"
        assert refused(http, "POST", "/v1/jobs", 413, {"queue": queue, "payload": "x" * (2**20 + 1)}) == text
        answer = http.post(f"/v1/jobs?queue={queue}", body=b"x" * (2**20 + 1), Content_Type=RAW)
        assert (answer.status, answer.json["detail"]) == (413, text)
        text = "The result has 1048577 bytes, 1048576 are allowed"
        job_id = add(http, queue)
        for verb in ("complete", "fail"):
            answer = http.post(f"/v1/jobs/{job_id}/{verb}", {"result": "x" * (2**20 + 1)})
            assert (answer.status, answer.json["detail"]) == (413, text)

    def test_a_body_that_is_too_long_for_any_payload(self, server: ServerProcess) -> None:
        with HttpClient(server) as http:
            answer = http.post("/v1/jobs", body=b" " * 6_400_000, Content_Type="application/json")
            assert answer.status == 413
            assert "at most 6356992 bytes are allowed" in answer.json["detail"]

    def test_one_way_of_giving_them_is_enough(self, http: HttpClient, queue: str) -> None:
        both = {"queue": queue, "payload": "a", "payload_base64": "YQ=="}
        assert bad(http, both) == "payload and payload_base64 are both given, one is allowed"
        job_id = add(http, queue)
        both = {"result": "a", "result_base64": "YQ=="}
        text = bad(http, both, f"/v1/jobs/{job_id}/complete")
        assert text == "result and result_base64 are both given, one is allowed"


class TestLease:
    def test_of_several_queues(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        jobs = http.post("/v1/lease", {"queues": [f"{queue}-none", queue]}).json["jobs"]
        assert [job["id"] for job in jobs] == [job_id]
        job_id = add(http, queue)
        answer = http.post(f"/v1/lease?queues={queue}-none&queues={queue}")
        assert answer.json["jobs"][0]["id"] == job_id

    def test_a_long_poll_ends_with_a_job(self, http: HttpClient, worker: HttpClient, queue: str) -> None:
        worker.send("POST", f"/v1/queues/{queue}/lease", json={"wait_ms": 60_000})
        job_id = add(http, queue)
        assert worker.answer().json["jobs"][0]["id"] == job_id

    def test_a_long_poll_ends_without_one(self, worker: HttpClient, queue: str) -> None:
        assert worker.post(f"/v1/queues/{queue}/lease", {"wait_ms": 1}).json == {"jobs": []}

    def test_who_hangs_up_takes_no_job(self, server: ServerProcess, http: HttpClient, queue: str) -> None:
        """Its request has been served until then: what it added first is there."""
        with Dialogue(server.http_addresses[""]) as gone, HttpClient(server) as worker:
            path = f"/v1/jobs?queue={queue}-seen"
            gone.send(
                f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/queues/{queue}/lease?wait_ms=60000 HTTP/1.1\r\n"
                "Host: x\r\n\r\n".encode()
            )
            seen = worker.post(f"/v1/queues/{queue}-seen/lease", {"wait_ms": 60_000})
            assert len(seen.json["jobs"]) == 1
            gone.line()
            gone.close()
            for _ in range(3):  # turns of the event loop, in which it notices
                http.get("/healthz")
            worker.send("POST", f"/v1/queues/{queue}/lease", json={"wait_ms": 60_000})
            job_id = add(http, queue)
            assert worker.answer().json["jobs"][0]["id"] == job_id


class TestManyAtATime:
    def test_leases(self, http: HttpClient, queue: str) -> None:
        ids = [add(http, queue) for _ in range(3)]
        jobs = http.post(f"/v1/queues/{queue}/lease", {"count": 2}).json["jobs"]
        assert [job["id"] for job in jobs] == ids[:2]
        assert {job["attempt"] for job in jobs} == {1}
        jobs = http.post("/v1/lease", {"queues": [queue], "count": 1000}).json["jobs"]
        assert [job["id"] for job in jobs] == ids[2:]
        assert http.post(f"/v1/queues/{queue}/lease?count=5").json == {"jobs": []}

    def test_leases_do_not_fit_into_one_body(self, http: HttpClient, queue: str) -> None:
        answer = http.post(f"/v1/queues/{queue}/lease?count=2", Accept=RAW)
        assert (answer.status, answer.json["detail"]) == (
            400,
            "count: '2' is not 1, the most that fits into a body of application/octet-stream",
        )

    def test_results(self, http: HttpClient, worker: HttpClient, queue: str) -> None:
        first, second, third = [add(http, queue) for _ in range(3)]
        assert http.post("/v1/results", {"ids": [first, second]}).json == {"results": []}
        http.post(f"/v1/jobs/{second}/complete", {"result": "two"})
        one = {"id": second, "success": True, "result": "two"}
        assert http.post("/v1/results", {"ids": [first, second, third]}).json == {"results": [one]}
        http.send("POST", "/v1/results", json={"ids": [first, second], "wait_ms": 60_000})
        worker.post(f"/v1/jobs/{first}/fail", {"result": "no"})
        assert http.answer().json == {"results": [{"id": first, "success": False, "result": "no"}, one]}

    def test_results_of_nobody(self, http: HttpClient) -> None:
        assert refused(http, "POST", "/v1/results", 404, {"ids": [NOBODY]}) == "There is no job with one of these ids"
        assert bad(http, {"ids": []}, "/v1/results") == f"ids: '[]' is not {ALLOWED['ids']}"


class TestFinish:
    def test_twice(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        assert http.post(f"/v1/jobs/{job_id}/complete").status == 204
        for verb in ("complete", "fail"):
            assert refused(http, "POST", f"/v1/jobs/{job_id}/{verb}", 409) == "Duplicate result"

    def test_a_fail_with_fails_left_gives_the_job_back(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue, max_fails=2)
        http.post(f"/v1/queues/{queue}/lease")
        assert http.get(f"/v1/jobs/{job_id}").json["state"] == "leased"
        assert http.post(f"/v1/jobs/{job_id}/fail", {"result": "later"}).status == 204
        job = http.get(f"/v1/jobs/{job_id}").json
        assert (job["state"], job["attempts"], job["fails"]) == ("pending", 1, 1)
        assert http.post(f"/v1/jobs/{job_id}/fail").status == 204
        assert http.get(f"/v1/jobs/{job_id}").json["state"] == "failed"

    def test_once_and_for_all(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue, max_fails=10)
        assert http.post(f"/v1/jobs/{job_id}/fail", {"result": "no", "final": True}).status == 204
        job = http.get(f"/v1/jobs/{job_id}").json
        assert (job["state"], job["result"]) == ("failed", "no")

    def test_a_late_worker_is_fenced_off(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        assert http.post(f"/v1/queues/{queue}/lease").json["jobs"][0]["attempt"] == 1
        assert http.post(f"/v1/jobs/{job_id}/release?attempt=1").status == 204
        assert http.post(f"/v1/queues/{queue}/lease").json["jobs"][0]["attempt"] == 2
        for verb in ("complete", "fail", "touch", "release"):
            text = refused(http, "POST", f"/v1/jobs/{job_id}/{verb}", 409, {"attempt": 1})
            assert text.startswith("Lease expired")
        assert http.post(f"/v1/jobs/{job_id}/touch", {"attempt": 2}).status == 204
        assert http.post(f"/v1/jobs/{job_id}/complete", {"attempt": 2}).status == 204

    def test_how_far_it_is(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        path = f"/v1/jobs/{job_id}/progress"
        assert refused(http, "POST", path, 409, {"progress": "1"}).startswith("Not leased")
        http.post(f"/v1/queues/{queue}/lease")
        assert "progress" not in http.get(f"/v1/jobs/{job_id}").json
        assert http.post(path, {"progress": "50 %", "attempt": 1, "touch": True}).status == 204
        assert http.get(f"/v1/jobs/{job_id}").json["progress"] == "50 %"
        assert http.post(f"{path}?touch=true", body=b"\xff", Content_Type=RAW).status == 204
        assert http.get(f"/v1/jobs/{job_id}").json["progress_base64"] == "/w=="
        text = "The progress has 4097 bytes, 4096 are allowed"
        assert refused(http, "POST", path, 413, {"progress": "x" * 4097}) == text
        assert bad(http, {"touch": "yes"}, path) == "touch: 'yes' is not true or false"

    def test_released_for_later(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        http.post(f"/v1/queues/{queue}/lease")
        assert http.post(f"/v1/jobs/{job_id}/release", {"delay_ms": 3_600_000}).status == 204
        assert http.post(f"/v1/queues/{queue}/lease").json == {"jobs": []}
        assert [job["id"] for job in http.get(f"/v1/queues/{queue}/jobs?state=scheduled").json["jobs"]] == [job_id]

    def test_a_job_that_nobody_holds_cannot_be_touched_or_released(self, http: HttpClient, queue: str) -> None:
        job_id = add(http, queue)
        for verb in ("touch", "release"):
            assert refused(http, "POST", f"/v1/jobs/{job_id}/{verb}", 409).startswith("Not leased")

    def test_a_fail_may_rest_before_its_retry(self, http: HttpClient, queue: str) -> None:
        options = {"retry_delay_ms": 3_600_000, "retry_backoff": 2.5, "retry_max_delay_ms": 7_200_000}
        job_id = add(http, queue, max_fails=5, **options)
        http.post(f"/v1/queues/{queue}/lease")
        assert http.post(f"/v1/jobs/{job_id}/fail").status == 204
        assert [job["id"] for job in http.get(f"/v1/queues/{queue}/jobs?state=scheduled").json["jobs"]] == [job_id]

    @pytest.mark.parametrize("option", ["retry_backoff", "retry_max_delay_ms"])
    def test_what_says_nothing_without_a_delay(self, http: HttpClient, queue: str, option: str) -> None:
        assert bad(http, {"queue": queue, option: 5}) == f"{option}: is nothing without retry_delay_ms"
        add(http, queue, retry_delay_ms=0, **{option: 5})


class TestQueueOptions:
    def test_limits_and_pause(self, http: HttpClient, queue: str) -> None:
        path = f"/v1/queues/{queue}"
        options = {"max_len": 1, "lease_rate": 4_000_000, "lease_burst": 2, "ttr_ms": 777, "returned": "back"}
        assert http.put(f"{path}/options", options).status == 204
        assert http.post(f"{path}/pause").status == 204
        add(http, queue)
        assert refused(http, "POST", "/v1/jobs", 409, {"queue": queue}) == "Queue full"
        assert http.post(f"{path}/lease").json == {"jobs": []}
        assert http.post(f"{path}/resume").status == 204
        assert http.post(f"{path}/lease").json["jobs"][0]["ttr_ms"] == 777

    def test_an_option_out_of_range(self, http: HttpClient, queue: str) -> None:
        path = f"/v1/queues/{queue}/options"
        assert "max_len" in refused(http, "PUT", path, 400, {"max_len": -1})
        assert "returned" in refused(http, "PUT", path, 400, {"returned": "middle"})


class TestLists:
    def test_queues_in_pages(self, http: HttpClient, queue: str) -> None:
        names = sorted([f"{queue}-{i}" for i in range(3)])
        for name in names:
            add(http, name)
        seen, cursor = [], 0
        while cursor is not None:
            page = http.get(f"/v1/queues?limit=2&cursor={cursor}").json
            assert len(page["queues"]) <= 2
            seen += [each["name"] for each in page["queues"]]
            cursor = page["next_cursor"]
        assert [name for name in seen if name in names] == names
        assert seen == sorted(seen)

    def test_a_queue_with_all_its_figures(self, http: HttpClient, queue: str) -> None:
        options = {
            "max_len": 9,
            "max_leased": 8,
            "lease_rate": 7,
            "lease_burst": 6,
            "ttr_ms": 60_000,
            "max_attempts": 4,
        }
        assert http.put(f"/v1/queues/{queue}/options", options | {"returned": "back"}).status == 204
        add(http, queue)
        job_id = add(http, queue, priority=1)
        assert http.post(f"/v1/queues/{queue}/lease").json["jobs"][0]["id"] == job_id
        http.post(f"/v1/jobs/{job_id}/fail")
        http.post(f"/v1/queues/{queue}/pause")
        found = http.get(f"/v1/queues/{queue}").json
        assert found.pop("oldest_ready_age_ms") >= 0
        lengths = {"ready": 1, "scheduled": 0, "leased": 0, "failed": 1, "completed": 0, "waiting_leasers": 0}
        nothing = dict.fromkeys(["completed", "returned", "expired", "deleted"], 0)
        assert found == {
            "name": queue,
            **lengths,
            "paused": True,
            "options": options | {"returned": "back"},
            "totals": nothing | {"added": 2, "leased": 1, "failed": 1},
            "last_minute": {"added": 2, "leased": 1, "finished": 1},
        }

    def test_jobs_of_a_queue_by_state(self, http: HttpClient, queue: str) -> None:
        later = add(http, queue, run_at="2999-01-01T00:00:00Z")
        second, first = add(http, queue), add(http, queue, priority=1)
        page = http.get(f"/v1/queues/{queue}/jobs").json
        assert ([job["id"] for job in page["jobs"]], page["next_cursor"]) == ([first, second], None)
        page = http.get(f"/v1/queues/{queue}/jobs?limit=1").json
        assert ([job["id"] for job in page["jobs"]], page["next_cursor"]) == ([first], 1)
        page = http.get(f"/v1/queues/{queue}/jobs?limit=1&cursor=1").json
        assert [job["id"] for job in page["jobs"]] == [second]
        page = http.get(f"/v1/queues/{queue}/jobs?state=scheduled").json
        assert [job["id"] for job in page["jobs"]] == [later]

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "4294967296", "1.5", "%00", "1;2"])
    def test_a_bad_cursor(self, http: HttpClient, queue: str, cursor: str) -> None:
        add(http, queue)
        for path in ("/v1/queues", f"/v1/queues/{queue}/jobs"):
            text = refused(http, "GET", f"{path}?cursor={cursor}", 400)
            assert text.startswith("cursor: '")
            assert text.endswith("' is not a whole number from 0 to 4294967295")

    @pytest.mark.parametrize("limit", ["0", "101", "all"])
    def test_a_bad_limit(self, http: HttpClient, limit: str) -> None:
        text = refused(http, "GET", f"/v1/queues?limit={limit}", 400)
        assert text == f"limit: '{limit}' is not a whole number from 1 to 100"

    def test_a_queue_that_is_not_there(self, http: HttpClient, queue: str) -> None:
        for path in (f"/v1/queues/{queue}", f"/v1/queues/{queue}/jobs"):
            assert refused(http, "GET", path, 404) == f"There is no queue {queue}"

    def test_the_server(self, http: HttpClient) -> None:
        figures = http.get("/v1/server").json
        assert figures["active_clients"] >= 0
        assert figures["started_at"].endswith("Z")


class TestBadRequests:
    def test_a_missing_option(self, http: HttpClient) -> None:
        assert bad(http, {}) == "queue: is missing; it must be 1 to 255 of A-Z a-z 0-9 _ - ."
        answer = http.post("/v1/jobs")
        assert (answer.status, answer.json["detail"]) == (
            400,
            "queue: is missing; it must be 1 to 255 of A-Z a-z 0-9 _ - .",
        )

    def test_an_unknown_option(self, http: HttpClient) -> None:
        assert bad(http, {"queue": "a", "ttr": 1}) == "'ttr': no such option; did you mean ttr_ms?"
        text = refused(http, "GET", "/v1/queues?zzz=1", 400)
        assert text == "'zzz': no such option; allowed are cursor, limit"
        assert refused(http, "GET", "/v1/server?zzz=1", 400) == "'zzz': no such option; allowed are none"

    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [
            ("queue", 5, "5"),
            ("queue", "a b", "a b"),
            ("queue", "", ""),
            ("queue", "x" * 256, "x" * 48 + "..."),
            ("payload", 5, "5"),
            ("payload", None, "null"),
            ("payload_base64", "%", "%"),
            ("id", "x", "x"),
            ("ttr_ms", 0, "0"),
            ("ttr_ms", 86_400_001, "86400001"),
            ("ttr_ms", 1.5, "1.5"),
            ("ttr_ms", "5", "5"),
            ("ttr_ms", True, "true"),
            ("ttl_ms", 0, "0"),
            ("priority", 2**31, "2147483648"),
            ("max_attempts", 256, "256"),
            ("max_fails", -1, "-1"),
            ("retry_backoff", 0.5, "0.5"),
            ("retry_delay_ms", -1, "-1"),
            ("delay_ms", "soon", "soon"),
            ("run_at", "2030-01-01", "2030-01-01"),
            ("run_at", "2030-01-01T00:00:00", "2030-01-01T00:00:00"),
            ("run_at", 5, "5"),
        ],
    )
    def test_a_wrong_value(self, http: HttpClient, name: str, value: object, shown: str) -> None:
        assert bad(http, {"queue": "a", name: value}) == f"{name}: '{shown}' is not {ALLOWED[name]}"

    @pytest.mark.parametrize(("begin", "item", "end"), [("[", "[],", "1]"), ('"', "x", '"'), ('{"', "y", '":{}}')])
    def test_a_wrong_value_of_megabytes(self, http: HttpClient, begin: str, item: str, end: str) -> None:
        value = begin + item * 1_000_000 + end
        answer = http.post(
            "/v1/jobs", body=b'{"queue": "a", "ttr_ms": %b}' % value.encode(), Content_Type="application/json"
        )
        assert answer.json["detail"] == f"ttr_ms: '{value.strip(chr(34))[:48]}...' is not {ALLOWED['ttr_ms']}"

    def test_an_unknown_option_of_megabytes(self, http: HttpClient) -> None:
        shown = ("payload_base64" * 4)[:48]
        assert bad(http, {"payload_base64" * 400_000: 1}).startswith(
            f"'{shown}...': no such option; allowed are queue, "
        )

    def test_a_state_that_cannot_be_cleared(self, http: HttpClient) -> None:
        allowed = "ready, scheduled, failed, completed or all"
        path = "/v1/queues/a/jobs"
        assert refused(http, "DELETE", f"{path}?state=leased", 400) == f"state: 'leased' is not {allowed}"
        assert refused(http, "DELETE", path, 400) == f"state: is missing; it must be {allowed}"

    def test_a_ttl_beyond_any_clock(self, http: HttpClient) -> None:
        assert bad(http, {"queue": "a", "ttl_ms": 2**64}).startswith("Invalid TTL: '18446744073709551616' is not ")

    def test_the_nil_id(self, http: HttpClient) -> None:
        nil = str(uuid.UUID(int=0))
        assert bad(http, {"queue": "a", "id": nil}) == f"id: '{nil}' is not {ALLOWED['id']}"
        assert refused(http, "GET", f"/v1/jobs/{nil}", 400) == "Invalid ID: the nil UUID is not allowed"

    @pytest.mark.parametrize(
        "body", [b"{", b"[1", b'{"queue":', b"\xff", b"queue=a", b"nul", b'{"queue":"a"} x', b"[" * 100_000]
    )
    def test_what_is_not_json(self, http: HttpClient, body: bytes) -> None:
        answer = http.post("/v1/jobs", body=body, Content_Type="application/json")
        assert answer.status == 400
        assert answer.json["detail"].startswith("The body is not JSON: ")

    @pytest.mark.parametrize(
        ("body", "what"),
        [("[]", "an array"), ('"a"', "a string"), ("5", "a number"), ("true", "a boolean"), ("null", "null")],
    )
    def test_json_that_is_no_object(self, http: HttpClient, body: str, what: str) -> None:
        answer = http.post("/v1/jobs", body=body.encode(), Content_Type="application/json; charset=utf-8")
        assert (answer.status, answer.json["detail"]) == (400, f"The body is {what}, only an object is allowed")

    @pytest.mark.parametrize("given", ["application/x-www-form-urlencoded", "text/plain", "", "multipart/form-data"])
    def test_a_wrong_content_type(self, http: HttpClient, given: str) -> None:
        answer = http.post("/v1/jobs", body=b'{"queue":"a"}', Content_Type=given)
        assert (answer.status, answer.json["detail"]) == (
            415,
            f"Content-Type: '{given}' is not application/json or, for a payload as it is, application/octet-stream",
        )
        answer = http.post("/v1/queues/a/lease", body=b"x", Content_Type=RAW)
        assert (answer.status, answer.json["detail"]) == (415, f"Content-Type: '{RAW}' is not application/json")

    def test_options_twice(self, http: HttpClient) -> None:
        answer = http.post("/v1/jobs?queue=a", {"queue": "a"})
        assert (answer.status, answer.json["detail"]) == (
            400,
            "Options are allowed in the body or in the query, not in both",
        )
        assert refused(http, "GET", "/v1/queues?limit=1&limit=2", 400) == "limit: given 2 times, once is allowed"

    def test_a_body_where_there_is_none(self, http: HttpClient) -> None:
        answer = http.ask("GET", "/v1/queues", json={})
        assert (answer.status, answer.json["detail"]) == (400, "GET takes no body here; give options in the query")

    @pytest.mark.parametrize("name", ["a%20b", "%00", "%F0%9F%98%80", "a%2Fb", "x" * 256, "%ff", "a'b\"<script>"])
    def test_a_hostile_name(self, http: HttpClient, name: str) -> None:
        for method, path in [("GET", ""), ("GET", "/jobs"), ("POST", "/lease")]:
            assert refused(http, method, f"/v1/queues/{name}{path}", 400).startswith("Invalid Name: ")

    @pytest.mark.parametrize("job_id", ["x", "%00", NOBODY[:-1], NOBODY + "0", NOBODY.replace("-", ""), "%F0%9F%98%80"])
    def test_a_bad_id(self, http: HttpClient, job_id: str) -> None:
        paths = [("GET", ""), ("DELETE", ""), ("GET", "/result"), ("POST", "/complete"), ("POST", "/fail")]
        paths += [("POST", "/touch"), ("POST", "/release")]
        for method, path in paths:
            assert refused(http, method, f"/v1/jobs/{job_id}{path}", 400).startswith("Invalid ID: ")

    def test_an_unknown_id(self, http: HttpClient) -> None:
        paths = [("GET", ""), ("DELETE", ""), ("GET", "/result"), ("POST", "/complete"), ("POST", "/fail")]
        paths += [("POST", "/touch"), ("POST", "/release")]
        for method, path in paths:
            assert refused(http, method, f"/v1/jobs/{NOBODY}{path}", 404) == f"There is no job {NOBODY}"

    def test_a_path_where_nothing_is(self, http: HttpClient) -> None:
        for path in ("/v1", "/v1/", "/v2/jobs", "/v1/jobs/", f"/v1/jobs/{NOBODY}/eat", "/v1/queues//lease"):
            assert refused(http, "GET", path, 404) == f"There is nothing at {path}"

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/v1/jobs", "POST"),
            ("PUT", "/v1/jobs", "POST"),
            ("POST", f"/v1/jobs/{NOBODY}", "DELETE, GET, HEAD"),
            ("GET", "/v1/queues/a/lease", "POST"),
            ("PATCH", "/v1/server", "GET, HEAD"),
            ("OPTIONS", "/v1/server", "GET, HEAD"),
        ],
    )
    def test_a_wrong_method(self, http: HttpClient, method: str, path: str, allowed: str) -> None:
        answer = http.ask(method, path)
        assert answer.status == 405
        assert answer.json["detail"] == f"{method} is not allowed at {path}, {allowed} is"
        assert sorted(answer.headers["Allow"].split(",")) == allowed.split(", ")


class TestWebPages:
    """A page from elsewhere must not be able to make a browser work with jobs: see `doc/protocol.md`, "Errors"."""

    def test_from_elsewhere_are_refused(self, http: HttpClient, queue: str) -> None:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        ):
            answer = http.post(f"/v1/jobs?queue={queue}", None, body=None, **headers)
            assert answer.status == 403
        assert http.post(f"/v1/queues/{queue}/lease").json == {"jobs": []}

    def test_of_our_own_are_served(self, http: HttpClient, queue: str) -> None:
        host, port = http.address
        origin = {"Origin": f"http://{host}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert http.post(f"/v1/jobs?queue={queue}", **origin).status == 201
        navigated = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert http.get("/v1/server", **navigated).status == 200

    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("evil.example:PORT", 421),
            ("127.0.0.1.evil.example.:PORT", 421),
            ("evil.example", 200),  # a proxy that was asked for this
            ("evil.example:1", 200),
            ("localhost:PORT", 200),
            ("a.localhost:PORT", 200),
            ("127.0.0.2:PORT", 200),
            ("[::1]:PORT", 200),
            ("machine:PORT", 200),
            (f"{socket.gethostname()}:PORT", 200),
        ],
    )
    def test_a_name_of_somebody_else_does_not_lead_here(self, http: HttpClient, host: str, status: int) -> None:
        for path in ("/v1/server", "/hq/stats"):
            answer = http.get(path, Host=host.replace("PORT", str(http.address[1])))
            assert answer.status == status
            assert status == 200 or "is no name of this server; localhost, or an address, is" in answer.text


class TestRecurring:
    def test_jobs_are_added_until_it_is_deleted(self, http: HttpClient, queue: str) -> None:
        rule = "cron:*_*_*_*_*@Europe/Berlin"
        options = {"queue": queue, "rule": "every:100", "payload": "now", "overlap": "skip"}
        recurring_id = http.post("/v1/recurring", options).json["id"]
        (job,) = http.post(f"/v1/queues/{queue}/lease?wait_ms=60000").json["jobs"]
        assert job["payload"] == "now"
        assert refused(http, "POST", "/v1/recurring", 409, {"queue": queue, "rule": rule, "id": recurring_id})
        (shown,) = [each for each in http.get("/v1/recurring").json["jobs"] if each["id"] == recurring_id]
        assert (shown["rule"], shown["overlap"], shown["last_id"]) == ("every:100", "skip", job["id"])
        assert (shown["occurrences"], shown["payload"]) == (1, "now")
        assert http.delete(f"/v1/jobs/{recurring_id}").status == 204
        assert recurring_id not in [each["id"] for each in http.get("/v1/recurring").json["jobs"]]

    @pytest.mark.parametrize("rule", ["every:99", "daily", "cron:0_0_30_2_*", "cron:*_*_*_*_*@Mars/Olympus"])
    def test_a_rule_that_cannot_be_is_refused(self, http: HttpClient, queue: str, rule: str) -> None:
        assert bad(http, {"queue": queue, "rule": rule}, "/v1/recurring").startswith("Invalid rule: ")

"""Every endpoint of HQ's API: what it takes, what it answers, and what it says to those who ask wrongly."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.http.client import HttpClient
from tests.http.hq.door import KEYS, NOWHERE, Hq, configured, error_of
from tests.server import ServerProcess
from tests.webworker import Request, WebWorker, answer
from workq.version import VERSION

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,2}[1-9])?Z")
FORM = "application/x-www-form-urlencoded"
UNKNOWN = "4611686018427387904"


@pytest.fixture(params=["root", "mounted"])
def anywhere(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[Hq]:
    """The door, at the root of its listener and below our own API."""
    with Hq(server) if request.param == "root" else Hq(server, "", "/hq") as client:
        yield client


class TestInfo:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    @pytest.mark.parametrize("path", ["/", "/?pretty"])
    def test_any_method_is_answered(self, anywhere: Hq, method: str, path: str) -> None:
        info = anywhere.ask(method, path)
        assert info.status == 200
        assert info.type == "application/json; charset=UTF-8"
        assert info.json == {"version": VERSION, "commitHash": ""}

    def test_the_mount_point_itself_is_answered(self, server: ServerProcess) -> None:
        with HttpClient(server) as client:
            assert client.get("/hq").json == {"version": VERSION, "commitHash": ""}


class TestStats:
    def test_the_names_of_all_generations(self, anywhere: Hq) -> None:
        stats = anywhere.get("/stats").json
        assert set(stats) == {
            *("queues", "dispatchers", "maxWorkers", "queueUsage", "numWaitingJobs", "numRunningJobs", "numWorkers"),
            *("numJobs", "version", "commitHash", "serverId", "shutdownTimeout", "jobLifetime", "jobLifetimeStr"),
            *("jobListDefaultLimit", "queueMax", "numJobsInQueue", "numJobsWaiting", "numJobsRunning"),
            *("numStoredJobs", "numJobsInLastMinute"),
        }
        assert (stats["queues"], stats["queueMax"], stats["maxWorkers"]) == (8192, 8192, 0)
        assert (stats["jobLifetime"], stats["jobLifetimeStr"], stats["shutdownTimeout"]) == (2_419_200, "4 weeks", 10)
        assert stats["dispatchers"] >= 1

    def test_the_figures_are_those_of_the_jobs(self, worker: WebWorker) -> None:
        worker.behaviours["/hang"] = worker.hang
        settings = "[hq]\ndispatchers = 1\n"
        with configured(settings) as server, Hq(server) as hq:
            for _ in range(3):
                hq.done(NOWHERE)
            running = hq.push(worker.url("/hang"))["id"]
            hq.wait_for(running, "running")
            waiting = [hq.push(worker.url("/hang"))["id"] for _ in range(2)]
            stats = hq.get("/stats").json
            assert (stats["numRunningJobs"], stats["numJobsRunning"], stats["numWorkers"]) == (1, 1, 1)
            assert (stats["numWaitingJobs"], stats["numJobsWaiting"]) == (2, 2)
            assert (stats["queueUsage"], stats["numJobsInQueue"]) == (2, 2)
            assert (stats["numJobs"], stats["numStoredJobs"], stats["numJobsInLastMinute"]) == (6, 6, 6)
            assert hq.wait_for(waiting[0], "waiting")["waiting"] is True


class TestPush:
    def test_the_answer_is_a_job_that_has_not_begun(self, anywhere: Hq) -> None:
        job = anywhere.push(NOWHERE)
        assert list(job) == list(KEYS)
        assert job | {"id": "", "createdAt": ""} == {
            "canceled": False,
            "comment": "",
            "createdAt": "",
            "err": "",
            "failure": False,
            "finishedAt": None,
            "headers": None,
            "id": "",
            "name": "default",
            "output": "",
            "payload": None,
            "running": False,
            "startedAt": None,
            "status": "unfinished",
            "statusCode": None,
            "success": False,
            "timeout": 0,
            "url": NOWHERE,
            "waiting": False,
        }
        assert re.fullmatch(r"\d{18,20}", job["id"])
        assert TIME.fullmatch(job["createdAt"])

    def test_what_is_given_is_told(self, hq: Hq) -> None:
        given = {
            "name": "näme",
            "comment": 'say\n"hi"',
            "payload": {"b": [1, 2.50, None], "a": "\x00 é"},
            "headers": {"X-A": "1", "x-b": "é"},
            "timeout": 30,
        }
        job = hq.push(NOWHERE, **given)
        assert {key: job[key] for key in given} == given
        after = hq.finished(job["id"])
        assert {key: after[key] for key in given} == given
        assert (after["id"], after["createdAt"], after["url"]) == (job["id"], job["createdAt"], NOWHERE)

    def test_a_payload_keeps_its_order_and_spelling_but_not_its_spaces(self, hq: Hq) -> None:
        payload = b'{ "z" : 1.50e3 , "a":[ 12345678901234567890 , "\\u00e9" ] }'
        body = b'{"url": "' + NOWHERE.encode() + b'", "payload": ' + payload + b"}"
        job = hq.post("/job", body=body, Content_Type="application/json")
        assert b'"payload":{"z":1.50e3,"a":[12345678901234567890,"\\u00e9"]},' in job.body
        hq.finished(job.json["id"])
        assert b'"payload":{"z":1.50e3,"a":[12345678901234567890,"\\u00e9"]},' in hq.get(f"/job/{job.json['id']}").body

    @pytest.mark.parametrize("payload", [None, 0, "", "text", [], {}, False, 1.5])
    def test_a_payload_is_any_json(self, hq: Hq, payload: object) -> None:
        job = hq.push(NOWHERE, payload=payload)
        assert job["payload"] == payload
        assert hq.finished(job["id"])["payload"] == payload

    def test_half_a_character_becomes_the_one_for_such(self, hq: Hq) -> None:
        body = rb'{"url": "%b", "name": "cut \ude00", "payload": "cut \ud83d"}' % NOWHERE.encode()
        job = hq.post("/job", body=body, Content_Type="application/json").json
        assert (job["name"], job["payload"]) == ("cut \N{REPLACEMENT CHARACTER}",) * 2

    def test_a_payload_may_be_nested_so_and_so_deeply(self, hq: Hq) -> None:
        deep, too_deep = [b'{"url": "http://127.0.0.1:1/", "payload": %b}' % (b"[" * n + b"]" * n) for n in (500, 501)]
        pushed = hq.ask("POST", "/job", body=deep, Content_Type="application/json")
        assert hq.wait_for(pushed.json["id"], "failure")["payload"] == pushed.json["payload"]
        refused = hq.ask("POST", "/job", body=too_deep, Content_Type="application/json")
        assert "nested too deeply" in error_of(refused, 400)

    def test_null_is_like_absent_and_an_empty_name_is_the_default(self, hq: Hq) -> None:
        fields = dict.fromkeys(("name", "comment", "payload", "headers", "timeout"))
        job = hq.push(NOWHERE, **fields)
        assert (job["name"], job["comment"], job["headers"], job["timeout"]) == ("default", "", None, 0)
        assert hq.push(NOWHERE, name="", headers={})["headers"] == {}

    def test_unknown_fields_are_ignored(self, hq: Hq) -> None:
        assert hq.push(NOWHERE, header={"A": "b"}, id="5", status="success")["headers"] is None

    def test_a_charset_may_be_named(self, hq: Hq) -> None:
        body = json.dumps({"url": NOWHERE}).encode()
        assert hq.post("/job", body=body, Content_Type="application/json; charset=utf-8").status == 200

    @pytest.mark.parametrize(
        "url", ["x", "ftp://x/", "http://", "http://[", "//x", "é", "http://127.0.0.1:1/\n", "\x00"]
    )
    def test_an_unusable_url_is_taken_and_the_job_fails(self, hq: Hq, url: str) -> None:
        job = hq.done(url)
        assert (job["url"], job["status"], job["statusCode"]) == (url, "failure", None)
        assert job["err"].startswith(("failed to do http request: ", "failed to create new request: "))

    @pytest.mark.parametrize("body", [{}, {"url": ""}, {"url": None}, {"name": "x"}])
    def test_a_url_is_required(self, hq: Hq, body: dict[str, Any]) -> None:
        assert error_of(hq.post("/job", body), 422) == "'url' is required"

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("url", 1),
            ("url", ["x"]),
            ("name", 1),
            ("comment", {}),
            ("headers", []),
            ("headers", {"A": 1}),
            ("headers", {"A": None}),
            ("headers", "A: b"),
            ("timeout", "1"),
            ("timeout", 1.5),
            ("timeout", 2**63),
        ],
    )
    def test_a_wrong_type_is_told_with_its_field(self, hq: Hq, field: str, value: object) -> None:
        assert field in error_of(hq.post("/job", {"url": NOWHERE, field: value}), 400)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"{",
            b"nul",
            b"[]",
            b'"x"',
            b"\xff",
            b'{"url": "x", "payload": }',
            b'{"url": "x", "payload": nul}',
            b'{"url": "x", "payload": "\xff"}',
            b'{"url": "x"} {}',
            b'{"url": "x", "payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ],
    )
    def test_a_body_that_is_no_json_object(self, hq: Hq, body: bytes) -> None:
        assert error_of(hq.post("/job", body=body, Content_Type="application/json"), 400).startswith("The body is ")

    @pytest.mark.parametrize(
        "content_type", [None, "text/plain", "application/xml", "application/octet-stream", "json"]
    )
    def test_another_content_type(self, hq: Hq, content_type: str | None) -> None:
        headers = {} if content_type is None else {"Content_Type": content_type}
        assert "application/json" in error_of(hq.post("/job", body=b'{"url": "x"}', **headers), 415)

    def test_without_a_body_or_a_content_type(self, hq: Hq) -> None:
        assert error_of(hq.post("/job"), 400) == "The body is empty; a job is needed, as JSON"

    def test_what_is_too_long(self, hq: Hq) -> None:
        assert hq.push(NOWHERE, payload="x" * (2**20 - 2))["payload"] == "x" * (2**20 - 2)
        assert "1048577 bytes" in error_of(hq.post("/job", {"url": NOWHERE, "payload": "x" * (2**20 - 1)}), 413)
        for field in ("url", "name", "comment"):
            assert "too long" in error_of(hq.post("/job", {"url": NOWHERE, field: "x" * 2**20}), 413)
        assert "too long" in error_of(hq.post("/job", {"url": NOWHERE, "comment": "x" * 7_000_000}), 413)

    def test_ids_grow(self, hq: Hq) -> None:
        ids = [int(hq.push(NOWHERE)["id"]) for _ in range(20)]
        assert ids == sorted(set(ids))


class TestForms:
    def test_fields_of_a_form(self, hq: Hq) -> None:
        body = urllib.parse.urlencode({"url": NOWHERE, "name": "n", "comment": "ü", "timeout": "7"}).encode()
        job = hq.post("/job", body=body, Content_Type=FORM).json
        assert (job["url"], job["name"], job["comment"], job["timeout"]) == (NOWHERE, "n", "ü", 7)

    def test_a_field_named_payload_holds_the_whole_request(self, hq: Hq) -> None:
        whole = json.dumps({"url": NOWHERE, "payload": [1]})
        body = urllib.parse.urlencode({"payload": whole, "url": "ignored"}).encode()
        assert hq.post("/job", body=body, Content_Type=FORM).json["payload"] == [1]

    def test_so_does_a_parameter(self, hq: Hq) -> None:
        whole = urllib.parse.quote(json.dumps({"url": NOWHERE, "payload": [2]}))
        assert hq.post(f"/job?payload={whole}").json["payload"] == [2]
        assert hq.post(f"/job?payload={whole}", body=b"a=b", Content_Type=FORM).json["payload"] == [2]

    def test_a_form_with_parts(self, hq: Hq) -> None:
        part = b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        body = part % (b"url", NOWHERE.encode()) + part % (b"name", b"parts") + b"--x--\r\n"
        job = hq.post("/job", body=body, Content_Type="multipart/form-data; boundary=x").json
        assert (job["url"], job["name"]) == (NOWHERE, "parts")

    def test_parts_may_say_more_of_themselves(self, hq: Hq) -> None:
        body = (
            b'preamble\r\n--x y \r\ncontent-disposition: form-data; filename="f"; name="url"\r\n\r\nfile\r\n'
            b"--x y\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=url\r\n\r\n"
            + NOWHERE.encode()
            + b'\r\n--x y\r\nContent-Disposition: form-data; name="comment"\r\n\r\n\r\n--x\r\n--x yz\r\n\xc3\xbc\r\n'
            b"--x y\r\n\r\nnameless\r\n--x y--\r\n--x y\r\nepilogue"
        )
        job = hq.post("/job", body=body, Content_Type='multipart/form-data; boundary="x y"').json
        assert (job["url"], job["comment"]) == (NOWHERE, "\r\n--x\r\n--x yz\r\nü")

    @pytest.mark.parametrize(("count", "status"), [(100, 422), (101, 400), (2_000_000, 400)])
    def test_there_may_be_100_fields(self, hq: Hq, count: int, status: int) -> None:
        error_of(hq.post("/job", body=b"&" * (count == 100) + b"a=&" * count, Content_Type=FORM), status)

    def test_escapes_are_read(self, hq: Hq) -> None:
        body = b"url=" + NOWHERE.encode() + b"&comment=%F0%9f%98%80+%2B=%3D%25%z1%\r\n%\n%4%&&name=%26"
        job = hq.post("/job", body=body, Content_Type=FORM).json
        assert (job["url"], job["comment"], job["name"]) == (NOWHERE, "\U0001f600 +==%%z1%\r\n%\n%4%", "&")

    def test_a_payload_may_consist_of_them(self, hq: Hq) -> None:
        payload = {"url": NOWHERE, "payload": "x" * 1_000_000}
        body = b"payload=" + "".join([f"%{byte:02x}" for byte in json.dumps(payload).encode()]).encode()
        assert hq.post("/job", body=body, Content_Type=FORM).json["payload"] == payload["payload"]

    def test_what_looks_like_them_may_not_come_too_often(self, hq: Hq) -> None:
        assert hq.post("/job", body=b"url=%zz&comment=" + b"%" * 9_998, Content_Type=FORM).status == 200
        error_of(hq.post("/job", body=b"url=%zz&comment=" + b"%" * 3_000_000, Content_Type=FORM), 400)

    @pytest.mark.parametrize(("count", "status"), [(100, 422), (101, 400), (500_000, 400)])
    def test_there_may_be_100_parts(self, hq: Hq, count: int, status: int) -> None:
        body = b"--x\r\n\r\n\r\n" * count + b"--x--\r\n"
        error_of(hq.post("/job", body=body, Content_Type="multipart/form-data; boundary=x"), status)

    @pytest.mark.parametrize("count", [30_000, 1_000_000])
    def test_what_is_said_of_a_part_is_short(self, hq: Hq, count: int) -> None:
        body = b"--x\r\nContent-Disposition: form-data" + b";a=b" * count + b"\r\n\r\n\r\n--x--\r\n"
        error_of(hq.post("/job", body=body, Content_Type="multipart/form-data; boundary=x"), 400)
        body = b"--x\r\n" + b"a\r\n" * count + b"\r\n\r\n--x--\r\n"
        error_of(hq.post("/job", body=body, Content_Type="multipart/form-data; boundary=x"), 400)
        content_type = "multipart/form-data; boundary=x" + ";a=b" * 10_000
        error_of(hq.post("/job", body=b"--x--\r\n", Content_Type=content_type), 400)

    def test_json_without_its_content_type_counts_as_a_form(self, hq: Hq) -> None:
        assert error_of(hq.post("/job", body=b'{"url": "x"}', Content_Type=FORM), 422) == "'url' is required"

    @pytest.mark.parametrize("body", [b"url=x&timeout=1.5", b"payload={", b"payload=[]", b"url=x&timeout=x"])
    def test_wrong_values(self, hq: Hq, body: bytes) -> None:
        error_of(hq.post("/job", body=body, Content_Type=FORM), 400)

    @pytest.mark.parametrize("body", [b"", b"junk", b"--x\r\n", b"--x\r\nA: b\r\n\r\nc\r\n--x--\r\n"])
    def test_parts_that_are_none(self, hq: Hq, body: bytes) -> None:
        answered = hq.post("/job", body=body, Content_Type="multipart/form-data; boundary=x")
        assert answered.status in (400, 422)
        error_of(answered, answered.status)


class TestOneJob:
    @pytest.mark.parametrize(
        ("method", "action"), [("GET", ""), ("DELETE", ""), ("POST", "/restart"), ("POST", "/stop")]
    )
    @pytest.mark.parametrize("slash", ["", "/"])
    def test_who_is_not_there(self, anywhere: Hq, method: str, action: str, slash: str) -> None:
        for number in (UNKNOWN, "0", "1", "18446744073709551615"):
            text = error_of(anywhere.ask(method, f"/job/{number}{action}{slash}"), 422)
            assert text == f"The job '{number}' is not found"

    @pytest.mark.parametrize(
        ("method", "action"), [("GET", ""), ("DELETE", ""), ("POST", "/restart"), ("POST", "/stop")]
    )
    @pytest.mark.parametrize("text", ["abc", "-1", "1.0", "18446744073709551616", "%00", "..%2f", "%F0%9F%92%A3", "'"])
    def test_an_id_that_is_no_number(self, hq: Hq, method: str, action: str, text: str) -> None:
        assert "must be a number" in error_of(hq.ask(method, f"/job/{text}{action}"), 422)

    def test_delete(self, anywhere: Hq) -> None:
        job_id = anywhere.done(NOWHERE)["id"]
        deleted = anywhere.delete(f"/job/{job_id}")
        assert (deleted.status, deleted.json) == (200, {"id": job_id})
        for again in (anywhere.delete(f"/job/{job_id}"), anywhere.get(f"/job/{job_id}")):
            assert error_of(again, 422) == f"The job '{job_id}' is not found"

    def test_what_runs_or_waits_is_neither_deleted_nor_restarted(self, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        with configured("[hq]\ndispatchers = 1\n") as server, Hq(server) as hq:
            running = hq.push(worker.url())["id"]
            hq.wait_for(running, "running")
            waiting = hq.push(worker.url())["id"]
            for job_id, state in ((running, "running"), (waiting, "waiting")):
                expected = f"The job {job_id} is {state} now"
                assert error_of(hq.delete(f"/job/{job_id}"), 422) == expected
                assert error_of(hq.post(f"/job/{job_id}/restart", {}), 422) == expected
                assert error_of(hq.post(f"/job/{job_id}/restart", {"copy": True}), 422) == expected

    def test_stop_works_on_who_waits_or_runs_only(self, hq: Hq) -> None:
        job_id = hq.done(NOWHERE)["id"]
        assert error_of(hq.post(f"/job/{job_id}/stop"), 422) == f"The job {job_id} is not active"


class TestRestart:
    def test_in_place(self, anywhere: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda request, _: answer(404 if len(worker.requests) == 1 else 200, b"out")
        given = {"name": "n", "comment": "c", "payload": {"a": 1}, "headers": {"X-A": "b"}, "timeout": 9}
        first = anywhere.done(worker.url(), **given)
        assert first["status"] == "failure"
        restarted = anywhere.post(f"/job/{first['id']}/restart", {"copy": False})
        assert restarted.status == 200
        assert restarted.json == first | {
            "failure": False,
            "err": "",
            "output": "",
            "status": "unfinished",
            "statusCode": None,
            "startedAt": None,
            "finishedAt": None,
        }
        second = anywhere.finished(first["id"])
        assert (second["status"], second["output"], second["createdAt"]) == ("success", "out", first["createdAt"])
        once, again = worker.requests
        assert (once.body, once.values("X-A"), once.values("X-Hq-Job-Id")) == (
            again.body,
            again.values("X-A"),
            again.values("X-Hq-Job-Id"),
        )
        assert [job["id"] for job in anywhere.list(f"begin={first['id']}&limit=1")["jobs"]] == [first["id"]]

    def test_as_a_copy(self, hq: Hq, worker: WebWorker) -> None:
        given = {"name": "n", "comment": "c", "payload": {"a": 1}, "headers": {"X-A": "b"}, "timeout": 9}
        first = hq.done(worker.url(), **given)
        copy = hq.post(f"/job/{first['id']}/restart", {"copy": True}).json
        assert int(copy["id"]) > int(first["id"])
        assert copy["status"] == "unfinished"
        assert {key: copy[key] for key in (*given, "url")} == given | {"url": worker.url()}
        assert hq.finished(copy["id"])["status"] == "success"
        assert [request.values("X-Hq-Job-Id") for request in worker.requests] == [[first["id"]], [copy["id"]]]
        assert hq.job(first["id"]) == first

    def test_bodies(self, hq: Hq) -> None:
        job_id = hq.done(NOWHERE)["id"]
        for headers, body in [
            ({}, b""),
            ({"Content_Type": "application/json"}, b""),
            ({"Content_Type": "application/json"}, b"{}"),
            ({"Content_Type": "application/json"}, b'{"copy": null}'),
            ({"Content_Type": FORM}, b"copy=0"),
        ]:
            assert hq.post(f"/job/{job_id}/restart", body=body, **headers).json["id"] == job_id
            hq.finished(job_id)
        assert hq.post(f"/job/{job_id}/restart", body=b"copy=true", Content_Type=FORM).json["id"] != job_id

    @pytest.mark.parametrize("body", [b'{"copy": 1}', b'{"copy": "true"}', b"[]", b"{"])
    def test_wrong_bodies(self, hq: Hq, body: bytes) -> None:
        job_id = hq.done(NOWHERE)["id"]
        error_of(hq.post(f"/job/{job_id}/restart", body=body, Content_Type="application/json"), 400)
        error_of(hq.post(f"/job/{job_id}/restart", body=b"copy=yes", Content_Type=FORM), 400)
        error_of(hq.post(f"/job/{job_id}/restart", body=b"x", Content_Type="text/plain"), 415)


class TestStop:
    def test_a_job_that_waits_is_never_sent(self, worker: WebWorker) -> None:
        worker.behaviours["/hang"] = worker.hang
        with configured("[hq]\ndispatchers = 1\n") as server, Hq(server) as hq:
            running = hq.push(worker.url("/hang"))["id"]
            hq.wait_for(running, "running")
            waiting = hq.push(worker.url("/waits"))["id"]
            assert hq.post(f"/job/{waiting}/stop").json == {"id": waiting}
            job = hq.wait_for(waiting, "canceled")
            assert (job["canceled"], job["failure"], job["success"]) == (True, False, False)
            assert (job["startedAt"], job["statusCode"], job["err"]) == (None, None, "")
            assert TIME.fullmatch(job["finishedAt"])
            assert [job["id"] for job in hq.list("status=canceled")["jobs"]] == [waiting]
            hq.post(f"/job/{running}/stop")
            hq.finished(running)
            hq.done(worker.url("/last"))
            assert [request.path for request in worker.requests] == ["/hang", "/last"]

    def test_a_job_that_runs_is_cut(self, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        job_id = hq.push(worker.url())["id"]
        worker.wait_for_requests(1)
        hq.wait_for(job_id, "running")
        assert hq.post(f"/job/{job_id}/stop").json == {"id": job_id}
        job = hq.finished(job_id)
        assert (job["status"], job["canceled"], job["failure"], job["success"]) == ("failure", True, True, False)
        assert (job["statusCode"], job["output"]) == (None, "")
        assert "cancel" in job["err"]
        assert TIME.fullmatch(job["startedAt"])
        assert TIME.fullmatch(job["finishedAt"])
        worker.wait_for(lambda: worker.closed == 1)

    def test_it_can_be_restarted(self, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda request, connection: (
            worker.hang(request, connection) if len(worker.requests) == 1 else answer()
        )
        job_id = hq.push(worker.url())["id"]
        worker.wait_for_requests(1)
        hq.post(f"/job/{job_id}/stop")
        hq.finished(job_id)
        hq.post(f"/job/{job_id}/restart")
        job = hq.finished(job_id)
        assert (job["status"], job["canceled"], job["err"]) == ("success", False, "")


class TestPathsAndMethods:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("POST", "/stats", "GET"),
            ("PUT", "/job", "GET, POST"),
            ("DELETE", "/job", "GET, POST"),
            ("POST", "/job/1", "DELETE, GET"),
            ("GET", "/job/1/restart", "POST"),
            ("PUT", "/job/1/stop", "POST"),
            ("PUT", "/job/1/stop/", "POST"),
            ("PUT", "/ui/internal/job", "GET, POST"),
            ("POST", "/ui/internal/dashboard", "GET"),
            ("POST", "/ui", "GET"),
        ],
    )
    def test_wrong_methods(self, anywhere: Hq, method: str, path: str, allowed: str) -> None:
        answered = anywhere.ask(method, path)
        error_of(answered, 405)
        assert set(allowed.split(", ")) <= set(answered.headers["Allow"].replace(" ", "").split(","))

    @pytest.mark.parametrize(
        "path", ["/jobs", "/job/1/2", "/job/1/start", "/job//", "/stats/x", "/ui/internal/nothing"]
    )
    def test_unknown_paths(self, anywhere: Hq, path: str) -> None:
        assert "There is nothing at" in error_of(anywhere.get(path), 404)

    @pytest.mark.parametrize("path", ["/stats/", "/job/"])
    def test_a_trailing_slash_is_accepted(self, anywhere: Hq, path: str) -> None:
        assert anywhere.get(path).status == 200

    @pytest.mark.parametrize("path", ["/ui/internal", "/ui/internal/"])
    def test_below_the_page_there_is_all_of_it(self, anywhere: Hq, path: str) -> None:
        assert anywhere.get(path).json == anywhere.get("/").json

    @pytest.mark.parametrize("parameter", ["pretty", "pretty=", "pretty=1", "a=b&pretty"])
    @pytest.mark.parametrize("path", ["/", "/stats", "/job", "/job/abc", "/nothing"])
    def test_pretty_indents_by_two_spaces(self, anywhere: Hq, path: str, parameter: str) -> None:
        plain, pretty = anywhere.get(path), anywhere.get(f"{path}?{parameter}")
        assert plain.status == pretty.status
        assert pretty.text.startswith('{\n  "')
        assert pretty.body == msgspec.json.format(plain.body, indent=2)
        assert plain.body == msgspec.json.format(plain.body, indent=-1)


class TestTheRequestToTheWorker:
    def test_what_it_gets(self, hq: Hq, worker: WebWorker) -> None:
        body = b'{"url": "%b", "payload": { "message" : "Hello world!" }}' % worker.url("/a/b?c=d").encode()
        job_id = hq.post("/job", body=body, Content_Type="application/json").json["id"]
        hq.finished(job_id)
        (request,) = worker.requests
        assert (request.method, request.path) == ("POST", "/a/b?c=d")
        assert request.body == b'{ "message" : "Hello world!" }'
        assert dict(request.headers) == {
            "host": f"127.0.0.1:{worker.port}",
            "user-agent": f"HQ/{VERSION}",
            "content-length": "30",
            "content-type": "application/json",
            "x-hq-job-id": job_id,
            "accept-encoding": "gzip",
        }

    @pytest.mark.parametrize(
        ("payload", "body"), [(None, b""), ("text", b'"text"'), ([], b"[]"), (0, b"0"), ({}, b"{}"), ("", b'""')]
    )
    def test_the_payload_is_the_body(self, hq: Hq, worker: WebWorker, payload: object, body: bytes) -> None:
        hq.done(worker.url(), payload=payload)
        (request,) = worker.requests
        assert request.body == body
        assert request.values("Content-Length") == [str(len(body))]
        assert request.values("Content-Type") == ["application/json"]

    def test_headers_are_added(self, hq: Hq, worker: WebWorker) -> None:
        given = {"X-A": "1", "Content-Type": "text/x", "X-Hq-Job-Id": "5", "User-Agent": "me", "Host": "there"}
        job = hq.done(worker.url(), headers=given)
        assert job["headers"] == given
        (request,) = worker.requests
        assert request.values("X-A") == ["1"]
        assert request.values("Content-Type") == ["application/json", "text/x"]
        assert request.values("X-Hq-Job-Id") == [job["id"], "5"]
        assert request.values("User-Agent") == [f"HQ/{VERSION}"]
        assert request.values("Host") == [f"127.0.0.1:{worker.port}"]

    @pytest.mark.parametrize("headers", [{"A\r\nB": "c"}, {"A": "b\r\nC: d"}, {"": "x"}, {"A b": "c"}, {"Ä": "é"}])
    def test_hostile_headers_reach_nobody(self, hq: Hq, worker: WebWorker, headers: dict[str, str]) -> None:
        job = hq.done(worker.url(), headers=headers)
        assert job["headers"] == headers
        for request in worker.requests:
            assert not request.values("B")
            assert not request.values("C")


class TestOutcomes:
    @pytest.mark.parametrize(
        ("status", "err"),
        [
            (201, "Created"),
            (204, "No Content"),
            (304, "Not Modified"),
            (404, "Not Found"),
            (500, "Internal Server Error"),
            (299, ""),
        ],
    )
    def test_any_status_but_200_is_a_failure(self, hq: Hq, worker: WebWorker, status: int, err: str) -> None:
        worker.behaviours["/"] = lambda request, _: answer(status, b"" if status in (204, 304) else b"why")
        job = hq.done(worker.url())
        assert (job["success"], job["failure"], job["statusCode"], job["err"]) == (False, True, status, err)
        assert job["output"] == ("" if status in (204, 304) else "why")

    def test_200_is_success(self, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda request, _: answer(200, '{"answer": "é"}'.encode())
        job = hq.done(worker.url())
        assert (job["success"], job["failure"], job["canceled"], job["status"]) == (True, False, False, "success")
        assert (job["statusCode"], job["err"], job["output"]) == (200, "", '{"answer": "é"}')
        assert TIME.fullmatch(job["startedAt"])
        assert TIME.fullmatch(job["finishedAt"])
        assert len(worker.requests) == 1

    def test_nobody_is_there(self, hq: Hq) -> None:
        job = hq.done(NOWHERE)
        assert (job["success"], job["failure"], job["statusCode"], job["output"]) == (False, True, None, "")
        assert job["err"].startswith("failed to do http request: ")

    def test_the_time_is_over(self, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        job = hq.done(worker.url(), timeout=1)
        assert (job["status"], job["statusCode"]) == ("failure", None)
        assert job["err"].startswith("failed to do http request: ")
        assert "Client.Timeout exceeded" in job["err"]

    def test_a_body_that_breaks_off(self, hq: Hq, worker: WebWorker) -> None:
        def break_off(request: Request, connection: Any) -> None:
            connection.sendall(answer(200, b"half", length=100))

        worker.behaviours["/"] = break_off
        job = hq.done(worker.url())
        assert (job["success"], job["statusCode"], job["output"]) == (False, 200, "")
        assert job["err"].startswith("failed to read http response body: ")

    @pytest.mark.parametrize("timeout", [0, -1, -(2**63)])
    def test_no_timeout(self, hq: Hq, worker: WebWorker, timeout: int) -> None:
        job = hq.done(worker.url(), timeout=timeout)
        assert (job["status"], job["timeout"]) == ("success", timeout)

    @pytest.mark.parametrize("timeout", [2**31, 2**63 - 1])
    def test_a_timeout_in_the_far_future(self, hq: Hq, worker: WebWorker, timeout: int) -> None:
        job = hq.done(worker.url(), timeout=timeout)
        assert (job["status"], job["timeout"]) == ("success", timeout)

"""`GET /job`: filters, order, cursors; over jobs in the engine and in the archive alike."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.http.hq.door import NOWHERE, Hq, configured, error_of
from tests.server import ServerProcess
from tests.webworker import WebWorker, answer
from workq.archive import Archive, ArchivedJob
from workq.broker import Broker, Clock
from workq.engine import Engine
from workq.gateway import Gateway
from workq.http.hq.door import HqDoor
from workq.http.hq.ids import Ids
from workq.http.hq.job import Given
from workq.http.hq.listing import Listing
from workq.http.hq.store import Store
from workq.http.settings import HqSettings
from workq.http.web import Headers, Request

NAMES = ("resize", "mail", "resize-large", "Mail")


@pytest.fixture(scope="module")
def worker() -> Iterator[WebWorker]:
    with WebWorker() as worker:
        worker.behaviours["/hang"] = worker.hang
        worker.behaviours["/no"] = lambda request, _: answer(404)
        yield worker


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with configured("[hq]\ndispatchers = 1\n") as process:
        yield process


@pytest.fixture(scope="module")
def ids(server: ServerProcess, worker: WebWorker) -> list[str]:
    """Twelve jobs: successes and failures, then one that is running, one that was stopped, and two that wait."""
    with Hq(server) as hq:
        made = [
            hq.done(
                worker.url("/no" if number % 3 == 2 else f"/{number}"), name=NAMES[number % 4], comment=f"c{number}"
            )["id"]
            for number in range(8)
        ]
        running = hq.push(worker.url("/hang"), name="hangs")["id"]
        hq.wait_for(running, "running")
        stopped, *waiting = [hq.push(worker.url("/waits"), name="waits")["id"] for _ in range(3)]
        hq.post(f"/job/{stopped}/stop")
        hq.wait_for(stopped, "canceled")
        return [*made, running, stopped, *waiting]


def listed(hq: Hq, query: str = "") -> list[str]:
    """The ids that a list has, after checking that it is what it says."""
    found = hq.list(query)
    assert found["count"] == len(found["jobs"])
    assert ("next" in found) == found["hasNext"]
    return [job["id"] for job in found["jobs"]]


class TestOrder:
    def test_by_id(self, hq: Hq, ids: list[str]) -> None:
        assert listed(hq) == ids
        assert listed(hq, "reverse=true") == ids[::-1]
        assert [job["status"] for job in hq.list()["jobs"]] == [
            *("success", "success", "failure", "success", "success", "failure", "success", "success"),
            *("running", "canceled", "waiting", "waiting"),
        ]

    @pytest.mark.parametrize(
        ("text", "reverse"),
        [("true", True), ("1", True), ("t", True), ("false", False), ("0", False), ("f", False), ("", False)],
    )
    def test_reverse_is_a_boolean(self, hq: Hq, ids: list[str], text: str, reverse: bool) -> None:
        assert listed(hq, f"reverse={text}") == (ids[::-1] if reverse else ids)


class TestFilters:
    def test_name(self, hq: Hq, ids: list[str]) -> None:
        assert listed(hq, "name=resize") == [ids[0], ids[2], ids[4], ids[6]]
        assert listed(hq, "name=%5Eresize%24") == [ids[0], ids[4]]
        assert listed(hq, "name=mail") == [ids[1], ids[5]]
        assert listed(hq, "name=(%3Fi)mail") == [ids[1], ids[3], ids[5], ids[7]]
        assert listed(hq, "name=c1") == []
        assert listed(hq, "name=") == ids

    def test_term_is_for_name_comment_url_status_and_id(self, hq: Hq, ids: list[str]) -> None:
        assert listed(hq, "term=%5Ehang") == [ids[8]]
        assert listed(hq, "term=c7") == [ids[7]]
        assert listed(hq, "term=/no%24") == [ids[2], ids[5]]
        assert listed(hq, "term=%5Efail") == [ids[2], ids[5]]
        assert listed(hq, "term=%5Erunning%24") == [ids[8]]
        assert listed(hq, f"term=%5E{ids[3]}%24") == [ids[3]]

    @pytest.mark.parametrize(
        ("status", "places"),
        [
            ("success", [0, 1, 3, 4, 6, 7]),
            ("failure", [2, 5]),
            ("running", [8]),
            ("canceled", [9]),
            ("waiting", [10, 11]),
            ("unfinished", []),
            ("canceling", []),
            ("SUCCESS", []),
            ("nonsense", []),
            ("succ", []),
        ],
    )
    def test_status(self, hq: Hq, ids: list[str], status: str, places: list[int]) -> None:
        assert listed(hq, f"status={status}") == [ids[place] for place in places]
        assert listed(hq, f"status={status}&reverse=true") == [ids[place] for place in reversed(places)]

    def test_all_of_them_have_to_pass(self, hq: Hq, ids: list[str]) -> None:
        assert listed(hq, "name=resize&status=success&term=c%5B46%5D") == [ids[4], ids[6]]

    @pytest.mark.parametrize("parameter", ["name", "term"])
    @pytest.mark.parametrize("expression", ["(", "a{2000}", "%5B", "(%3F=a)", "*", "%5C1", "x" * 1001])
    def test_an_expression_that_is_none(self, hq: Hq, ids: list[str], parameter: str, expression: str) -> None:
        assert parameter in error_of(hq.get(f"/job?{parameter}={expression}"), 500)

    def test_a_catastrophic_expression_is_not_one(self, hq: Hq, ids: list[str]) -> None:
        last = hq.push(NOWHERE, name="a" * 20_000)["id"]
        for expression in ("(a%2B)%2B%24b", "(a%7Caa)%2Bc", "(.*)*x.*y"):
            assert last not in listed(hq, f"name={expression}")
        hq.post(f"/job/{last}/stop")
        hq.wait_for(last, "canceled")
        assert hq.delete(f"/job/{last}").status == 200


class TestPages:
    @pytest.mark.parametrize("reverse", [False, True])
    @pytest.mark.parametrize("limit", [1, 2, 5, 11, 12, 13])
    @pytest.mark.parametrize("filters", ["", "&name=resize", "&status=waiting", "&term=nothing"])
    def test_all_pages_together_are_the_whole(
        self, hq: Hq, ids: list[str], reverse: bool, limit: int, filters: str
    ) -> None:
        query = f"limit={limit}&reverse={str(reverse).lower()}{filters}"
        whole = listed(hq, f"reverse={str(reverse).lower()}{filters}")
        found: list[str] = []
        page = hq.list(query)
        while True:
            assert page["count"] <= limit
            found += [job["id"] for job in page["jobs"]]
            if not page["hasNext"]:
                break
            assert page["count"] == limit
            page = hq.list(f"{query}&begin={page['next']}")
        assert found == whole

    def test_next_is_the_job_that_follows_whether_it_passes_or_not(self, hq: Hq, ids: list[str]) -> None:
        page = hq.list("name=resize&limit=2")
        assert [job["id"] for job in page["jobs"]] == [ids[0], ids[2]]
        assert page["next"] == ids[3]
        page = hq.list("status=failure&limit=2")
        assert (page["hasNext"], page["next"]) == (True, ids[6])
        assert listed(hq, f"status=failure&limit=2&begin={ids[6]}") == []

    def test_begin_is_inclusive_and_need_not_exist(self, hq: Hq, ids: list[str]) -> None:
        assert listed(hq, f"begin={ids[4]}") == ids[4:]
        assert listed(hq, f"begin={int(ids[4]) - 1}") == ids[4:]
        assert listed(hq, f"begin={int(ids[4]) + 1}") == ids[5:]
        assert listed(hq, f"begin={ids[4]}&reverse=true") == ids[4::-1]
        assert listed(hq, f"begin={int(ids[4]) + 1}&reverse=true") == ids[4::-1]
        assert listed(hq, f"begin={int(ids[4]) - 1}&reverse=true") == ids[3::-1]

    def test_begin_beyond_the_ends(self, hq: Hq, ids: list[str]) -> None:
        for beyond in (int(ids[-1]) + 1, 2**63, 2**64 - 1):
            assert listed(hq, f"begin={beyond}") == []
            assert listed(hq, f"begin={beyond}&reverse=true") == ids[::-1]
        assert listed(hq, "begin=0") == ids
        assert listed(hq, "begin=1&reverse=true") == []
        assert listed(hq, "begin=0&reverse=true") == ids[::-1]

    @pytest.mark.parametrize("limit", ["0", "-1", "-99", "", "100000", str(2**63 - 1), str(-(2**63))])
    def test_no_limit(self, hq: Hq, ids: list[str], limit: str) -> None:
        page = hq.list(f"limit={limit}")
        assert (page["hasNext"], page["count"]) == (False, len(ids))

    @pytest.mark.parametrize(
        ("parameter", "text"),
        [
            ("begin", "abc"),
            ("begin", "-1"),
            ("begin", "1.0"),
            ("begin", str(2**64)),
            ("limit", "abc"),
            ("limit", "1.5"),
            ("limit", "9" * 30),
            ("limit", str(2**63)),
            ("reverse", "yes"),
            ("reverse", "2"),
            ("reverse", "TrUe"),
        ],
    )
    def test_what_does_not_parse_is_told(self, hq: Hq, parameter: str, text: str) -> None:
        assert error_of(hq.get(f"/job?{parameter}={text}"), 400).startswith(f"{parameter} must be ")


class TestDashboard:
    def test_it_is_a_list_and_the_figures(self, hq: Hq, ids: list[str]) -> None:
        found = hq.get("/ui/internal/dashboard?reverse=true&limit=2&status=success").json
        assert set(found) == {"stats", "jobList"}
        assert found["stats"] == hq.get("/ui/internal/stats").json
        assert [job["id"] for job in found["jobList"]["jobs"]] == [ids[7], ids[6]]
        assert (found["jobList"]["next"], found["jobList"]["count"]) == (ids[5], 2)

    @pytest.mark.usefixtures("ids")
    def test_what_does_not_parse_is_told(self, hq: Hq) -> None:
        error_of(hq.get("/ui/internal/dashboard?limit=x"), 400)
        assert hq.get("/ui/internal/dashboard?limit=-1").json["jobList"]["count"] > 2


class TestDefaultLimit:
    def test_it_is_used_where_none_is_given(self) -> None:
        with configured("[hq]\njob_list_default_limit = 2\n") as server, Hq(server) as hq:
            made = [hq.done(NOWHERE)["id"] for _ in range(3)]
            assert hq.list()["next"] == made[2]
            assert hq.list("limit=0")["count"] == 2
            assert hq.list("limit=-1")["count"] == 3
            assert hq.list("limit=3")["count"] == 3
            assert hq.get("/stats").json["jobListDefaultLimit"] == 2


class TestLongLists:
    def test_they_come_whole(self) -> None:
        with configured("[hq]\ndispatchers = 1\n") as server, Hq(server) as hq:
            made = [hq.push("http://[")["id"] for _ in range(2_001)]
            hq.finished(made[-1])
            plain, pretty = hq.get("/job"), hq.get("/job?pretty")
            assert [job["id"] for job in plain.json["jobs"]] == made
            assert list(plain.json) == ["jobs", "hasNext", "count"]
            assert plain.json["count"] == 2_001
            assert plain.text == json.dumps(plain.json, separators=(",", ":"))
            assert pretty.text == json.dumps(plain.json, indent=2)
            limited: Any = hq.list("limit=1500")
            assert [job["id"] for job in limited["jobs"]] == made[:1500]
            assert (limited["next"], limited["count"]) == (made[1500], 1500)


class TestManyJobs:
    @pytest.fixture
    async def archive(self) -> AsyncIterator[Archive]:
        broker = Broker(Engine(Clock().now_ms()), Clock(), asyncio.get_running_loop())
        archive = Archive(None, Gateway(broker))
        yield archive
        await archive.stop()

    @pytest.fixture
    def store(self, archive: Archive) -> Store:
        idle: Any = SimpleNamespace(is_pushed=lambda _: True, count_push=lambda _: None)
        return Store(archive._gateway, archive, idle, Ids(0, 0), 1)

    async def test_a_long_search_lets_others_have_their_turn(self, archive: Archive, store: Store) -> None:
        """An expression may take seconds for the comment of one job."""
        searched, go_on = threading.Event(), threading.Event()

        def search(text: str) -> bool:
            searched.set()
            return go_on.wait(10)

        pattern: Any = SimpleNamespace(search=search)
        jobs = [await store.push(NOWHERE, Given(comment="c" * 40_000), b"") for _ in range(5)]
        reading = asyncio.create_task(store.read(Listing(term=pattern), None, 10))
        await asyncio.to_thread(searched.wait, 10)
        go_on.set()  # the loop is free
        assert [job.id for job in await reading] == [job.id for job in jobs]

    @pytest.mark.parametrize("reverse", [False, True])
    async def test_the_archive_need_not_sort_all_of_them(self, archive: Archive, store: Store, reverse: bool) -> None:
        statements: list[str] = []
        database = archive._store._db
        rows = [
            ArchivedJob(door="hq", number=number, job_id=os.urandom(16), created_ms=0, finished_ms=0)
            for number in range(1_500)
        ]
        await archive.run(lambda: archive._store.put(rows))
        database.set_trace_callback(statements.append)
        assert await store.read(Listing(status="waiting", reverse=reverse), 700, 10) == []
        assert await store.read(Listing(status="waiting", reverse=reverse), None, 10) == []
        database.set_trace_callback(None)
        assert len(statements) >= 3
        for statement in statements:
            plan = [step[3] for step in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert len(plan) == 1
            assert "INDEX jobs_number (door=? AND queue=?" in plan[0]

    async def test_big_jobs_are_shown_in_several_turns(self, archive: Archive, store: Store) -> None:
        payload = b'"%b"' % (b"x" * 500_000)
        kept = (
            b'{"given": {}, "payload": %b, "result": {"outcome": "success", "started_ms": 1, "finished_ms": 2}}'
            % payload
        )
        rows = [
            ArchivedJob(door="hq", number=number, job_id=os.urandom(16), created_ms=0, finished_ms=0, data=kept)
            for number in range(30)
        ]
        await archive.run(lambda: archive._store.put(rows))
        jobs = [await store.push(NOWHERE, Given(), payload) for _ in range(30)]
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        find, turns_before, turns_after = archive.find, 0, 0

        async def finding(query: Any) -> Any:
            nonlocal turns_before, turns_after
            turns_before = turns
            found = await find(query)
            turns_after = turns
            return found

        archive.find = finding  # type: ignore[method-assign]  # it is awaited for as many turns as the thread takes
        counting = asyncio.create_task(count())
        assert len(await store.read(Listing(), None, 100)) == len(rows) + len(jobs)
        counting.cancel()
        assert turns_before >= 10
        assert turns - turns_after >= 10

    async def test_the_dashboard_has_a_highest_limit(self, archive: Archive) -> None:
        """It is answered as a whole, and a hundred thousand jobs took seconds."""
        kept = b'{"given": {}, "payload": null, "result": {"outcome": "success", "started_ms": 1, "finished_ms": 2}}'
        rows = [
            ArchivedJob(door="hq", number=number, job_id=os.urandom(16), created_ms=0, finished_ms=0, data=kept)
            for number in range(1_500)
        ]
        await archive.run(lambda: archive._store.put(rows))
        nobody: Any = None
        door = HqDoor(archive._gateway, archive, nobody, HqSettings())
        request = Request("GET", "/ui/internal/dashboard?limit=100000", Headers({}), "")
        answer = json.loads((await door._dashboard(request)).body)
        assert (answer["jobList"]["count"], answer["jobList"]["next"]) == (1_000, "1000")

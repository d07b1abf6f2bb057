"""The dispatcher on an engine in memory: what is leased is sent, and what came of it is told."""

import asyncio
import gc
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.server import PATIENCE_S
from tests.webworker import Request, WebWorker, answer
from workq.broker import Broker, Clock
from workq.commands import (
    Add,
    Complete,
    ConfigureQueue,
    Delete,
    InspectJob,
    ListDocuments,
    PauseQueue,
    Result,
    ResumeQueue,
)
from workq.commit import GroupCommit
from workq.dispatch import PushResult, PushTarget
from workq.dispatch.addresses import AddressRules
from workq.dispatch.dispatcher import Dispatcher
from workq.dispatch.figures import Counters, Rate
from workq.dispatch.metrics import DispatcherMetrics
from workq.dispatch.sender import Sender
from workq.engine import NEVER_MS, Engine
from workq.gateway import Gateway
from workq.log import open_log
from workq.log.files import Files
from workq.replies import Documents, JobInfo, JobResult, Jobs, Unavailable
from workq.run_queue import SHARED_PORTION
from workq.values import JobSpec, RetryPolicy

DAY_MS = 86_400_000
# More jobs than are sent in a turn.
MANY = 10 * SHARED_PORTION


class House:
    """A gateway in memory, a dispatcher and a web worker."""

    def __init__(self, worker: WebWorker, data_dir: Path | None = None) -> None:
        self.worker = worker
        self.engine = Engine(Clock().now_ms())
        loop = asyncio.get_running_loop()
        self.commit: GroupCommit | None = None
        if data_dir is not None:
            log = open_log(data_dir, 1_048_576, self.engine.state, lambda *_: None)
            self.commit = GroupCommit(self.engine, log, "always", 1.0, loop)
        self.broker = Broker(self.engine, Clock(), loop, self.commit)
        self.gateway = Gateway(self.broker)
        self.new_dispatcher()

    def new_dispatcher(self) -> None:
        rules = AddressRules()
        self.dispatcher = Dispatcher(self.gateway, lambda: Sender(rules, self.gateway.now_ms, self.gateway.run_queue))
        self.broker.on_finished = self.dispatcher.on_finished

    async def add(self, path: str = "/", body: bytes = b"{}", *, queue: bytes = b"q", **options: Any) -> bytes:
        """A job for the web worker, by words of its target and of its spec."""
        spec = {key: options.pop(key) for key in ("max_fails", "max_attempts", "retry") if key in options}
        ttr_ms = options.pop("ttr_ms", 60_000)
        job_id = os.urandom(16)
        target = PushTarget(self.worker.url(path), **options)
        await self.gateway.execute(Add(job_id, JobSpec(queue, ttr_ms, DAY_MS, **spec), body, target.to_meta()))
        self.dispatcher.count_push(queue)
        return job_id

    async def result(self, job_id: bytes) -> PushResult:
        """What the dispatcher said of a job, as soon as it has finished."""
        reply = await self.gateway.execute(Result(job_id, int(PATIENCE_S * 1_000)))
        assert isinstance(reply, JobResult), reply
        result = PushResult.from_result(reply.result)
        assert result is not None
        assert reply.success == (result.outcome == "success")
        return result

    async def job(self, job_id: bytes) -> JobInfo:
        reply = await self.gateway.execute(InspectJob(job_id))
        assert isinstance(reply, Jobs)
        return reply.jobs[0]

    async def requests(self, count: int) -> list[Request]:
        return await asyncio.to_thread(self.worker.wait_for_requests, count)

    def hold(self) -> threading.Event:
        """Have the web worker answer requests of which the path is "/" only when this is set."""
        go_on = threading.Event()

        def answer_then(_request: Request, _: Any) -> bytes:
            assert go_on.wait(PATIENCE_S)
            return answer()

        self.worker.behaviours["/"] = answer_then
        return go_on

    def watch(self) -> list[int]:
        """How many jobs are being sent, at each request of which the path is "/"."""
        sending: list[int] = []

        def count(_request: Request, _: Any) -> bytes:
            sending.append(self.dispatcher.figures(b"q").sending)
            return answer()

        self.worker.behaviours["/"] = count
        return sending

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until it has come to `condition`."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
async def house(worker: WebWorker) -> AsyncIterator[House]:
    made = House(worker)
    await made.dispatcher.start()
    await made.dispatcher.push_queue(b"q")
    yield made
    await made.dispatcher.stop(0)
    await made.broker.close()


class TestPushing:
    async def test_a_job_is_sent_and_its_outcome_is_its_result(self, house: House) -> None:
        house.worker.behaviours["/work"] = lambda *_: answer(200, b"done")
        job_id = await house.add("/work", b"hello")
        result = await house.result(job_id)
        assert (result.outcome, result.status_code, result.output) == ("success", 200, "done")
        assert 0 < result.started_ms <= result.finished_ms
        (request,) = house.worker.requests
        assert (request.path, request.body) == ("/work", b"hello")

    async def test_a_failure_is_tried_again_as_the_job_says(self, house: House) -> None:
        house.worker.behaviours["/"] = lambda *_: answer(500)
        job_id = await house.add(max_fails=3, retry=RetryPolicy(10))
        result = await house.result(job_id)
        assert (result.outcome, result.error) == ("failure", "500 Internal Server Error")
        assert len(house.worker.requests) == 3
        job = await house.job(job_id)
        assert (job.attempts, job.fails) == (3, 3)

    async def test_a_permanent_failure_is_not(self, house: House) -> None:
        house.worker.behaviours["/"] = lambda *_: answer(200, b'{"status": "permanent-failure"}')
        job_id = await house.add(max_fails=3, verdict="json-status")
        assert (await house.result(job_id)).outcome == "permanent-failure"
        assert len(house.worker.requests) == 1

    async def test_a_job_without_a_url_fails_and_says_so(self, house: House) -> None:
        for meta, error in [(b"", "the job has no URL"), (b'{"u":1}', "Invalid push target: ")]:
            job_id = os.urandom(16)
            await house.gateway.execute(Add(job_id, JobSpec(b"q", 1_000, DAY_MS, max_fails=9), b"", meta))
            result = await house.result(job_id)
            assert (result.outcome, result.error_kind) == ("permanent-failure", "no-url")
            assert result.error.startswith(error)

    @pytest.mark.parametrize("how", ["silent", "dripping", "endless", "closing"])
    async def test_a_bad_worker_holds_up_nobody_else(self, house: House, how: str) -> None:
        def drip(_: Request, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not house.worker.stopping.wait(0.01):
                connection.sendall(b"x")

        def pour(_: Request, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not house.worker.stopping.is_set():
                connection.sendall(b"x" * 65_536)

        behaviours = {"silent": house.worker.hang, "dripping": drip, "endless": pour, "closing": lambda *_: None}
        house.worker.behaviours["/bad"] = behaviours[how]
        for _ in range(50):
            await house.add("/bad", max_fails=3, retry=RetryPolicy(1))
        await house.dispatcher.push_queue(b"other")
        assert (await house.result(await house.add(queue=b"other"))).outcome == "success"
        assert (await house.result(await house.add())).outcome == "success"

    async def test_queues_that_are_not_pushed_are_left_alone(self, house: House) -> None:
        job_id = await house.add(queue=b"pulled")
        await house.result(await house.add())
        assert (await house.job(job_id)).attempts == 0

    async def test_a_queue_can_be_pulled_again(self, house: House) -> None:
        await house.dispatcher.unpush_queue(b"q")
        assert house.dispatcher.pushed_queues() == []
        job_id = await house.add()
        await house.dispatcher.push_queue(b"other")
        await house.result(await house.add(queue=b"other"))
        assert (await house.job(job_id)).attempts == 0
        await house.dispatcher.push_queue(b"q")
        assert (await house.result(job_id)).outcome == "success"

    async def test_which_queues_are_pushed_is_remembered(self, house: House) -> None:
        assert await house.gateway.execute(ListDocuments(b"push/")) == Documents([(b"push/q", b'{"concurrency":1000}')])
        await house.dispatcher.stop(0)
        house.new_dispatcher()
        await house.dispatcher.start()
        assert house.dispatcher.is_pushed(b"q")
        assert (await house.result(await house.add())).outcome == "success"


class TestLimits:
    async def test_a_pause_holds_pushes_back(self, house: House) -> None:
        await house.gateway.execute(PauseQueue(b"q"))
        await house.dispatcher.push_queue(b"other")
        job_id = await house.add()
        await house.result(await house.add(queue=b"other"))
        assert (await house.job(job_id)).attempts == 0
        await house.gateway.execute(ResumeQueue(b"q"))
        assert (await house.result(job_id)).outcome == "success"

    async def test_the_limit_of_leases_of_the_queue_holds_too(self, house: House) -> None:
        await house.gateway.execute(ConfigureQueue(b"q", max_leased=2))
        house.worker.behaviours["/"] = house.worker.hang
        jobs = [await house.add() for _ in range(5)]
        await house.requests(2)
        assert house.dispatcher.figures(b"q").sending == 2
        house.dispatcher.cancel(jobs[0])
        await house.requests(3)
        assert house.dispatcher.figures(b"q").sending == 2

    async def test_a_pace_holds_pushes_back(self, house: House) -> None:
        """Three at once, then one each 20 ms: nine take six steps at least."""
        await house.gateway.execute(ConfigureQueue(b"q", lease_rate=50_000, lease_burst=3))
        began_ms = house.gateway.now_ms()
        for job_id in [await house.add() for _ in range(9)]:
            await house.result(job_id)
        assert house.gateway.now_ms() - began_ms >= 110

    async def test_so_many_are_sent_at_a_time(self, house: House) -> None:
        await house.dispatcher.push_queue(b"q", 1)
        sending = house.watch()
        await house.result(await house.add())  # what had been asked for before is over
        sending.clear()
        for job_id in [await house.add() for _ in range(20)]:
            await house.result(job_id)
        assert max(sending) == 1


class TestLeases:
    async def test_a_worker_may_take_longer_than_the_ttr(self, house: House) -> None:
        go_on = house.hold()
        for ttr_ms in (200, 10_000):  # a machine that stands still for longer than the TTR ends a lease, and rightly
            go_on.clear()
            job_id = await house.add(ttr_ms=ttr_ms)
            await house.until(lambda job_id=job_id: job_id in house.dispatcher.sending(b"q"))
            ends_ms = house.gateway.now_ms() + 2 * ttr_ms
            await house.until(lambda ends_ms=ends_ms: house.gateway.now_ms() > ends_ms)
            go_on.set()
            assert (await house.result(job_id)).outcome == "success"
            if (await house.job(job_id)).attempts == 1:
                return
        pytest.fail("it is sent again")

    async def test_an_outcome_that_comes_too_late_changes_nothing(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        go_on = house.hold()
        job_id = await house.add()
        await house.requests(1)
        await house.gateway.execute(Complete(job_id, b"by hand"))
        go_on.set()
        await house.until(lambda: "came too late" in caplog.text)
        assert await house.gateway.execute(Result(job_id, 0)) == JobResult(job_id, True, b"by hand")

    async def test_a_job_that_is_deleted_while_it_is_sent(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        go_on = house.hold()
        job_id = await house.add(ttr_ms=100)
        await house.requests(1)
        await house.gateway.execute(Delete(job_id))
        await house.until(lambda: house.dispatcher._next_touch_ms == NEVER_MS)  # its lease is nobody's any more
        go_on.set()
        await house.until(lambda: "came too late" in caplog.text)


class TestWithALog:
    @pytest.fixture
    async def house(self, worker: WebWorker, tmp_path: Path) -> AsyncIterator[House]:
        made = House(worker, tmp_path)
        await made.dispatcher.start()
        await made.dispatcher.push_queue(b"q", 2)
        yield made
        await made.dispatcher.stop(0)
        await made.broker.close()

    async def test_what_is_stored_of_a_queue_is_so_though_who_asked_is_gone(self, house: House) -> None:
        asking = asyncio.create_task(house.dispatcher.push_queue(b"other"))
        while house.gateway.post(ListDocuments(b"push/other")) == Documents([]):
            await asyncio.sleep(0)
        asking.cancel()
        await house.until(lambda: house.dispatcher.is_pushed(b"other"))

    async def test_of_those_who_ask_at_once_the_last_is_right(self, house: House) -> None:
        await asyncio.gather(house.dispatcher.unpush_queue(b"q"), house.dispatcher.push_queue(b"q"))
        assert house.dispatcher.is_pushed(b"q")
        assert house.gateway.post(ListDocuments(b"push/q")) != Documents([])

    async def test_jobs_are_sent_and_their_outcomes_kept(self, house: House) -> None:
        jobs = [await house.add() for _ in range(20)]
        for job_id in jobs:
            assert (await house.result(job_id)).outcome == "success"
        assert len(house.worker.requests) == 20
        await house.until(lambda: house.dispatcher.figures(b"q").sending == 0)

    async def test_while_the_server_cannot_write_the_outcome_waits(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workq.dispatch.dispatcher._RETRY_S", 0.001)
        commit = house.commit
        assert commit is not None

        def fill_the_disk(_request: Request, _: Any) -> bytes:
            commit._refusal = Unavailable("the disk is full")
            return answer()

        house.worker.behaviours["/"] = fill_the_disk
        job_id = await house.add()
        await house.until(lambda: any([push.retry is not None for push in house.dispatcher._pushes.values()]))
        assert house.dispatcher.figures(b"q").sending == 1
        commit._refusal = None
        assert (await house.result(job_id)).outcome == "success"
        assert len(house.worker.requests) == 1

    async def test_an_outcome_that_the_log_has_lost_is_told_again(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The engine knows it, for it decides before the log is written: the job is not sent twice."""
        monkeypatch.setattr("workq.dispatch.dispatcher._RETRY_S", 0.001)

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        def break_the_log(_request: Request, _: Any) -> bytes:
            broken.setattr(Files, "write", fail)
            return answer()

        house.worker.behaviours["/"] = break_the_log
        with monkeypatch.context() as broken:
            job_id = await house.add()
            await house.until(lambda: house.gateway.trouble() is not None)
        await house.until(lambda: house.gateway.trouble() is None)
        assert (await house.result(job_id)).outcome == "success"
        await house.until(lambda: house.dispatcher.figures(b"q").sending == 0)
        assert len(house.worker.requests) == 1

    async def test_a_place_is_free_when_the_log_has_the_outcome(self, house: House) -> None:
        """So no more jobs can be sent twice after a crash than are sent at a time."""
        sending = house.watch()
        for job_id in [await house.add() for _ in range(20)]:
            await house.result(job_id)
        assert max(sending) == 2


class TestCancelling:
    async def test_a_running_job_fails_for_good(self, house: House) -> None:
        house.worker.behaviours["/"] = house.worker.hang
        job_id = await house.add(max_fails=5)
        await house.requests(1)
        assert house.dispatcher.started_ms(job_id) > 0
        assert not house.dispatcher.is_canceled(job_id)
        assert house.dispatcher.cancel(job_id)
        assert house.dispatcher.is_canceled(job_id)
        result = await house.result(job_id)
        assert (result.outcome, result.error_kind, result.status_code) == ("permanent-failure", "canceled", None)
        await asyncio.to_thread(house.worker.wait_for, lambda: house.worker.closed == 1)
        assert house.dispatcher.started_ms(job_id) == 0
        assert not house.dispatcher.cancel(job_id)

    async def test_one_that_is_not_sent_cannot_be(self, house: House) -> None:
        assert not house.dispatcher.cancel(bytes(16))
        job_id = await house.add()
        await house.result(job_id)
        assert not house.dispatcher.cancel(job_id)


class TestStopping:
    async def test_what_is_being_sent_is_waited_for(self, house: House) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(_request: Request, _: Any) -> bytes:
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
            return answer()

        house.worker.behaviours["/"] = slow
        job_id = await house.add()
        await reached.wait()
        stopping = asyncio.create_task(house.dispatcher.stop(10))
        later = await house.add()
        go_on.set()
        await stopping
        assert (await house.result(job_id)).outcome == "success"
        assert (await house.job(later)).state in (0, 3)  # new, or given back; not leased
        assert len(house.worker.requests) == 1

    async def test_what_takes_too_long_is_given_back(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        house.worker.behaviours["/"] = house.worker.hang
        job_id = await house.add()
        await house.requests(1)
        await house.dispatcher.stop(0.01)
        job = await house.job(job_id)
        assert (job.state, job.attempts) == (3, 1)  # pending
        assert "giving back jobs that were not answered within 0.01 s: 1" in caplog.text


class TestFigures:
    async def test_the_example_of_fireworq(self, house: House) -> None:
        house.worker.behaviours |= {
            "/success": lambda *_: answer(200, b'{"status": "success"}'),
            "/failure": lambda *_: answer(200, b'{"status": "failure"}'),
            "/permanent": lambda *_: answer(200, b'{"status": "permanent-failure"}'),
            "/junk": lambda *_: answer(200, b"junk"),
        }
        jobs = [
            await house.add(path, max_fails=max_fails, verdict="json-status")
            for path, max_fails in [("/success", 1), ("/success", 1), ("/failure", 3), ("/permanent", 3), ("/junk", 1)]
        ]
        for job_id in jobs:
            await house.result(job_id)
        figures = house.dispatcher.figures(b"q")
        assert (figures.pushes, figures.pops, figures.successes, figures.failures) == (5, 7, 2, 5)
        assert (figures.permanent_failures, figures.completes, figures.sending) == (3, 5, 0)
        assert figures.elapsed_ms > 0
        assert list(house.dispatcher.all_figures()) == [b"q"]

    async def test_a_queue_that_nobody_knows_has_noughts(self, house: House) -> None:
        assert house.dispatcher.figures(b"unknown") == Counters().snapshot(0, 0)

    async def test_what_is_being_sent(self, house: House) -> None:
        house.worker.behaviours["/"] = house.worker.hang
        await house.add()
        await house.requests(1)
        assert house.dispatcher.figures(b"q").sending == 1

    async def test_prometheus_gets_them(self, house: House) -> None:
        await house.result(await house.add())
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in DispatcherMetrics(house.dispatcher).collect()
            for sample in metric.samples
        }
        assert samples["workq_push_tries_total", "q"] == 1
        assert samples["workq_push_jobs_total", "q", "success"] == 1
        assert samples["workq_push_failed_tries_total", "q"] == 0

    def test_a_rate_is_that_of_the_last_second(self) -> None:
        rate = Rate()
        for now_ms in range(100_000, 103_000, 50):
            rate.count(now_ms)
        assert rate.per_second(102_999) == 20
        assert rate.per_second(103_500) == 10 - 2 * 1
        assert rate.per_second(200_000) == 0

    async def test_failures_are_told_but_not_each(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        house.worker.behaviours["/"] = lambda *_: answer(404)
        began_s = time.monotonic()
        for _ in range(30):
            await house.result(await house.add())
        seconds = time.monotonic() - began_s
        lines = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
        assert 1 <= len(lines) <= seconds + 1
        assert re.match(r"job [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} of q: ", lines[0])
        assert lines[0].endswith("of q: attempt 1 failed: 404 Not Found")

    async def test_what_a_web_worker_says_forges_no_line(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        words = b'{"status": "failure", "message": "x\\n2026-11-26 CRITICAL lost\\u001b[31m"}'
        house.worker.behaviours["/"] = lambda *_: answer(200, words)
        await house.result(await house.add(verdict="json-status"))
        (line,) = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
        assert line.endswith(r"failed: x 2026-11-26 CRITICAL lost\x1b[31m")


@pytest.mark.usefixtures("no_collector")
class TestMemory:
    @pytest.mark.parametrize("kind", ["success", "failure", "no-url", "canceled"])
    def test_nothing_is_left_to_the_garbage_collector(self, worker: WebWorker, kind: str) -> None:
        """It is off in the server."""
        worker.behaviours |= {"/failure": lambda *_: answer(500), "/hang": worker.hang}
        path = {"success": "/", "failure": "/failure", "no-url": "/"}.get(kind, "/hang")

        async def push_one(house: House) -> None:
            if kind == "no-url":
                job_id = os.urandom(16)
                await house.gateway.execute(Add(job_id, JobSpec(b"q", 1_000, DAY_MS), b""))
            else:
                count = len(worker.requests)
                job_id = await house.add(path)
            if kind == "canceled":
                await house.requests(count + 1)
                house.dispatcher.cancel(job_id)
            await house.result(job_id)
            await house.gateway.execute(Delete(job_id))

        async def left() -> int:
            house = House(worker)
            await house.dispatcher.start()
            await house.dispatcher.push_queue(b"q")
            for _ in range(3):
                await push_one(house)
            gc.collect()
            try:
                for _ in range(20):
                    await push_one(house)
                return gc.collect()
            finally:
                await house.dispatcher.stop(0)
                await house.broker.close()

        assert uvloop.run(left()) < 20


class TestTurns:
    """Jobs that are leased together are sent in portions."""

    @pytest.fixture
    async def house(self, worker: WebWorker) -> AsyncIterator[House]:
        """One in which nothing is sent yet."""
        made = House(worker)
        await made.dispatcher.start()
        yield made
        await made.dispatcher.stop(10)
        await made.broker.close()

    async def test_each_turn_sends_a_portion(self, house: House) -> None:
        house.gateway.run_queue._is_shared = lambda: True
        for _ in range(MANY):
            await house.add()
        await house.dispatcher.push_queue(b"q")
        while len(house.dispatcher.sending(b"q")) < MANY:
            await asyncio.sleep(0)

        def waiting() -> int:
            return sum([push.waits for push in house.dispatcher._pushes.values()])

        before = waiting()
        assert before >= MANY - SHARED_PORTION
        while before:
            await asyncio.sleep(0)
            assert before - waiting() <= SHARED_PORTION
            before = waiting()
        assert len(await house.requests(MANY)) == MANY

    async def test_a_job_can_be_cancelled_before_its_turn(self, house: House) -> None:
        job_ids = [await house.add() for _ in range(MANY)]
        await house.dispatcher.push_queue(b"q")
        while len(house.dispatcher.sending(b"q")) < MANY:  # in one go, and most of them wait
            await asyncio.sleep(0)
        last = job_ids[-1]
        assert house.dispatcher.cancel(last)
        assert house.dispatcher.is_canceled(last)
        result = await house.result(last)
        assert (result.outcome, result.error_kind) == ("permanent-failure", "canceled")
        for job_id in job_ids[:-1]:
            assert (await house.result(job_id)).outcome == "success"
        assert len(await house.requests(MANY - 1)) == MANY - 1

    async def test_jobs_that_wait_for_their_turn_are_given_back_when_the_server_stops(self, house: House) -> None:
        job_ids = [await house.add() for _ in range(MANY)]
        await house.dispatcher.push_queue(b"q")
        while not house.dispatcher.sending(b"q"):
            await asyncio.sleep(0)
        await house.dispatcher.stop(0)
        assert {(await house.job(job_id)).state for job_id in job_ids} == {3}  # pending

"""What a worker promises: to its functions, to the server, to whoever stops it."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import workq
from tests.client import tasks
from tests.client.conftest import url_of
from tests.client.fakes import FakeServer, say
from tests.server import ServerProcess, reserved_port
from workq.client.worker import DEFAULT_TIME_LIMIT_S


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4()}"


@pytest.fixture
async def client(url: str) -> AsyncIterator[workq.AsyncClient]:
    async with workq.AsyncClient(url) as client:
        yield client


@contextlib.asynccontextmanager
async def working(worker: workq.Worker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.run_async())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(running, 15)


def make_async(function: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    async def call(payload: bytes) -> Any:
        return function(payload)

    return call


KINDS = ["async", "thread", "process"]


@pytest.fixture(params=KINDS)
def add_function(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Registers a function with a worker: as an async one, in threads, in processes."""

    def add(worker: workq.Worker, queue: str, function: Callable[[bytes], Any], **options: Any) -> None:
        called = make_async(function) if request.param == "async" else function
        worker.job(queue, processes=request.param == "process", **options)(called)

    return add


async def test_what_a_function_returns_is_the_result(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.upper)
    async with working(worker):
        for payload in (b"photo", b"", bytes(range(97, 123)) * 10_000):
            outcome = await client.run(queue, payload, timeout=20)
            assert (outcome.success, outcome.result) == (True, payload.upper())


async def test_an_exception_fails_the_job_with_its_words(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.explode)
    async with working(worker):
        assert (await client.run(queue, b"no such photo", timeout=20)).error == "ValueError: no such photo"
        assert (await client.run(queue, b"", timeout=20)).error == "ValueError"
        assert len((await client.run(queue, b"x" * 100_000, timeout=20)).error or "") == 4096


async def test_a_function_that_exits_fails_its_job_and_the_worker_goes_on(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.leave)
    async with working(worker):
        for _ in range(2):
            assert (await client.run(queue, timeout=20)).error == "SystemExit: 3"


async def test_a_plain_function_may_raise_anything(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)

    @worker.job(queue)
    def cancel(_: bytes) -> None:
        raise asyncio.CancelledError("from a loop of its own")

    async with working(worker):
        for _ in range(2):
            assert (await client.run(queue, timeout=20)).error == "CancelledError: from a loop of its own"


async def test_what_is_no_exception_of_a_program_fails_its_job_too(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.fail_as_pytest_does)
    async with working(worker):
        for _ in range(2):
            assert (await client.run(queue, timeout=20)).error == "Failed: a BaseException"


async def test_a_function_knows_its_job(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.context)
    async with working(worker):
        job_id = await client.add(queue, ttr=20)
        assert (await client.result(job_id, timeout=20)).result == f"{job_id} {queue} 20 1".encode()


def test_there_is_no_current_job_outside_of_a_function() -> None:
    with pytest.raises(LookupError, match="this is not a function called by a worker"):
        workq.current_job()


async def test_codecs_are_chosen_for_the_worker_or_the_function(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url, codec="json")

    @worker.job(f"{queue}.json")
    async def add(numbers: list[int]) -> dict[str, int]:
        return {"sum": sum(numbers)}

    @worker.job(f"{queue}.bytes", codec="bytes")
    def length(payload: bytes) -> str:
        return str(len(payload))

    @worker.job(f"{queue}.own", codec=(lambda value: value.hex().encode(), lambda data: bytes.fromhex(data.decode())))
    async def reverse(payload: bytes) -> bytes:
        return payload[::-1]

    async with working(worker):
        assert (await client.run(f"{queue}.json", b"[1, 2]", timeout=20)).result == b'{"sum":3}'
        assert (await client.run(f"{queue}.bytes", b"[1, 2]", timeout=20)).result == b"6"
        assert (await client.run(f"{queue}.own", b"0102", timeout=20)).result == b"0201"


async def test_a_payload_that_cannot_be_decoded_fails_its_job(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url, codec="json")
    worker.job(queue)(make_async(lambda value: value))
    async with working(worker):
        error = (await client.run(queue, b"{", timeout=20)).error
        assert (error or "").startswith("1 bytes cannot be decoded as json: Expecting property name")


async def test_a_result_that_cannot_be_encoded_or_is_too_long_fails_its_job(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    worker.job(f"{queue}.odd")(make_async(lambda _: {1}))
    worker.job(f"{queue}.long")(make_async(lambda _: bytes(2**20 + 1)))
    async with working(worker):
        error = (await client.run(f"{queue}.odd", timeout=20)).error
        assert (error or "").startswith("a value of type set cannot be encoded as bytes: ")
        error = (await client.run(f"{queue}.long", timeout=20)).error
        assert error == "the result has 1048577 bytes, 1048576 are allowed"


async def test_reject_ends_a_job_for_good(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)
    calls = []

    @worker.job(queue)
    async def refuse(payload: bytes) -> None:
        calls.append(payload)
        raise workq.Reject("not an image")

    async with working(worker):
        job_id = await client.add(queue, max_fails=100)
        assert (await client.result(job_id, timeout=20)).error == "not an image"
        assert len(calls) == 1
        assert (await client.run(queue, timeout=20)).error == "not an image"


async def test_retry_leaves_the_job_to_come_back(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)

    @worker.job(queue)
    async def later(_: bytes) -> str:
        attempt = workq.current_job().attempt
        if attempt is None or attempt < 3:
            raise workq.Retry("no paper")
        return f"printed at attempt {attempt}"  # the third, unless the machine stood still for as long as the TTR

    async with working(worker):
        job_id = await client.add(queue, ttr=0.05)
        outcome = await client.result(job_id, timeout=20)
        info = await client.inspect_job(job_id)
        assert outcome.result == f"printed at attempt {info.attempts}".encode()
        assert info.fails == 0


async def test_retry_with_a_delay_has_it_back_by_then(
    url: str, client: workq.AsyncClient, queue: str, add_function: Callable[..., None]
) -> None:
    worker = workq.Worker(url)
    add_function(worker, queue, tasks.retry_once)
    async with working(worker):
        job_id = await client.add(queue, ttr=86_400)
        assert (await client.result(job_id, timeout=20)).result == b"attempt 2"
        info = await client.inspect_job(job_id)
        assert (info.attempts, info.fails) == (2, 0)


@pytest.mark.parametrize("delay", [-1, float("nan"), 1e10])
def test_a_delay_that_is_not_allowed_is_refused(delay: float) -> None:
    with pytest.raises(workq.ClientError, match=r"Invalid delay: .* s; allowed are 0 to 3155760000 s"):
        workq.Retry("later", delay=delay)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_that_takes_longer_than_its_ttr_is_kept(
    url: str, client: workq.AsyncClient, queue: str, kind: str
) -> None:
    worker = workq.Worker(url)
    function = tasks.await_seconds if kind == "async" else tasks.take_seconds
    worker.job(queue, processes=kind == "process")(function)
    async with working(worker):
        for seconds in (1, 10):  # a machine that stands still for longer than the TTR ends the lease, and rightly
            job_id = await client.add(queue, str(seconds), ttr=0.8 * seconds)
            if (await client.result(job_id, timeout=60)).result == b"attempt 1":
                return
    pytest.fail("it is not kept")


async def test_a_job_that_is_kept_has_its_time_limit_all_the_same(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    remaining = []

    @worker.job(queue, time_limit=0.5)
    async def hang_until_overdue(_: bytes) -> bytes:
        remaining.append(workq.current_job().remaining())
        if "overdue" not in caplog.text or max(remaining) <= 0.2:  # else the machine stood still
            await asyncio.Event().wait()
        return b"in the end"

    async with working(worker):
        job_id = await client.add(queue, ttr=0.2)
        assert (await client.result(job_id, timeout=20)).result == b"in the end"
    assert len(remaining) > 1
    assert 0.2 < max(remaining) <= 0.5
    assert f"{queue} {job_id} overdue: not done in 0.5 s, not acknowledged" in caplog.text


@pytest.mark.parametrize(("ttr", "limit"), [(1, 1.5), (2, 2)])
async def test_a_function_that_hangs_does_not_hold_its_job_for_ever(
    url: str,
    client: workq.AsyncClient,
    queue: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    ttr: float,
    limit: float,
) -> None:
    """Its limit is what the worker allows when it does not say itself or, if that is longer, the TTR."""
    assert DEFAULT_TIME_LIMIT_S == 3600
    monkeypatch.setattr("workq.client.worker.DEFAULT_TIME_LIMIT_S", 1.5)
    worker = workq.Worker(url)

    @worker.job(queue)
    async def hang_until_overdue(_: bytes) -> bytes:
        if "overdue" not in caplog.text:
            await asyncio.Event().wait()
        return b"in the end"

    async with working(worker):
        job_id = await client.add(queue, ttr=ttr)
        assert (await client.result(job_id, timeout=60)).result == b"in the end"
    assert re.search(rf"{queue} {job_id} overdue: not done in (its TTR of )?{limit} s, not acknowledged", caplog.text)


async def test_a_time_limit_below_the_ttr_counts_without_heartbeats_too(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)

    @worker.job(queue, time_limit=0.1, heartbeat=False)
    async def hang(_: bytes) -> None:
        await asyncio.Event().wait()

    async with working(worker):
        job_id = await client.add(queue, ttr=60)
        await logged(caplog, f"{queue} {job_id} overdue: not done in 0.1 s, not acknowledged")


async def test_a_job_that_is_lost_is_ended(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    started, cancelled = asyncio.Event(), asyncio.Event()

    @worker.job(queue, time_limit=60)
    async def wait(_: bytes) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with working(worker), asyncio.timeout(20):
        job_id = await client.add(queue, ttr=5)  # it is touched before a third of that is over
        await started.wait()
        await client.delete(job_id)
        await cancelled.wait()
    assert f"{queue} {job_id} lost: {url}: touch job {job_id}: no such job; not acknowledged" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
async def test_a_function_tells_how_far_it_is(
    url: str, client: workq.AsyncClient, queue: str, kind: str, tmp_path: Path
) -> None:
    worker = workq.Worker(url)
    function = tasks.await_with_progress if kind == "async" else tasks.wait_with_progress
    worker.job(queue, processes=kind == "process")(function)
    async with working(worker), asyncio.timeout(20):
        job_id = await client.add(queue, str(tmp_path / "go"))
        while (await client.inspect_job(job_id)).progress != b"half":
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()
        assert (await client.result(job_id, timeout=20)).success


async def test_a_progress_that_is_too_long_is_the_functions_mistake(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    worker.job(queue)(lambda _: workq.report_progress("x" * 4097))
    async with working(worker):
        error = (await client.run(queue, timeout=20)).error
        assert error is not None
        assert error.startswith("ClientError: Invalid progress size: '4097' is not")
    with pytest.raises(LookupError, match="this is not a function called by a worker"):
        workq.report_progress("half")


async def test_a_late_worker_does_not_overwrite_the_work_of_the_one_that_took_over(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    started = asyncio.Event()
    go = asyncio.Event()

    @worker.job(queue)
    async def wait(_: bytes) -> bytes:
        started.set()
        await go.wait()
        return b"late"

    async with working(worker):
        job_id = await client.add(queue, ttr=60)
        await started.wait()
        await client.release(job_id)
        again = await client.lease(queue, fenced=True)
        assert (again.id, again.attempt) == (job_id, 2)
        go.set()
        await logged(caplog, f"{queue} {job_id} done in ")
        assert "not acknowledged: " in caplog.text
        assert "Lease expired" in caplog.text
        await client.complete(job_id, b"in time", attempt=2)
        assert (await client.result(job_id)).result == b"in time"


async def test_a_server_that_does_not_number_attempts_is_worked_for_all_the_same(
    queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    heard = []
    reported = asyncio.Event()

    async def old_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.append(line.strip())
            if line.startswith(b"lease") and b"-attempt" in line:
                writer.write(b"-CLIENT-ERROR Invalid command args\r\n")
            elif line.startswith(b"lease") and not reported.is_set():
                writer.write(b"+OK 1\r\n6ba7b810-9dad-11d1-80b4-00c04fd430c8 %b 60000 0\r\n\r\n" % queue.encode())
            elif line.startswith(b"complete"):
                await reader.readline()
                writer.write(b"+OK\r\n")
                reported.set()
        writer.close()

    async with await asyncio.start_server(old_server, "127.0.0.1", 0) as server:
        worker = workq.Worker(f"workq://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        worker.job(queue, time_limit=60)(lambda _: f"attempt {workq.current_job().attempt}")
        async with working(worker), asyncio.timeout(20):
            await reported.wait()
    assert heard[0] == f"lease {queue} 30000 -attempt=1".encode()
    assert b"complete 6ba7b810-9dad-11d1-80b4-00c04fd430c8 12" in heard
    assert "the server does not number attempts; going on without" in caplog.text


async def test_a_failed_job_is_tried_again_while_max_fails_allows(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    calls = []

    @worker.job(queue)
    def unsteady(payload: bytes) -> bytes:
        calls.append(payload)
        if len(calls) < 3:
            raise OSError("flaky")
        return b"at last"

    async with working(worker):
        job_id = await client.add(queue, max_fails=3)
        assert (await client.result(job_id, timeout=20)).result == b"at last"
        assert (await client.inspect_job(job_id)).fails == 2


async def test_no_more_is_leased_than_there_is_room_for(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)
    go = asyncio.Event()
    started = asyncio.Semaphore(0)
    at_once = most = 0

    @worker.job(queue, concurrency=3)
    async def wait(_: bytes) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        started.release()
        await go.wait()
        at_once -= 1

    ids = [await client.add(queue) for _ in range(10)]
    async with working(worker), asyncio.timeout(20):
        for _ in range(3):
            await started.acquire()
        assert (await client.inspect_queue(queue)).ready == 7
        go.set()
        for job_id in ids:
            assert (await client.result(job_id, timeout=20)).success
    assert most == 3


async def test_threads_and_processes_work_side_by_side(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)
    together = threading.Barrier(3)
    worker.job(f"{queue}.t", concurrency=3)(lambda _: str(together.wait(20)))
    worker.job(f"{queue}.p", processes=True)(tasks.own_process)
    async with working(worker):
        runs = [client.run(f"{queue}.t", timeout=20) for _ in range(3)]
        assert {outcome.result for outcome in await asyncio.gather(*runs)} == {b"0", b"1", b"2"}
        first, second = [(await client.run(f"{queue}.p", timeout=20)).result for _ in range(2)]
        assert first == second != str(os.getpid()).encode()


async def test_an_async_function_is_cancelled_at_its_ttr_and_not_acknowledged(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    cancelled = []

    @worker.job(queue, heartbeat=False)
    async def slow_once(_: bytes) -> bytes:
        if not cancelled:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(workq.current_job().id)
                raise
        return b"second try"

    async with working(worker):
        job_id = await client.add(queue, ttr=0.1)
        assert (await client.result(job_id, timeout=20)).result == b"second try"
    assert cancelled == [job_id]
    assert f"{queue} {job_id} overdue: not done in its TTR of 0.1 s, not acknowledged" in caplog.text


async def test_a_thread_overdue_is_reported_and_its_result_thrown_away(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    go = threading.Event()
    calls = []

    @worker.job(queue, heartbeat=False)
    def slow_once(_: bytes) -> bytes:
        calls.append(workq.current_job().id)
        if len(calls) == 1:
            go.wait(20)
            return b"too late"
        return b"in time"

    async with working(worker):
        job_id = await client.add(queue, ttr=0.1)
        await logged(caplog, f"{queue} {job_id} overdue")
        while (await client.inspect_job(job_id)).state is not workq.JobState.PENDING:
            pass  # the server's own timer
        assert calls == [job_id]  # the slot is taken until the thread returns
        await client.configure_queue(queue, ttr=60)  # for the next attempt
        go.set()
        assert (await client.result(job_id, timeout=20)).result == b"in time"
    assert calls == [job_id, job_id]


async def test_a_job_overdue_in_one_slot_may_be_done_in_another(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    again = threading.Event()
    meet = threading.Barrier(2)

    @worker.job(queue, concurrency=2, heartbeat=False)
    def work(payload: bytes) -> str:
        attempt = workq.current_job().attempt
        if payload == b"together":
            meet.wait(20)
        elif attempt == 1:
            assert again.wait(20)
        else:
            again.set()
        return f"attempt {attempt}"

    async with working(worker):
        job_id = await client.add(queue, ttr=0.2)
        outcome = await client.result(job_id, timeout=20)
        assert (outcome.success, outcome.result != b"attempt 1") == (True, True)
        runs = [client.run(queue, b"together", timeout=20) for _ in range(2)]
        assert [outcome.success for outcome in await asyncio.gather(*runs)] == [True, True]


async def test_a_process_overdue_is_killed_and_the_slot_free_again(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)
    worker.job(queue, processes=True, heartbeat=False)(tasks.sleep_for_ever)
    async with working(worker):
        ids = [await client.add(queue, ttr=0.3, max_attempts=1) for _ in range(2)]
        for job_id in ids:
            outcome = await client.result(job_id, timeout=20)
            assert (outcome.success, outcome.result) == (False, b"")  # the server's verdict, not the worker's
            await logged(caplog, f"{queue} {job_id} overdue")


async def test_a_function_that_kills_its_process_fails_its_job_alone(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    worker.job(queue, processes=True, concurrency=2)(tasks.end_process)
    async with working(worker):
        exits, kills, survives = await asyncio.gather(
            *[client.run(queue, payload, timeout=20) for payload in (b"exit", b"kill", b"")]
        )
        assert exits.error == "the process that ran it ended itself with status 7"
        assert kills.error == "the process that ran it was killed by SIGKILL"
        assert survives.result == b"survived"


@pytest.mark.parametrize("is_seen", [True, False])
async def test_a_process_that_was_killed_between_two_jobs_fails_none(
    url: str, client: workq.AsyncClient, queue: str, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    worker = workq.Worker(url)
    worker.job(queue, processes=True)(tasks.own_process)
    async with working(worker):
        first = await client.run(queue, timeout=20)
        (process,) = [each for each in multiprocessing.active_children() if str(each.pid).encode() == first.result]
        process.kill()
        process.join(20)
        if not is_seen:  # it died just after the look
            monkeypatch.setattr(multiprocessing.process.BaseProcess, "is_alive", lambda _: True)
        second = await client.run(queue, timeout=20)
        assert second.success, second.error
        assert second.result != first.result


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until the worker has logged `text`."""
    found = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                found.set()

    watch = Watch()
    logger = logging.getLogger("workq.worker")
    logger.addHandler(watch)
    try:
        if text not in caplog.text:
            await asyncio.wait_for(found.wait(), 20)
    finally:
        logger.removeHandler(watch)


async def test_a_worker_goes_on_through_a_server_restart(queue: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "workq.worker")
    with reserved_port() as port, ServerProcess("--port", str(port)) as first:
        url = url_of(first)
        worker = workq.Worker(url)
        worker.job(queue, concurrency=5)(make_async(tasks.upper))
        async with working(worker):
            async with workq.AsyncClient(url) as client:
                before = await client.run(queue, b"a", timeout=20)
                await logged(caplog, f"{before.id} done")
            first.kill()
            await logged(caplog, "trying again until it works")
            with await asyncio.to_thread(ServerProcess, "--port", str(port)):
                async with workq.AsyncClient(url) as client:
                    after = await client.run(queue, b"b", timeout=20)
                    assert after.result == b"B"
                await logged(caplog, f"{url}: leasing again")
                await logged(caplog, f"{after.id} done")
                assert caplog.text.count("trying again until it works") == 1  # for all slots and tries


async def test_a_result_is_delivered_after_a_restart_in_the_middle_of_the_work(
    queue: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "workq.worker")
    flags = ("--data-dir", str(tmp_path))
    with reserved_port() as port, ServerProcess("--port", str(port), *flags) as first:
        url = url_of(first)
        worker = workq.Worker(url)
        go, started = asyncio.Event(), asyncio.Event()

        @worker.job(queue)
        async def work(_: bytes) -> bytes:
            started.set()
            await go.wait()
            return b"done"

        async with working(worker), asyncio.timeout(20):
            async with workq.AsyncClient(url) as client:
                job_id = await client.add(queue)
            await started.wait()
            first.kill()
            with await asyncio.to_thread(ServerProcess, "--port", str(port), *flags):
                async with workq.AsyncClient(url) as client:
                    go.set()
                    assert (await client.result(job_id, timeout=20)).result == b"done"
                await logged(caplog, f"{job_id} done")


async def test_a_job_that_is_gone_is_reported_and_no_reason_to_stop(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url)

    @worker.job(queue)
    async def delete_it(_: bytes) -> None:
        await client.delete(workq.current_job().id)

    async with working(worker):
        job_id = await client.add(queue)
        await logged(caplog, f"not acknowledged: {url}: complete job {job_id}: no such job")


async def test_a_wrong_server_is_reported_and_tried_again(caplog: pytest.LogCaptureFixture, queue: str) -> None:
    with FakeServer(say(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        worker = workq.Worker(server.url)
        worker.job(queue)(tasks.upper)
        async with working(worker):
            await logged(caplog, f"{server.url}: 'HTTP/1.1 400 Bad Request' is not a reply of a Workq server")
            async with asyncio.timeout(20):
                while server.connections < 3:
                    await asyncio.sleep(0.01)


async def test_there_is_one_line_per_job(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workq.worker")
    worker = workq.Worker(url)
    worker.job(f"{queue}.good")(make_async(tasks.upper))
    worker.job(f"{queue}.bad")(make_async(tasks.explode))
    async with working(worker):
        good = await client.run(f"{queue}.good", b"abc", timeout=20)
        bad = await client.run(f"{queue}.bad", b"boom", timeout=20)
    (line,) = [line for line in caplog.messages if good.id in line]
    assert re.fullmatch(rf"{queue}\.good {good.id} done in \d+\.\d{{3}} s, 3 bytes", line)
    (line,) = [line for line in caplog.messages if bad.id in line]
    assert re.fullmatch(rf"{queue}\.bad {bad.id} failed in \d+\.\d{{3}} s: ValueError: boom", line)


async def test_tracebacks_are_there_for_the_asking(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "workq.worker")
    worker = workq.Worker(url)
    worker.job(queue, processes=True)(tasks.explode)
    async with working(worker):
        await client.run(queue, b"boom", timeout=20)
    assert "tasks.py" in caplog.text
    assert "raise ValueError(payload.decode())" in caplog.text


async def test_stopping_lets_running_jobs_finish_and_leases_no_more(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    go, started = asyncio.Event(), asyncio.Event()

    @worker.job(queue)
    async def work(_: bytes) -> bytes:
        started.set()
        await go.wait()
        return b"finished"

    first, second = await client.add(queue), await client.add(queue)
    running = asyncio.create_task(worker.run_async())
    async with asyncio.timeout(20):
        await started.wait()
        worker.stop()
        worker.stop()
        go.set()
        await running
        assert (await client.result(first, timeout=0)).result == b"finished"
        assert (await client.inspect_job(second)).state is workq.JobState.NEW


async def test_what_does_not_finish_within_the_grace_is_left_to_its_ttr(
    url: str, client: workq.AsyncClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = workq.Worker(url, grace=0.05)
    started, over = threading.Semaphore(0), threading.Event()
    over_async = asyncio.Event()

    async def stubborn(_: bytes) -> None:
        started.release()
        while not over_async.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over_async.wait()

    def stuck(_: bytes) -> None:
        started.release()
        over.wait(30)

    worker.job(f"{queue}.async")(stubborn)
    worker.job(f"{queue}.thread")(stuck)
    worker.job(f"{queue}.process", processes=True)(tasks.wait_with_progress)
    ids = [await client.add(f"{queue}.{kind}", "/there/is/nothing") for kind in KINDS]
    running = asyncio.create_task(worker.run_async())
    for _ in range(2):
        await asyncio.to_thread(started.acquire, timeout=20)
    async with asyncio.timeout(20):
        while (await client.inspect_job(ids[2])).progress != b"half":
            pass
        worker.stop()
        await running
    over.set()
    over_async.set()
    for job_id in ids:
        assert f"{job_id} still runs after 0.05 s of grace: left to its TTR" in caplog.text
        assert (await client.inspect_job(job_id)).state is workq.JobState.LEASED


async def test_a_cancelled_worker_gives_up_at_once(url: str, client: workq.AsyncClient, queue: str) -> None:
    worker = workq.Worker(url)
    started = asyncio.Event()

    @worker.job(queue)
    async def work(_: bytes) -> None:
        started.set()
        await asyncio.Event().wait()

    job_id = await client.add(queue)
    running = asyncio.create_task(worker.run_async())
    async with asyncio.timeout(20):
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await client.inspect_job(job_id)).state is workq.JobState.LEASED


async def test_a_worker_may_be_stopped_before_it_starts_and_started_again(
    url: str, client: workq.AsyncClient, queue: str
) -> None:
    worker = workq.Worker(url)
    worker.job(queue)(make_async(tasks.upper))
    worker.stop()
    await asyncio.wait_for(worker.run_async(), 10)
    async with working(worker):
        assert (await client.run(queue, b"a", timeout=20)).result == b"A"


def test_a_worker_runs_in_a_thread_and_is_stopped_from_another(url: str, queue: str) -> None:
    worker = workq.Worker(url)
    worker.job(queue)(tasks.upper)
    thread = threading.Thread(target=worker.run)
    thread.start()
    with workq.Client(url) as client:
        assert client.run(queue, b"a", timeout=20).result == b"A"
    worker.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_a_program_that_starts_its_worker_in_its_own_processes_is_told(url: str, queue: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, workq\n"
        "worker = workq.Worker()\n"
        "@worker.job(sys.argv[1], processes=True)\n"
        "def upper(payload):\n"
        "    return payload.upper()\n"
        "worker.run()\n"
    )
    command = [sys.executable, str(program), queue]
    environment = {**os.environ, "WORKQ_SERVER": url, "PYTHONPATH": str(Path(workq.__file__).parent.parent)}
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process,
        workq.Client(url) as client,
    ):
        try:
            outcome = client.run(queue, b"a", timeout=20, ttr=20)
        finally:
            process.terminate()
            _, said = process.communicate(timeout=20)
        assert outcome.error == "the process that ran it ended itself with status 1"
        assert "put what starts it below `if __name__ == '__main__':`" in said
        assert process.returncode == 0


async def test_a_process_that_cannot_be_started_fails_its_job_alone(
    url: str, client: workq.AsyncClient, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("no processes here")

    worker = workq.Worker(url)
    worker.job(queue, processes=True)(tasks.upper)
    async with working(worker):
        with monkeypatch.context() as patched:
            patched.setattr(multiprocessing.get_context("spawn").Process, "start", refuse)
            assert (await client.run(queue, b"a", timeout=20)).error == "RuntimeError: no processes here"
        assert (await client.run(queue, b"a", timeout=20)).result == b"A"


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda worker: worker.job("two words"), "Invalid Name: 'two words'"),
        (lambda worker: worker.job("q", concurrency=0), "Invalid concurrency: 0; at least 1 is needed"),
        (lambda worker: worker.job("q", codec="xml"), "Invalid codec: 'xml'"),
        (lambda worker: [worker.job("q")(tasks.upper), worker.job("q")], "Invalid Name: q has a function already"),
        (
            lambda worker: worker.job("q", processes=True)(make_async(tasks.upper)),
            "the function for q is async, and processes run plain functions only",
        ),
        (lambda worker: worker.run(), "the worker has no functions: register them with @worker.job"),
        (
            lambda worker: [worker.job("q", processes=True)(lambda _: None), worker.run()],
            "the function for q cannot run in processes, it must be at the top of a module: ",
        ),
        (lambda _: [bad := workq.Worker("http://x"), bad.job("q")(tasks.upper), bad.run()], "Invalid server address"),
    ],
)
def test_a_mistake_of_the_programmer_is_told_at_once(register: Callable[[workq.Worker], object], words: str) -> None:
    with pytest.raises(workq.ClientError, match=re.escape(words)):
        register(workq.Worker())

"""Commands from coroutines: answered when they are durable, cancelled with those who wait."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.server import PATIENCE_S
from workq import commands as c
from workq import replies as r
from workq.broker import Broker, Clock
from workq.commit import GroupCommit
from workq.engine import Engine
from workq.gateway import Gateway, ServerUnavailable, job_spec
from workq.log import open_log
from workq.log.files import Files
from workq.values import JobSpec

SPEC = job_spec(b"mail", 60_000, 600_000)
CALL = JobSpec(b"call", 60_000, 0, foreground=True)


def _no_progress(done: int, total: int) -> None:
    pass


def make(data_dir: Path | None) -> tuple[Gateway, Broker]:
    loop = asyncio.get_running_loop()
    clock = Clock()
    engine = Engine(clock.now_ms())
    commit = None
    if data_dir is not None:
        commit = GroupCommit(engine, open_log(data_dir, 1_048_576, engine.state, _no_progress), "always", 1.0, loop)
    broker = Broker(engine, clock, loop, commit)
    return Gateway(broker), broker


@pytest.fixture(params=["in memory", "on disk"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    made, broker = make(None if request.param == "in memory" else tmp_path)
    yield made
    await broker.close()


def add(gateway: Gateway) -> c.Add:
    return c.Add(gateway.new_job_id(), SPEC, b"x")


async def waiting(gateway: Gateway, count: int) -> None:
    """Return when so many commands wait."""
    while gateway.waiting() != count:
        await asyncio.sleep(0)


async def test_a_command_is_answered(gateway: Gateway) -> None:
    command = add(gateway)
    assert await gateway.execute(command) == r.OK
    assert await gateway.execute(command) == r.DUPLICATE_JOB
    leased = await gateway.execute(c.Lease((b"mail",), 0, fenced=True))
    assert leased == r.LeasedJob(command.job_id, b"mail", 60_000, b"x", b"", 1)


async def test_one_that_waits_is_answered_when_there_is_something(gateway: Gateway) -> None:
    lease = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000)))
    await waiting(gateway, 1)
    await gateway.execute(add(gateway))
    assert isinstance(await lease, r.LeasedJob)
    assert gateway.waiting() == 0
    assert await gateway.execute(c.Lease((b"mail",), 1)) == r.TIMED_OUT


async def test_one_whose_caller_is_gone_takes_nothing(gateway: Gateway) -> None:
    gone = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000)))
    await waiting(gateway, 1)
    gone.cancel()
    await waiting(gateway, 0)
    await gateway.execute(add(gateway))
    assert isinstance(await gateway.execute(c.Lease((b"mail",), 0)), r.LeasedJob)


async def test_who_waits_for_the_job_of_a_run_is_told_when_its_caller_is_gone(gateway: Gateway) -> None:
    """At once, and not with what the log next writes for others."""
    job_id = gateway.new_job_id()
    run = asyncio.ensure_future(gateway.execute(c.Run(job_id, CALL, 60_000, b"x")))
    result = asyncio.ensure_future(gateway.execute(c.Result(job_id, 60_000)))
    await waiting(gateway, 2)
    await asyncio.gather(gateway.execute(add(gateway)), gateway.execute(add(gateway)))  # in one turn
    run.cancel()
    assert await asyncio.wait_for(result, PATIENCE_S) == r.NOT_FOUND


@pytest.mark.parametrize("count", [1, 2])
async def test_what_was_handed_to_a_caller_who_is_gone_goes_back(gateway: Gateway, count: int) -> None:
    gone = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000, fenced=True, count=count)))
    await waiting(gateway, 1)
    adding = asyncio.ensure_future(gateway.execute(add(gateway)))
    await asyncio.sleep(0)  # the job is handed out, and nobody has been told
    gone.cancel()
    assert await adding == r.OK
    leased = await gateway.execute(c.Lease((b"mail",), 60_000, fenced=True))
    assert isinstance(leased, r.LeasedJob)
    assert leased.attempt == 2


async def test_many_at_a_time(gateway: Gateway) -> None:
    for _ in range(3):
        assert await asyncio.gather(*[gateway.execute(add(gateway)) for _ in range(100)]) == [r.OK] * 100
    assert gateway.figures().commands["Add"] == 300


async def test_when_it_stops_nobody_waits_any_more(gateway: Gateway) -> None:
    lease = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000)))
    await waiting(gateway, 1)
    gateway.shut_down()
    with pytest.raises(ServerUnavailable, match=r"^The server is stopping$"):
        await lease
    with pytest.raises(ServerUnavailable, match=r"^The server is stopping$"):
        await gateway.execute(c.Lease((b"mail",), 60_000))
    assert gateway.trouble() == "The server is stopping"
    assert await gateway.execute(add(gateway)) == r.OK
    assert isinstance(await gateway.execute(c.Lease((b"mail",), 0)), r.LeasedJob)


async def test_one_that_was_cancelled_just_now_does_not_stop_the_stop(gateway: Gateway) -> None:
    gone = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000)))
    lease = asyncio.ensure_future(gateway.execute(c.Lease((b"mail",), 60_000)))
    await waiting(gateway, 2)
    gone.cancel()
    gateway.shut_down()
    with pytest.raises(ServerUnavailable):
        await lease
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_answer_leaves_when_it_is_on_disk(tmp_path: Path) -> None:
    gateway, broker = make(tmp_path)
    commands = [add(gateway) for _ in range(10)]
    answering = asyncio.gather(*[gateway.execute(command) for command in commands])
    await asyncio.sleep(0)
    assert not answering.done()
    await answering
    await broker.close()
    engine = Engine(0)
    open_log(tmp_path, 1_048_576, engine.state, _no_progress).close()
    assert set(engine.state.jobs) == {command.job_id for command in commands}


class TestOutbox:
    """For those who give many commands and wait for none."""

    async def test_in_memory_all_is_answered_at_once(self) -> None:
        gateway, broker = make(None)
        outbox = gateway.outbox(pytest.fail)
        command = add(gateway)
        assert outbox.execute(command, "a") == r.OK
        assert outbox.execute(command, "b") == r.DUPLICATE_JOB
        await broker.close()

    async def test_with_a_log_changes_are_told_when_it_has_them(self, tmp_path: Path) -> None:
        gateway, broker = make(tmp_path)
        told: list[tuple[list[str], r.Unavailable | None]] = []
        outbox = gateway.outbox(lambda who, lost: told.append((who, lost)))
        commands = [add(gateway) for _ in range(3)]
        assert [outbox.execute(command, name) for command, name in zip(commands, "abc", strict=True)] == [None] * 3
        assert outbox.execute(commands[0], "d") == r.DUPLICATE_JOB
        assert told == []
        while not told:
            await asyncio.sleep(0.001)
        assert told == [(["a", "b", "c"], None)]
        await broker.close()
        engine = Engine(0)
        open_log(tmp_path, 1_048_576, engine.state, _no_progress).close()
        assert len(engine.state.jobs) == 3

    async def test_what_the_log_has_lost_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        gateway, broker = make(tmp_path)
        told: list[tuple[list[str], r.Unavailable | None]] = []
        outbox = gateway.outbox(lambda who, lost: told.append((who, lost)))
        with monkeypatch.context() as broken:
            broken.setattr(Files, "write", fail)
            outbox.execute(add(gateway), "a")
            await asyncio.sleep(0)
            [(who, lost)] = told
            assert who == ["a"]
            assert lost is not None
            assert "Input/output error" in lost.text
            assert isinstance(outbox.execute(add(gateway), "b"), r.Unavailable)
        while gateway.trouble() is not None:
            await asyncio.sleep(0.001)
        assert outbox.execute(add(gateway), "c") is None
        while len(told) < 2:
            await asyncio.sleep(0.001)
        assert told[1] == (["c"], None)
        await broker.close()


async def test_ids_tell_their_time(gateway: Gateway) -> None:
    before_ms = gateway.now_ms()
    made = uuid.UUID(bytes=gateway.new_job_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before_ms <= made.int >> 80 <= gateway.now_ms()


def test_the_same_words_make_the_same_spec() -> None:
    assert job_spec(b"mail", 60_000, 600_000) is SPEC
    assert job_spec(b"mail", 60_000, 600_001) is not SPEC

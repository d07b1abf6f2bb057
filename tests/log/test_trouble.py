"""A server whose disk is slow, full or broken: what its clients see, and that it comes back by itself.

The whole server side runs in the test's own event loop, on files whose operations fail when the test says so.
"""

import asyncio
import contextlib
import shutil
import socket
import struct
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.log.disks import Kernel, RecordingFiles
from tests.log.logs import reopened
from workq.broker import Broker, Clock
from workq.broker import Client as BrokerClient
from workq.commands import Add, Clear, Delete
from workq.commit import GroupCommit, SyncPolicy
from workq.engine import Engine
from workq.engine.engine import CLEARED_AT_ONCE
from workq.engine.job import LEASED, READY, SCHEDULED
from workq.gateway import Gateway, ServerUnavailable
from workq.log.filelog import open_files
from workq.replies import OK, Cleared
from workq.tcp import Connection, HangupWatch
from workq.values import MIB, JobSpec

PATIENCE_S = 10.0


class SlowFiles(RecordingFiles):
    """Files whose sync can be made to take as long as the test likes.

    sync_threads  which threads have synced
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.sync_threads: set[threading.Thread] = set()
        self.syncing = threading.Event()
        self.may_sync = threading.Event()
        self.may_sync.set()

    def sync(self, fd: int) -> None:
        self.sync_threads.add(threading.current_thread())
        self.syncing.set()
        assert self.may_sync.wait(PATIENCE_S)
        super().sync(fd)


class Client:
    """A connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, *lines: str) -> None:
        self.writer.write("".join([f"{line}\r\n" for line in lines]).encode())

    def hang_up(self) -> None:
        """Reset the connection."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def line(self) -> str:
        line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
        return line.decode().removesuffix("\r\n")

    async def ask(self, *lines: str) -> str:
        self.send(*lines)
        return await self.line()

    async def inspect(self, what: str) -> dict[str, str]:
        """The keys and values of one thing."""
        assert await self.ask(f"inspect {what}") == "+OK 1"
        count = int((await self.line()).split(" ")[1])
        return {key: value for key, _, value in [(await self.line()).partition(" ") for _ in range(count)]}

    async def hears_nothing(self, other: "Client") -> None:
        """Check that no reply has left, after the server has answered `other` twice."""
        for _ in range(2):
            await other.inspect("server")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(self._reader.read(1), 0.001)


class Site:
    """A server on `files`, and its surroundings."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = SlowFiles(directory)
        self.engine = Engine(Clock().now_ms())
        self._clients: list[Client] = []
        self._is_running = False

    async def start(self, policy: SyncPolicy = "always", segment_size: int = 65_536) -> None:
        loop = asyncio.get_running_loop()
        log = open_files(self.files, segment_size, self.engine.state, lambda done, total: None)
        self.commit = GroupCommit(self.engine, log, policy, 0.01, loop)
        self.broker = Broker(self.engine, Clock(), loop, self.commit)
        self.hangups = HangupWatch(loop)
        self.server = await loop.create_server(lambda: Connection(self.broker, self.hangups), "127.0.0.1", 0)
        self._is_running = True

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.server.sockets[0].getsockname()))
        self._clients.append(client)
        return client

    async def stop(self) -> None:
        if not self._is_running:
            return
        self._is_running = False
        self.files.broken.clear()
        self.files.may_sync.set()
        for client in self._clients:
            client.writer.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
        await self.broker.wait_for_no_clients()
        self.server.close()
        await self.until(lambda: not self.commit.is_broken)
        await self.broker.close()
        self.hangups.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that the server does by itself."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)

    async def sync_begins(self) -> None:
        """Wait until the disk is at work; `may_sync` says for how long."""
        assert await asyncio.to_thread(self.files.syncing.wait, PATIENCE_S)

    def stop_disk(self) -> None:
        self.files.may_sync.clear()
        self.files.syncing.clear()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.stop()


def new_id() -> str:
    return str(uuid.uuid4())


def add(job_id: str, name: str = "mail", ttr_ms: int = 60_000, ttl_ms: int = 600_000) -> tuple[str, str]:
    return f"add {job_id} {name} {ttr_ms} {ttl_ms} 2", "hi"


class TestSlowDisk:
    async def test_a_reply_waits_for_the_disk(self, site: Site) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        site.stop_disk()
        one.send(*add(new_id()))
        await site.sync_begins()
        await one.hears_nothing(other)
        site.files.may_sync.set()
        assert await one.line() == "+OK"

    async def test_what_changes_nothing_does_not_wait(self, site: Site) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        job_id = new_id()
        assert await one.ask(*add(job_id)) == "+OK"
        site.stop_disk()
        one.send(*add(new_id()))
        await site.sync_begins()
        assert (await other.inspect(f"job {job_id}"))["state"] == "0"
        assert await other.ask(f"result {job_id} 0") == "-TIMEOUT"
        assert await other.ask("lease nothing 0") == "-TIMEOUT"
        assert await other.ask(f"delete {new_id()}") == "-NOT-FOUND"
        assert await other.ask(*add(job_id)) == "-CLIENT-ERROR Duplicate job"
        assert await other.ask("nonsense") != "+OK"
        site.files.may_sync.set()

    @pytest.mark.parametrize("lost", [False, True])
    async def test_a_clear_waits_for_all_of_its_slices_though_the_last_finds_nothing_left(
        self, site: Site, lost: bool
    ) -> None:
        await site.start()
        other = await site.connect()
        jobs = [new_id() for _ in range(CLEARED_AT_ONCE + 1)]
        other.send(*[line for job in jobs for line in add(job)])
        assert [await other.line() for _ in jobs] == ["+OK"] * len(jobs)
        site.stop_disk()
        gateway = Gateway(site.broker)
        clearing = asyncio.ensure_future(gateway.execute(Clear(b"mail")))
        deleting = asyncio.ensure_future(gateway.execute(Delete(uuid.UUID(jobs[-1]).bytes)))  # in the same turn
        await site.sync_begins()
        for _ in range(3):  # turns
            await other.inspect("server")
        assert not clearing.done()
        if lost:
            site.files.broken = {"sync"}
        site.files.may_sync.set()
        if lost:
            for call in (deleting, clearing):
                with pytest.raises(ServerUnavailable, match="It may have been done or not"):
                    await call
        else:
            assert await deleting == OK
            assert await clearing == Cleared(b"mail", CLEARED_AT_ONCE)
        await site.stop()
        assert not reopened(site.directory).jobs

    async def test_replies_keep_their_order(self, site: Site) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        job_id = new_id()
        site.stop_disk()
        one.send(f"result {job_id} 0", *add(job_id), f"result {job_id} 0", "lease mail 0")
        assert await one.line() == "-NOT-FOUND"
        await site.sync_begins()
        one.send(f"complete {job_id} 2", "ok", f"result {job_id} 0")
        await one.hears_nothing(other)
        site.files.may_sync.set()
        replies = [await one.line() for _ in range(8)]
        assert replies == ["+OK", "-TIMEOUT", "+OK 1", f"{job_id} mail 60000 2", "hi", "+OK", "+OK 1", f"{job_id} 1 2"]

    async def test_who_comes_back_does_not_wait_for_ever_for_those_of_the_last_batch(self, site: Site) -> None:
        await site.start()
        one, other, third = [await site.connect() for _ in range(3)]
        site.stop_disk()
        third.send(*add(new_id()))
        await site.sync_begins()
        for client in (one, other):
            client.send(*add(new_id()))
        site.files.may_sync.set()
        assert [await client.line() for client in (one, other, third)] == ["+OK"] * 3
        assert await one.ask(*add(new_id())) == "+OK"

    async def test_who_is_woken_waits_for_the_same_batch(self, site: Site) -> None:
        await site.start()
        producer, worker, asker, other = [await site.connect() for _ in range(4)]
        worker.send("lease mail 60000")
        await other.inspect("server")
        site.stop_disk()
        job_id = new_id()
        producer.send(*add(job_id))
        await site.sync_begins()
        await worker.hears_nothing(other)
        await producer.hears_nothing(other)
        asker.send(f"result {job_id} 60000")
        site.files.may_sync.set()
        assert await producer.line() == "+OK"
        assert await worker.line() == "+OK 1"
        for _ in range(2):
            await worker.line()
        site.stop_disk()
        worker.send(f"complete {job_id} 2", "ok")
        await site.sync_begins()
        await asker.hears_nothing(other)
        site.files.may_sync.set()
        assert await asker.line() == "+OK 1"

    async def test_while_the_disk_works_the_next_batch_collects(self, site: Site) -> None:
        await site.start()
        clients = [await site.connect() for _ in range(10)]
        site.stop_disk()
        clients[0].send(*add(new_id()))
        await site.sync_begins()
        for client in clients[1:]:
            client.send(*add(new_id()))
        await site.until(lambda: len(site.engine.state.jobs) == 10)
        before = len(site.files.operations)
        site.files.may_sync.set()
        assert [await client.line() for client in clients] == ["+OK"] * 10
        syncs = [each for each in site.files.operations[before:] if type(each).__name__ == "Sync"]
        assert len(syncs) == 2

    async def test_a_client_that_goes_away_meanwhile_harms_nobody(self, site: Site) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        site.stop_disk()
        one.send(*add(new_id()))
        await site.sync_begins()
        one.hang_up()
        await site.until(lambda: len(site.broker.clients()) == 1)
        site.files.may_sync.set()
        assert await other.ask(*add(new_id())) == "+OK"

    @pytest.mark.parametrize("policy", ["interval", "os"])
    async def test_other_policies_do_not_wait(self, site: Site, policy: SyncPolicy) -> None:
        await site.start(policy)
        one = await site.connect()
        site.stop_disk()
        for _ in range(3):
            assert await one.ask(*add(new_id())) == "+OK"
        if policy == "interval":
            await site.sync_begins()
            assert await one.ask(*add(new_id())) == "+OK"


class TestKernelSync:
    @pytest.fixture
    def kernel(self, site: Site) -> Kernel:
        site.files.kernel = Kernel(site.files)
        return site.files.kernel

    async def test_no_thread_is_woken(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        clients = [await site.connect() for _ in range(3)]
        assert await clients[0].ask(*add(new_id())) == "+OK"  # the directory was new
        site.files.sync_threads.clear()
        for _ in range(5):
            for client in clients:
                client.send(*add(new_id()))
            assert [await client.line() for client in clients] == ["+OK"] * 3
        assert site.files.sync_threads == {threading.current_thread()}
        assert kernel.syncs >= 5

    async def test_a_reply_leaves_only_after_the_sync(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        assert await one.ask(*add(new_id())) == "+OK"
        kernel.may_sync = False
        one.send(*add(new_id()))
        await site.until(lambda: bool(kernel.started))
        await one.hears_nothing(other)
        kernel.sync()
        assert await one.line() == "+OK"

    async def test_a_busy_loop_sees_it_at_the_end_of_a_turn(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        one, other = await site.connect(), await site.connect()
        assert await one.ask(*add(new_id())) == "+OK"
        kernel.may_sync = kernel.may_tell = False
        one.send(*add(new_id()))
        await site.until(lambda: bool(kernel.started))
        kernel.sync()
        assert await other.ask("ping") == "+OK"
        assert await one.line() == "+OK"

    async def test_what_comes_meanwhile_is_the_next_batch(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        clients = [await site.connect() for _ in range(3)]
        assert await clients[0].ask(*add(new_id())) == "+OK"
        kernel.may_sync = False
        clients[0].send(*add(new_id()))
        await site.until(lambda: bool(kernel.started))
        for client in clients[1:]:
            client.send(*add(new_id()))
        await clients[1].hears_nothing(await site.connect())
        before = kernel.syncs
        kernel.may_sync = True
        kernel.sync()
        assert [await client.line() for client in clients] == ["+OK"] * 3
        assert kernel.syncs == before + 2

    @pytest.mark.parametrize("larger", ["segment", "compaction"])
    async def test_what_is_more_than_a_file_is_left_to_the_thread(
        self, site: Site, kernel: Kernel, larger: str
    ) -> None:
        await site.start(segment_size=20_000)
        client = await site.connect()
        assert await client.ask(*add(new_id())) == "+OK"
        site.files.sync_threads.clear()
        while site.commit._log.oldest < (1 if larger == "segment" else 2):
            job_id = new_id()
            assert await client.ask(*add(job_id)) == "+OK"
            assert await client.ask(f"delete {job_id}") == "+OK"
        await site.until(lambda: "workq-log" in [each.name for each in site.files.sync_threads])

    async def test_time_changes_nothing_while_a_batch_is_launched(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        producer, other, worker = [await site.connect() for _ in range(3)]
        assert await producer.ask(*add(new_id(), "first")) == "+OK"
        kernel.may_sync = False
        producer.send(f"add {new_id()} mail 60000 600000 2 -delay=30000", "hi")
        await site.until(lambda: bool(kernel.started))
        # In the next batch are two adds. The clients have more to do, so that the launch wakes them.
        other.send(*add(new_id(), "other"), "lease nothing 60000", "ping")
        worker.send(*add(new_id(), "other"), "lease mail 60000")
        await site.until(lambda: site.engine.waiting()[0] == 2)
        site.broker._clock._offset_ns += 60_000_000_000  # the delayed job is due, but the event loop does not know
        kernel.sync()
        assert await producer.line() == "+OK"
        await site.until(lambda: bool(kernel.started))
        kernel.sync()
        assert await worker.line() == "+OK"
        await site.until(lambda: bool(kernel.started))
        await worker.hears_nothing(await site.connect())
        kernel.may_sync = True
        kernel.sync()
        assert (await worker.line(), (await worker.line())[36:]) == ("+OK 1", " mail 60000 2")

    async def test_a_loop_that_is_busier_than_the_disk_waits_for_nobody(self, site: Site, kernel: Kernel) -> None:
        await site.start()
        client = await site.connect()
        assert await client.ask(*add(new_id())) == "+OK"
        site.commit._released_s -= 60  # it takes a minute to be back
        assert await client.ask(*add(new_id())) == "+OK"
        assert site.commit._is_busy
        kernel.may_sync = False
        client.send(*add(new_id()))
        await site.until(lambda: bool(kernel.started))
        site.commit._launched_s -= 3_600  # a slow sync
        kernel.may_sync = True
        kernel.sync()
        assert await client.line() == "+OK"
        assert not site.commit._is_busy


class TestFullDisk:
    async def fill(self, site: Site, client: Client) -> list[str]:
        """Add jobs until there is no room; return the ids of those that were taken."""
        site.files.broken = {"allocate"}
        taken = []
        for _ in range(5000):
            job_id = new_id()
            reply = await client.ask(*add(job_id))
            if reply != "+OK":
                assert reply.startswith("-SERVER-ERROR Nothing was changed: the command log cannot grow: ")
                assert await client.ask(f"result {job_id} 0") == "-NOT-FOUND"
                return taken
            taken.append(job_id)
        raise AssertionError("the disk is never full")

    @pytest.mark.parametrize("policy", ["always", "interval", "os"])
    async def test_commands_are_refused_before_they_change_anything(self, site: Site, policy: SyncPolicy) -> None:
        await site.start(policy)
        client = await site.connect()
        taken = await self.fill(site, client)
        assert len(taken) > 10
        run = f"run {new_id()} mail 1000 1000 2", "hi"
        schedule = f"schedule {new_id()} mail 1000 60000 2033-01-01T00:00:00Z 2", "hi"
        finish = [(f"{word} {taken[0]} 2", "ok") for word in ("complete", "fail")]
        for command in (add(new_id()), run, schedule, *finish, ("lease mail 0",), (f"delete {taken[0]}",)):
            assert (await client.ask(*command)).startswith("-SERVER-ERROR Nothing was changed: ")
        assert (await client.inspect("queue mail"))["ready-len"] == str(len(taken))
        assert (await client.inspect(f"job {taken[0]}"))["state"] == "0"
        await client.inspect("server")
        site.files.broken.clear()
        await site.until(lambda: site.commit.admit(0) is None)
        assert await client.ask(*add(new_id())) == "+OK"
        await site.stop()
        assert len(reopened(site.directory).jobs) == len(taken) + 1

    async def test_time_goes_on_while_there_is_room_for_what_it_does(self, site: Site) -> None:
        await site.start(segment_size=2_000_000)
        client = await site.connect()
        ending = new_id()
        assert await client.ask(*add(ending, ttl_ms=1000)) == "+OK"
        await self.fill(site, client)
        await site.until(lambda: uuid.UUID(ending).bytes not in site.engine.state.jobs)
        assert (await client.ask(*add(new_id()))).startswith("-SERVER-ERROR")

    async def test_a_segment_that_cannot_be_followed_grows(self, site: Site) -> None:
        await site.start()
        client = await site.connect()
        site.files.broken = {"create"}
        for _ in range(1200):
            assert await client.ask(*add(new_id())) == "+OK"
        assert [path.name for path in site.directory.glob("*.seg")] == ["0000000001.seg"]
        site.files.broken.clear()
        assert await client.ask(*add(new_id())) == "+OK"
        await site.until(lambda: len(list(site.directory.glob("*.seg"))) == 2)
        await site.stop()
        assert len(reopened(site.directory).jobs) == 1201


async def test_a_client_that_cannot_be_served_is_cut_off_and_others_go_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(BrokerClient):
        aborted = False

        def serve(self) -> None:
            raise ArithmeticError("a fault of the program")

        def end_turn(self) -> None:
            raise ArithmeticError("a fault of the program")

        def abort(self) -> None:
            self.aborted = True

    await site.start()
    client, faulty = await site.connect(), Faulty()
    site.broker.wake(faulty)
    await site.until(lambda: faulty.aborted)
    assert await client.ask("ping") == "+OK"
    faulty.is_awake = False
    assert "a fault of the program" in caplog.text


async def test_rules_that_never_come_true_hold_up_nobody_else(site: Site) -> None:
    await site.start()
    client, other = await site.connect(), await site.connect()
    for _ in range(16):
        client.send(f"recur {new_id()} mail 1000 1000 cron:0_0_*/31_*_1#5 2", "hi")
    assert await other.ask("ping") == "+OK"
    assert site.broker.figures().commands.get("Recur", 0) < 16
    for _ in range(16):
        assert (await client.line()).startswith("-CLIENT-ERROR Invalid rule: ")


async def test_what_could_not_be_read_again_is_refused(site: Site) -> None:
    await site.start()
    gateway = Gateway(site.broker)
    job_id = uuid.uuid4().bytes
    with pytest.raises(ServerUnavailable, match="Nothing was changed: 3145729 bytes are more than"):
        await gateway.execute(Add(job_id, JobSpec(b"mail", 1000, 1000), bytes(3 * MIB + 1)))
    assert job_id not in site.engine.state.jobs
    await gateway.execute(Add(job_id, JobSpec(b"mail", 1000, 1000), bytes(3 * MIB)))
    await site.stop()
    assert len(reopened(site.directory).jobs[job_id].payload) == 3 * MIB


class TestBrokenDisk:
    @pytest.mark.parametrize("by_kernel", [False, True], ids=["thread", "kernel"])
    @pytest.mark.parametrize("operation", ["sync", "write"])
    async def test_nothing_is_acknowledged_that_may_be_lost(self, site: Site, operation: str, by_kernel: bool) -> None:
        site.files.kernel = Kernel(site.files) if by_kernel else None
        await site.start()
        client = await site.connect()
        first, second, third = new_id(), new_id(), new_id()
        assert await client.ask(*add(first)) == "+OK"
        site.files.broken = {operation}
        client.send(f"result {first} 0", *add(second), "lease mail 0", f"result {first} 0")
        assert await client.line() == "-TIMEOUT"
        unknown = "-SERVER-ERROR It may have been done or not: the command log has failed: Input/output error"
        assert [await client.line() for _ in range(3)] == [unknown] * 3
        refused = "-SERVER-ERROR Nothing was changed: the command log has failed: Input/output error"
        assert await client.ask(*add(third)) == refused
        assert await client.ask("lease mail 0") == refused
        assert (await client.inspect("queue mail"))["ready-len"] == "1"
        assert await client.ask(f"result {third} 0") == "-NOT-FOUND"
        site.files.broken.clear()
        await site.until(lambda: not site.commit.is_broken)
        assert await client.ask(*add(third)) == "+OK"
        await site.stop()
        jobs = reopened(site.directory).jobs
        assert {str(uuid.UUID(bytes=job_id)) for job_id in jobs} == {first, second, third}
        assert [jobs[uuid.UUID(each).bytes].state for each in (first, second, third)] == [LEASED, READY, READY]

    @pytest.mark.parametrize("by_kernel", [False, True], ids=["thread", "kernel"])
    async def test_a_file_whose_sync_failed_is_never_synced_again(self, site: Site, by_kernel: bool) -> None:
        site.files.kernel = Kernel(site.files) if by_kernel else None
        await site.start()
        client = await site.connect()
        assert await client.ask(*add(new_id())) == "+OK"
        site.files.broken = {"sync"}
        await client.ask(*add(new_id()))
        site.files.broken.clear()
        await site.until(lambda: not site.commit.is_broken)
        operations = site.files.operations
        failed = next(index for index, each in enumerate(operations) if type(each).__name__ == "SyncFailed")
        inode = operations[failed].inode
        assert not [each for each in operations[failed + 1 :] if getattr(each, "inode", None) == inode]
        assert not (site.directory / "0000000001.seg").exists()

    async def test_it_tries_until_it_succeeds(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO")
        await site.start()
        client = await site.connect()
        site.files.broken = {"sync"}
        await client.ask(*add(new_id()))
        await site.until(lambda: "cannot be written afresh" in caplog.text)
        assert site.commit.is_broken
        site.files.broken.clear()
        await site.until(lambda: not site.commit.is_broken)
        assert "the command log has been written afresh" in caplog.text
        assert await client.ask(*add(new_id())) == "+OK"

    @pytest.mark.parametrize("policy", ["always", "interval", "os"])
    async def test_a_directory_that_is_removed_is_noticed_and_its_return_too(
        self, site: Site, policy: SyncPolicy
    ) -> None:
        await site.start(policy)
        client = await site.connect()
        assert await client.ask(*add(new_id())) == "+OK"
        shutil.rmtree(site.directory)
        taken = 1
        while (reply := await client.ask(*add(new_id()))) == "+OK":
            taken += 1
            assert taken < 1200  # those of a segment
        gone = "0000000001.seg has been removed by somebody else"
        assert reply == f"-SERVER-ERROR It may have been done or not: the command log has failed: {gone}"
        assert (await client.ask(*add(new_id()))).startswith("-SERVER-ERROR Nothing was changed: ")
        site.directory.mkdir()
        await site.until(lambda: not site.commit.is_broken)
        assert await client.ask(*add(new_id())) == "+OK"
        await site.stop()
        assert len(reopened(site.directory).jobs) == taken + 2

    async def test_a_directory_that_is_renamed_is_noticed_when_a_segment_is_to_follow(self, site: Site) -> None:
        await site.start()
        client = await site.connect()
        elsewhere = site.directory.rename(site.directory.with_name(f"{site.directory.name}-elsewhere"))
        taken = 0
        while await client.ask(*add(new_id())) == "+OK":
            taken += 1
            assert taken < 1200
        elsewhere.rename(site.directory)
        await site.until(lambda: not site.commit.is_broken)
        await site.stop()
        assert len(reopened(site.directory).jobs) == taken + 1

    @pytest.mark.parametrize("policy", ["always", "interval", "os"])
    async def test_a_segment_that_is_renamed_is_noticed_when_another_is_to_follow(
        self, site: Site, policy: SyncPolicy
    ) -> None:
        await site.start(policy)
        client = await site.connect()
        segment = site.directory / "0000000001.seg"
        segment.rename(site.directory.with_name(f"{site.directory.name}-elsewhere"))
        segment.write_bytes(b"of somebody else")
        taken = 0
        while (reply := await client.ask(*add(new_id()))) == "+OK":
            taken += 1
            assert taken < 1200
        assert reply.endswith("0000000001.seg has been removed by somebody else")
        await site.until(lambda: not site.commit.is_broken)
        await site.stop()
        assert len(reopened(site.directory).jobs) == taken + 1

    async def test_time_stands_still_for_jobs_but_not_for_who_waits(self, site: Site) -> None:
        await site.start()
        client, waiting, patient = [await site.connect() for _ in range(3)]
        leased, ending, later = new_id(), new_id(), new_id()
        soon = datetime.now(UTC) + timedelta(seconds=60)
        assert await client.ask(*add(leased, ttr_ms=60_000)) == "+OK"
        client.send("lease mail 0")
        for _ in range(3):
            await client.line()
        assert await client.ask(*add(ending, "other", ttl_ms=60_000)) == "+OK"
        at = soon.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert await client.ask(f"schedule {later} later 60000 600000 {at} 2", "hi") == "+OK"
        patient.send("lease later 600000")
        site.files.broken = {"sync"}
        await client.ask(*add(new_id(), "spare"))
        site.broker._clock._offset_ns += 61_000_000_000
        site.broker._on_timer()  # as the event loop does when all these times have come
        waiting.send("result " + later + " 10")
        assert await waiting.line() == "-TIMEOUT"
        states = [(await client.inspect(f"job {each}"))["state"] for each in (leased, ending, later)]
        assert states == ["4", "0", "0"]
        assert site.engine.state.jobs[uuid.UUID(later).bytes].state == SCHEDULED

        site.files.broken.clear()
        assert await patient.line() == "+OK 1"
        assert (await client.inspect(f"job {leased}"))["state"] == "3"
        assert await client.ask(f"inspect job {ending}") == "-NOT-FOUND"

    @pytest.mark.parametrize("policy", ["interval", "os"])
    async def test_other_policies_keep_what_they_acknowledged(self, site: Site, policy: SyncPolicy) -> None:
        await site.start(policy)
        client = await site.connect()
        site.files.broken = {"sync", "write"}
        replies = []
        async with asyncio.timeout(PATIENCE_S):
            while not site.commit.is_broken:
                replies.append(await client.ask(*add(new_id())))
        site.files.broken.clear()
        await site.until(lambda: not site.commit.is_broken)
        taken = replies.count("+OK")
        await site.stop()
        assert len(reopened(site.directory).jobs) >= taken

    async def test_damage_found_by_compaction_is_written_over(self, site: Site) -> None:
        await site.start()
        client = await site.connect()
        kept = new_id()
        assert await client.ask(*add(kept)) == "+OK"
        with (site.directory / "0000000001.seg").open("r+b") as file:
            file.write(bytes(400))
        for _ in range(800):
            job_id = new_id()
            await client.ask(*add(job_id))
            await client.ask(f"delete {job_id}")
        await site.until(lambda: not (site.commit.is_broken or (site.directory / "0000000001.seg").exists()))
        assert await client.ask(*add(new_id())) == "+OK"
        await site.stop()
        assert uuid.UUID(kept).bytes in reopened(site.directory).jobs

"""The archive: finished jobs of doors on disk, out of memory, and found again."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.log.disks import Kernel, MemoryFiles, RecordingFiles
from workq.archive import Archive, ArchivedJob, ArchiveError, Fate, Query, compile_pattern
from workq.archive.archive import _BATCH, FILE_NAME
from workq.archive.metrics import ArchiveMetrics
from workq.archive.store import SLICE_ROWS, Store
from workq.broker import Broker, Clock
from workq.commands import Add, Complete, Fail, InspectJob
from workq.commit import GroupCommit
from workq.engine import Engine
from workq.engine.job import FAILED, Job
from workq.gateway import Gateway, ServerUnavailable
from workq.log.filelog import open_files
from workq.log.files import Files
from workq.replies import NOT_FOUND, Jobs
from workq.values import InvalidValue, JobSpec

SPEC = JobSpec(b"shop.q", 60_000, 60_000)


def archived(number: int | None, **values: Any) -> ArchivedJob:
    made = {"door": "shop", "queue": "q", "job_id": os.urandom(16), "created_ms": 1, "finished_ms": 2, **values}
    return ArchivedJob(number=number, **made)


def convert(job: Job) -> ArchivedJob | Fate:
    """The door of these tests: the payload is the number, the meta says what becomes of the job."""
    if job.meta == b"broken":
        raise ValueError("the door does not know it")
    if job.meta in (b"FORGET", b"LEAVE"):
        return Fate[job.meta.decode()]
    number = int(job.payload) if job.payload else None
    return archived(number, job_id=job.job_id, created_ms=job.created_ms, data=job.result or b"")


class House:
    """A gateway in memory and an archive that can be closed and opened again."""

    def __init__(self, directory: Path | None, files: Files | None = None) -> None:
        """`files` are those of a log, if there is to be one."""
        self.directory = directory
        self.engine = Engine(Clock().now_ms())
        loop = asyncio.get_running_loop()
        commit: GroupCommit | None = None
        if files is not None:
            log = open_files(files, 1_048_576, self.engine.state, lambda *_: None)
            commit = GroupCommit(self.engine, log, "always", 1.0, loop)
        self.broker = Broker(self.engine, Clock(), loop, commit)
        self.gateway = Gateway(self.broker)
        self.open()

    def open(self) -> None:
        self.archive = Archive(self.directory, self.gateway)
        self.archive.register("shop", convert)
        self.broker.on_finished = self.archive.on_finished

    async def reopen(self) -> None:
        await self.archive.stop()
        self.open()

    async def finish(self, number: int | None, meta: bytes = b"keep", *, spec: JobSpec = SPEC) -> bytes:
        job_id = os.urandom(16)
        await self.gateway.execute(Add(job_id, spec, b"" if number is None else b"%d" % number, meta))
        await self.gateway.execute(Complete(job_id, b'{"n":%d}' % (number or 0)))
        return job_id

    async def put(self, *jobs: ArchivedJob) -> None:
        """Write directly."""
        await self.archive._run(self.archive._store.put, jobs)

    async def numbers(self, **query: Any) -> list[int | None]:
        return [job.number for job in await self.archive.find(Query(door="shop", **query))]

    async def is_in_engine(self, job_id: bytes) -> bool:
        return isinstance(await self.gateway.execute(InspectJob(job_id)), Jobs)


@pytest.fixture(params=["on disk", "in memory"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path if request.param == "on disk" else None)
    yield made
    await made.archive.stop()


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.archive.stop()


def jobs_in(directory: Path) -> set[bytes]:
    """The ids of the jobs that a log has, as a kill leaves it."""
    state = Engine(0).state
    open_files(MemoryFiles.read_from(directory), 1_048_576, state, lambda *_: None)
    return set(state.jobs)


def metrics(archive: Archive) -> dict[str, float]:
    """What Prometheus gets."""
    return {sample.name: sample.value for metric in ArchiveMetrics(archive).collect() for sample in metric.samples}


class TestMoving:
    async def test_a_finished_job_leaves_the_engine_for_the_archive(self, house: House) -> None:
        job_id = await house.finish(7)
        await house.archive.settle()
        assert await house.gateway.execute(InspectJob(job_id)) == NOT_FOUND
        job = await house.archive.get("shop", "q", 7)
        assert job is not None
        assert (job.job_id, job.data) == (job_id, b'{"n":7}')
        assert await house.archive.get_by_job_id(job_id) == job
        assert (house.archive.moved, house.archive.waiting()) == (1, 0)

    async def test_a_failed_one_too(self, house: House) -> None:
        await house.gateway.execute(Add(bytes(16), SPEC, b"1", b"keep"))
        await house.gateway.execute(Fail(bytes(16), b"{}"))
        assert await house.numbers() == [1]

    async def test_what_is_read_includes_all_that_had_finished(self, house: House) -> None:
        for number in range(1, 1_201):
            await house.finish(number)
        assert len(await house.numbers()) == 1_200

    async def test_the_door_may_forget_a_job_or_leave_it(self, house: House) -> None:
        forgotten, left = await house.finish(1, b"FORGET"), await house.finish(2, b"LEAVE")
        await house.archive.settle()
        assert not await house.is_in_engine(forgotten)
        assert await house.is_in_engine(left)
        assert await house.numbers() == []

    async def test_a_job_that_its_door_cannot_read_stays_and_harms_no_other(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = await house.finish(1, b"broken")
        await house.finish(2)
        assert await house.numbers() == [2]
        assert await house.is_in_engine(broken)
        assert f"job {UUID(bytes=broken)} cannot be archived" in caplog.text

    async def test_one_that_sqlite_cannot_keep_stays_and_harms_no_other(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        await house.finish(1)
        broken = await house.finish(2**63)
        await house.finish(3)
        assert await house.numbers() == [1, 3]
        assert await house.is_in_engine(broken)
        assert f"job {UUID(bytes=broken)} cannot be archived" in caplog.text
        await house.finish(4)
        assert await house.numbers() == [1, 3, 4]

    async def test_what_nobody_thought_of_is_told_and_tried_again(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: object) -> None:
            raise AttributeError("no such thing")

        monkeypatch.setattr("workq.archive.archive._RETRY_S", 0.001)
        with monkeypatch.context() as failing:
            failing.setattr(house.archive, "_forget", fail)
            await house.finish(1)
            with pytest.raises(ArchiveError, match="no such thing"):
                await house.archive.settle()
        assert "AttributeError" in caplog.text
        while house.archive.waiting():
            await asyncio.sleep(0.001)
        assert house.archive.trouble() is None

    async def test_jobs_of_nobody_and_jobs_without_meta_are_left_alone(self, house: House) -> None:
        others = await house.finish(1, spec=JobSpec(b"shopping", 1_000, 60_000))
        plain = await house.finish(2, b"")
        await house.archive.settle()
        assert await house.is_in_engine(others)
        assert await house.is_in_engine(plain)

    async def test_to_archive_a_job_again_changes_nothing(self, house: House) -> None:
        same = archived(None, name="once")
        await house.put(same)
        await house.put(archived(None))
        await house.put(same, same)
        assert await house.numbers() == [1, 2]

    async def test_numbers_are_given_by_queue_and_never_twice(self, house: House) -> None:
        await house.put(archived(None), archived(None), archived(None, queue="other"))
        await house.archive.delete("shop", "q", 2)
        await house.put(archived(None))
        assert await house.numbers(queue="q") == [1, 3]
        assert await house.numbers(queue="other") == [1]

    async def test_a_door_that_forgets_successes_need_not_be_asked(self, house: House) -> None:
        def convert_failure(job: Job) -> ArchivedJob | Fate:
            assert job.state == FAILED
            return convert(job)

        house.archive.register("shop", convert_failure, forgets_successes=True)
        succeeded = await house.finish(1)
        await asyncio.sleep(0)  # the turn ends
        assert not await house.is_in_engine(succeeded)
        assert (house.archive.moved, house.archive.waiting()) == (1, 0)
        failed = os.urandom(16)
        await house.gateway.execute(Add(failed, SPEC, b"2", b"keep"))
        await house.gateway.execute(Fail(failed, b"{}"))
        assert await house.numbers() == [2]
        assert house.archive.moved == 2

    async def test_one_that_cannot_be_forgotten_at_once_is_forgotten_later(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: object) -> None:
            raise ServerUnavailable("the disk is full")

        house.archive.register("shop", lambda _: Fate.FORGET, forgets_successes=True)
        with monkeypatch.context() as refusing:
            refusing.setattr(house.archive, "_gateway", SimpleNamespace(post=refuse))
            job_id = await house.finish(1)
            await asyncio.sleep(0)
        assert await house.is_in_engine(job_id)
        await house.archive.settle()
        assert not await house.is_in_engine(job_id)


class TestGathering:
    """Jobs go to the file many at a time; who waits for them does not wait for that."""

    @pytest.fixture(autouse=True)
    def long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.archive.archive._GATHER_S", 3_600.0)

    @pytest.fixture
    def batches(self, house: House, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The size of each batch that is written."""
        sizes: list[int] = []
        put = house.archive._store.put

        def count(jobs: list[ArchivedJob]) -> None:
            sizes.append(len(jobs))
            put(jobs)

        monkeypatch.setattr(house.archive._store, "put", count)
        return sizes

    async def test_jobs_that_finish_one_after_the_other_are_one_batch(self, house: House, batches: list[int]) -> None:
        for number in range(20):
            await house.finish(number)
            await asyncio.sleep(0.001)
        assert batches == []
        assert len(await house.numbers()) == 20
        assert batches == [20]

    async def test_one_that_is_full_goes_at_once(self, house: House, batches: list[int]) -> None:
        for number in range(_BATCH):
            await house.finish(number)
            if number % 100 == 0:
                await asyncio.sleep(0.001)
        assert batches == []
        await asyncio.sleep(0)  # the turn ends
        while house.archive.waiting():
            await asyncio.sleep(0.001)
        assert sum(batches) == _BATCH

    async def test_reading_and_stopping_do_not_wait(self, house: House) -> None:
        for number in (1, 2):
            await house.finish(number)
            assert await house.archive.get("shop", "q", number) is not None
        await house.finish(3)
        async with asyncio.timeout(10):
            await house.archive.stop()
        assert house.archive.moved == 3
        house.open()


class TestReading:
    async def test_orders_cursors_and_limits(self, house: House) -> None:
        times = [(1, 30, 90), (2, 10, 70), (5, 20, 80), (6, 20, 60)]
        ids = {1: b"D" * 16, 2: b"C" * 16, 5: b"B" * 16, 6: b"A" * 16}
        await house.put(
            *[archived(n, job_id=ids[n], created_ms=created, finished_ms=finished) for n, created, finished in times]
        )
        assert await house.numbers() == [1, 2, 5, 6]
        assert await house.numbers(descending=True) == [6, 5, 2, 1]
        assert await house.numbers(order="created") == [2, 6, 5, 1]
        assert await house.numbers(order="finished", descending=True) == [1, 5, 2, 6]
        assert await house.numbers(begin=2) == [2, 5, 6]
        assert await house.numbers(begin=3) == [5, 6]
        assert await house.numbers(begin=3, descending=True) == [2, 1]
        assert await house.numbers(begin=(20, ids[5]), order="created") == [5, 1]
        assert await house.numbers(begin=(20, ids[5]), order="created", descending=True) == [5, 6, 2]
        assert await house.numbers(limit=2) == [1, 2]
        assert await house.numbers(limit=0) == []
        assert await house.numbers(begin=7) == []

    async def test_a_cursor_may_be_any_number(self, house: House) -> None:
        await house.put(archived(2**63 - 1))
        assert await house.numbers(begin=2**64 - 1) == [2**63 - 1]
        assert await house.numbers(begin=2**64 - 1, descending=True) == [2**63 - 1]
        assert await house.archive.get("shop", "q", 2**64 - 1) is None
        assert await house.archive.delete("shop", "q", 2**64 - 1) is None

    async def test_limits_count_what_a_filter_leaves_over_as_many_slices_as_it_takes(self, house: House) -> None:
        await house.put(*[archived(n, name="even" if n % 2 == 0 else "odd") for n in range(3 * SLICE_ROWS)])
        pattern = compile_pattern("^e.en$")

        def keep(job: ArchivedJob) -> bool:
            return pattern.search(job.name) is not None

        assert await house.numbers(keep=keep) == list(range(0, 3 * SLICE_ROWS, 2))
        assert await house.numbers(keep=keep, limit=1_200) == list(range(0, 2_400, 2))
        assert await house.numbers(keep=lambda job: job.number == 2_999, limit=1) == [2_999]

    async def test_big_jobs_are_read_in_small_slices(self, house: House) -> None:
        await house.put(*[archived(n, data=b"x" * 1_000_000) for n in range(9)])
        found, cursor = await house.archive._run(house.archive._store.slice, Query(door="shop"), None)
        assert (len(found), cursor is not None) == (5, True)
        assert await house.numbers() == list(range(9))

    async def test_doors_and_queues_do_not_see_each_other(self, house: House) -> None:
        await house.put(archived(1), archived(1, queue="other"), archived(1, door="theirs"))
        assert len(await house.numbers()) == 2
        assert len(await house.numbers(queue="other")) == 1
        assert await house.archive.count("shop") == 2
        assert await house.archive.count("shop", "q") == 1

    async def test_counting_since(self, house: House) -> None:
        await house.put(*[archived(n, created_ms=n) for n in range(10)])
        assert await house.archive.count("shop", created_since_ms=4) == 6

    async def test_which_are_known(self, house: House) -> None:
        await house.put(*[archived(number) for number in range(0, 1_000, 2)], archived(1, queue="other"))
        assert await house.archive.known("shop", "q", [*range(1_000), 2**63]) == list(range(0, 1_000, 2))
        assert await house.archive.known("shop", "q", []) == []

    async def test_deleting(self, house: House) -> None:
        await house.put(*[archived(n) for n in range(1_100)], archived(1, queue="other"))
        deleted = await house.archive.delete("shop", "q", 3)
        assert deleted is not None
        assert deleted.number == 3
        assert await house.archive.delete("shop", "q", 3) is None
        assert await house.archive.delete_queue("shop", "q") == 1_099
        assert await house.archive.count("shop") == 1

    async def test_a_search_lets_others_have_their_turn(self, house: House) -> None:
        """While a filter is at work in the thread, the loop goes on and jobs are moved between slices."""
        last = 10 + 6 * SLICE_ROWS
        await house.put(*[archived(n) for n in range(10, last + 1)])
        reached, go_on, moved = [threading.Event() for _ in range(3)]

        def keep(job: ArchivedJob) -> bool:
            if job.number == 11:
                reached.set()
                assert go_on.wait(10)
            if job.number == last:
                assert moved.wait(10)
            return False

        search = asyncio.create_task(house.numbers(keep=keep))
        await asyncio.to_thread(reached.wait, 10)
        await house.finish(1)  # the loop is free
        go_on.set()
        await house.archive.settle()
        assert not search.done()
        moved.set()
        assert await search == []


class TestLifetime:
    async def test_jobs_go_when_it_is_over(self, house: House) -> None:
        now_ms = house.gateway.now_ms()
        await house.put(*[archived(n, created_ms=now_ms - 10_000) for n in range(1_200)])
        await house.put(archived(5_000, created_ms=now_ms, finished_ms=now_ms), archived(1, door="theirs"))
        house.archive.keep_for("shop", 5_000)
        assert await house.archive.sweep() == 1_200
        assert await house.numbers() == [5_000]
        assert await house.archive.count("theirs") == 1

    async def test_counted_from_the_end(self, house: House) -> None:
        await house.put(archived(1, created_ms=1, finished_ms=house.gateway.now_ms()))
        house.archive.keep_for("shop", 5_000, by="finished")
        assert await house.archive.sweep() == 0

    async def test_nought_is_for_ever(self, house: House) -> None:
        await house.put(archived(1))
        house.archive.keep_for("shop", 5_000)
        house.archive.keep_for("shop", 0)
        assert await house.archive.sweep() == 0


class TestDisk:
    async def test_what_was_archived_is_there_at_the_next_start(self, disk: House) -> None:
        await disk.finish(1)
        await disk.reopen()
        assert await disk.numbers() == [1]

    async def test_a_file_that_was_not_closed_is_fine(self, disk: House, tmp_path: Path) -> None:
        await disk.finish(1)
        await disk.archive.settle()
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in tmp_path.glob(f"{FILE_NAME}*"):  # as a kill leaves them: with the write-ahead log
            (copy / file.name).write_bytes(file.read_bytes())
        assert (copy / f"{FILE_NAME}-wal").stat().st_size > 0
        store = Store(copy / FILE_NAME, durable=True)
        assert store.get("shop", "q", 1) is not None
        store.close()

    async def test_one_that_was_deleted_is_made_anew(self, disk: House, tmp_path: Path) -> None:
        await disk.finish(1)
        await disk.archive.stop()
        for file in tmp_path.iterdir():
            file.unlink()
        disk.open()
        assert await disk.numbers() == []

    async def test_while_it_cannot_be_written_jobs_stay_in_the_engine(
        self, disk: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("workq.archive.archive._RETRY_S", 0.001)
        database = disk.archive._store._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")  # for SQLite, this is a full disk
        jobs = [await disk.finish(n, spec=JobSpec(b"shop.q", 1_000, 60_000)) for n in range(300)]
        with pytest.raises(ArchiveError, match="database or disk is full"):
            await disk.archive.settle()
        assert disk.archive.trouble() is not None
        assert metrics(disk.archive)["workq_archive_writable"] == 0
        assert all([await disk.is_in_engine(job_id) for job_id in jobs])
        assert await disk.numbers() == []
        assert caplog.text.count("database or disk is full") == 1

        database.execute("PRAGMA max_page_count = 1000000")
        while disk.archive.waiting():
            await asyncio.sleep(0.001)
        assert len(await disk.numbers()) == 300
        assert disk.archive.trouble() is None
        assert metrics(disk.archive) == {
            "workq_archive_moved_jobs_total": 300,
            "workq_archive_waiting_jobs": 0,
            "workq_archive_writable": 1,
        }
        assert not any([await disk.is_in_engine(job_id) for job_id in jobs])

    async def test_what_is_deleted_does_not_come_back_after_a_crash(self, tmp_path: Path) -> None:
        directory = tmp_path / "log"
        directory.mkdir()
        files = RecordingFiles(directory)
        kernel = files.kernel = Kernel(files)
        house = House(tmp_path, files)
        job_id = await house.finish(1)
        kernel.may_sync = False
        sync = asyncio.create_task(house.finish(2))  # the disk is slow, and what is done meanwhile waits
        while not kernel.started:
            await asyncio.sleep(0)
        deleting = asyncio.create_task(house.archive.delete("shop", "q", 1))
        for _ in range(20):  # it would be done by now
            await house.archive._run(bool)
        assert not deleting.done() or job_id not in jobs_in(directory)
        kernel.may_sync = True
        kernel.sync()
        assert await deleting is not None
        assert job_id not in jobs_in(directory)
        await sync
        await house.archive.stop()
        await house.broker.close()

    async def test_reading_that_fails_is_told_in_words(
        self, disk: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def get(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(disk.archive._store, "get", get)
        with pytest.raises(ArchiveError, match=f"cannot use the archive {tmp_path}/archive.sqlite: disk I/O error"):
            await disk.archive.get("shop", "q", 1)

    @pytest.mark.parametrize(
        ("spoil", "complaint"),
        [
            (lambda file: file.write_bytes(b"hello " * 1_000), "file is not a database"),
            (lambda file: file.mkdir(), "unable to open database file"),
        ],
    )
    async def test_a_file_that_is_none_stops_the_start(
        self, tmp_path: Path, spoil: Callable[[Path], object], complaint: str
    ) -> None:
        spoil(tmp_path / FILE_NAME)
        with pytest.raises(ArchiveError, match=f"cannot use the archive {tmp_path}/archive.sqlite: {complaint}"):
            House(tmp_path)

    async def test_one_that_was_dumped_and_read_again_is_whole(self, disk: House, tmp_path: Path) -> None:
        """SQLite's dumps say no version."""
        await disk.put(archived(7))
        script = "\n".join(disk.archive._store._db.iterdump())
        again = tmp_path / "again"
        again.mkdir()
        with contextlib.closing(sqlite3.connect(again / FILE_NAME)) as repaired:
            repaired.executescript(script)
        for _ in range(2):
            house = House(again)
            job = await house.archive.get("shop", "q", 7)
            assert job is not None
            await house.archive.stop()

    async def test_one_of_the_first_version_gets_the_index_of_today(self, disk: House, tmp_path: Path) -> None:
        await disk.put(archived(7))
        database = disk.archive._store._db
        database.executescript(
            "DROP INDEX jobs_pushed; CREATE INDEX jobs_created ON jobs (door, queue, created_ms, number);"
            "PRAGMA user_version = 1"
        )
        house = House(tmp_path)
        assert await house.numbers() == [7]
        indexes = [
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE INDEX%'")
        ]
        assert sorted(indexes) == ["jobs_finished", "jobs_pushed"]
        await house.archive.stop()

    async def test_one_of_a_newer_version_stops_the_start(self, disk: House, tmp_path: Path) -> None:
        disk.archive._store._db.execute("PRAGMA user_version = 3")
        with pytest.raises(ArchiveError, match="it is of version 3, and this server knows 2 at most"):
            House(tmp_path)


class TestPatterns:
    def test_they_match_anywhere_in_the_case_as_given(self) -> None:
        assert compile_pattern("b+c").search("abbcd") is not None
        assert compile_pattern("B").search("abc") is None

    def test_catastrophic_ones_are_linear(self) -> None:
        assert compile_pattern("(a*)*(a*)*(a|a)*b$").search("a" * 10_000) is None

    @pytest.mark.parametrize(
        ("pattern", "complaint"),
        [
            ("(", r"'\(': missing \)"),
            ("[é", r"missing \]"),
            (r"(?=a)", "invalid perl operator"),
            (r"(a)\1", "invalid escape sequence"),
            (r"\pL{999}", "pattern too large"),
            ("((a{1,100}){1,100}){1,100}", "invalid repetition size"),
            ("\ud800", "is not UTF-8"),
            ("a" * 1_001, "1001 characters are too many, 1000 are allowed"),
        ],
    )
    def test_bad_ones_are_told(self, pattern: str, complaint: str) -> None:
        with pytest.raises(InvalidValue, match=f"^Invalid regular expression: .*({complaint})"):
            compile_pattern(pattern)

"""The archive on the event loop: moves finished jobs out of the engine, and answers the doors.

One thread does all that touches the file, and searches that doors give it, a bounded step at a time, so neither a long
search nor a slow disk holds up the loop, and a search does not hold up the moving for long. A job is written and
committed first, and deleted from the engine then; a crash in between writes it again. While the file cannot be written
finished jobs stay in the engine.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar, TypeVarTuple
from uuid import UUID

from workq.archive.jobs import ArchivedJob, ArchiveError, Converter, Fate, Query
from workq.archive.store import Cursor, NewerVersion, Store
from workq.commands import Delete
from workq.engine.job import COMPLETED, FAILED, Job
from workq.gateway import Gateway, ServerUnavailable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FILE_NAME: Final = "archive.sqlite"
# Jobs of a transaction: the more, the less each costs, but readers wait for its end.
_BATCH: Final = 500
# How long finished jobs are gathered for a batch, if nobody asks for them: each batch is a sync of the disk, and a
# thread that wants the interpreter's lock.
_GATHER_S: Final = 0.1
# Rows that are removed in one go.
_REMOVED_AT_ONCE: Final = 500
# When to try again after the file could not be written, and how often jobs are removed whose lifetime is over.
_RETRY_S: Final = 1.0
_SWEEP_S: Final = 60.0
# The highest number that a job can have here.
HIGHEST_NUMBER: Final = 2**63 - 1

_CANNOT_BE_ARCHIVED: Final = "job %s cannot be archived; it stays until its TTL ends"

log = logging.getLogger("workq.archive")


class Archive:
    """Finished jobs of doors. Use it from the loop's thread only.

    What is read includes every job that had finished by then, except while the file cannot be written. All that reads
    raises `ArchiveError` when the file cannot be read.

    moved  how many jobs went from the engine into the archive, or were forgotten
    """

    def __init__(self, directory: Path | None, gateway: Gateway, *, durable: bool = True) -> None:
        """Open the archive in `directory`; without one, in memory. Raises `ArchiveError`.

        durable  whether what is written must survive a power cut; the engine's log then does too
        """
        self._path = None if directory is None else directory / FILE_NAME
        try:
            self._store = Store(self._path, durable=durable)
        except (sqlite3.Error, NewerVersion) as error:
            raise ArchiveError(f"cannot use the archive {self._path}: {error}") from None
        self._gateway = gateway
        self._thread = ThreadPoolExecutor(1, "archive")
        self._converters: dict[bytes, Converter] = {}
        self._forgetful: set[bytes] = set()  # the doors that have no use for jobs that succeeded
        self._lifetimes: dict[str, tuple[Literal["created", "finished"], int]] = {}
        self._waiting: deque[tuple[Job, Converter]] = deque()
        self._taken = 0  # how many jobs were ever put into `_waiting`
        self._left = 0  # how many of them are done with
        self._progress = asyncio.Event()
        self._readers = 0  # who wait until finished jobs are moved
        self._hurry = asyncio.Event()  # somebody waits, or a batch is full
        self._mover: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._trouble: str | None = None
        self.moved = 0

    # -- doors say what they want to have kept --------------------------------------------------------------------

    def register(self, door: str, converter: Converter, *, forgets_successes: bool = False) -> None:
        """Have `converter` decide what becomes of the finished jobs of `door`.

        Those are the jobs with meta in the engine's queue `door`, and in those whose names begin with ``door.``.

        forgets_successes  `converter` would forget every job that succeeded: that costs less if it is known before
        """
        self._converters[door.encode()] = converter
        if forgets_successes:
            self._forgetful.add(door.encode())

    def keep_for(self, door: str, lifetime_ms: int, by: Literal["created", "finished"] = "created") -> None:
        """Remove the jobs of `door` so long after they were created, or finished; 0 for never."""
        if lifetime_ms > 0:
            self._lifetimes[door] = (by, lifetime_ms)
        else:
            self._lifetimes.pop(door, None)

    # -- from the engine ------------------------------------------------------------------------------------------

    def on_finished(self, jobs: list[Job]) -> None:
        """These jobs have finished: what the broker calls."""
        if self._stopping.is_set():
            return
        forgotten = 0
        for job in jobs:
            door = job.spec.name.partition(b".")[0]
            converter = self._converters.get(door)
            if converter is None:
                continue
            if job.state == COMPLETED and door in self._forgetful and forgotten < _BATCH and self._forget_at_once(job):
                forgotten += 1
                continue
            self._waiting.append((job, converter))
            self._taken += 1
        self.moved += forgotten
        if len(self._waiting) >= _BATCH:
            self._hurry.set()
        if self._waiting and self._mover is None:
            self._mover = asyncio.get_running_loop().create_task(self._move())

    def trouble(self) -> str | None:
        """Why finished jobs stay in the engine at the moment, if they do."""
        return self._trouble

    def waiting(self) -> int:
        """How many finished jobs have not been moved yet."""
        return self._taken - self._left

    # -- for doors ------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when every job of a door that has finished by now is out of the engine. Raises `ArchiveError`."""
        await self._caught_up()
        if self._trouble is not None:
            raise ArchiveError(self._trouble)

    async def get(self, door: str, queue: str, number: int) -> ArchivedJob | None:
        """The job `number` of a queue."""
        return None if number > HIGHEST_NUMBER else await self._read(self._store.get, door, queue, number)

    async def get_by_job_id(self, job_id: bytes) -> ArchivedJob | None:
        """The job that had this id in the engine."""
        return await self._read(self._store.get_by_job_id, job_id)

    async def known(self, door: str, queue: str, numbers: Sequence[int]) -> list[int]:
        """Which of `numbers` are those of jobs of a queue that are here."""
        possible = [number for number in numbers if number <= HIGHEST_NUMBER]
        return await self._read(self._store.known, door, queue, possible)

    async def delete(self, door: str, queue: str, number: int) -> ArchivedJob | None:
        """Remove the job `number` of a queue; return what it was."""
        return None if number > HIGHEST_NUMBER else await self._read(self._store.delete, door, queue, number)

    async def delete_queue(self, door: str, queue: str) -> int:
        """Remove all jobs of a queue; return how many."""
        removed = total = await self._read(self._store.delete_queue, door, queue, _REMOVED_AT_ONCE)
        while removed:
            removed = await self._run(self._store.delete_queue, door, queue, _REMOVED_AT_ONCE)
            total += removed
        return total

    async def count(self, door: str, queue: str | None = None, created_since_ms: int = 0) -> int:
        """How many jobs of a door, or of one of its queues, there are; created since then, if that is given."""
        return await self._read(self._store.count, door, queue, created_since_ms)

    async def find(self, query: Query) -> list[ArchivedJob]:
        """The jobs that `query` asks for, in its order."""
        if query.limit is not None and query.limit <= 0:
            return []
        await self._caught_up()
        jobs: list[ArchivedJob] = []
        cursor: Cursor | None = None
        while True:
            found, cursor = await self._run(self._store.slice, query, cursor)
            jobs += found
            if query.limit is not None and len(jobs) >= query.limit:
                return jobs[: query.limit]
            if cursor is None:
                return jobs

    async def run(self, step: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do `step` in the thread: a door's search elsewhere, which takes long and lets go of the interpreter."""
        return await self._run(step, *arguments)

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """From now on jobs are removed when their lifetime is over."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_from_time_to_time())

    async def stop(self) -> None:
        """Move what has finished, if that works at once, and close the file. What stays is moved at the next start."""
        await asyncio.sleep(0)  # to the end of the turn, as below
        self._stopping.set()
        self._hurry.set()
        if self._mover is not None:
            await self._mover
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    async def sweep(self) -> int:
        """Remove the jobs whose lifetime is over; return how many."""
        total = 0
        for door, (by, lifetime_ms) in list(self._lifetimes.items()):
            removed = -1
            while removed:
                before_ms = self._gateway.now_ms() - lifetime_ms
                removed = await self._run(self._store.delete_before, door, by, before_ms, _REMOVED_AT_ONCE)
                total += removed
        return total

    async def _sweep_from_time_to_time(self) -> None:
        while True:
            try:
                await self.sweep()
            except ArchiveError as error:
                log.warning("finished jobs whose lifetime is over could not be removed: %s", error)
            await asyncio.sleep(_SWEEP_S)

    async def _move(self) -> None:
        """Move what waits, batch by batch, until nothing does."""
        try:
            while self._waiting:
                await self._gather()
                batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH))]
                try:
                    gone = await self._run(self._write, batch)
                    await self._forget(gone)
                except Exception as error:  # also what nobody thought of: those who read wait for this task
                    self._report(error)
                    if self._stopping.is_set():
                        break
                    await self._pause()
                    continue
                for _ in batch:
                    self._waiting.popleft()
                self._left += len(batch)
                self.moved += len(gone)
                self._report(None)
                self._progress.set()
                self._progress.clear()
        finally:
            self._mover = None

    async def _gather(self) -> None:
        """Wait for more to move, unless there is enough, or somebody waits for it."""
        if len(self._waiting) < _BATCH and not self._readers and not self._stopping.is_set():
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _GATHER_S)

    def _write(self, batch: list[tuple[Job, Converter]]) -> list[Job]:
        """In the thread: write the jobs of `batch`; return those that the engine can forget."""
        rows: list[tuple[Job, ArchivedJob]] = []
        gone: list[Job] = []
        for job, converter in batch:
            if job.state not in (COMPLETED, FAILED):  # somebody was faster: deleted, or put back
                continue
            try:
                made = converter(job)
            except Exception:
                log.exception(_CANNOT_BE_ARCHIVED, UUID(bytes=job.job_id))
                continue
            if isinstance(made, ArchivedJob):
                rows.append((job, made))
            elif made is Fate.FORGET:
                gone.append(job)
        return gone + self._put(rows) if rows else gone

    def _put(self, rows: list[tuple[Job, ArchivedJob]]) -> list[Job]:
        """Write `rows`; return their jobs, without those that SQLite has no way to keep."""
        try:
            self._store.put([row for _, row in rows])
        except sqlite3.Error:  # it is the file
            raise
        except Exception:  # it is one of them: a number that is too large, text that is none
            if len(rows) == 1:
                log.exception(_CANNOT_BE_ARCHIVED, UUID(bytes=rows[0][0].job_id))
                return []
            middle = len(rows) // 2
            return self._put(rows[:middle]) + self._put(rows[middle:])
        return [job for job, _ in rows]

    async def _forget(self, jobs: list[Job]) -> None:
        """Delete them in the engine; return when the log has that: after a crash they would be archived once more.

        So would those that a client has deleted here meanwhile.
        """
        finished = [job.job_id for job in jobs if job.state in (COMPLETED, FAILED)]
        for job_id in finished[:-1]:
            self._gateway.post(Delete(job_id))
        if finished:
            await self._gateway.execute(Delete(finished[-1]))  # in the same turn, so it waits for all

    def _forget_at_once(self, job: Job) -> bool:
        """Return whether that worked; else it is tried again as for others."""
        try:
            self._gateway.post(Delete(job.job_id))
        except ServerUnavailable:
            return False
        return True

    def _report(self, error: Exception | None) -> None:
        """Log when the trouble begins, changes, or ends."""
        trouble = None if error is None else str(error) or repr(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            log.info("the archive can be written again")
        else:
            unexpected = None if isinstance(error, ArchiveError | ServerUnavailable) else error
            log.error("finished jobs stay in the engine, and this is tried again: %s", trouble, exc_info=unexpected)
        self._progress.set()
        self._progress.clear()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), _RETRY_S)

    async def _caught_up(self) -> None:
        """Wait until what has finished by now is moved, unless that does not work at the moment."""
        await asyncio.sleep(0)  # to the end of the turn, when the broker tells of those that have just finished
        goal = self._taken
        self._readers += 1
        self._hurry.set()
        try:
            while self._left < goal and self._trouble is None:
                await self._progress.wait()
        finally:
            self._readers -= 1

    async def _read(self, step: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await self._caught_up()
        return await self._run(step, *arguments)

    async def _run(self, step: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Do `step` in the thread. Raises `ArchiveError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, step, *arguments)
        except sqlite3.Error as error:
            raise ArchiveError(f"cannot use the archive {self._path or 'in memory'}: {error}") from None

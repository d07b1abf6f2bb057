"""All HQ jobs, wherever they are: in the engine until they have finished, in the archive from then on.

The engine is asked first, and what it knows counts: a job that is run again has its former end in the archive still,
until its new one replaces that. Lists merge both. Jobs go from the engine to the archive while they are looked for, and
the engine is looked at first, so none is missed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
from sortedcontainers import SortedSet

from workq.archive import Archive, ArchivedJob, Fate, Query
from workq.commands import Add, Fail, InspectJob, InspectJobIds, InspectQueue, Result
from workq.dispatch import PushResult, PushTarget
from workq.dispatch.dispatcher import Dispatcher
from workq.engine.job import COMPLETED, Job
from workq.gateway import Gateway, ServerUnavailable, job_spec
from workq.http.application import HttpError, check_taken
from workq.http.hq.ids import Ids
from workq.http.hq.job import Given, HqJob, State, flags_of, given_in, job_object, pushed_object, status_of, target_of
from workq.http.hq.listing import Listing
from workq.http.names import NumberedJobs
from workq.replies import DUPLICATE_JOB, JobIds, Jobs, QueueInfo, Queues
from workq.values import TTL, InvalidValue

DOOR: Final = "hq"
QUEUE: Final = b"hq"
# The states of jobs as `inspect` tells them (`JobInfo`).
_COMPLETED: Final = 1
_LEASED: Final = 4
# How many jobs of the engine are looked at before others have their turn.
_SLICE: Final = 200
# Likewise, bytes of their payloads and outputs, which take a millisecond or two for each MiB.
_SHOWN_AT_ONCE: Final = 1_048_576
# A job takes as long as so many bytes, beside those that it has.
_JOB_SIZE: Final = 8_192
# How many characters of them an expression is looked for in before the archive's thread does something else.
_SEARCHED_AT_ONCE: Final = 65_536
# How many of those that went to the archive are forgotten when a job is pushed, and when jobs are listed or counted.
_DROPPED_AT_A_PUSH: Final = 2
_DROPPED_AT_ONCE: Final = 10_000
# The dispatcher keeps the lease of a job up while it is being sent; when the server dies, it ends after this.
_TTR_MS: Final = 10_000
# How long the answer to a stop waits until the log has it, at most.
_STOP_MS: Final = 5_000
# Flags of a job in the archive.
_SUCCESS: Final = 1
_FAILURE: Final = 2
_CANCELED: Final = 4


class _Kept(msgspec.Struct):
    """A job as the archive keeps it, apart from what is in its columns."""

    given: Given
    payload: msgspec.Raw
    result: PushResult


class _KeptComment(msgspec.Struct):
    class _Given(msgspec.Struct):
        comment: str = ""

    given: _Given


_encode: Final = msgspec.json.Encoder().encode
_decode_kept: Final = msgspec.json.Decoder(_Kept).decode
_decode_comment: Final = msgspec.json.Decoder(_KeptComment).decode


class Found(msgspec.Struct):
    """A job that was found, with what it takes to run it again."""

    number: int
    state: State
    url: str
    given: Given
    payload: bytes
    object: HqJob


class Store:
    """The jobs of the door."""

    def __init__(self, gateway: Gateway, archive: Archive, dispatcher: Dispatcher, ids: Ids, concurrency: int) -> None:
        """`concurrency` is how many jobs are sent at a time."""
        self._gateway = gateway
        self._archive = archive
        self._dispatcher = dispatcher
        self._ids = ids
        self._concurrency = concurrency
        self._names = NumberedJobs(QUEUE)
        # They wait until they are sent, however long that takes, and are sent again only if the server died meanwhile.
        self._spec = job_spec(QUEUE, _TTR_MS, TTL.highest)
        self._in_engine: SortedSet[int] = SortedSet()
        self._archived: set[int] = set()  # by the archive's thread: what is to leave `_in_engine`
        self._again: set[int] = set()  # those in the engine that have a former end in the archive
        self._loaded = False
        archive.register(DOOR, self._to_archive)

    async def load(self) -> None:
        """Learn which jobs there are. To be called before anything else, any number of times."""
        if self._loaded:
            return
        self._loaded = True
        reply = await self._gateway.execute(InspectJobIds(QUEUE))
        assert isinstance(reply, JobIds)
        numbers = [self._names.number(job_id) for job_id in reply.job_ids]
        self._in_engine = SortedSet([number for number in numbers if number is not None])
        self._again.update(await self._archive.known(DOOR, "", list(self._in_engine)))
        newest = await self._archive.find(Query(door=DOOR, queue="", descending=True, limit=1))
        for number in [*self._in_engine[-1:], *[job.number for job in newest]]:
            if number is not None:
                self._ids.follow(number)
        if self._dispatcher.is_pushed(QUEUE):
            await self._dispatcher.push_queue(QUEUE, self._concurrency)  # the settings may say something new

    # -- one job -------------------------------------------------------------------------------------------------

    async def push(self, url: str, given: Given, payload: bytes) -> HqJob:
        """A new job. Raises `HttpError` when something in it is too long."""
        number = self._ids.new(self._gateway.now_ms())
        return await self._add(number, url, given, payload)

    async def find(self, number: int) -> Found | None:
        """The job `number`."""
        live = await self._find_live(number)
        if live is not None:
            return live
        row = await self._archive.get(DOOR, "", number)
        return None if row is None else self._from_archive(row)

    async def restart(self, job: Found) -> HqJob:
        """Run a job that has finished again. Raises `HttpError` when somebody else just did."""
        await self._archive.settle()
        return await self._add(job.number, job.url, job.given, job.payload, again=True)

    async def copy(self, job: Found) -> HqJob:
        """A new job that is to do the same."""
        return await self.push(job.url, job.given, job.payload)

    async def stop(self, job: Found) -> None:
        """Cancel a job that is waiting or running."""
        job_id = self._names.job_id(job.number)
        if job.state == "running" and self._dispatcher.cancel(job_id):
            with contextlib.suppress(ServerUnavailable):  # it ends all the same
                # When the log has it: after a crash it would be sent again.
                await self._gateway.execute(Result(job_id, _STOP_MS))
            return
        now_ms = self._gateway.now_ms()
        text = "stopped before it was sent" if job.state == "waiting" else "stopped"
        result = PushResult("failure", 0, now_ms, error_kind="canceled", error=text)
        await self._gateway.execute(Fail(job_id, result.to_result()))

    async def delete(self, job: Found) -> bool:
        """Remove a job that has finished; return False when somebody else just did."""
        await self._archive.settle()
        return await self._archive.delete(DOOR, "", job.number) is not None

    async def _add(self, number: int, url: str, given: Given, payload: bytes, *, again: bool = False) -> HqJob:
        self._drop_archived(_DROPPED_AT_A_PUSH)
        try:
            meta = target_of(number, url, given).to_meta()
        except InvalidValue as error:
            raise HttpError(413, f"URL, name, comment and headers together are too long: {error}") from None
        if not self._dispatcher.is_pushed(QUEUE):
            # Not before somebody uses the door: the queue may be one that TCP workers have always worked on.
            await self._dispatcher.push_queue(QUEUE, self._concurrency)
        # At once, because nothing comes to what follows the answer when the client hangs up meanwhile.
        self._in_engine.add(number)
        if again:
            self._again.add(number)
        try:
            reply = await self._gateway.execute(Add(self._names.job_id(number), self._spec, payload, meta))
            if reply == DUPLICATE_JOB:
                raise HttpError(422, f"The job {number} is waiting now")
            check_taken(reply)
        except (HttpError, ServerUnavailable):
            if await self._find_live(number) is None:
                self._in_engine.discard(number)
                self._again.discard(number)
            raise
        self._dispatcher.count_push(QUEUE)
        return pushed_object(number, self._ids.created_ms(number), url, given, payload)

    # -- many jobs -----------------------------------------------------------------------------------------------

    async def read(self, listing: Listing, begin: int | None, limit: int) -> list[HqJob]:
        """The first `limit` jobs from `begin` on that pass the filters; fewer when there are no more."""
        found = await self._read_live(listing, begin, limit)
        rows = await self._archive.find(
            Query(door=DOOR, queue="", descending=listing.reverse, begin=begin, limit=limit, keep=_keep(listing))
        )
        back: list[Found] = []  # those that were run again
        size = 0
        for row in rows:
            number = row.number or 0
            if number in found:
                continue
            size += len(row.data) + _JOB_SIZE
            if size > _SHOWN_AT_ONCE:
                size = 0
                await asyncio.sleep(0)
            live = await self._find_live(number) if number in self._in_engine else None
            if live is None:
                found[number] = self._from_archive(row).object
            else:
                back.append(live)
        found.update({job.number: job.object for job in await self._filtered(listing, back)})
        return [found[number] for number in sorted(found, reverse=listing.reverse)[:limit]]

    async def queue(self) -> QueueInfo:
        """The figures of the queue."""
        reply = await self._gateway.execute(InspectQueue(QUEUE))
        return reply.queues[0] if isinstance(reply, Queues) else QueueInfo(QUEUE, 0, 0, 0)

    async def count(self) -> int:
        """How many jobs there are."""
        archived = await self._archive.count(DOOR)
        queue = await self.queue()
        self._drop_archived(_DROPPED_AT_ONCE)
        unfinished = queue.ready_len + queue.scheduled_len + queue.leased_len
        finished = queue.completed_len + queue.failed_len  # those that the archive cannot take at the moment
        return archived + unfinished + finished - len(self._again)

    async def count_since(self, created_ms: int) -> int:
        """How many of them were made at that time or later."""
        archived = await self._archive.count(DOOR, None, created_ms)
        self._drop_archived(_DROPPED_AT_ONCE)
        first = self._ids.first_at(created_ms)
        again = len([number for number in self._again if number >= first])
        return archived + len(self._in_engine) - self._in_engine.bisect_left(first) - again

    async def _read_live(self, listing: Listing, begin: int | None, limit: int) -> dict[int, HqJob]:
        """The same, of the jobs in the engine only."""
        self._drop_archived(_DROPPED_AT_ONCE)
        found: dict[int, HqJob] = {}
        numbers = self._slice(begin, listing.reverse)
        while numbers:
            jobs: list[Found] = []
            size = 0
            for number in numbers:
                job = await self._find_live(number)
                if job is None:
                    self._in_engine.discard(number)  # deleted, or archived just now
                    continue
                jobs.append(job)
                if not listing.filters and len(found) + len(jobs) == limit:
                    break
                size += len(job.payload)
                if size > _SHOWN_AT_ONCE:
                    size = 0
                    await asyncio.sleep(0)
            for job in await self._filtered(listing, jobs):
                found[job.number] = job.object
                if len(found) == limit:
                    return found
            await asyncio.sleep(0)
            last = numbers[-1]
            numbers = self._slice(last - 1 if listing.reverse else last + 1, listing.reverse)
        return found

    async def _filtered(self, listing: Listing, jobs: list[Found]) -> list[Found]:
        """Those of `jobs` that pass the filters. Expressions are looked for in the archive's thread: one takes seconds
        for a comment of 1 MiB.
        """
        if not listing.filters:
            return jobs
        passed: list[Found] = []
        some: list[Found] = []
        size = 0
        for job in jobs:
            some.append(job)
            size += len(job.given.comment) + len(job.given.name) + len(job.url)
            if size > _SEARCHED_AT_ONCE or job is jobs[-1]:
                passed += await self._archive.run(_passing, listing, some)
                some, size = [], 0
        return passed

    def _slice(self, begin: int | None, reverse: bool) -> list[int]:
        """The next numbers in the engine."""
        low, high = (None, begin) if reverse else (begin, None)
        numbers = self._in_engine.irange(low, high, reverse=reverse)
        return [number for _, number in zip(range(_SLICE), numbers, strict=False)]

    # -- from the engine, and to the archive ---------------------------------------------------------------------

    async def _find_live(self, number: int) -> Found | None:
        """The job `number`, if the engine has it. This never lets others have their turn."""
        reply = await self._gateway.execute(InspectJob(self._names.job_id(number)))
        if not isinstance(reply, Jobs) or not reply.jobs[0].meta:
            return None
        info = reply.jobs[0]
        target = PushTarget.from_meta(info.meta)
        given = given_in(target)
        state: State = "running" if info.state == _LEASED else "waiting" if info.result is None else "finished"
        result = None
        if info.result is not None:
            result = _result(info.result, info.state == _COMPLETED, self._gateway.now_ms())
        shown = job_object(
            number,
            self._ids.created_ms(number),
            target.url,
            given,
            info.payload,
            state,
            result,
            started_ms=self._dispatcher.started_ms(info.job_id) if state == "running" else 0,
            canceling=state == "running" and self._dispatcher.is_canceled(info.job_id),
        )
        return Found(number, state, target.url, given, info.payload, shown)

    def _to_archive(self, job: Job) -> ArchivedJob | Fate:
        """In the archive's thread: what is to be kept of `job`."""
        number = self._names.number(job.job_id)
        if number is None or job.result is None:
            return Fate.LEAVE  # somebody else's, in our queue
        target = PushTarget.from_meta(job.meta)
        given = given_in(target)
        result = _result(job.result, job.state == COMPLETED, self._gateway.now_ms())
        self._archived.add(number)
        return ArchivedJob(
            door=DOOR,
            number=number,
            job_id=job.job_id,
            name=given.name,
            created_ms=self._ids.created_ms(number),
            started_ms=result.started_ms,
            finished_ms=result.finished_ms,
            flags=_flags(result),
            url=target.url,
            data=_encode(_Kept(given, msgspec.Raw(job.payload or b"null"), result)),
        )

    def _from_archive(self, row: ArchivedJob) -> Found:
        number = row.number or 0
        kept = _decode_kept(row.data)
        payload = b"" if bytes(kept.payload) == b"null" else bytes(kept.payload)
        shown = job_object(number, self._ids.created_ms(number), row.url, kept.given, payload, "finished", kept.result)
        return Found(number, "finished", row.url, kept.given, payload, shown)

    def _drop_archived(self, most: int) -> None:
        """Forget up to so many of those that the archive has taken over."""
        kept: list[int] = []
        for _ in range(min(most, len(self._archived))):
            number = self._archived.pop()
            if isinstance(self._gateway.post(InspectJob(self._names.job_id(number))), Jobs):
                kept.append(number)  # it is on its way, or back
            else:
                self._in_engine.discard(number)
                self._again.discard(number)
        self._archived.update(kept)


class ListReader:
    """Reads a list from its beginning to its end.

    done   whether that was all
    next   the id of the job that follows a list that ended at its limit, whether it passes the filters or not
    count  how many jobs were read
    """

    def __init__(self, store: Store, listing: Listing) -> None:
        self.done = False
        self.next: int | None = None
        self.count = 0
        self._store = store
        self._listing = listing
        self._begin = listing.begin

    async def read(self, most: int) -> list[HqJob]:
        """The next jobs, up to so many."""
        listing = self._listing
        left = listing.limit - self.count if listing.limit else most
        wanted = min(most, left)
        jobs = await self._store.read(listing, self._begin, wanted)
        self.count += len(jobs)
        if len(jobs) < wanted:
            self.done = True
            return jobs
        last = int(jobs[-1].id)
        self._begin = last - 1 if listing.reverse else last + 1
        if wanted == left and listing.limit:
            self.done = True
        if self._begin < 0:
            self.done = True
        elif self.done:
            following = await self._store.read(Listing(reverse=listing.reverse), self._begin, 1)
            self.next = int(following[0].id) if following else None
        return jobs


def _result(result: bytes, completed: bool, now_ms: int) -> PushResult:
    """How a job ended, also when it was not the dispatcher who ended it."""
    found = PushResult.from_result(result)
    if found is not None:
        return found
    text = result.decode("utf-8", "replace")
    if completed:
        return PushResult("success", 0, now_ms, output=text)
    return PushResult("failure", 0, now_ms, error=text or "its last attempt ended without an answer")


def _flags(result: PushResult) -> int:
    """How a job ended, as a number for the archive."""
    success, failure, canceled = flags_of(result)
    return _SUCCESS * success | _FAILURE * failure | _CANCELED * canceled


def _status(flags: int) -> str:
    return status_of("finished", bool(flags & _SUCCESS), bool(flags & _FAILURE), bool(flags & _CANCELED))


def _takes(listing: Listing, job: Found) -> bool:
    given = job.given
    return listing.takes(given.name, job.url, job.object.status, job.number, lambda: given.comment)


def _passing(listing: Listing, jobs: list[Found]) -> list[Found]:
    return [job for job in jobs if _takes(listing, job)]


def _keep(listing: Listing) -> Callable[[ArchivedJob], bool] | None:
    """The filters of `listing` for the archive."""
    if not listing.filters:
        return None

    def keep(row: ArchivedJob) -> bool:
        number = row.number or 0
        return listing.takes(
            row.name, row.url, _status(row.flags), number, lambda: _decode_comment(row.data).given.comment
        )

    return keep

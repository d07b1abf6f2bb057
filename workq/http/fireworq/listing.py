"""Pages of jobs. A cursor names the first job of the next page, so that is exact whatever happens meanwhile."""

import asyncio
import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

import attrs
import msgspec

from workq.archive import Archive, Query
from workq.commands import InspectJob, InspectJobs
from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway
from workq.http.fireworq.definitions import DOOR
from workq.http.fireworq.jobs import failure, next_try_ms, number_of, shown_job
from workq.http.fireworq.structs import Failure, ShownJob
from workq.http.names import NUMBER, numbered_jobs, queue_name
from workq.replies import JobInfo, Jobs

T = TypeVar("T")
U = TypeVar("U")

# Where a job stands: its time, its number.
Place: TypeAlias = tuple[int, int]

_DEFAULT_LIMIT: Final = 100
# No page is longer, whatever was asked for.
_HIGHEST_LIMIT: Final = 10_000
# Jobs looked at in one go; then others have their turn.
_SLICE: Final = 500
# How many of these are looked at again, since those before them may have left meanwhile.
_OVERLAP: Final = 100

State: TypeAlias = Literal["grabbed", "waiting", "deferred"]
_STATES: Final = {"waiting": "ready", "deferred": "scheduled"}  # what our engine calls them


@attrs.frozen
class Page:
    """What was asked for. What does not parse is as if it were not there.

    order   as it was written, "" for nothing
    begin   where to begin, inclusive; None for the first
    """

    limit: int
    order: str
    begin: Place | None


class JobList(msgspec.Struct):
    """A page of jobs."""

    jobs: list[ShownJob]
    next_cursor: str


class FailureList(msgspec.Struct):
    """A page of the failure log."""

    failed_jobs: list[Failure]
    next_cursor: str


def read_page(query: Mapping[str, str]) -> Page:
    """The page that the parameters `limit`, `order` and `cursor` ask for."""
    limit = query.get("limit", "")
    number = _DEFAULT_LIMIT
    if limit.isascii() and limit.isdigit():
        number = min(int(limit), _HIGHEST_LIMIT) if len(limit) < 10 else _HIGHEST_LIMIT
    return Page(number, query.get("order", ""), _read_cursor(query.get("cursor", "")))


async def list_jobs(gateway: Gateway, dispatcher: Dispatcher, queue: str, state: State, page: Page) -> JobList:
    """The jobs of a queue in a state, by their next try: the latest first, unless the order is `asc`."""
    ascending = page.order == "asc"
    choose = heapq.nsmallest if ascending else heapq.nlargest
    best: list[tuple[Place, JobInfo]] = []
    if page.limit > 0:
        async for jobs in _slices(gateway, dispatcher, queue_name(DOOR, queue), state):
            placed = [((next_try_ms(job), number), job) for job in jobs if (number := number_of(job)) is not None]
            if page.begin is not None:
                begin = page.begin
                placed = [each for each in placed if (each[0] >= begin if ascending else each[0] <= begin)]
            best = choose(page.limit + 1, [*best, *placed], key=_place)
    following = _write_cursor(best[page.limit][0]) if len(best) > page.limit else ""
    return JobList(await _in_slices(shown_job, [job for _, job in best[: page.limit]]), following)


async def _slices(gateway: Gateway, dispatcher: Dispatcher, name: bytes, state: State) -> AsyncIterator[list[JobInfo]]:
    """The jobs of a queue in a state, some at a time: all that are in it from the first to the last, and each once."""
    if state == "grabbed":
        replies = [await gateway.execute(InspectJob(job_id)) for job_id in dispatcher.sending(name)]
        yield [job for reply in replies if isinstance(reply, Jobs) for job in reply.jobs]
        return
    cursor = 0
    seen: set[bytes] = set()
    while True:
        reply = await gateway.execute(InspectJobs(name, _STATES[state], cursor, _SLICE))
        found = reply.jobs if isinstance(reply, Jobs) else []
        new = [job for job in found if job.job_id not in seen]
        if cursor > 0 and len(new) == len(found):  # so many have left that there may be others before these
            cursor = max(cursor - _SLICE, 0)
            await asyncio.sleep(0)
            continue
        yield new
        seen.update([job.job_id for job in new])
        if len(found) < _SLICE:
            return
        cursor += _SLICE - _OVERLAP
        await asyncio.sleep(0)


async def list_failures(archive: Archive, queue: str, page: Page) -> FailureList:
    """The failure log of a queue: what failed last first or, for the order `created`, what was pushed last."""
    by_creation = page.order == "created"
    jobs = numbered_jobs(DOOR, queue)
    begin: int | tuple[int, bytes] | None = None
    if page.begin is not None:
        time_ms, number = page.begin
        begin = (time_ms, jobs.job_id(number)) if by_creation else number
    order: Literal["created", "number"] = "created" if by_creation else "number"
    query = Query(door=DOOR, queue=queue, order=order, descending=True, begin=begin, limit=page.limit + 1)
    entries = await archive.find(query) if page.limit > 0 else []
    following = ""
    if len(entries) > page.limit:
        first = entries.pop()
        number = (jobs.number(first.job_id) if by_creation else first.number) or 0
        following = _write_cursor((first.created_ms, number))
    return FailureList(await _in_slices(failure, entries), following)


async def _in_slices(show: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """What `show` makes of each item: 10 000 in one go would take half a second."""
    shown: list[U] = []
    for start in range(0, len(items), _SLICE):
        shown += [show(item) for item in items[start : start + _SLICE]]
        await asyncio.sleep(0)
    return shown


def _place(placed: tuple[Place, JobInfo]) -> Place:
    return placed[0]


def _write_cursor(place: Place) -> str:
    return urlsafe_b64encode(b"%d,%d" % place).decode()


def _read_cursor(text: str) -> Place | None:
    try:
        time_ms, number = urlsafe_b64decode(text.encode()).split(b",")
        return int(time_ms), NUMBER.check(int(number))
    except ValueError:
        return None

"""A queue: the jobs of one name, in the order they will be leased."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeAlias

from sortedcontainers import SortedDict

from workq.engine.job import NEVER_MS, READY, STATE_NAMES, Job

if TYPE_CHECKING:
    from workq.engine.waiters import LeaseWaiter

# Below this many dead entries a level, and the list of levels, is not worth tidying.
_TIDY_ENTRIES: Final = 32
# Entries looked at with each job that goes while there are too many dead ones. The more, the sooner they are gone.
_SIFTED_AT_ONCE: Final = 8
# Stands for the time of a job that never was scheduled: before all times, and there are some before 1970.
_UNSCHEDULED: Final = -NEVER_MS

# A job in a heap: its time, its `seq`, and what tells it from an older copy of itself (see `Carried`).
_Entry: TypeAlias = tuple[int, int, int, Job]


def _entry(job: Job) -> _Entry:
    return job.scheduled_ms or _UNSCHEDULED, job.seq, id(job), job


class Level:
    """The ready jobs of one priority.

    Order: jobs that were never scheduled by creation, then scheduled ones by their time. New jobs arrive in that order
    and wait in `fresh`; a job that comes back, or whose scheduled time came, finds its place in the heap `placed`.

    A job's place never changes, so entries need not be removed when their job is: an entry counts while its job is
    ready, and a job that becomes ready again stands where it should, once or twice. When there are many dead ones among
    the fresh, a few entries are looked at with each job that goes: those that are alive move to `sifted`, which stands
    before `fresh` until all are through.
    """

    __slots__ = ("live", "sifted", "fresh", "placed")

    def __init__(self) -> None:
        self.live = 0
        self.sifted: deque[Job] = deque()  # empty, unless `fresh` has some too
        self.fresh: deque[Job] = deque()
        self.placed: list[_Entry] = []

    def push(self, job: Job) -> None:
        self.live += 1
        fresh = self.fresh
        if job.scheduled_ms == 0 and (not fresh or fresh[-1].seq < job.seq):
            fresh.append(job)
        else:
            heapq.heappush(self.placed, _entry(job))

    def first(self) -> Job:
        """The job to lease next. There must be one (`live`)."""
        while self.sifted and self.sifted[0].state != READY:
            self.sifted.popleft()
        fresh = self.sifted or self.fresh
        while fresh and fresh[0].state != READY:
            fresh.popleft()
        placed = self.placed
        if not placed:
            return fresh[0]
        while placed and placed[0][3].state != READY:
            heapq.heappop(placed)
        if not fresh or (placed and placed[0][0] == _UNSCHEDULED and placed[0][1] < fresh[0].seq):
            return placed[0][3]
        return fresh[0]

    def drop(self, job: Job) -> None:
        """Forget `job`, which is about to stop being ready."""
        self.live -= 1
        fresh = self.sifted or self.fresh
        if fresh and fresh[0] is job:
            fresh.popleft()
        elif self.placed and self.placed[0][3] is job:
            heapq.heappop(self.placed)
        else:
            most = self.live + self.live // 3 + _TIDY_ENTRIES
            if self.sifted or len(self.fresh) > most:
                self._sift(job)
            if len(self.placed) > most:
                self._tidy_placed(job)

    def _sift(self, gone: Job) -> None:
        """Look at some entries; `gone` counts as dead."""
        fresh = self.fresh
        for _ in range(min(_SIFTED_AT_ONCE, len(fresh))):
            job = fresh.popleft()
            if job.state == READY and job is not gone:
                self.sifted.append(job)
        if not fresh:
            self.sifted, self.fresh = fresh, self.sifted

    def _tidy_placed(self, gone: Job) -> None:
        entries = {entry[1]: entry for entry in self.placed if entry[3].state == READY and entry[3] is not gone}
        self.placed = sorted(entries.values())

    def page(self, cursor: int, limit: int) -> list[Job]:
        """The ready jobs from `cursor` on."""
        if self.placed:
            return list(islice(self, cursor, cursor + limit))
        if not self.sifted and len(self.fresh) == self.live:  # no need to count
            return [self.fresh[at] for at in range(cursor, min(cursor + limit, self.live))]
        page: list[Job] = []
        for job in chain(self.sifted, self.fresh):
            if job.state == READY:
                if cursor > 0:
                    cursor -= 1
                else:
                    page.append(job)
                    if len(page) == limit:
                        break
        return page

    def _fresh_entries(self) -> Iterator[_Entry]:
        for job in chain(self.sifted, self.fresh):
            if job.state == READY:
                yield _entry(job)

    def __iter__(self) -> Iterator[Job]:
        """The ready jobs in order, each once."""
        fresh = self._fresh_entries()  # not an expression, which mypyc makes a list
        placed = sorted([entry for entry in self.placed if entry[3].state == READY])
        last_seq = -1
        for _, seq, _, job in heapq.merge(fresh, placed):
            if seq != last_seq:
                yield job
            last_seq = seq


class Queue:
    """The jobs of one name.

    counts   jobs by state, indexed by the state's number
    leasers  who waits for a job of this queue, longest first
    """

    __slots__ = ("name", "counts", "leasers", "_scheduled", "_levels", "_priorities")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.counts = [0] * len(STATE_NAMES)
        self.leasers: OrderedDict[LeaseWaiter, None] = OrderedDict()
        self._scheduled: SortedDict[tuple[int, int, int], Job] | None = None  # most queues never need it
        self._levels: dict[int, Level] = {}
        self._priorities: list[int] = []  # a heap of the negated keys of _levels

    def push_ready(self, job: Job) -> None:
        """Put a job that becomes ready in its place."""
        priority = job.spec.priority
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = Level()
            heapq.heappush(self._priorities, -priority)
        level.push(job)

    def drop_ready(self, job: Job) -> None:
        """Forget a job that is about to stop being ready."""
        level = self._levels[job.spec.priority]
        level.drop(job)
        if not level.live and len(self._levels) > 2 * self.counts[READY] + 2 * _TIDY_ENTRIES:
            self._levels = {priority: level for priority, level in self._levels.items() if level.live}
            self._priorities = sorted([-priority for priority in self._levels])

    def first_ready(self) -> Job | None:
        """The job to lease next: highest priority, then the order of `Level`."""
        priorities = self._priorities
        while priorities:
            level = self._levels[-priorities[0]]
            if level.live:
                return level.first()
            if len(priorities) == 1:
                break  # kept: the next job will most likely have the same priority
            del self._levels[-heapq.heappop(priorities)]
        return None

    def ready_jobs(self, cursor: int, limit: int) -> list[Job]:
        """A page of the ready jobs in lease order."""
        page: list[Job] = []
        for priority in sorted(self._priorities):
            level = self._levels[-priority]
            if cursor >= level.live:
                cursor -= level.live
                continue
            page += level.page(cursor, limit - len(page))
            cursor = 0
            if len(page) == limit:
                break
        return page

    def push_scheduled(self, job: Job) -> None:
        """Put a job among those that wait for their time."""
        if self._scheduled is None:
            self._scheduled = SortedDict()
        self._scheduled[-job.spec.priority, job.deadline_ms, job.seq] = job

    def drop_scheduled(self, job: Job) -> None:
        """Forget a job that is about to stop being scheduled."""
        assert self._scheduled is not None
        del self._scheduled[-job.spec.priority, job.deadline_ms, job.seq]

    def scheduled_jobs(self, cursor: int, limit: int) -> list[Job]:
        """A page of the scheduled jobs: higher priority first, then by the time when they will be ready."""
        if self._scheduled is None:
            return []
        return list(self._scheduled.values()[cursor : cursor + limit])

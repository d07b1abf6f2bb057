"""A queue: the jobs of one name, in the order they will be leased."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeAlias

from sortedcontainers import SortedList

from workq.engine.bucket import TokenBucket
from workq.engine.job import COMPLETED, FAILED, GONE, LEASED, NEVER_MS, READY, SCHEDULED, Job
from workq.engine.traffic import Traffic
from workq.values import JobSpec, QueueOptions

if TYPE_CHECKING:
    from workq.engine.waiters import LeaseWaiter

# Below this many dead entries a level, and the list of levels, is not worth tidying.
_TIDY_ENTRIES: Final = 32
# Entries looked at with each job that goes while there are too many dead ones. The more, the sooner they are gone.
_SIFTED_AT_ONCE: Final = 8
# Jobs on the first pages: up to there it is cheaper to look for one level after the other than to sort them.
_FIRST_PAGES: Final = 10_000
# Stands for the time of a job that never was scheduled: before all times, and there are some before 1970.
_UNSCHEDULED: Final = -NEVER_MS

# A job in a sorted list: its time, its `place`.
_Entry: TypeAlias = tuple[int, int, Job]


def _entry(job: Job) -> _Entry:
    return job.scheduled_ms or _UNSCHEDULED, job.place, job


def _deadline_ms(job: Job) -> int:
    return job.deadline_ms


def _ready_ms(job: Job) -> int:
    return job.scheduled_ms or job.created_ms


def _leased_ms(job: Job) -> int:
    # The last touch counts too, where there was one: the log does not keep more.
    return job.deadline_ms - job.queue.ttr_ms(job.spec)


def _is_fresh(job: Job) -> bool:
    """Whether an entry of `Level.fresh` counts."""
    return job.state == READY and (job.extra is None or job.is_unmoved())


class Level:
    """The ready jobs of one priority.

    Order: jobs that were never scheduled by creation, then scheduled ones by their time. New jobs arrive in that order
    and wait in `fresh`; a job that comes back, or whose scheduled time came, finds its place in the list `placed`.

    A job's place hardly ever changes, so entries of `fresh` need not be removed when their job is: an entry counts
    while its job is ready, and a job that becomes ready again stands where it should, in `placed` and perhaps in
    `fresh`, too. When there are many dead ones, a few entries are looked at with each job that goes: those that are
    alive move to `sifted`, which stands before `fresh` until all are through. The last job takes all entries along.
    A job that was sent to the back is known by its `place`; of it only the entry in `placed` counts.
    """

    __slots__ = ("priority", "live", "sifted", "fresh", "placed")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.live = 0
        self.sifted: deque[Job] = deque()  # empty, unless `fresh` has some too
        self.fresh: deque[Job] = deque()
        self.placed: SortedList[_Entry] | None = None  # most levels never need it

    def push(self, job: Job) -> None:
        self.live += 1
        fresh = self.fresh
        is_new = job.extra is None or (job.scheduled_ms == 0 and job.is_unmoved())
        if is_new and (not fresh or fresh[-1].seq < job.seq):
            fresh.append(job)
        else:
            if self.placed is None:
                self.placed = SortedList()
            self.placed.add(_entry(job))

    def first(self) -> Job:
        """The job to lease next. There must be one (`live`)."""
        if len(self.fresh) == self.live and not self.placed and not self.sifted:
            return self.fresh[0]
        while self.sifted and not _is_fresh(self.sifted[0]):
            self.sifted.popleft()
        fresh = self.sifted or self.fresh
        while fresh and not _is_fresh(fresh[0]):
            fresh.popleft()
        placed = self.placed
        if not placed:
            return fresh[0]
        time_ms, place, job = placed[0]
        return job if not fresh or (time_ms == _UNSCHEDULED and place < fresh[0].seq) else fresh[0]

    def drop(self, job: Job) -> None:
        """Forget `job`, which is about to stop being ready."""
        self.live -= 1
        if self.placed:
            self.placed.discard(_entry(job))
        fresh = self.sifted or self.fresh
        if fresh and fresh[0] is job:
            fresh.popleft()
        elif self.sifted or len(self.fresh) > self.live + self.live // 3 + _TIDY_ENTRIES:
            self._sift(job)
        if not self.live and self.fresh:
            self.sifted.clear()
            self.fresh.clear()

    def front(self, count: int) -> list[Job]:
        """The jobs to lease next, up to `count`, where they stand ready in a row; none where that takes a search."""
        fresh = self.fresh
        if self.placed or self.sifted or len(fresh) != self.live:
            return []
        if count >= len(fresh):
            return list(fresh)
        return list(islice(fresh, count))

    def drop_front(self, count: int) -> None:
        """Forget the first of `front`, which are about to stop being ready."""
        self.live -= count
        fresh = self.fresh
        for _ in range(count):
            fresh.popleft()

    def _sift(self, gone: Job) -> None:
        """Look at some entries; `gone` counts as dead."""
        fresh = self.fresh
        for _ in range(min(_SIFTED_AT_ONCE, len(fresh))):
            job = fresh.popleft()
            if _is_fresh(job) and job is not gone:
                self.sifted.append(job)
        if not fresh:
            self.sifted, self.fresh = fresh, self.sifted

    def page(self, cursor: int, limit: int) -> list[Job]:
        """The ready jobs from `cursor` on."""
        if self.placed and not self.fresh:
            return [job for _, _, job in self.placed.islice(cursor, cursor + limit)]
        if not self.placed and not self.sifted and len(self.fresh) == self.live:  # no need to count
            return [self.fresh[at] for at in range(cursor, min(cursor + limit, self.live))]
        page: list[Job] = []
        skipped = taken = 0  # jobs before the page, and entries of `placed` that were passed
        placed = iter(self.placed or ())
        entry = next(placed, None)
        for job in chain(self.sifted, self.fresh):
            if not _is_fresh(job):
                continue
            while len(page) < limit and entry is not None and entry[0] == _UNSCHEDULED and entry[1] <= job.seq:
                if entry[2] is not job:  # else it stands in both
                    if skipped < cursor:
                        skipped += 1
                    else:
                        page.append(entry[2])
                taken += 1
                entry = next(placed, None)
            if skipped < cursor:
                skipped += 1
            else:
                page.append(job)
            if len(page) >= limit:
                return page[:limit]
        if self.placed:
            start = taken + cursor - skipped
            page += [job for _, _, job in self.placed.islice(start, start + limit - len(page))]
        return page


class JobList:
    """Jobs in the order in which they came, linked by their `before` and `after`. A job is in one list at most.

    It takes no room of its own, and never grows in jumps as a dict does.

    count      how many they are
    is_sorted  whether they came in the order that they should have: finished jobs in that of their ends; not so after a
               log has given them back
    """

    __slots__ = ("count", "first", "last", "is_sorted")

    def __init__(self) -> None:
        self.count = 0
        self.first: Job | None = None
        self.last: Job | None = None
        self.is_sorted = True

    def add(self, job: Job) -> None:
        """Put `job` at the end."""
        self.count += 1
        end = self.last
        if end is None:
            self.first = job
        else:
            end.after = job
            job.before = end
        self.last = job

    def remove(self, first: Job, last: Job, count: int) -> None:
        """Take out a row of `count` jobs, which must be in it; a single job is its own `first` and `last`."""
        self.count -= count
        before = first.before
        after = last.after
        if before is None:
            self.first = after
        else:
            before.after = after
            first.before = None
        if after is None:
            self.last = before
        else:
            after.before = before
            last.after = None

    def move_all(self, jobs: list[Job], to: "JobList") -> None:
        """Move `jobs` to the end of `to`, at the price of one if they stand in a row here."""
        first = jobs[0]
        before = first.before
        for job in jobs:
            if job.before is not before:
                for each in jobs:
                    self.remove(each, each, 1)
                    to.add(each)
                return
            before = job
        last = jobs[-1]
        self.remove(first, last, len(jobs))
        to.add(first)
        to.last = last
        to.count += len(jobs) - 1

    def page(self, cursor: int, limit: int) -> list[Job]:
        """Jobs from `cursor` on, the first first."""
        page: list[Job] = []
        job = self._at(cursor)
        while job is not None and len(page) < limit:
            page.append(job)
            job = job.after
        return page

    def newest(self, cursor: int, limit: int) -> list[Job]:
        """Jobs from `cursor` on, the last to come, or to end, first."""
        if not self.is_sorted:
            self.sort(_deadline_ms)
        page: list[Job] = []
        job = self._at(self.count - 1 - cursor)
        while job is not None and len(page) < limit:
            page.append(job)
            job = job.before
        return page

    def _at(self, index: int) -> Job | None:
        """The job at a place, the first is 0, if there is one. Walks over those between it and the nearer end."""
        if not 0 <= index < self.count:
            return None
        if index < self.count // 2:
            job = self.first
            for _ in range(index):
                assert job is not None
                job = job.after
            return job
        job = self.last
        for _ in range(self.count - 1 - index):
            assert job is not None
            job = job.before
        return job

    def sort(self, time_ms: Callable[[Job], int]) -> None:
        """Put the jobs in the order of a time of theirs."""
        jobs = sorted(self, key=time_ms)
        self.first = self.last = None
        self.count = 0
        for job in jobs:
            job.before = job.after = None
            self.add(job)
        self.is_sorted = True

    def __iter__(self) -> Iterator[Job]:
        """Its jobs, the first first. The one given last may be removed meanwhile."""
        job = self.first
        while job is not None:
            after = job.after
            yield job
            job = after


class Queue:
    """The jobs of one name.

    lists    its jobs by state (the state's number is the index), in the order in which they came into it
    leasers  who waits for a job of this queue, longest first
    options  what was chosen for it, None if nothing ever was
    bucket   paces its leases, if they are paced
    traffic  what happened in it
    wake_ms  when the engine looks again whether it may hand out a job, `NEVER_MS` for never: see `next_lease_ms`
    """

    __slots__ = (
        "name",
        "lists",
        "leasers",
        "options",
        "bucket",
        "traffic",
        "wake_ms",
        "_scheduled",
        "_levels",
        "_order",
        "_level",
    )

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.lists = [JobList() for _ in range(GONE)]
        self.leasers: OrderedDict[LeaseWaiter, None] = OrderedDict()
        self.options: QueueOptions | None = None
        self.bucket: TokenBucket | None = None
        self.traffic = Traffic()
        self.wake_ms = NEVER_MS
        self._scheduled: SortedList[tuple[int, int, int, Job]] | None = None  # most queues never need it
        self._levels: dict[int, Level] = {}
        self._order: list[tuple[int, Level]] = []  # a heap of the same, with the priorities negated
        self._level: Level | None = None  # that of the last job: the next one will most likely have the same priority

    @property
    def counts(self) -> list[int]:
        """How many jobs it has by state, indexed as `lists`."""
        return [jobs.count for jobs in self.lists]

    def put_in_order(self) -> None:
        """A log has given the jobs back, those that it wrote anew later than others: let the oldest be the first."""
        orders = [(READY, _ready_ms), (LEASED, _leased_ms), (COMPLETED, _deadline_ms), (FAILED, _deadline_ms)]
        for state, time_ms in orders:
            if not self.lists[state].is_sorted:
                self.lists[state].sort(time_ms)

    def push_ready(self, job: Job) -> None:
        """Put a job that becomes ready in its place."""
        level = self._level
        if level is None or level.priority != job.spec.priority:
            level = self._level = self._levels.get(job.spec.priority) or self._add_level(job.spec.priority)
        level.push(job)

    def drop_ready(self, job: Job) -> None:
        """Forget a job that is about to stop being ready."""
        level = self._level
        if level is None or level.priority != job.spec.priority:
            level = self._level = self._levels[job.spec.priority]
        level.drop(job)
        if not level.live and len(self._levels) > 2 * self.lists[READY].count + 2 * _TIDY_ENTRIES:
            self._levels = {priority: level for priority, level in self._levels.items() if level.live}
            self._order = [(-priority, level) for priority, level in self._levels.items()]
            heapq.heapify(self._order)
            self._level = None

    def _add_level(self, priority: int) -> Level:
        level = self._levels[priority] = Level(priority)
        heapq.heappush(self._order, (-priority, level))
        return level

    # -- options -------------------------------------------------------------------------------------------------

    def set_options(self, options: QueueOptions) -> None:
        """Let `options` hold from now on. Leases in progress are the business of `State`."""
        self.options = options
        rate = options.lease_rate
        if rate == 0:
            self.bucket = None
        elif self.bucket is None:
            self.bucket = TokenBucket(rate, options.lease_burst)
        else:
            self.bucket.change(rate, options.lease_burst)

    def is_full(self) -> bool:
        """Whether no more jobs may be added."""
        options = self.options
        return (
            options is not None
            and options.max_len > 0
            and self.lists[READY].count + self.lists[SCHEDULED].count >= options.max_len
        )

    def ttr_ms(self, spec: JobSpec) -> int:
        """How long a lease of a job with `spec` lasts."""
        options = self.options
        return spec.ttr_ms if options is None else options.ttr_ms or spec.ttr_ms

    def is_last_attempt(self, job: Job) -> bool:
        """Whether `job` has made as many attempts as it may."""
        attempts = job.counted_attempts
        most = job.spec.max_attempts
        options = self.options
        return (most > 0 and attempts >= most) or (
            options is not None and options.max_attempts > 0 and attempts >= options.max_attempts
        )

    def next_lease_ms(self, now_ms: int) -> int:
        """When the next ready job may be leased, if nothing but time stands in the way; `NEVER_MS` if more does."""
        if self.lists[READY].count == 0:
            return NEVER_MS
        options = self.options
        if options is None:
            return now_ms
        if options.paused or (options.max_leased > 0 and self.lists[LEASED].count >= options.max_leased):
            return NEVER_MS
        return now_ms if self.bucket is None else self.bucket.ready_ms(now_ms)

    def next_job(self, now_ms: int) -> Job | None:
        """The job that may be leased now; None if there is none, or if the options say no."""
        if self.options is None:
            return self.first_ready()
        if self.next_lease_ms(now_ms) > now_ms:
            return None
        job = self.first_ready()
        return None if job is None or self.is_last_attempt(job) else job

    def used_up_job(self, now_ms: int) -> Job | None:
        """The job that would be leased now, if it has no attempt left; that is so when the options allow fewer than
        before.
        """
        options = self.options
        if options is None or options.max_attempts == 0 or self.next_lease_ms(now_ms) > now_ms:
            return None
        job = self.first_ready()
        return job if job is not None and self.is_last_attempt(job) else None

    def first_ready(self) -> Job | None:
        """The ready job that goes first: highest priority, then the order of `Level`."""
        order = self._order
        while order:
            _, level = order[0]
            if level.live:
                return level.first()
            if len(order) == 1:
                break  # kept: the next job will most likely have the same priority
            negated, _ = heapq.heappop(order)
            del self._levels[-negated]
            self._level = None
        return None

    def front(self, count: int) -> list[Job]:
        """Ready jobs that go first, `count` at most, of one priority: as many as are cheap to find, maybe none."""
        return [] if self.first_ready() is None else self._order[0][1].front(count)

    def drop_front(self, jobs: list[Job]) -> None:
        """Forget the first of what `front` has found, which are about to stop being ready."""
        self._order[0][1].drop_front(len(jobs))

    def ready_jobs(self, cursor: int, limit: int) -> list[Job]:
        """A page of the ready jobs in lease order."""
        page: list[Job] = []
        for level in self._first_levels() if cursor < _FIRST_PAGES else self._sorted_levels():
            if cursor >= level.live:
                cursor -= level.live
                continue
            page += level.page(cursor, limit - len(page))
            cursor = 0
            if len(page) == limit:
                break
        return page

    def _sorted_levels(self) -> Iterator[Level]:
        """The levels, the highest priority first."""
        for priority in sorted(self._levels, reverse=True):
            yield self._levels[priority]

    def _first_levels(self) -> Iterator[Level]:
        """The same, where few are wanted. Jobs may have a priority each, and to sort 300 000 takes a while."""
        order = self._order
        # Of a heap, the places where the next one may be: below those that were given.
        places = [(order[0][0], 0)] if order else []
        while places:
            _, at = heapq.heappop(places)
            for below in (2 * at + 1, 2 * at + 2):
                if below < len(order):
                    heapq.heappush(places, (order[below][0], below))
            yield order[at][1]

    def push_scheduled(self, job: Job) -> None:
        """Put a job among those that wait for their time."""
        if self._scheduled is None:
            self._scheduled = SortedList()
        self._scheduled.add((-job.spec.priority, job.deadline_ms, job.seq, job))

    def drop_scheduled(self, job: Job) -> None:
        """Forget a job that is about to stop being scheduled."""
        assert self._scheduled is not None
        self._scheduled.remove((-job.spec.priority, job.deadline_ms, job.seq, job))

    def scheduled_jobs(self, cursor: int, limit: int) -> list[Job]:
        """A page of the scheduled jobs: higher priority first, then by the time when they will be ready."""
        if self._scheduled is None:
            return []
        return [job for _, _, _, job in self._scheduled.islice(cursor, cursor + limit)]

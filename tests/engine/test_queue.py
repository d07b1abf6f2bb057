"""Queues and their levels: always in order, and never full of entries of jobs that are gone."""

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sortedcontainers import SortedList

from tests.engine.steps import histories
from workq.engine.job import GONE, LEASED, READY, Job
from workq.engine.queue import Level, Queue
from workq.values import JobSpec

TIMES = [0, 0, 0, -5, 3, 3, 9]  # scheduled for; 0 for never, below it before 1970


def make_job(seq: int, time_ms: int = 0, priority: int = 0) -> Job:
    return Job(seq.to_bytes(16, "big"), JobSpec(b"q", 1000, 1000, priority), b"", 100, time_ms, seq)


class Levels:
    """A level and its plain counterpart, a list of the jobs that are ready."""

    def __init__(self) -> None:
        self.level = Level(0)
        self.ready: list[Job] = []
        self.away: list[Job] = []
        self.created = 0

    def add(self, time_ms: int) -> None:
        self.created += 1
        self.push(make_job(self.created, time_ms))

    def push(self, job: Job) -> None:
        job.state = READY
        self.level.push(job)
        self.ready.append(job)
        self.ready.sort(key=lambda job: (job.scheduled_ms != 0, job.scheduled_ms, job.seq))

    def drop(self, job: Job, to: int) -> None:
        self.level.drop(job)
        job.state = to
        self.ready.remove(job)

    def lease(self) -> None:
        if self.ready:
            first = self.level.first()
            assert first is self.ready[0]
            self.drop(first, LEASED)
            self.away.append(first)

    def replay_lease(self, which: int) -> None:
        """A lease known from the log: of any job, and nobody asked which is the first."""
        if self.ready:
            job = self.ready[which % len(self.ready)]
            self.drop(job, LEASED)
            self.away.append(job)

    def give_back(self, which: int) -> None:
        if self.away:
            self.push(self.away.pop(which % len(self.away)))

    def end(self, which: int) -> None:
        if self.ready:
            self.drop(self.ready[which % len(self.ready)], GONE)

    def carry(self, which: int) -> None:
        """The log says a job anew: a copy takes the place of the job."""
        if self.ready:
            job = self.ready[which % len(self.ready)]
            self.drop(job, GONE)
            self.push(job.copy())

    def check(self) -> None:
        assert self.level.live == len(self.ready)
        assert self.level.page(0, self.level.live + 1) == self.ready
        for cursor in range(len(self.ready) + 1):
            assert self.level.page(cursor, 3) == self.ready[cursor : cursor + 3]

    def entries(self) -> int:
        return len(self.level.sifted) + len(self.level.fresh) + len(self.level.placed or ())


which = st.integers(0, 99)
moves = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(TIMES)),
    st.tuples(st.just("lease")),
    st.tuples(st.just("replay_lease"), which),
    st.tuples(st.just("give_back"), which),
    st.tuples(st.just("end"), which),
    st.tuples(st.just("carry"), which),
)


@settings(max_examples=200)
@given(histories(moves, longest=80))
def test_a_level_keeps_its_jobs_in_order(history: list[tuple[str, int]]) -> None:
    levels = Levels()
    for move, *args in history:
        getattr(levels, move)(*args)
        levels.check()
    while levels.ready:
        levels.lease()


@settings(max_examples=50)
@given(st.lists(moves, min_size=1, max_size=12), st.integers(5, 60))
def test_dead_entries_of_a_level_are_bounded(history: list[tuple[str, int]], times: int) -> None:
    """However often jobs come and go, and whichever go: entries are at most a few per ready job, and a constant."""
    levels = Levels()
    for _ in range(times):
        for move, *args in history:
            getattr(levels, move)(*args)
            assert levels.entries() <= (3 * len(levels.ready) + 100 if levels.ready else 0)
    levels.check()


def test_a_queue_forgets_priorities_that_nobody_uses_any_more() -> None:
    """Also when its jobs end without ever being leased, and each had a priority of its own."""
    queue = Queue(b"q")
    kept = make_job(1, priority=0)
    kept.state = READY
    queue.push_ready(kept)
    for number in range(2, 2000):
        job = make_job(number, priority=number)
        job.state = READY
        queue.push_ready(job)
        queue.drop_ready(job)
        job.state = GONE
    assert len(queue._levels) == len(queue._order) < 200
    assert queue.first_ready() is kept


def test_pages_of_many_priorities() -> None:
    queue = Queue(b"q")
    jobs = [make_job(number, priority=number * 7_919 % 20_011 // 2) for number in range(1, 20_001)]
    for job in jobs:
        job.state = READY
        queue.push_ready(job)
    for job in jobs[::3]:
        queue.drop_ready(job)
        job.state = LEASED
    ready = [job for job in jobs if job.state == READY]
    ready.sort(key=lambda job: (-job.spec.priority, job.seq))
    for cursor in (0, 1, 5_000, 9_999, 10_000, 13_000, len(ready) - 1, len(ready)):
        assert queue.ready_jobs(cursor, 100) == ready[cursor : cursor + 100]


def test_a_page_before_many_jobs_that_came_back_looks_at_few() -> None:
    class Counting(SortedList):
        looked = 0

        def __iter__(self) -> Iterator[Any]:
            for entry in super().__iter__():
                Counting.looked += 1
                yield entry

    queue = Queue(b"q")
    jobs = [make_job(number) for number in range(1, 1_002)]
    for job in jobs[:-1] * 2:
        if job.state == READY:
            queue.drop_ready(job)
        job.state = READY
        queue.push_ready(job)
    jobs[-1].state = READY
    queue.push_ready(jobs[-1])
    (level,) = queue._levels.values()
    assert level.fresh
    assert len(level.placed) > 900
    level.placed = Counting(level.placed)
    assert queue.ready_jobs(0, 10) == jobs[:10]
    assert Counting.looked < 20
    assert queue.ready_jobs(995, 10) == jobs[995:]

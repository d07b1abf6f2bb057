"""What is true of an engine between any two calls, whatever happened before. `now_ms` is the time of the last one."""

from tests.engine.snapshot import held_back, timers
from workq.engine import NEVER_MS, Engine
from workq.engine.documents import RECURRED, RECURRING
from workq.engine.job import GONE, LEASED, READY, SCHEDULED, STATE_NAMES, Job
from workq.engine.queue import Queue
from workq.engine.state import State
from workq.engine.timers import Item, TimerWheel
from workq.engine.waiters import LeaseWaiter, ResultsWaiter, RunWaiter, Waiter


def check_engine(engine: Engine, now_ms: int) -> None:
    """Raise `AssertionError` unless jobs, queues, timers and waiters of `engine` agree with each other."""
    jobs = check_state(engine.state, now_ms)
    _check_waiters(engine, now_ms)
    _check_foreground_jobs(engine, jobs)


def check_state(state: State, now_ms: int) -> list[Job]:
    """Raise `AssertionError` unless jobs, queues and timers of `state` agree with each other; return the jobs."""
    jobs = list(state.jobs.values())
    assert len(state.jobs) == len(jobs)
    for job_id, job in zip(state.jobs, jobs, strict=True):
        assert job.job_id == job_id
        assert job.state != GONE
        assert job.queue is state.queues[job.spec.name]
        assert job.seq < state.next_seq
        assert (job.result is not None) == (STATE_NAMES[job.state] in ("completed", "failed"))
    for queue in state.queues.values():
        _check_queue(queue, [job for job in jobs if job.queue is queue])
    _check_timers(state.expiries, {job: job.expires_ms() for job in jobs if job.expires_ms() != NEVER_MS}, now_ms)
    _check_timers(state.deadlines, {job: job.deadline_ms for job in jobs if job.state in (LEASED, SCHEDULED)}, now_ms)
    _check_recurring(state, now_ms)
    kept = [job for job in jobs if not job.spec.foreground]
    documents = [len(key) + len(value) for area in state.documents for key, value in area.items()]
    assert state.stored_bytes == sum([job.size() for job in kept]) + sum(documents)
    return jobs


def _check_recurring(state: State, now_ms: int) -> None:
    definitions, positions = state.documents[RECURRING], state.documents[RECURRED]
    assert list(state.recurring) == sorted(set(definitions) & set(positions))
    for key, recurring in state.recurring.items():
        assert recurring.recurring_id == key
        assert recurring.position.pack() == positions[key]
    armed = {each: each.position.next_ms for each in state.recurring.values() if each.is_armed()}
    _check_timers(state.recurrences, armed, now_ms)
    waiting = {each for each in state.recurring.values() if each.position.held_ms}
    assert waiting == {*state.held.values(), *state.freed}
    assert len(waiting) == len(state.held) + len(state.freed)
    assert {job_id: state.held[job_id] for job_id in state.held} == {
        job_id: each for job_id, each in held_back(state).items() if each not in state.freed
    }


def _check_queue(queue: Queue, jobs: list[Job]) -> None:
    by_state: list[list[Job]] = [[] for _ in range(GONE)]
    for job in jobs:
        by_state[job.state].append(job)
    assert queue.counts == [len(those) for those in by_state]
    assert queue.ready_jobs(0, len(jobs) + 1) == sorted(by_state[READY], key=_place)
    assert queue.scheduled_jobs(0, len(jobs) + 1) == sorted(by_state[SCHEDULED], key=_turn)
    for number, listed in enumerate(queue.lists):
        found = list(listed)
        assert len(found) == queue.counts[number]
        assert set(found) == set(by_state[number])


def _place(job: Job) -> tuple[int, bool, int, int]:
    return -job.spec.priority, job.scheduled_ms != 0, job.scheduled_ms, job.place


def _turn(job: Job) -> tuple[int, int, int]:
    return -job.spec.priority, job.deadline_ms, job.seq


def _check_timers(wheel: TimerWheel[Item], expected: dict[Item, int], now_ms: int) -> None:
    found = timers(wheel)
    assert len(found) == len(wheel) == len(expected)
    assert set(found) == set(expected)
    assert wheel.next_ms <= max(now_ms, min(expected.values(), default=NEVER_MS)), "would be late"


def _check_waiters(engine: Engine, now_ms: int) -> None:
    waiting: dict[Waiter, int] = {}
    leasers = _unique([waiter for queue in engine.state.queues.values() for waiter in queue.leasers])
    for leaser in leasers:
        for queue in leaser.queues:
            assert leaser in queue.leasers
        waiting[leaser] = leaser.deadline_ms
    for queue in engine.state.queues.values():
        if queue.leasers:
            next_ms = queue.next_lease_ms(now_ms)
            assert next_ms == NEVER_MS or queue.wake_ms <= next_ms, f"somebody waits for {queue.name!r} for too long"
        else:
            assert queue.wake_ms == NEVER_MS, f"nobody waits for {queue.name!r}"
    wakes = {queue: queue.wake_ms for queue in engine.state.queues.values() if queue.wake_ms != NEVER_MS}
    _check_timers(engine._wakes, wakes, now_ms)
    for job_id, watchers in engine._watchers.by_job.items():
        assert watchers
        for watcher in watchers:
            job = watcher.missing[job_id] if isinstance(watcher, ResultsWaiter) else watcher.job
            assert job is engine.state.jobs[job_id]
            assert job.result is None
            if isinstance(watcher, RunWaiter) and watcher.overdue:
                assert watcher.job.state == LEASED
            else:
                waiting[watcher] = watcher.deadline_ms
    assert not [waiter for waiter in waiting if waiter.done]
    _check_timers(engine._waits, waiting, now_ms)


def _check_foreground_jobs(engine: Engine, jobs: list[Job]) -> None:
    for job in jobs:
        if job.spec.foreground:
            assert job.result is None
            owners = [watcher for watcher in engine._watchers.of(job.job_id) if isinstance(watcher, RunWaiter)]
            assert len(owners) <= 1
            assert owners or job.state == LEASED, f"nobody waits for {job}"


def _unique(leasers: list[LeaseWaiter]) -> list[LeaseWaiter]:
    return list(dict.fromkeys(leasers))

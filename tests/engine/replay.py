"""A state brought back from events, as a log does it."""

from collections.abc import Iterable

from tests.engine.invariants import check_state
from workq.engine.events import Added, Carried, Event, LeasedInARow
from workq.engine.job import Job
from workq.engine.state import State


def replayed(events: Iterable[Event], now_ms: int) -> State:
    """The state after `events`, which began with none."""
    state = State(now_ms)
    for event in one_by_one(events):
        written(event).apply(state)
    check_state(state, now_ms)
    return state


def one_by_one(events: Iterable[Event]) -> list[Event]:
    """`events` as a log holds them: one for each job."""
    told: list[Event] = []
    for event in events:
        told += event.one_by_one() if isinstance(event, LeasedInARow) else [event]
    return told


def written(event: Event) -> Event:
    """`event` as it comes from a log: an added job is as it was when it was new, and every job is another object."""
    if isinstance(event, Added):
        job = event.job
        return Added(Job(job.job_id, job.spec, job.payload, job.created_ms, job.scheduled_ms, job.seq, job.meta))
    if isinstance(event, Carried):
        return Carried(event.job.copy())
    return event

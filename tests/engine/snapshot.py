"""A state as plain data, to compare two of them."""

from workq.engine.job import LEASED, SCHEDULED, STATE_NAMES, Job
from workq.engine.recurring import Recurring
from workq.engine.state import State
from workq.engine.timers import Item, TimerWheel
from workq.values import NO_OPTIONS


def snapshot(state: State) -> dict[str, object]:
    """What `state` remembers. States with equal snapshots go on alike, given the same commands at the same times.

    Left out is what the log does not bring back: foreground jobs, and names of queues that have no jobs.
    """
    queues = sorted(state.queues.items())
    every = len(state.jobs)
    return {
        "jobs": {job.job_id.hex(): _fields(job) for job in state.jobs.values() if _is_kept(job)},
        "ready": [(name, ids) for name, queue in queues if (ids := _ids(queue.ready_jobs(0, every)))],
        "scheduled": [(name, ids) for name, queue in queues if (ids := _ids(queue.scheduled_jobs(0, every)))],
        "expiries": sorted([(job.expires_ms(), job.job_id.hex()) for job in timers(state.expiries)]),
        "deadlines": sorted([(job.deadline_ms, job.job_id.hex()) for job in timers(state.deadlines) if _is_kept(job)]),
        "evicted_jobs": state.evicted_jobs,
        "stored_bytes": state.stored_bytes,
        "recurrences": sorted([(each.position.next_ms, each.recurring_id.hex()) for each in timers(state.recurrences)]),
        "held": sorted([(job_id.hex(), held.recurring_id.hex()) for job_id, held in held_back(state).items()]),
        "documents": [sorted(area.items()) for area in state.documents],
        "options": [(name, queue.options) for name, queue in queues if queue.options not in (None, NO_OPTIONS)],
    }


def held_back(state: State) -> dict[bytes, Recurring]:
    """The recurring jobs with an occurrence that waits, by the id of the job that it waits for."""
    waiting = [each for each in state.recurring.values() if each.position.held_ms]
    return {each.last_id(): each for each in waiting if state.is_unfinished(each.last_id())}


def timers(wheel: TimerWheel[Item]) -> list[Item]:
    """All that is set in `wheel`, each as often as it is."""
    return list(wheel)


def _ids(jobs: list[Job]) -> list[str]:
    return [job.job_id.hex() for job in jobs if _is_kept(job)]


def _is_kept(job: Job) -> bool:
    return not job.spec.foreground


def _fields(job: Job) -> dict[str, object]:
    names = ("spec", "payload", "created_ms", "scheduled_ms", "seq", "place", "attempts", "fails", "result", "meta")
    names = (*names, "progress", "spent")
    fields = {name: getattr(job, name) for name in names}
    fields["state"] = STATE_NAMES[job.state]
    if job.state in (LEASED, SCHEDULED):
        fields["deadline_ms"] = job.deadline_ms
    return fields

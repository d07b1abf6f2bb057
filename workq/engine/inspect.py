"""The read-only view of the state that `inspect` gives."""

from workq import commands as c
from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Job
from workq.engine.queue import Queue
from workq.engine.recurring import Recurring
from workq.engine.state import State
from workq.replies import (
    NOT_FOUND,
    OK,
    JobIds,
    JobInfo,
    Jobs,
    LatestJobs,
    QueueInfo,
    Queues,
    RecurringInfo,
    RecurringJobs,
    Reply,
)
from workq.values import NO_OPTIONS


def answer(state: State, command: c.Command, now_ms: int) -> Reply:
    """The reply to an inspect command."""
    if isinstance(command, c.InspectJob):
        job = state.jobs.get(command.job_id)
        return NOT_FOUND if job is None else Jobs([_job_info(job)])
    if isinstance(command, c.InspectQueue):
        queue = state.queues.get(command.name)
        return NOT_FOUND if queue is None else Queues([_queue_info(queue, now_ms)])
    if isinstance(command, c.InspectQueues):
        names = state.queue_names.islice(command.cursor, command.cursor + command.limit)
        return Queues([_queue_info(state.queues[name], now_ms) for name in names])
    if isinstance(command, c.InspectJobIds):
        return JobIds([job.job_id for job in state.jobs.values() if job.spec.name == command.name])
    if isinstance(command, c.InspectLatest):
        queue = state.queues.get(command.name)
        if queue is None:
            return LatestJobs([])
        latest = [(_job_info(job), 0) for job in queue.lists[READY].newest(0, command.limit)]
        latest += [(_job_info(job), job.deadline_ms) for job in queue.lists[LEASED].newest(0, command.limit)]
        return LatestJobs(latest)
    if isinstance(command, c.InspectJobs):
        queue = state.queues.get(command.name)
        return NOT_FOUND if queue is None else Jobs([_job_info(job) for job in _listed(queue, command)])
    if isinstance(command, c.InspectRecurring):
        page = state.recurring.values()[command.cursor : command.cursor + command.limit]
        return RecurringJobs([_recurring_info(recurring) for recurring in page])
    if isinstance(command, c.Ping | c.Quit):  # nothing to do for the engine
        return OK
    raise TypeError(f"the engine does not know {type(command).__name__}")


def _listed(queue: Queue, command: c.InspectJobs) -> list[Job]:
    cursor, limit = command.cursor, command.limit
    if command.state == "ready":
        return queue.ready_jobs(cursor, limit)
    if command.state == "scheduled":
        return queue.scheduled_jobs(cursor, limit)
    if command.state == "leased":
        return queue.lists[LEASED].page(cursor, limit)
    return queue.lists[FAILED if command.state == "failed" else COMPLETED].newest(cursor, limit)


def _queue_info(queue: Queue, now_ms: int) -> QueueInfo:
    counts = queue.counts
    oldest = queue.lists[READY].first
    return QueueInfo(
        queue.name,
        counts[READY],
        counts[SCHEDULED],
        counts[LEASED],
        counts[FAILED],
        counts[COMPLETED],
        len(queue.leasers),
        0 if oldest is None else now_ms - (oldest.scheduled_ms or oldest.created_ms),
        queue.options or NO_OPTIONS,
        queue.traffic.totals(now_ms),
    )


def _job_info(job: Job) -> JobInfo:
    spec = job.spec
    return JobInfo(
        job.job_id,
        spec.name,
        spec.ttr_ms,
        spec.ttl_ms,
        job.payload,
        spec.max_attempts,
        job.counted_attempts,
        spec.max_fails,
        job.fails,
        spec.priority,
        _wire_state(job),
        job.created_ms,
        job.deadline_ms if job.state == SCHEDULED else job.scheduled_ms,
        job.meta,
        job.result,
        job.progress,
    )


def _recurring_info(recurring: Recurring) -> RecurringInfo:
    spec = recurring.spec
    position = recurring.position
    return RecurringInfo(
        recurring.recurring_id,
        spec.name,
        spec.ttr_ms,
        spec.ttl_ms,
        recurring.payload,
        spec.max_attempts,
        spec.max_fails,
        spec.priority,
        recurring.rule.text,
        recurring.skips,
        position.occurrences,
        position.skipped,
        position.next_ms if recurring.is_armed() else 0,
        position.last_ms,
        recurring.last_id() if position.last_ms else b"",
    )


def _wire_state(job: Job) -> int:
    """The number of a job's state as `inspect job` has always shown it."""
    if job.state == LEASED:
        return 4
    if job.state == COMPLETED:
        return 1
    if job.state == FAILED:
        return 2
    return 3 if job.counted_attempts or job.fails else 0

"""What happened: facts about jobs. An event knows how it changes the state, and is all that does.

Events hold decisions, not requests ("this job was leased at t", not "somebody asked for a job"), so replaying them
needs no clock, no dice and no rules. Times are Unix milliseconds, ids 16 bytes.

Two events are no news: `Carried` and `Counters` say again what is the case, so that the events which led to
it can be forgotten. Applied where they were made they change nothing.
"""

from mypy_extensions import mypyc_attr

from workq.engine.job import COMPLETED, FAILED, GONE, LEASED, READY, SCHEDULED, Job
from workq.engine.state import State
from workq.record import Record


@mypyc_attr(acyclic=True)
class Event(Record):
    """Base of all events."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        """Change `state` to what it is after this event."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class JobEvent(Event):
    """Base of the events of one job. What such an event does stands in `happen`, once."""

    __match_args__ = ("job_id",)
    __slots__ = __match_args__

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id

    def apply(self, state: State) -> None:
        self.happen(state, state.jobs[self.job_id])

    def happen(self, state: State, job: Job) -> None:
        """Like `apply`, for a caller who has the job at hand."""
        raise NotImplementedError


@mypyc_attr(acyclic=True)
class Added(JobEvent):
    """A job was created. The event holds the new job itself; the log reads only what never changes in it."""

    __match_args__ = ("job_id", "job")
    __slots__ = ("job",)

    def __init__(self, job: Job) -> None:
        self.job_id = job.job_id
        self.job = job

    def apply(self, state: State) -> None:
        self.happen(state, self.job)

    def happen(self, state: State, job: Job) -> None:
        scheduled_ms = job.scheduled_ms
        state.insert(job, SCHEDULED if scheduled_ms > job.created_ms else READY, scheduled_ms)


@mypyc_attr(acyclic=True)
class Due(JobEvent):
    """The time of a scheduled job came; it is ready."""

    __slots__ = ()

    def happen(self, state: State, job: Job) -> None:
        state.move(job, READY)


@mypyc_attr(acyclic=True)
class Leased(JobEvent):
    """A job was handed to a worker: one attempt more, and its TTR starts at `at_ms`."""

    __match_args__ = ("job_id", "at_ms")
    __slots__ = ("at_ms",)

    def __init__(self, job_id: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.at_ms = at_ms

    def happen(self, state: State, job: Job) -> None:
        job.attempts += 1
        state.lease(job, self.at_ms + job.queue.ttr_ms(job.spec))


@mypyc_attr(acyclic=True)
class LeasedInARow(Event):
    """The first ready jobs of a queue were handed to a worker: `Leased`, for each of them, and as such in the log."""

    __match_args__ = ("jobs", "at_ms")
    __slots__ = __match_args__

    def __init__(self, jobs: list[Job], at_ms: int) -> None:
        self.jobs = jobs
        self.at_ms = at_ms

    def apply(self, state: State) -> None:
        state.lease_front(self.jobs, self.at_ms)

    def one_by_one(self) -> list[Event]:
        """What the log has to know of it."""
        return [Leased(job.job_id, self.at_ms) for job in self.jobs if not job.spec.foreground]


class Returned(JobEvent):
    """The TTR of a lease ended and the job went back to its place in the queue."""

    __slots__ = ()

    def happen(self, state: State, job: Job) -> None:
        state.move(job, READY)


class SentToBack(JobEvent):
    """The TTR of a lease ended and the job went behind the others that were created or scheduled alike."""

    __match_args__ = ("job_id", "place")
    __slots__ = ("place",)

    def __init__(self, job_id: bytes, place: int) -> None:
        self.job_id = job_id
        self.place = place

    def happen(self, state: State, job: Job) -> None:
        job.place = self.place
        state.next_seq = max(state.next_seq, self.place + 1)
        state.move(job, READY)


@mypyc_attr(acyclic=True)
class FailedOnce(JobEvent):
    """An attempt failed and the job has more: it is ready, or becomes it at `due_ms` unless that is 0.

    A job that waits for its time already goes on waiting for it.
    """

    __match_args__ = ("job_id", "due_ms")
    __slots__ = ("due_ms",)

    def __init__(self, job_id: bytes, due_ms: int) -> None:
        self.job_id = job_id
        self.due_ms = due_ms

    def happen(self, state: State, job: Job) -> None:
        job.fails += 1
        if self.due_ms:
            state.move(job, SCHEDULED, self.due_ms)
        elif job.state == LEASED:
            state.move(job, READY)


class Released(JobEvent):
    """A worker gave a job back: it is in its place in the queue, or will be at `due_ms` unless that is 0."""

    __match_args__ = ("job_id", "due_ms")
    __slots__ = ("due_ms",)

    def __init__(self, job_id: bytes, due_ms: int) -> None:
        self.job_id = job_id
        self.due_ms = due_ms

    def happen(self, state: State, job: Job) -> None:
        state.move(job, SCHEDULED if self.due_ms else READY, self.due_ms)


@mypyc_attr(acyclic=True)
class Touched(JobEvent):
    """The worker that holds a job is alive: its TTR starts again at `at_ms`."""

    __match_args__ = ("job_id", "at_ms")
    __slots__ = ("at_ms",)

    def __init__(self, job_id: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.at_ms = at_ms

    def happen(self, state: State, job: Job) -> None:
        state.extend(job, self.at_ms + job.queue.ttr_ms(job.spec))


class Progressed(JobEvent):
    """A worker told how far it is; only the last one counts."""

    __match_args__ = ("job_id", "progress")
    __slots__ = ("progress",)

    def __init__(self, job_id: bytes, progress: bytes) -> None:
        self.job_id = job_id
        self.progress = progress

    def happen(self, state: State, job: Job) -> None:
        state.set_progress(job, self.progress)


@mypyc_attr(acyclic=True)
class Completed(JobEvent):
    """A job ended with success at `at_ms`; its result stays readable until its TTL ends."""

    __match_args__ = ("job_id", "result", "at_ms")
    __slots__ = ("result", "at_ms")

    def __init__(self, job_id: bytes, result: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.result = result
        self.at_ms = at_ms

    def happen(self, state: State, job: Job) -> None:
        job.result = self.result
        state.move(job, COMPLETED, self.at_ms)


class Failed(JobEvent):
    """A `fail` ended a job at `at_ms`; what it said stays readable until the job's TTL ends."""

    __match_args__ = ("job_id", "result", "at_ms")
    __slots__ = ("result", "at_ms")

    def __init__(self, job_id: bytes, result: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.result = result
        self.at_ms = at_ms

    def happen(self, state: State, job: Job) -> None:
        job.fails += 1
        job.result = self.result
        state.move(job, FAILED, self.at_ms)


class Exhausted(JobEvent):
    """A job had no attempt left at `at_ms`, as when the TTR of its last one ended: it failed with an empty result."""

    __match_args__ = ("job_id", "at_ms")
    __slots__ = ("at_ms",)

    def __init__(self, job_id: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.at_ms = at_ms

    def happen(self, state: State, job: Job) -> None:
        job.result = b""
        state.move(job, FAILED, self.at_ms)


class Retried(JobEvent):
    """A job that had failed is in its place in the queue again, as if it had never been tried.

    Only the numbers of its attempts go on, so that a worker of an earlier one is not taken for one of a later.
    """

    __slots__ = ()

    def happen(self, state: State, job: Job) -> None:
        state.revive(job)


@mypyc_attr(acyclic=True)
class Deleted(JobEvent):
    """A job was removed, by a client or because the client it belonged to is answered or gone."""

    __slots__ = ()

    def happen(self, state: State, job: Job) -> None:
        state.move(job, GONE)


@mypyc_attr(acyclic=True)
class Expired(JobEvent):
    """The TTL of a job ended and it was removed."""

    __slots__ = ()

    def happen(self, state: State, job: Job) -> None:
        if job.result is None:
            state.evicted_jobs += 1
        state.move(job, GONE)


class Carried(JobEvent):
    """A job as it is, whole. The event holds a copy of its own, which becomes the job where the event is applied."""

    __match_args__ = ("job_id", "job")
    __slots__ = ("job",)

    def __init__(self, job: Job) -> None:
        self.job_id = job.job_id
        self.job = job

    def apply(self, state: State) -> None:
        older = state.jobs.get(self.job_id)
        if older is not None:
            state.move(older, GONE)
        job = self.job
        state.insert(job, job.state, job.deadline_ms)
        if job.state in (READY, LEASED):
            job.queue.lists[job.state].is_sorted = False  # see `Queue.put_in_order`


class Counters(Event):
    """What the state counts over the jobs that are gone, too."""

    __match_args__ = ("next_seq", "evicted_jobs")
    __slots__ = __match_args__

    def __init__(self, next_seq: int, evicted_jobs: int) -> None:
        self.next_seq = next_seq
        self.evicted_jobs = evicted_jobs

    def apply(self, state: State) -> None:
        state.next_seq = self.next_seq
        state.evicted_jobs = self.evicted_jobs


class DocumentPut(Event):
    """A document was given a value, or with b"" removed. To say it again changes nothing."""

    __match_args__ = ("area", "key", "value")
    __slots__ = __match_args__

    def __init__(self, area: int, key: bytes, value: bytes) -> None:
        self.area = area
        self.key = key
        self.value = value

    def apply(self, state: State) -> None:
        state.put_document(self.area, self.key, self.value)


def restated(state: State) -> list[Event]:
    """Events that say all that `state` is apart from its counters, so that a log can begin with them."""
    events: list[Event] = []
    # Options go first: deadlines of leases are counted with them.
    for area, documents in enumerate(state.documents):
        events += [DocumentPut(area, key, value) for key, value in documents.items()]
    events += [Carried(job) for job in state.jobs.values() if not job.spec.foreground]
    return events

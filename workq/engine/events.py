"""What happened: facts about jobs. An event knows how it changes the state, and is all that does.

Events hold decisions, not requests ("this job was leased at t", not "somebody asked for a job"), so replaying them
needs no clock, no dice and no rules. Times are Unix milliseconds, ids 16 bytes.
"""

from workq.engine.job import COMPLETED, FAILED, GONE, LEASED, READY, Job
from workq.engine.state import State
from workq.record import Record


class Event(Record):
    """Base of all events."""

    __match_args__ = ("job_id",)
    __slots__ = __match_args__

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id

    def apply(self, state: State) -> None:
        """Change `state` to what it is after this event."""
        raise NotImplementedError


class Added(Event):
    """A job was created. The event holds the new job itself; the log reads only what never changes in it."""

    __match_args__ = ("job_id", "job")
    __slots__ = ("job",)

    def __init__(self, job: Job) -> None:
        self.job_id = job.job_id
        self.job = job

    def apply(self, state: State) -> None:
        state.insert(self.job)


class Due(Event):
    """The time of a scheduled job came; it is ready."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        state.move(state.jobs[self.job_id], READY)


class Leased(Event):
    """A job was handed to a worker: one attempt more, and its TTR starts at `at_ms`."""

    __match_args__ = ("job_id", "at_ms")
    __slots__ = ("at_ms",)

    def __init__(self, job_id: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.at_ms = at_ms

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        job.attempts += 1
        state.move(job, LEASED, self.at_ms + job.spec.ttr_ms)


class Returned(Event):
    """The TTR of a lease ended and the job went back to its place in the queue."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        state.move(state.jobs[self.job_id], READY)


class FailedOnce(Event):
    """An attempt failed and the job has more: it waits in its place in the queue, scheduled or ready."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        job.fails += 1
        if job.state == LEASED:
            state.move(job, READY)


class Completed(Event):
    """A job ended with success at `at_ms`; its result stays readable until its TTL ends."""

    __match_args__ = ("job_id", "result", "at_ms")
    __slots__ = ("result", "at_ms")

    def __init__(self, job_id: bytes, result: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.result = result
        self.at_ms = at_ms

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        job.result = self.result
        state.move(job, COMPLETED)


class Failed(Event):
    """A `fail` ended a job at `at_ms`; what it said stays readable until the job's TTL ends."""

    __match_args__ = ("job_id", "result", "at_ms")
    __slots__ = ("result", "at_ms")

    def __init__(self, job_id: bytes, result: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.result = result
        self.at_ms = at_ms

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        job.fails += 1
        job.result = self.result
        state.move(job, FAILED)


class Exhausted(Event):
    """The TTR of a job's last attempt ended at `at_ms`: it failed with an empty result."""

    __match_args__ = ("job_id", "at_ms")
    __slots__ = ("at_ms",)

    def __init__(self, job_id: bytes, at_ms: int) -> None:
        self.job_id = job_id
        self.at_ms = at_ms

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        job.result = b""
        state.move(job, FAILED)


class Deleted(Event):
    """A job was removed, by a client or because the client it belonged to is answered or gone."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        state.move(state.jobs[self.job_id], GONE)


class Expired(Event):
    """The TTL of a job ended and it was removed."""

    __slots__ = ()

    def apply(self, state: State) -> None:
        job = state.jobs[self.job_id]
        if job.result is None:
            state.evicted_jobs += 1
        state.move(job, GONE)

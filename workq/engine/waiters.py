"""Clients that wait inside the engine for a job or for a result."""

from collections.abc import Callable
from typing import TypeAlias

from workq.engine.job import NEVER_MS, Job
from workq.engine.queue import Queue
from workq.replies import NOT_FOUND, JobResult, JobResults, Reply
from workq.values import BULK_BYTES

OnReply: TypeAlias = Callable[[Reply], None]


def nobody_is_told(reply: Reply) -> None:
    """An `OnReply` for a command that does not wait, or whose client is gone."""


class Waiter:
    """A blocked command. Its reply goes to `on_reply`, exactly once, unless the waiter is cancelled."""

    __slots__ = ("on_reply", "deadline_ms", "done")

    def __init__(self, on_reply: OnReply, deadline_ms: int) -> None:
        self.on_reply = on_reply
        self.deadline_ms = deadline_ms
        self.done = False

    def is_at_work(self) -> bool:
        """Whether the command is being done, and waits for nobody: it ends soon, whatever others do."""
        return False


class LeaseWaiter(Waiter):
    """Waits for a job of one of `queues`; see `commands.Lease`."""

    __slots__ = ("queues", "fenced", "count")

    def __init__(self, on_reply: OnReply, deadline_ms: int, queues: list[Queue], fenced: bool, count: int) -> None:
        super().__init__(on_reply, deadline_ms)
        self.queues = queues
        self.fenced = fenced
        self.count = count


class ClearWaiter(Waiter):
    """Waits until jobs of `queue` are deleted: those in one of `states` that were created before `end_seq`."""

    __slots__ = ("queue", "states", "end_seq", "deleted")

    def __init__(self, on_reply: OnReply, queue: Queue, states: list[int], end_seq: int) -> None:
        super().__init__(on_reply, NEVER_MS)
        self.queue = queue
        self.states = states
        self.end_seq = end_seq
        self.deleted = 0

    def is_at_work(self) -> bool:
        return True

    def next_job(self) -> Job | None:
        """The job to delete next; None when it is done."""
        while self.states:
            job = self.queue.lists[self.states[0]].first
            if job is not None and job.seq < self.end_seq:
                return job
            del self.states[0]
        return None


class Watcher(Waiter):
    """Waits for the end of jobs."""

    __slots__ = ()

    def watched(self) -> list[bytes]:
        """The ids of the jobs that it waits for."""
        raise NotImplementedError


class ResultWaiter(Watcher):
    """Waits for the result of `job`."""

    __slots__ = ("job",)

    def __init__(self, on_reply: OnReply, deadline_ms: int, job: Job) -> None:
        super().__init__(on_reply, deadline_ms)
        self.job = job

    def watched(self) -> list[bytes]:
        return [self.job.job_id]


class ResultsWaiter(Watcher):
    """Waits for the results of several jobs.

    found    the results that there are, by id, which outlast their jobs
    missing  the jobs without one
    """

    __slots__ = ("job_ids", "found", "missing")

    def __init__(self, on_reply: OnReply, deadline_ms: int, job_ids: tuple[bytes, ...]) -> None:
        super().__init__(on_reply, deadline_ms)
        self.job_ids = job_ids
        self.found: dict[bytes, JobResult] = {}
        self.missing: dict[bytes, Job] = {}

    def watched(self) -> list[bytes]:
        return list(self.missing)

    def note(self, job_id: bytes, reply: Reply) -> None:
        """A job that was missing has ended; without a result it is left out."""
        del self.missing[job_id]
        if isinstance(reply, JobResult):
            self.found[job_id] = reply

    def reply(self, without: Reply = NOT_FOUND) -> Reply:
        """What there is, in the order asked for, as far as it may be sent in one reply; `without` anything."""
        results: list[JobResult] = []
        size = 0
        for job_id in self.job_ids:
            result = self.found.pop(job_id, None)
            if result is not None:
                size += len(result.result)
                if results and size > BULK_BYTES:
                    break
                results.append(result)
        return JobResults(results) if results else without


class RunWaiter(ResultWaiter):
    """Waits for the result of the foreground job that it owns.

    `overdue` is set when its wait has timed out while a worker holds the job; it then lasts until that lease ends.
    """

    __slots__ = ("overdue",)

    def __init__(self, on_reply: OnReply, deadline_ms: int, job: Job) -> None:
        super().__init__(on_reply, deadline_ms, job)
        self.overdue = False

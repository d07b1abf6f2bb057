"""What the server answers: plain data, the same for every door and every client."""

from typing import Final

from mypy_extensions import mypyc_attr

from workq.record import Record
from workq.values import NO_OPTIONS, QueueOptions


@mypyc_attr(acyclic=True)
class Reply(Record):
    """Base of all replies."""

    __slots__ = ()


class Ok(Reply):
    """Done, and as durable as the server's sync policy promises."""

    __slots__ = ()


class TimedOut(Reply):
    """The wait ended without what was waited for."""

    __slots__ = ()


class NotFound(Reply):
    """There is no such job or queue."""

    __slots__ = ()


class Refused(Reply):
    """The client's mistake (`-CLIENT-ERROR`); `text` says what is wrong and what is allowed."""

    __match_args__ = ("text",)
    __slots__ = __match_args__

    def __init__(self, text: str) -> None:
        self.text = text


class Unavailable(Reply):
    """The server cannot do it now (`-SERVER-ERROR`); `text` says why."""

    __match_args__ = ("text",)
    __slots__ = __match_args__

    def __init__(self, text: str) -> None:
        self.text = text


@mypyc_attr(acyclic=True)
class LeasedJob(Reply):
    """A job handed to a worker, who has `ttr_ms` from now to finish it.

    meta     for doors
    attempt  the number of this attempt, larger than those of all earlier ones; 0 if the lease did not ask for it
    """

    __match_args__ = ("job_id", "name", "ttr_ms", "payload", "meta", "attempt")
    __slots__ = __match_args__

    def __init__(
        self, job_id: bytes, name: bytes, ttr_ms: int, payload: bytes, meta: bytes = b"", attempt: int = 0
    ) -> None:
        self.job_id = job_id
        self.name = name
        self.ttr_ms = ttr_ms
        self.payload = payload
        self.meta = meta
        self.attempt = attempt


@mypyc_attr(acyclic=True)
class LeasedJobs(Reply):
    """Several jobs at a time, as `LeasedJob`; at least one."""

    __match_args__ = ("jobs",)
    __slots__ = __match_args__

    def __init__(self, jobs: list[LeasedJob]) -> None:
        self.jobs = jobs


@mypyc_attr(acyclic=True)
class JobResult(Reply):
    """The outcome of a job: `success` after `complete`, not after `fail` or when its attempts were used up."""

    __match_args__ = ("job_id", "success", "result")
    __slots__ = __match_args__

    def __init__(self, job_id: bytes, success: bool, result: bytes) -> None:
        self.job_id = job_id
        self.success = success
        self.result = result


class JobResults(Reply):
    """The outcomes of several jobs, in the order asked for, without those that have none; at least one."""

    __match_args__ = ("results",)
    __slots__ = __match_args__

    def __init__(self, results: list[JobResult]) -> None:
        self.results = results


class ServerInfo(Reply):
    """Figures of the whole server: connections now, jobs whose TTL ended before they did, start as Unix time."""

    __match_args__ = ("active_clients", "evicted_jobs", "started_ms")
    __slots__ = __match_args__

    def __init__(self, active_clients: int, evicted_jobs: int, started_ms: int) -> None:
        self.active_clients = active_clients
        self.evicted_jobs = evicted_jobs
        self.started_ms = started_ms


class QueueTotals(Record):
    """What happened in a queue since the server was started; the last three are jobs of the last minute.

    returned  leases whose TTR ended with attempts left
    expired   jobs whose TTL ended
    deleted   jobs that clients deleted
    """

    __match_args__ = (
        *("added", "leased", "completed", "failed", "returned", "expired", "deleted"),
        *("added_per_minute", "leased_per_minute", "finished_per_minute"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        added: int = 0,
        leased: int = 0,
        completed: int = 0,
        failed: int = 0,
        returned: int = 0,
        expired: int = 0,
        deleted: int = 0,
        added_per_minute: int = 0,
        leased_per_minute: int = 0,
        finished_per_minute: int = 0,
    ) -> None:
        self.added = added
        self.leased = leased
        self.completed = completed
        self.failed = failed
        self.returned = returned
        self.expired = expired
        self.deleted = deleted
        self.added_per_minute = added_per_minute
        self.leased_per_minute = leased_per_minute
        self.finished_per_minute = finished_per_minute


_NO_TOTALS: Final = QueueTotals()


class QueueInfo(Record):
    """Figures of one queue: its jobs by state, who waits, its options, what happened.

    leasers           leases that wait for a job of it
    oldest_ready_ms   age of the job that has been ready longest, 0 without one: since it was added, or since its time
    """

    __match_args__ = (
        *("name", "ready_len", "scheduled_len", "leased_len", "failed_len", "completed_len"),
        *("leasers", "oldest_ready_ms", "options", "totals"),
    )
    __slots__ = __match_args__

    def __init__(
        self,
        name: bytes,
        ready_len: int,
        scheduled_len: int,
        leased_len: int,
        failed_len: int = 0,
        completed_len: int = 0,
        leasers: int = 0,
        oldest_ready_ms: int = 0,
        options: QueueOptions = NO_OPTIONS,
        totals: QueueTotals = _NO_TOTALS,
    ) -> None:
        self.name = name
        self.ready_len = ready_len
        self.scheduled_len = scheduled_len
        self.leased_len = leased_len
        self.failed_len = failed_len
        self.completed_len = completed_len
        self.leasers = leasers
        self.oldest_ready_ms = oldest_ready_ms
        self.options = options
        self.totals = totals


class JobInfo(Record):
    """A job as `inspect` shows it.

    `state` is 0 new (or scheduled), 1 completed, 2 failed, 3 pending (back after an attempt), 4 leased.
    `scheduled_ms` is the time that the job waits for or, when it does not, was scheduled for; 0 without one. Times are
    Unix milliseconds. `meta` is what a door keeps with the job, `result` what `complete` or the final `fail` said; None
    before that; `progress` is the last one that a worker reported, b"" for none.
    """

    __match_args__ = (
        "job_id",
        "name",
        "ttr_ms",
        "ttl_ms",
        "payload",
        "max_attempts",
        "attempts",
        "max_fails",
        "fails",
        "priority",
        "state",
        "created_ms",
        "scheduled_ms",
        "meta",
        "result",
        "progress",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        job_id: bytes,
        name: bytes,
        ttr_ms: int,
        ttl_ms: int,
        payload: bytes,
        max_attempts: int,
        attempts: int,
        max_fails: int,
        fails: int,
        priority: int,
        state: int,
        created_ms: int,
        scheduled_ms: int,
        meta: bytes = b"",
        result: bytes | None = None,
        progress: bytes = b"",
    ) -> None:
        self.job_id = job_id
        self.name = name
        self.ttr_ms = ttr_ms
        self.ttl_ms = ttl_ms
        self.payload = payload
        self.max_attempts = max_attempts
        self.attempts = attempts
        self.max_fails = max_fails
        self.fails = fails
        self.priority = priority
        self.state = state
        self.created_ms = created_ms
        self.scheduled_ms = scheduled_ms
        self.meta = meta
        self.result = result
        self.progress = progress


class RecurringInfo(Record):
    """A recurring job as `inspect` shows it. Times are Unix milliseconds, 0 for none.

    `last_ms` and `last_id` tell the last occurrence that became a job; `occurrences` did, `skipped` did not.
    """

    __match_args__ = (
        "job_id",
        "name",
        "ttr_ms",
        "ttl_ms",
        "payload",
        "max_attempts",
        "max_fails",
        "priority",
        "rule",
        "skips",
        "occurrences",
        "skipped",
        "next_ms",
        "last_ms",
        "last_id",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        job_id: bytes,
        name: bytes,
        ttr_ms: int,
        ttl_ms: int,
        payload: bytes,
        max_attempts: int,
        max_fails: int,
        priority: int,
        rule: str,
        skips: bool,
        occurrences: int,
        skipped: int,
        next_ms: int,
        last_ms: int,
        last_id: bytes,
    ) -> None:
        self.job_id = job_id
        self.name = name
        self.ttr_ms = ttr_ms
        self.ttl_ms = ttl_ms
        self.payload = payload
        self.max_attempts = max_attempts
        self.max_fails = max_fails
        self.priority = priority
        self.rule = rule
        self.skips = skips
        self.occurrences = occurrences
        self.skipped = skipped
        self.next_ms = next_ms
        self.last_ms = last_ms
        self.last_id = last_id


class RecurringJobs(Reply):
    """A page of recurring jobs."""

    __match_args__ = ("jobs",)
    __slots__ = __match_args__

    def __init__(self, jobs: list[RecurringInfo]) -> None:
        self.jobs = jobs


class Documents(Reply):
    """Documents by key, sorted."""

    __match_args__ = ("documents",)
    __slots__ = __match_args__

    def __init__(self, documents: list[tuple[bytes, bytes]]) -> None:
        self.documents = documents


class Cleared(Reply):
    """How many jobs of a queue were deleted."""

    __match_args__ = ("name", "deleted")
    __slots__ = __match_args__

    def __init__(self, name: bytes, deleted: int) -> None:
        self.name = name
        self.deleted = deleted


class Queues(Reply):
    """A page of queues."""

    __match_args__ = ("queues",)
    __slots__ = __match_args__

    def __init__(self, queues: list[QueueInfo]) -> None:
        self.queues = queues


class Jobs(Reply):
    """A page of jobs."""

    __match_args__ = ("jobs",)
    __slots__ = __match_args__

    def __init__(self, jobs: list[JobInfo]) -> None:
        self.jobs = jobs


class LatestJobs(Reply):
    """Jobs, each with the time at which its lease ends, in Unix milliseconds; 0 for one that is not leased."""

    __match_args__ = ("jobs",)
    __slots__ = __match_args__

    def __init__(self, jobs: list[tuple[JobInfo, int]]) -> None:
        self.jobs = jobs


class JobIds(Reply):
    """Ids of jobs."""

    __match_args__ = ("job_ids",)
    __slots__ = __match_args__

    def __init__(self, job_ids: list[bytes]) -> None:
        self.job_ids = job_ids


OK: Final = Ok()
TIMED_OUT: Final = TimedOut()
NOT_FOUND: Final = NotFound()
DUPLICATE_JOB: Final = Refused("Duplicate job")
NOT_FAILED: Final = Refused("Not failed")
QUEUE_FULL: Final = Refused("Queue full")
DUPLICATE_RESULT: Final = Refused("Duplicate result")
LEASE_EXPIRED: Final = Refused("Lease expired: this attempt does not hold the job any more")
NOT_LEASED: Final = Refused("Not leased: no worker holds the job")

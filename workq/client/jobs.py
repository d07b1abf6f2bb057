"""What the clients hand out: plain values, with names and ids as `str`, seconds as `float`, times as aware UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, Literal

from workq import replies as r
from workq.protocol.text import format_id

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time_ms: int) -> datetime:
    """The aware UTC time of Unix milliseconds."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def id_text(job_id: bytes) -> str:
    """The canonical text of a job id."""
    return format_id(job_id).decode()


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was leased: it is yours until `deadline`.

    id        UUID in lower case
    name      its queue
    payload   what its producer gave, decoded by the client's or the worker's codec (bytes by default)
    ttr       seconds that the lease lasts
    deadline  when the lease ends, by this machine's clock; from then on the server may give the job to another worker
    attempt   the number of this attempt, which no other lease of the job has; None unless the lease was `fenced`

    Raises nothing. Example::

        job = client.lease("resize")
        client.complete(job.id, b"done")
    """

    id: str
    name: str
    payload: Any
    ttr: float
    deadline: datetime
    attempt: int | None = None

    def remaining(self) -> float:
        """Seconds until `deadline`, below zero when it has passed."""
        return (self.deadline - datetime.now(UTC)).total_seconds()


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended.

    id       the job
    success  True after `complete`; False after a final `fail`, or when the attempts were used up
    result   what the worker gave: decoded by the client's codec after a success, the raw bytes after a failure

    Raises nothing. Example::

        outcome = client.run("resize", b"photo.jpg", timeout=30)
        print(outcome.result if outcome.success else outcome.error)
    """

    id: str
    success: bool
    result: Any

    @property
    def error(self) -> str | None:
        """The worker's words about a failure as text, None after a success."""
        return None if self.success else bytes(self.result).decode("utf-8", "replace")


class JobState(Enum):
    """Where a job stands, as `inspect_job` tells; the value is the word for people.

    NEW        not leased yet, ready or waiting for its scheduled time
    COMPLETED  done
    FAILED     given up
    PENDING    back in its queue after an attempt
    LEASED     with a worker

    Raises nothing. Example::

        assert client.inspect_job(job.id).state is workq.JobState.LEASED
    """

    NEW = "new"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"
    LEASED = "leased"


# In the order of their numbers on the wire.
_STATES: Final = tuple(JobState)


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as `inspect_job`, `inspect_jobs` and `inspect_scheduled_jobs` show it.

    payload       decoded by the client's codec, or the bytes as they are if it cannot
    ttr, ttl      seconds; a job of `run` has the ttl 0
    max_attempts  leases allowed, 0 for no limit; `attempts` is how many there were, since the last `retry`
    max_fails     the fail that is final, 0 and 1 both mean the first; `fails` is how many there were
    created       to the second; so is `scheduled`, None for a job that never had a time
    progress      the last that a worker told of how far it is, as bytes; b"" for none

    Raises nothing. Example::

        info = client.inspect_job(job_id)
        print(info.state.value, info.attempts)
    """

    id: str
    name: str
    payload: Any
    ttr: float
    ttl: float
    priority: int
    max_attempts: int
    attempts: int
    max_fails: int
    fails: int
    state: JobState
    created: datetime
    scheduled: datetime | None
    progress: bytes = b""

    @classmethod
    def of(cls, info: r.JobInfo, payload: Any) -> "JobInfo":
        """The public form of what the server told; `payload` is its payload decoded."""
        return cls(
            id=id_text(info.job_id),
            name=info.name.decode(),
            payload=payload,
            ttr=info.ttr_ms / 1000,
            ttl=info.ttl_ms / 1000,
            priority=info.priority,
            max_attempts=info.max_attempts,
            attempts=info.attempts,
            max_fails=info.max_fails,
            fails=info.fails,
            state=_STATES[info.state],
            created=moment(info.created_ms),
            scheduled=moment(info.scheduled_ms) if info.scheduled_ms else None,
            progress=info.progress,
        )


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as `inspect_queue` and `inspect_queues` show it; an old server tells `ready`, `scheduled`, `leased` only.

    ready, scheduled, leased, failed, completed   jobs by state
    waiting_leasers   leases that wait for a job of this queue
    oldest_ready_age  seconds that the oldest ready job has been there, or since its time; 0 without one
    paused            whether leases wait until `resume`
    max_len to returned   the options, as `configure_queue` takes them; 0 for no limit
    total_added to total_deleted   how often that happened since the server was started
    added_per_minute, leased_per_minute, finished_per_minute   the same in the last minute

    Raises nothing. Example::

        queue = client.inspect_queue("resize")
        print(queue.ready, queue.oldest_ready_age, queue.finished_per_minute)
    """

    name: str
    ready: int
    scheduled: int
    leased: int
    failed: int = 0
    completed: int = 0
    waiting_leasers: int = 0
    oldest_ready_age: float = 0.0
    paused: bool = False
    max_len: int = 0
    max_leased: int = 0
    lease_rate: float = 0.0
    lease_burst: int = 0
    ttr: float = 0.0
    max_attempts: int = 0
    returned: Literal["front", "back"] = "front"
    total_added: int = 0
    total_leased: int = 0
    total_completed: int = 0
    total_failed: int = 0
    total_returned: int = 0
    total_expired: int = 0
    total_deleted: int = 0
    added_per_minute: int = 0
    leased_per_minute: int = 0
    finished_per_minute: int = 0

    @classmethod
    def of(cls, info: r.QueueInfo) -> "QueueInfo":
        """The public form of what the server told."""
        options = info.options
        totals = info.totals
        return cls(
            name=info.name.decode(),
            ready=info.ready_len,
            scheduled=info.scheduled_len,
            leased=info.leased_len,
            failed=info.failed_len,
            completed=info.completed_len,
            waiting_leasers=info.leasers,
            oldest_ready_age=info.oldest_ready_ms / 1000,
            paused=options.paused,
            max_len=options.max_len,
            max_leased=options.max_leased,
            lease_rate=options.lease_rate / 1000,
            lease_burst=options.lease_burst,
            ttr=options.ttr_ms / 1000,
            max_attempts=options.max_attempts,
            returned="back" if options.to_back else "front",
            total_added=totals.added,
            total_leased=totals.leased,
            total_completed=totals.completed,
            total_failed=totals.failed,
            total_returned=totals.returned,
            total_expired=totals.expired,
            total_deleted=totals.deleted,
            added_per_minute=totals.added_per_minute,
            leased_per_minute=totals.leased_per_minute,
            finished_per_minute=totals.finished_per_minute,
        )


@dataclass(frozen=True, slots=True)
class RecurringInfo:
    """A recurring job as `inspect_recurring` shows it.

    payload      decoded by the client's codec, or the bytes as they are if it cannot
    rule         ``every:<ms>`` or ``cron:`` with its fields joined by ``_`` and, behind an ``@``, the time zone
    overlap      ``skip`` if the next job waits while the last one is unfinished, else ``allow``
    occurrences  how many became jobs; `skipped` did not, because a later one took their place
    next         the time of the next one, None if none is to come
    last         the time of the last one that became a job, and `last_id` the id of that; None before the first

    Raises nothing. Example::

        print(client.inspect_recurring()[0].next)
    """

    id: str
    name: str
    payload: Any
    rule: str
    overlap: str
    ttr: float
    ttl: float
    priority: int
    max_attempts: int
    max_fails: int
    occurrences: int
    skipped: int
    next: datetime | None
    last: datetime | None
    last_id: str | None

    @classmethod
    def of(cls, info: r.RecurringInfo, payload: Any) -> "RecurringInfo":
        """The public form of what the server told; `payload` is its payload decoded."""
        return cls(
            id=id_text(info.job_id),
            name=info.name.decode(),
            payload=payload,
            rule=info.rule,
            overlap="skip" if info.skips else "allow",
            ttr=info.ttr_ms / 1000,
            ttl=info.ttl_ms / 1000,
            priority=info.priority,
            max_attempts=info.max_attempts,
            max_fails=info.max_fails,
            occurrences=info.occurrences,
            skipped=info.skipped,
            next=moment(info.next_ms) if info.next_ms else None,
            last=moment(info.last_ms) if info.last_ms else None,
            last_id=id_text(info.last_id) if info.last_id else None,
        )


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Figures of the server: connections now, jobs whose TTL ended before they did, its start to the second.

    Raises nothing. Example::

        print(client.inspect_server().started.isoformat())
    """

    active_clients: int
    evicted_jobs: int
    started: datetime

    @classmethod
    def of(cls, info: r.ServerInfo) -> "ServerInfo":
        """The public form of what the server told."""
        return cls(info.active_clients, info.evicted_jobs, moment(info.started_ms))

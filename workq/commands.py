"""What can be asked of the server: the narrow waist that every door, and every client, speaks.

A command is plain data. The values in it are already in range: a door that cannot build a command answers its own
client with the `InvalidValue` it got. Ids are the 16 bytes of a UUID, names are ASCII bytes, times are milliseconds.
"""

from typing import ClassVar, Final

from mypy_extensions import mypyc_attr

from workq.record import Record
from workq.recurrence import RULE_LENGTH, Rule
from workq.values import DOCUMENT_KEY_SIZE, DOCUMENT_SIZE, JobSpec, QueueOptions

# What a lease takes in the log, at most.
_LEASE_BYTES: Final = 40
# Queues of a lease that are asked in no time.
_FEW_NAMES: Final = 64


@mypyc_attr(acyclic=True)
class Command(Record):
    """Base of all commands. Those that may change a job say so in `changes`."""

    __slots__ = ()
    changes: ClassVar[bool] = False

    def log_bytes(self) -> int:
        """For how many bytes there must be room in the log, beyond those that any command may need."""
        return 0

    def may_take_long(self) -> bool:
        """Whether it may take a thousand times as long as others, so that nothing is done behind it in the same go."""
        return False


@mypyc_attr(acyclic=True)
class Add(Command):
    """Create a job that is ready in `delay_ms`. Replies: `Ok`, `Refused`. `meta` is kept with it for a door.

    With a delay it is a scheduled job: its TTL begins with its time.
    """

    __match_args__ = ("job_id", "spec", "payload", "meta", "delay_ms")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, spec: JobSpec, payload: bytes, meta: bytes = b"", delay_ms: int = 0) -> None:
        self.job_id = job_id
        self.spec = spec
        self.payload = payload
        self.meta = meta
        self.delay_ms = delay_ms

    def log_bytes(self) -> int:
        return len(self.payload) + len(self.meta)


class Schedule(Command):
    """Create a job that is ready at `run_at_ms` (Unix time). Replies: `Ok`, `Refused`. `meta` is kept for a door."""

    __match_args__ = ("job_id", "spec", "run_at_ms", "payload", "meta")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, spec: JobSpec, run_at_ms: int, payload: bytes, meta: bytes = b"") -> None:
        self.job_id = job_id
        self.spec = spec
        self.run_at_ms = run_at_ms
        self.payload = payload
        self.meta = meta

    def log_bytes(self) -> int:
        return len(self.payload) + len(self.meta)


class Recur(Command):
    """Create a job whenever `rule` says, each with an id made from `job_id` and its time. Replies: `Ok`, `Refused`.

    With `skips`, an occurrence waits while the job of the last one is unfinished. `meta` goes into each job.
    """

    __match_args__ = ("job_id", "spec", "rule", "skips", "payload", "meta")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(
        self, job_id: bytes, spec: JobSpec, rule: Rule, skips: bool, payload: bytes, meta: bytes = b""
    ) -> None:
        self.job_id = job_id
        self.spec = spec
        self.rule = rule
        self.skips = skips
        self.payload = payload
        self.meta = meta

    def log_bytes(self) -> int:
        return len(self.payload) + len(self.meta) + len(self.spec.name) + RULE_LENGTH

    def may_take_long(self) -> bool:
        return True  # to look for a time that never comes


class Run(Command):
    """Create a foreground job and wait for its result. Replies: `JobResult`, `TimedOut`, `NotFound`, `Refused`."""

    __match_args__ = ("job_id", "spec", "wait_ms", "payload")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, spec: JobSpec, wait_ms: int, payload: bytes) -> None:
        self.job_id = job_id
        self.spec = spec
        self.wait_ms = wait_ms
        self.payload = payload

    def log_bytes(self) -> int:
        return len(self.payload)


@mypyc_attr(acyclic=True)
class Lease(Command):
    """Take the best ready job of one of `names`, waiting for one. Replies: `LeasedJob`, `LeasedJobs`, `TimedOut`.

    count   how many jobs to take if they are ready; with more than 1 the reply is `LeasedJobs`, be it of one
    fenced  whether the worker wants to know the number of its attempt, to say it in all that it does with the job
    """

    __match_args__ = ("names", "wait_ms", "fenced", "count")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, names: tuple[bytes, ...], wait_ms: int, fenced: bool = False, count: int = 1) -> None:
        self.names = names
        self.wait_ms = wait_ms
        self.fenced = fenced
        self.count = count

    def log_bytes(self) -> int:
        return self.count * _LEASE_BYTES if self.count > 1 else 0

    def may_take_long(self) -> bool:
        return len(self.names) > _FEW_NAMES


@mypyc_attr(acyclic=True)
class Complete(Command):
    """Finish a job with success. Replies: `Ok`, `NotFound`, `Refused`.

    Here and in the commands below, `attempt` says who is speaking: the worker with this attempt at the job. Unless it
    holds the job now, the command is refused. 0 is anybody.
    """

    __match_args__ = ("job_id", "result", "attempt")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, result: bytes, attempt: int = 0) -> None:
        self.job_id = job_id
        self.result = result
        self.attempt = attempt

    def log_bytes(self) -> int:
        return len(self.result)


@mypyc_attr(acyclic=True)
class Fail(Command):
    """Finish an attempt, or the job, without success. Replies: `Ok`, `NotFound`, `Refused`.

    final  whether the job has failed even if it has attempts and fails left
    """

    __match_args__ = ("job_id", "result", "attempt", "final")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, result: bytes, attempt: int = 0, final: bool = False) -> None:
        self.job_id = job_id
        self.result = result
        self.attempt = attempt
        self.final = final

    def log_bytes(self) -> int:
        return len(self.result)


@mypyc_attr(acyclic=True)
class Touch(Command):
    """Start the TTR of a lease again. Replies: `Ok`, `NotFound`, `Refused`."""

    __match_args__ = ("job_id", "attempt")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, attempt: int = 0) -> None:
        self.job_id = job_id
        self.attempt = attempt


class Release(Command):
    """Give a leased job back, to be ready in `delay_ms`. Replies: `Ok`, `NotFound`, `Refused`."""

    __match_args__ = ("job_id", "delay_ms", "attempt")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, delay_ms: int = 0, attempt: int = 0) -> None:
        self.job_id = job_id
        self.delay_ms = delay_ms
        self.attempt = attempt


class Progress(Command):
    """Tell how far the work on a leased job is. Replies: `Ok`, `NotFound`, `Refused`.

    touches  whether it starts the TTR again, too
    """

    __match_args__ = ("job_id", "progress", "attempt", "touches")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes, progress: bytes, attempt: int = 0, touches: bool = False) -> None:
        self.job_id = job_id
        self.progress = progress
        self.attempt = attempt
        self.touches = touches

    def log_bytes(self) -> int:
        return len(self.progress)


class Result(Command):
    """Read a job's result, waiting for it. Replies: `JobResult`, `TimedOut`, `NotFound`."""

    __match_args__ = ("job_id", "wait_ms")
    __slots__ = __match_args__

    def __init__(self, job_id: bytes, wait_ms: int) -> None:
        self.job_id = job_id
        self.wait_ms = wait_ms


class Results(Command):
    """Read the results of several jobs, waiting for all of them. Replies: `JobResults`, `TimedOut`, `NotFound`.

    When the wait ends the reply has those that there are. Jobs that do not exist are left out.
    """

    __match_args__ = ("job_ids", "wait_ms")
    __slots__ = __match_args__

    def __init__(self, job_ids: tuple[bytes, ...], wait_ms: int) -> None:
        self.job_ids = job_ids
        self.wait_ms = wait_ms

    def may_take_long(self) -> bool:
        return True


@mypyc_attr(acyclic=True)
class Delete(Command):
    """Remove a job in whatever state it is, or end a recurring one. Replies: `Ok`, `NotFound`."""

    __match_args__ = ("job_id",)
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id


class Retry(Command):
    """Put a job that has failed back into its queue, as if it had not been tried. Replies: `Ok`, `NotFound`,
    `Refused`. The numbers of its attempts, which fence, go on.
    """

    __match_args__ = ("job_id",)
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id


CLEAR_STATES: Final[tuple[str, ...]] = ("ready", "scheduled", "failed", "completed", "all")


class Clear(Command):
    """Delete the jobs of a queue that are in `state`, one of `CLEAR_STATES`. Replies: `Cleared`, `NotFound`."""

    __match_args__ = ("name", "state")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, name: bytes, state: str = "all") -> None:
        self.name = name
        self.state = state


class ConfigureQueue(Command):
    """Change options of a queue: those that are not None. Replies: `Ok`. What they mean: `QueueOptions`."""

    __match_args__ = (
        "name",
        "max_len",
        "max_leased",
        "lease_rate",
        "lease_burst",
        "ttr_ms",
        "max_attempts",
        "to_back",
    )
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(
        self,
        name: bytes,
        max_len: int | None = None,
        max_leased: int | None = None,
        lease_rate: int | None = None,
        lease_burst: int | None = None,
        ttr_ms: int | None = None,
        max_attempts: int | None = None,
        to_back: bool | None = None,
    ) -> None:
        self.name = name
        self.max_len = max_len
        self.max_leased = max_leased
        self.lease_rate = lease_rate
        self.lease_burst = lease_burst
        self.ttr_ms = ttr_ms
        self.max_attempts = max_attempts
        self.to_back = to_back

    def may_take_long(self) -> bool:
        return True  # to begin leases anew

    def changed(self, options: QueueOptions) -> QueueOptions:
        """What `options` become. Raises `InvalidValue` for the first value out of range."""
        return QueueOptions(
            options.max_len if self.max_len is None else self.max_len,
            options.max_leased if self.max_leased is None else self.max_leased,
            options.lease_rate if self.lease_rate is None else self.lease_rate,
            options.lease_burst if self.lease_burst is None else self.lease_burst,
            options.ttr_ms if self.ttr_ms is None else self.ttr_ms,
            options.max_attempts if self.max_attempts is None else self.max_attempts,
            options.to_back if self.to_back is None else self.to_back,
            options.paused,
        )


class PauseQueue(Command):
    """Let leases of a queue wait. Reply: `Ok`."""

    __match_args__ = ("name",)
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, name: bytes) -> None:
        self.name = name


class ResumeQueue(Command):
    """End what `PauseQueue` began. Reply: `Ok`."""

    __match_args__ = ("name",)
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, name: bytes) -> None:
        self.name = name


class PutDocument(Command):
    """Let a door keep `value` under `key`, b"" to remove it. Reply: `Ok`. Doors begin their keys with their names."""

    __match_args__ = ("key", "value")
    __slots__ = __match_args__
    changes: ClassVar[bool] = True

    def __init__(self, key: bytes, value: bytes) -> None:
        """Raise `InvalidValue` for one that is too long."""
        DOCUMENT_KEY_SIZE.check(len(key))
        DOCUMENT_SIZE.check(len(value))
        self.key = key
        self.value = value

    def log_bytes(self) -> int:
        return len(self.key) + len(self.value)


class GetDocument(Command):
    """Read the document of a door under `key`. Replies: `Documents` with this one, `NotFound`."""

    __match_args__ = ("key",)
    __slots__ = __match_args__

    def __init__(self, key: bytes) -> None:
        self.key = key


class ListDocuments(Command):
    """Read the documents of doors whose keys begin with `prefix`. Reply: `Documents`."""

    __match_args__ = ("prefix",)
    __slots__ = __match_args__

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix


class Ping(Command):
    """Ask whether the server is there. Reply: `Ok`."""

    __slots__ = ()


class Quit(Command):
    """End the connection when all before is answered, and this. Reply: `Ok`."""

    __slots__ = ()


class InspectServer(Command):
    """Ask for the server's figures. Reply: `ServerInfo`."""

    __slots__ = ()


class InspectQueue(Command):
    """Ask for one queue's figures. Replies: `Queues`, `NotFound`."""

    __match_args__ = ("name",)
    __slots__ = __match_args__

    def __init__(self, name: bytes) -> None:
        self.name = name


class InspectQueues(Command):
    """List queues by name. Reply: `Queues`."""

    __match_args__ = ("cursor", "limit")
    __slots__ = __match_args__

    def __init__(self, cursor: int, limit: int) -> None:
        self.cursor = cursor
        self.limit = limit


class InspectJob(Command):
    """Ask for one job. Replies: `Jobs`, `NotFound`."""

    __match_args__ = ("job_id",)
    __slots__ = __match_args__

    def __init__(self, job_id: bytes) -> None:
        self.job_id = job_id


class InspectJobIds(Command):
    """List all jobs of a queue, finished ones too, in no order. Reply: `JobIds`. It takes its time: see to it that it
    is asked seldom.
    """

    __match_args__ = ("name",)
    __slots__ = __match_args__

    def __init__(self, name: bytes) -> None:
        self.name = name


class InspectLatest(Command):
    """List the jobs of a queue that became ready last, and those that were leased last: up to `limit` of each, the last
    first. Reply: `LatestJobs`.
    """

    __match_args__ = ("name", "limit")
    __slots__ = __match_args__

    def __init__(self, name: bytes, limit: int) -> None:
        self.name = name
        self.limit = limit


LISTED_STATES: Final[tuple[str, ...]] = ("ready", "scheduled", "leased", "failed", "completed")


class InspectJobs(Command):
    """List the jobs of a queue that are in `state`, one of `LISTED_STATES`. Replies: `Jobs`, `NotFound`.

    Ready ones come in the order of their lease, scheduled ones in that of their time, leased ones from the oldest lease
    on, finished ones from the newest on.
    """

    __match_args__ = ("name", "state", "cursor", "limit")
    __slots__ = __match_args__

    def __init__(self, name: bytes, state: str, cursor: int, limit: int) -> None:
        self.name = name
        self.state = state
        self.cursor = cursor
        self.limit = limit

    def may_take_long(self) -> bool:
        return True  # to count the jobs before the page


class InspectRecurring(Command):
    """List the recurring jobs by their ids. Reply: `RecurringJobs`."""

    __match_args__ = ("cursor", "limit")
    __slots__ = __match_args__

    def __init__(self, cursor: int, limit: int) -> None:
        self.cursor = cursor
        self.limit = limit

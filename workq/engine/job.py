"""A job and the states it moves through."""

from typing import TYPE_CHECKING, Final

from workq.values import JobSpec

if TYPE_CHECKING:
    from workq.engine.queue import Queue

SCHEDULED: Final = 0
READY: Final = 1
LEASED: Final = 2
COMPLETED: Final = 3
FAILED: Final = 4
GONE: Final = 5

STATE_NAMES: Final = ("scheduled", "ready", "leased", "completed", "failed", "gone")

# The one table of the life of a job: from a state (the key) a job may move to these. The picture in ARCHITECTURE.md
# is tested against it.
TRANSITIONS: Final[dict[int, frozenset[int]]] = {
    SCHEDULED: frozenset((READY, COMPLETED, FAILED, GONE)),
    READY: frozenset((SCHEDULED, LEASED, COMPLETED, FAILED, GONE)),
    LEASED: frozenset((SCHEDULED, READY, COMPLETED, FAILED, GONE)),
    COMPLETED: frozenset((GONE,)),
    FAILED: frozenset((READY, GONE)),
    GONE: frozenset(),
}

# 146 million years: a deadline nobody will see, small enough for a machine word.
NEVER_MS: Final = 2**62


# Of a job that was never sent to the back.
_UNMOVED: Final = -1


class Extra:
    """What few jobs have, so that the others do not pay for it.

    meta          what a door keeps with the job: its own business, opaque to everybody else
    progress      the last progress that a worker reported
    spent         attempts that do not count any more, because a `retry` came after them
    fails         how often an attempt failed
    scheduled_ms  the time it was scheduled for, 0 when it was added without one
    place         its place if it was sent to the back
    """

    __slots__ = ("meta", "progress", "spent", "fails", "scheduled_ms", "place")

    def __init__(
        self,
        meta: bytes = b"",
        progress: bytes = b"",
        spent: int = 0,
        fails: int = 0,
        scheduled_ms: int = 0,
        place: int = _UNMOVED,
    ) -> None:
        self.meta = meta
        self.progress = progress
        self.spent = spent
        self.fails = fails
        self.scheduled_ms = scheduled_ms
        self.place = place

    def copy(self) -> "Extra":
        """The same, apart."""
        return Extra(self.meta, self.progress, self.spent, self.fails, self.scheduled_ms, self.place)

    def size(self) -> int:
        """Bytes of what has no fixed length."""
        return len(self.meta) + len(self.progress)

    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return (
            not self.meta
            and not self.progress
            and self.spent == 0
            and self.fails == 0
            and self.scheduled_ms == 0
            and self.place == _UNMOVED
        )


class Job:
    """One job. Only `State` changes it, and only by applying an event.

    job_id        16 bytes
    seq           order of creation, unique
    created_ms    Unix time of creation
    queue         the queue it is in, from the moment it is inserted into the state
    before, after its neighbours in the `JobList` of its queue and state
    attempts      how often it was leased in all its life: no two leases of it have the same number, so this one fences
    deadline_ms   LEASED: end of the TTR; SCHEDULED: when it becomes ready; COMPLETED and FAILED: when it finished
    result        what `complete` or the final `fail` said; None before that
    extra         None for most jobs
    """

    __slots__ = (
        "job_id",
        "spec",
        "payload",
        "created_ms",
        "seq",
        "state",
        "attempts",
        "deadline_ms",
        "result",
        "queue",
        "extra",
        "before",
        "after",
    )

    def __init__(
        self,
        job_id: bytes,
        spec: JobSpec,
        payload: bytes,
        created_ms: int,
        scheduled_ms: int,
        seq: int,
        meta: bytes = b"",
    ) -> None:
        self.job_id = job_id
        self.spec = spec
        self.payload = payload
        self.created_ms = created_ms
        self.seq = seq
        self.state = GONE
        self.attempts = 0
        self.deadline_ms = 0
        self.result: bytes | None = None
        self.queue: Queue
        self.extra: Extra | None = Extra(meta, scheduled_ms=scheduled_ms) if meta or scheduled_ms else None
        self.before: Job | None = None
        self.after: Job | None = None

    @property
    def scheduled_ms(self) -> int:
        """The time it was scheduled for, 0 when it was added without one."""
        return 0 if self.extra is None else self.extra.scheduled_ms

    @property
    def place(self) -> int:
        """Its place among those that were created or scheduled alike: `seq`, or later if it was sent to the back."""
        return self.seq if self.extra is None or self.extra.place == _UNMOVED else self.extra.place

    @place.setter
    def place(self, place: int) -> None:
        if place != self.place:
            self.more().place = place if place != self.seq else _UNMOVED

    def is_unmoved(self) -> bool:
        """Whether it was never sent to the back."""
        return self.extra is None or self.extra.place == _UNMOVED

    def more(self) -> Extra:
        """Its `extra`, made if it has none."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    @property
    def meta(self) -> bytes:
        """What a door keeps with the job, b"" for nothing."""
        return b"" if self.extra is None else self.extra.meta

    @property
    def progress(self) -> bytes:
        """The last progress reported, b"" for none."""
        return b"" if self.extra is None else self.extra.progress

    @property
    def fails(self) -> int:
        """How often an attempt failed, since the last `retry`."""
        return 0 if self.extra is None else self.extra.fails

    @fails.setter
    def fails(self, fails: int) -> None:
        if fails or self.extra is not None:
            self.more().fails = fails

    @property
    def spent(self) -> int:
        """Attempts before the last `retry`."""
        return 0 if self.extra is None else self.extra.spent

    @property
    def counted_attempts(self) -> int:
        """Attempts since the last `retry`: those that limits count."""
        return self.attempts if self.extra is None else self.attempts - self.extra.spent

    def copy(self) -> "Job":
        """The job as it is now, for the log; what happens to either does not change the other."""
        copy = Job(self.job_id, self.spec, self.payload, self.created_ms, 0, self.seq)
        copy.state = self.state
        copy.attempts = self.attempts
        copy.deadline_ms = self.deadline_ms
        copy.result = self.result
        copy.extra = None if self.extra is None else self.extra.copy()
        return copy

    def size(self) -> int:
        """Bytes of its name, payload, result and extra."""
        size = len(self.spec.name) + len(self.payload) + len(self.result or b"")
        return size if self.extra is None else size + self.extra.size()

    def expires_ms(self) -> int:
        """When the TTL ends, counted from the scheduled time if there is one."""
        ttl_ms = self.spec.ttl_ms
        if ttl_ms == 0 or ttl_ms >= NEVER_MS:
            return NEVER_MS
        begins_ms = self.created_ms if self.extra is None else self.scheduled_ms or self.created_ms
        return begins_ms + ttl_ms

    def __repr__(self) -> str:
        return f"<Job {self.job_id.hex()} {self.spec.name.decode()} {STATE_NAMES[self.state]}>"

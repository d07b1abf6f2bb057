"""The values of a job: their ranges, stated once, and the error that names the one that is wrong.

Ranges: `doc/protocol.md`, "Values". Everything that makes a `JobSpec` (the text protocol, an HTTP door, replay of the
log) passes through the same checks.
"""

import math
import re
from typing import Final
from zlib import crc32

from workq.record import Record


class InvalidValue(ValueError):
    """A value is not allowed. The text says which, what it was, and what is allowed; it may be shown to a user."""


class Range:
    """An inclusive range of whole numbers, with the words an error needs."""

    __slots__ = ("what", "lowest", "highest", "unit")

    def __init__(self, what: str, lowest: int, highest: int, unit: str = "") -> None:
        self.what = what
        self.lowest = lowest
        self.highest = highest
        self.unit = unit

    def check(self, value: int) -> int:
        """Return `value`; raise `InvalidValue` when it is outside."""
        if self.lowest <= value <= self.highest:
            return value
        raise self.error(str(value))

    def error(self, value: str) -> InvalidValue:
        """The error for `value`, given as the user wrote it."""
        return InvalidValue(f"Invalid {self.what}: {shown(value)} is not {self}")

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"a whole number from {self.lowest} to {self.highest}{unit}"


SHOWN_LENGTH: Final = 48


def shown(value: str) -> str:
    """`value` as an error message quotes it: printable, short, never a way to forge a second reply line."""
    text = value if len(value) <= SHOWN_LENGTH else value[:SHOWN_LENGTH] + "..."
    return "'" + "".join([c if " " <= c <= "~" else ascii(c)[1:-1] for c in text]) + "'"


DAY_MS: Final = 86_400_000
MIB: Final = 1_048_576

TTR: Final = Range("TTR", 1, DAY_MS, "ms")
TTL: Final = Range("TTL", 1, 2**64 - 1, "ms")
WAIT_TIMEOUT: Final = Range("wait timeout", 0, DAY_MS, "ms")
PRIORITY: Final = Range("Priority", -(2**31), 2**31 - 1)
MAX_ATTEMPTS: Final = Range("Max Attempts", 0, 255)
MAX_FAILS: Final = Range("Max Fails", 0, 255)
# What a spec can hold; the text protocol allows less (above), as it always has.
COUNT: Final = Range("Count", 0, 2**32 - 1)
# 100 years: later than anybody means, and far from the end of a machine word.
LONGEST_DELAY_MS: Final = 3_155_760_000_000
DELAY: Final = Range("delay", 0, LONGEST_DELAY_MS, "ms")
RETRY_DELAY: Final = Range("retry delay", 0, LONGEST_DELAY_MS, "ms")
RETRY_BACKOFF: Final = Range("retry backoff", 1_000, 10_000, "thousandths")
RETRY_MAX_DELAY: Final = Range("retry max delay", 0, LONGEST_DELAY_MS, "ms")
BULK_COUNT: Final = Range("count", 1, 1_000)
# A reply of several jobs or results ends before they have more bytes than this together, so that memory is bounded; it
# always has one, whose limit is `PAYLOAD_SIZE`.
BULK_BYTES: Final = 4 * MIB
ATTEMPT: Final = Range("attempt", 1, 2**32 - 1)
CURSOR: Final = Range("cursor offset", 0, 2**32 - 1)
LIMIT: Final = Range("limit", 1, 100)
PAYLOAD_SIZE: Final = Range("payload size", 0, MIB, "bytes")
RESULT_SIZE: Final = Range("result size", 0, MIB, "bytes")
# The longest progress a worker may report.
MAX_PROGRESS: Final = 4_096
PROGRESS_SIZE: Final = Range("progress size", 0, MAX_PROGRESS, "bytes")
# Of queues. 0 stands for no limit, or for the job's own value.
MAX_LEN: Final = Range("Max Len", 0, 2**32 - 1)
MAX_LEASED: Final = Range("Max Leased", 0, 2**32 - 1)
LEASE_RATE: Final = Range("Lease Rate", 0, 2**32 - 1, "jobs per 1000 s")
LEASE_BURST: Final = Range("Lease Burst", 0, 2**32 - 1)
QUEUE_TTR: Final = Range("TTR", 0, DAY_MS, "ms")
# What options can hold, again more than the text protocol allows.
LONGEST_QUEUE_TTR: Final = Range("TTR", 0, LONGEST_DELAY_MS, "ms")
META_SIZE: Final = Range("meta size", 0, MIB, "bytes")
DOCUMENT_SIZE: Final = Range("document size", 0, MIB, "bytes")
DOCUMENT_KEY_SIZE: Final = Range("document key size", 1, 1024, "bytes")

NIL_ID: Final = bytes(16)
NAME_LENGTH: Final = 255
_NAME: Final = re.compile(rb"[A-Za-z0-9_.\-]{1,255}")


def check_name(name: bytes) -> bytes:
    """Return the queue name `name`; raise `InvalidValue` unless it is 1 to 255 of ``A-Z a-z 0-9 _ - .``."""
    if _NAME.fullmatch(name) is not None:
        return name
    if len(name) > NAME_LENGTH:
        raise InvalidValue(f"Invalid Name: {len(name)} characters are too many, 1 to {NAME_LENGTH} are allowed")
    allowed = f"1 to {NAME_LENGTH} of A-Z a-z 0-9 _ - . are allowed"
    raise InvalidValue(f"Invalid Name: {shown(name.decode('utf-8', 'replace'))}, {allowed}")


class QueueOptions(Record):
    """What was chosen for a queue. 0 stands for no limit, or for what each job says itself.

    max_len       jobs that may wait, ready and scheduled together, before no more can be added
    max_leased    jobs that may be leased at the same time
    lease_rate    leases per 1000 s
    lease_burst   leases at once when there were none for a while; 0: as many as `lease_rate` gives in a second
    ttr_ms        how long a lease lasts, whatever its job says
    max_attempts  leases allowed for each job, beside the job's own limit
    to_back       whether a job whose TTR ended goes behind the others, not to its old place
    paused        whether leases wait
    """

    __match_args__ = (
        "max_len",
        "max_leased",
        "lease_rate",
        "lease_burst",
        "ttr_ms",
        "max_attempts",
        "to_back",
        "paused",
    )
    __slots__ = __match_args__

    def __init__(
        self,
        max_len: int = 0,
        max_leased: int = 0,
        lease_rate: int = 0,
        lease_burst: int = 0,
        ttr_ms: int = 0,
        max_attempts: int = 0,
        to_back: bool = False,
        paused: bool = False,
    ) -> None:
        """Raise `InvalidValue` for the first value out of range."""
        self.max_len = MAX_LEN.check(max_len)
        self.max_leased = MAX_LEASED.check(max_leased)
        self.lease_rate = LEASE_RATE.check(lease_rate)
        self.lease_burst = LEASE_BURST.check(lease_burst)
        self.ttr_ms = LONGEST_QUEUE_TTR.check(ttr_ms)
        self.max_attempts = COUNT.check(max_attempts)
        self.to_back = to_back
        self.paused = paused

    def with_paused(self, paused: bool) -> "QueueOptions":
        """The same, but for `paused`."""
        return QueueOptions(
            self.max_len,
            self.max_leased,
            self.lease_rate,
            self.lease_burst,
            self.ttr_ms,
            self.max_attempts,
            self.to_back,
            paused,
        )


NO_OPTIONS: Final = QueueOptions()


class RetryPolicy(Record):
    """How long a job waits after a `fail` that is not the final one.

    delay_ms             after the first fail
    backoff_thousandths  what each further fail multiplies it with: 1000 for 1, 2500 for 2.5
    max_delay_ms         the longest delay, 0 for no limit
    """

    __match_args__ = ("delay_ms", "backoff_thousandths", "max_delay_ms")
    __slots__ = __match_args__

    def __init__(self, delay_ms: int, backoff_thousandths: int = 1_000, max_delay_ms: int = 0) -> None:
        """Raise `InvalidValue` for the first value out of range."""
        self.delay_ms = RETRY_DELAY.check(delay_ms)
        self.backoff_thousandths = RETRY_BACKOFF.check(backoff_thousandths)
        self.max_delay_ms = RETRY_MAX_DELAY.check(max_delay_ms)

    def wait_ms(self, fails: int, job_id: bytes) -> int:
        """How long to wait after the `fails`-th fail of the job.

        Up to a twentieth is added, by the id, so that jobs which failed together do not come back together.
        """
        longest_ms = self.max_delay_ms or LONGEST_DELAY_MS
        wait_ms = min(self.delay_ms, longest_ms)
        factor = self.backoff_thousandths / 1_000
        if wait_ms > 0 and (fails - 1) * math.log(factor) < math.log(longest_ms / wait_ms):
            wait_ms = int(wait_ms * factor ** (fails - 1))
        elif wait_ms > 0:
            wait_ms = longest_ms
        return wait_ms + wait_ms * (crc32(job_id, fails & 0xFFFF_FFFF) & 1023) // (20 * 1024)


class JobSpec(Record):
    """What the creator of a job chose for it, apart from its id, payload and time.

    Specs are immutable and shared: a million jobs added with the same words hold one spec between them.

    name          queue name, ASCII bytes
    ttr_ms        time to run: how long a lease lasts
    ttl_ms        time to live; 0 only for foreground jobs, which live as long as their client waits
    priority      higher is leased first
    max_attempts  leases allowed, 0 for no limit
    max_fails     the fail that is final; 0 and 1 both mean the first
    retry         how long to wait after a fail; None for not at all
    foreground    whether the job belongs to the connection that waits for it (`run`)
    packed        its bytes in the log, filled in when they are first needed (`workq/log/records.py`)
    """

    __match_args__ = ("name", "ttr_ms", "ttl_ms", "priority", "max_attempts", "max_fails", "retry")
    __slots__ = (
        "name",
        "ttr_ms",
        "ttl_ms",
        "priority",
        "max_attempts",
        "max_fails",
        "retry",
        "foreground",
        "packed",
    )

    def __init__(
        self,
        name: bytes,
        ttr_ms: int,
        ttl_ms: int,
        priority: int = 0,
        max_attempts: int = 0,
        max_fails: int = 0,
        retry: RetryPolicy | None = None,
        *,
        foreground: bool = False,
    ) -> None:
        """Raise `InvalidValue` for the first value out of range."""
        self.name = check_name(name)
        self.ttr_ms = TTR.check(ttr_ms)
        self.ttl_ms = 0 if foreground else TTL.check(ttl_ms)
        self.max_attempts = COUNT.check(max_attempts)
        self.max_fails = COUNT.check(max_fails)
        self.priority = PRIORITY.check(priority)
        self.retry = retry
        self.foreground = foreground
        self.packed = b""

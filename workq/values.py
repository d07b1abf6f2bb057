"""The values of a job: their ranges, stated once, and the error that names the one that is wrong.

Ranges: `doc/protocol.md`, "Values". Everything that makes a `JobSpec` (the text protocol, an HTTP door, replay of the
log) passes through the same checks.
"""

import re
from typing import Final

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
CURSOR: Final = Range("cursor offset", 0, 2**32 - 1)
LIMIT: Final = Range("limit", 1, 100)
PAYLOAD_SIZE: Final = Range("payload size", 0, MIB, "bytes")
RESULT_SIZE: Final = Range("result size", 0, MIB, "bytes")

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


class JobSpec(Record):
    """What the creator of a job chose for it, apart from its id, payload and time.

    Specs are immutable and shared: a million jobs added with the same words hold one spec between them.

    name          queue name, ASCII bytes
    ttr_ms        time to run: how long a lease lasts
    ttl_ms        time to live; 0 only for foreground jobs, which live as long as their client waits
    priority      higher is leased first
    max_attempts  leases allowed, 0 for no limit
    max_fails     the fail that is final; 0 and 1 both mean the first
    foreground    whether the job belongs to the connection that waits for it (`run`)
    """

    __match_args__ = ("name", "ttr_ms", "ttl_ms", "priority", "max_attempts", "max_fails")
    __slots__ = ("name", "ttr_ms", "ttl_ms", "priority", "max_attempts", "max_fails", "foreground")

    def __init__(
        self,
        name: bytes,
        ttr_ms: int,
        ttl_ms: int,
        priority: int = 0,
        max_attempts: int = 0,
        max_fails: int = 0,
        *,
        foreground: bool = False,
    ) -> None:
        """Raise `InvalidValue` for the first value out of range."""
        self.name = check_name(name)
        self.ttr_ms = TTR.check(ttr_ms)
        self.ttl_ms = 0 if foreground else TTL.check(ttl_ms)
        self.max_attempts = MAX_ATTEMPTS.check(max_attempts)
        self.max_fails = MAX_FAILS.check(max_fails)
        self.priority = PRIORITY.check(priority)
        self.foreground = foreground

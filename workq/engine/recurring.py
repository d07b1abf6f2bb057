"""Recurring jobs: what makes an ordinary job again and again.

Each is two documents (`documents.py`), both under its id: the definition, which never changes, and the position, a few
numbers that move on with each occurrence. They take effect in `State.put_document`, in replay as in life.
"""

import json
import struct
from hashlib import sha1
from typing import Final

from workq.commands import Recur
from workq.recurrence import Rule, recalled_rule
from workq.values import InvalidValue, JobSpec, RetryPolicy

_LENGTHS: Final = struct.Struct("<HI")  # of the head and the meta; these and the payload follow
_POSITION: Final = struct.Struct("<qqqQQ")


def occurrence_id(recurring_id: bytes, at_ms: int) -> bytes:
    """The id of the job that a recurring one makes for a time: UUIDv5 of its id and of the digits of the time.

    So the same occurrence has the same id on every server and after every restart. The module `uuid` says the same.
    """
    digest = bytearray(sha1(recurring_id + b"%d" % at_ms, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


class Position:
    """How far a recurring job has come.

    next_ms      its next occurrence, 0 for none
    last_ms      the last one that became a job, 0 for none
    held_ms      the one that waits until the job of the last has ended, 0 for none
    occurrences  how many became jobs
    skipped      how many did not, because the queue was full or because the last one still ran
    """

    __slots__ = ("next_ms", "last_ms", "held_ms", "occurrences", "skipped")

    def __init__(
        self, next_ms: int, last_ms: int = 0, held_ms: int = 0, occurrences: int = 0, skipped: int = 0
    ) -> None:
        self.next_ms = next_ms
        self.last_ms = last_ms
        self.held_ms = held_ms
        self.occurrences = occurrences
        self.skipped = skipped

    def pack(self) -> bytes:
        """The value of its document."""
        return _POSITION.pack(self.next_ms, self.last_ms, self.held_ms, self.occurrences, self.skipped)


class Recurring:
    """A recurring job.

    recurring_id  16 bytes
    definition    the document that says all of it
    rule          when it occurs
    spec          what its jobs have in common
    skips         whether an occurrence waits while the last one is unfinished
    position      how far it has come
    """

    __slots__ = ("recurring_id", "definition", "rule", "spec", "skips", "position", "_meta_at", "_payload_at")

    def __init__(self, recurring_id: bytes, definition: bytes, position: Position) -> None:
        """Raise `InvalidValue` for a definition that makes no sense."""
        self.recurring_id = recurring_id
        self.definition = definition
        self.position = position
        try:
            head_length, meta_length = _LENGTHS.unpack_from(definition)
            self._meta_at: int = _LENGTHS.size + head_length
            self._payload_at: int = self._meta_at + meta_length
            head = json.loads(definition[_LENGTHS.size : self._meta_at])
            retry = head["retry"]
            self.rule: Rule = recalled_rule(head["rule"])
            self.skips: bool = head["skips"]
            self.spec = JobSpec(
                head["name"].encode(),
                head["ttr_ms"],
                head["ttl_ms"],
                head["priority"],
                head["max_attempts"],
                head["max_fails"],
                None if retry is None else RetryPolicy(retry[0], retry[1], retry[2]),
            )
        except (struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InvalidValue(f"Invalid recurring job {recurring_id.hex()}: {error}") from None

    @property
    def meta(self) -> bytes:
        """What a door keeps with each of its jobs."""
        return self.definition[self._meta_at : self._payload_at]

    @property
    def payload(self) -> bytes:
        """The payload of each of its jobs. Taken out of the definition when it is needed, not to be kept twice."""
        return self.definition[self._payload_at :]

    def size(self) -> int:
        """Bytes of payload and meta."""
        return len(self.definition) - self._meta_at

    def id_at(self, at_ms: int) -> bytes:
        """The id of its job for a time."""
        return occurrence_id(self.recurring_id, at_ms)

    def last_id(self) -> bytes:
        """The id of its last job; there must have been one."""
        return occurrence_id(self.recurring_id, self.position.last_ms)

    def is_armed(self) -> bool:
        """Whether there is a time to wait for."""
        return self.position.next_ms != 0 and not self.rule.problem


def next_ms(recurring: Recurring) -> int:
    """The next occurrence of one that is armed."""
    return recurring.position.next_ms


def unpack_position(value: bytes) -> Position:
    """The position in a document; raise `InvalidValue` if there is none."""
    try:
        next_at_ms, last_ms, held_ms, occurrences, skipped = _POSITION.unpack(value)
    except struct.error as error:
        raise InvalidValue(f"Invalid position of a recurring job: {error}") from None
    return Position(next_at_ms, last_ms, held_ms, occurrences, skipped)


def define(command: Recur) -> bytes:
    """The value of the document that says what `command` does."""
    spec = command.spec
    retry = spec.retry
    head = {
        "rule": command.rule.text,
        "skips": command.skips,
        "name": spec.name.decode(),
        "ttr_ms": spec.ttr_ms,
        "ttl_ms": spec.ttl_ms,
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "max_fails": spec.max_fails,
        "retry": None if retry is None else [retry.delay_ms, retry.backoff_thousandths, retry.max_delay_ms],
    }
    packed = json.dumps(head, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(packed), len(command.meta)) + packed + command.meta + command.payload

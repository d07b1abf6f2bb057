"""Records: the events of the engine, and what the log says about itself, as bytes. `doc/log.md` has the layout.

A record is its length, its CRC, and a body that begins with the type. Encoding is the part of the log that every
command pays for, so it is one pass with one `pack` per record; decoding is what a restart waits for.
"""

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from workq.engine.events import (
    Added,
    Carried,
    Completed,
    Counters,
    Deleted,
    Due,
    Event,
    Exhausted,
    Expired,
    Failed,
    FailedOnce,
    Leased,
    Returned,
)
from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Job
from workq.values import MIB, NAME_LENGTH, InvalidValue, JobSpec

ADDED: Final = 1
DUE: Final = 2
LEASE: Final = 3
RETURNED: Final = 4
FAILED_ONCE: Final = 5
COMPLETE: Final = 6
FAIL: Final = 7
EXHAUSTED: Final = 8
DELETED: Final = 9
EXPIRED: Final = 10
CARRIED: Final = 11
COUNTERS: Final = 12
# From here on: what the log says about itself.
SYNCED: Final = 64
TRIMMED: Final = 65

TYPE_NAMES: Final = {
    ADDED: "added",
    DUE: "due",
    LEASE: "leased",
    RETURNED: "returned",
    FAILED_ONCE: "failed-once",
    COMPLETE: "completed",
    FAIL: "failed",
    EXHAUSTED: "exhausted",
    DELETED: "deleted",
    EXPIRED: "expired",
    CARRIED: "carried",
    COUNTERS: "counters",
    SYNCED: "synced",
    TRIMMED: "trimmed",
}

FRAME: Final = struct.Struct("<II")  # length of the body, its CRC-32
_JOB: Final = struct.Struct("<B16s")
_JOB_AT: Final = struct.Struct("<B16sq")
# type, id, seq, created, scheduled; then the spec: ttr, ttl, priority, max-attempts, max-fails, length of the name
_ADDED: Final = struct.Struct("<B16sQqqIQiBBB")
_SPEC_AT: Final = 41
_NAME_AT: Final = 60
# as above, with state, attempts, fails, deadline and the length of the payload in front of the spec
_CARRIED: Final = struct.Struct("<B16sQqqBIIqIIQiBBB")
_CARRIED_SPEC_AT: Final = 62
_CARRIED_NAME_AT: Final = 81
_SPEC: Final = struct.Struct("<IQiBBB")
_COUNTERS: Final = struct.Struct("<BQQ")
_SYNCED: Final = struct.Struct("<B8sQQ")
_TRIMMED: Final = struct.Struct("<BQ")
_IDENTITY: Final = struct.Struct("<16sQ")  # what _ADDED and _CARRIED share, behind the type

# The longest body: a job with name, payload and result as long as they may be.
MAX_BODY: Final = _CARRIED_NAME_AT + NAME_LENGTH + 2 * MIB
# What a job takes in the log at least, beside its name, payload and result.
JOB_OVERHEAD: Final = FRAME.size + _CARRIED_NAME_AT
# Bounds for what one command, apart from its payload or result, and one step of `Engine.tick` append.
COMMAND_BYTES: Final = 512
STEP_BYTES: Final = 64
SYNCED_BYTES: Final = FRAME.size + _SYNCED.size

# How specs that were decoded are remembered: enough for all that are in real use.
_MAX_SPECS: Final = 65_536

_STATES: Final = (SCHEDULED, READY, LEASED, COMPLETED, FAILED)


class BadRecord(ValueError):
    """A body, whose CRC is right, says something impossible."""


def encode(events: Sequence[Event]) -> bytes:
    """The records of `events`, in order."""
    chunks: list[bytes] = []
    for event in events:
        # In the order of their frequency; a dict of functions would be slower, compiled and not.
        if isinstance(event, Leased):
            head = _JOB_AT.pack(LEASE, event.job_id, event.at_ms)
            tail = b""
        elif isinstance(event, Completed):
            head = _JOB_AT.pack(COMPLETE, event.job_id, event.at_ms)
            tail = event.result
        elif isinstance(event, Added):
            head = _added(event.job)
            tail = event.job.payload
        elif isinstance(event, Carried):
            head = _carried(event.job)
            tail = event.job.payload + (event.job.result or b"")
        elif isinstance(event, Failed):
            head = _JOB_AT.pack(FAIL, event.job_id, event.at_ms)
            tail = event.result
        else:
            head = _other(event)
            tail = b""
        if tail:
            chunks += (FRAME.pack(len(head) + len(tail), crc32(tail, crc32(head))), head, tail)
        else:
            chunks += (FRAME.pack(len(head), crc32(head)), head)
    return b"".join(chunks)


def frame(body: bytes) -> bytes:
    """The record of `body`."""
    return FRAME.pack(len(body), crc32(body)) + body


def synced(history: bytes, segment: int, offset: int) -> bytes:
    """The record that says: all before `offset` in `segment`, and the segments before it, was durable by now."""
    return frame(_SYNCED.pack(SYNCED, history, segment, offset))


def trimmed(segment: int) -> bytes:
    """The record that says: the segments up to `segment` are not needed any more."""
    return frame(_TRIMMED.pack(TRIMMED, segment))


def unpack_synced(body: bytes) -> tuple[bytes, int, int]:
    """History, segment and offset of a body made by `synced`. Raises `struct.error`."""
    _, history, segment, offset = _SYNCED.unpack(body)
    return history, segment, offset


def unpack_trimmed(body: bytes) -> int:
    """The segment in a body made by `trimmed`. Raises `struct.error`."""
    _, segment = _TRIMMED.unpack(body)
    return int(segment)


def base(body: bytes) -> tuple[bytes, int] | None:
    """Id and `seq` of the job that a body holds whole; None for other records."""
    kind = body[0]
    if kind != ADDED and kind != CARRIED:
        return None
    return _IDENTITY.unpack_from(body, 1)


class Decoder:
    """Turns bodies into events. Jobs with the same spec share it."""

    __slots__ = ("_specs",)

    def __init__(self) -> None:
        self._specs: dict[bytes, JobSpec] = {}

    def decode(self, body: bytes) -> Event:
        """The event that `body` holds; raises `BadRecord`. Not for what the log says about itself."""
        try:
            return self._decode(body)
        except (struct.error, InvalidValue) as error:
            raise BadRecord(f"a record of type {body[0]} is not readable: {error}") from None

    def _decode(self, body: bytes) -> Event:
        kind = body[0]
        if kind == ADDED:
            _, job_id, seq, created_ms, scheduled_ms, *_, name_length = _ADDED.unpack_from(body)
            payload_at = _NAME_AT + name_length
            spec = self._spec(body[_SPEC_AT:payload_at])
            return Added(Job(job_id, spec, body[payload_at:], created_ms, scheduled_ms, seq))
        if kind == LEASE:
            _, job_id, at_ms = _JOB_AT.unpack(body)
            return Leased(job_id, at_ms)
        if kind == COMPLETE:
            _, job_id, at_ms = _JOB_AT.unpack_from(body)
            return Completed(job_id, body[_JOB_AT.size :], at_ms)
        if kind == CARRIED:
            return self._decode_carried(body)
        if kind == FAIL:
            _, job_id, at_ms = _JOB_AT.unpack_from(body)
            return Failed(job_id, body[_JOB_AT.size :], at_ms)
        if kind == EXHAUSTED:
            _, job_id, at_ms = _JOB_AT.unpack(body)
            return Exhausted(job_id, at_ms)
        if kind == COUNTERS:
            _, next_seq, evicted_jobs = _COUNTERS.unpack(body)
            return Counters(next_seq, evicted_jobs)
        event = _PLAIN.get(kind)
        if event is None:
            raise BadRecord(f"there is no record of type {kind}")
        _, job_id = _JOB.unpack(body)
        return event(job_id)

    def _decode_carried(self, body: bytes) -> Event:
        _, job_id, seq, created_ms, scheduled_ms, *more = _CARRIED.unpack_from(body)
        state, attempts, fails, deadline_ms, payload_length, *_, name_length = more
        payload_at = _CARRIED_NAME_AT + name_length
        result_at = payload_at + payload_length
        if state not in _STATES or result_at > len(body):
            raise BadRecord(f"a carried job in state {state} with a payload of {payload_length} bytes")
        spec = self._spec(body[_CARRIED_SPEC_AT:payload_at])
        job = Job(job_id, spec, body[payload_at:result_at], created_ms, scheduled_ms, seq)
        job.state = state
        job.attempts = attempts
        job.fails = fails
        job.deadline_ms = deadline_ms
        if state in (COMPLETED, FAILED):
            job.result = body[result_at:]
        return Carried(job)

    def _spec(self, packed: bytes) -> JobSpec:
        spec = self._specs.get(packed)
        if spec is None:
            ttr_ms, ttl_ms, priority, max_attempts, max_fails, _ = _SPEC.unpack_from(packed)
            spec = JobSpec(packed[_SPEC.size :], ttr_ms, ttl_ms, priority, max_attempts, max_fails)
            if len(self._specs) >= _MAX_SPECS:
                self._specs.clear()
            self._specs[packed] = spec
        return spec


def _added(job: Job) -> bytes:
    spec = job.spec
    return (
        _ADDED.pack(
            ADDED,
            job.job_id,
            job.seq,
            job.created_ms,
            job.scheduled_ms,
            spec.ttr_ms,
            spec.ttl_ms,
            spec.priority,
            spec.max_attempts,
            spec.max_fails,
            len(spec.name),
        )
        + spec.name
    )


def _carried(job: Job) -> bytes:
    spec = job.spec
    return (
        _CARRIED.pack(
            CARRIED,
            job.job_id,
            job.seq,
            job.created_ms,
            job.scheduled_ms,
            job.state,
            job.attempts,
            job.fails,
            job.deadline_ms,
            len(job.payload),
            spec.ttr_ms,
            spec.ttl_ms,
            spec.priority,
            spec.max_attempts,
            spec.max_fails,
            len(spec.name),
        )
        + spec.name
    )


_PLAIN: Final[dict[int, type[Due | Returned | FailedOnce | Deleted | Expired]]] = {
    DUE: Due,
    RETURNED: Returned,
    FAILED_ONCE: FailedOnce,
    DELETED: Deleted,
    EXPIRED: Expired,
}
_PLAIN_TYPES: Final[dict[type[Event], int]] = {event: kind for kind, event in _PLAIN.items()}


def _other(event: Event) -> bytes:
    if isinstance(event, Due | Returned | FailedOnce | Deleted | Expired):
        return _JOB.pack(_PLAIN_TYPES[type(event)], event.job_id)
    if isinstance(event, Exhausted):
        return _JOB_AT.pack(EXHAUSTED, event.job_id, event.at_ms)
    if isinstance(event, Counters):
        return _COUNTERS.pack(COUNTERS, event.next_seq, event.evicted_jobs)
    raise TypeError(f"the log does not know {type(event).__name__}")

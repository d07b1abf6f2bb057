"""Records: the events of the engine, and what the log says about itself, as bytes. `doc/log.md` has the layout.

A record is its length, its CRC, and a body that begins with the type. Encoding is the part of the log that every
command pays for, so it is one pass with one `pack` per event, and small records share a CRC: they are put together
into a *batch*, a record of records. Decoding is what a restart waits for.
"""

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from workq.engine.documents import AREA_NAMES
from workq.engine.events import (
    Added,
    Carried,
    Completed,
    Counters,
    Deleted,
    DocumentPut,
    Due,
    Event,
    Exhausted,
    Expired,
    Failed,
    FailedOnce,
    Leased,
    LeasedInARow,
    Progressed,
    Released,
    Retried,
    Returned,
    SentToBack,
    Touched,
)
from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Extra, Job
from workq.values import MAX_PROGRESS, MIB, NAME_LENGTH, InvalidValue, JobSpec, RetryPolicy

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
DOCUMENT: Final = 13
TOUCHED: Final = 14
RELEASED: Final = 15
PROGRESS: Final = 16
SENT_TO_BACK: Final = 20
RETRIED: Final = 21
# From here on: what the log says about itself.
SYNCED: Final = 64
TRIMMED: Final = 65
# And how it holds it together.
BATCH: Final = 66

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
    DOCUMENT: "document",
    TOUCHED: "touched",
    RELEASED: "released",
    PROGRESS: "progress",
    SENT_TO_BACK: "sent-to-back",
    RETRIED: "retried",
    SYNCED: "synced",
    TRIMMED: "trimmed",
    BATCH: "batch",
}

FRAME: Final = struct.Struct("<II")  # length of the body, its CRC-32
LENGTH: Final = struct.Struct("<I")  # of a body in a batch
_JOB: Final = struct.Struct("<B16s")
_JOB_AT: Final = struct.Struct("<B16sq")
_JOB_PLACE: Final = struct.Struct("<B16sQ")
_SIZED_JOB_AT: Final = struct.Struct("<IB16sq")  # with the length of the body in front
# type, id, seq, created, scheduled, lengths of spec and meta; these and the payload follow
_ADDED: Final = struct.Struct("<B16sQqqHI")
_SIZED_ADDED: Final = struct.Struct("<IB16sQqqHI")
# as above, with the lengths of progress and payload; then place, state, attempts, those spent, fails, deadline; the
# result is last
_CARRIED: Final = struct.Struct("<B16sQqqHIHIQBIIIq")
_SPEC: Final = struct.Struct("<IQiIIB")  # ttr, ttl, priority, max-attempts, max-fails, length of the name; the name
_RETRY: Final = struct.Struct("<QHQ")  # and, for some, delay, backoff, longest delay
_DOCUMENT: Final = struct.Struct("<BBH")  # type, area, length of the key; key and value
_COUNTERS: Final = struct.Struct("<BQQ")
_SYNCED: Final = struct.Struct("<B8sQQ")
_TRIMMED: Final = struct.Struct("<BQ")
_BATCH: Final = struct.Struct("<IIB")  # length, CRC, type; then each record as its length and its body
_IDENTITY: Final = struct.Struct("<16sQ")  # what _ADDED and _CARRIED share, behind the type

# The longest body: a job with name, payload and result as long as they may be.
MAX_SPEC: Final = _SPEC.size + NAME_LENGTH + _RETRY.size
MAX_BODY: Final = _CARRIED.size + MAX_SPEC + MAX_PROGRESS + 3 * MIB
# Payload and meta of a job that is sure to be readable again. The doors allow less; this is for a door with a mistake.
MAX_COMMAND: Final = 3 * MIB
# What a job takes in the log, at most, beside its name, payload, result and extra; and a document beside key and value.
JOB_OVERHEAD: Final = FRAME.size + _CARRIED.size + _SPEC.size + _RETRY.size
RETRY_BYTES: Final = _RETRY.size  # of which a job without a retry policy takes none
DOCUMENT_OVERHEAD: Final = FRAME.size + _DOCUMENT.size
# Bounds for what one command, apart from its payload or result, and one step of `Engine.tick` append.
COMMAND_BYTES: Final = 512
STEP_BYTES: Final = 72
SYNCED_BYTES: Final = FRAME.size + _SYNCED.size

# The most that records take which are put into one batch: as much as a disk loses at once, when it loses something.
BATCH_BYTES: Final = 4_096
_BATCH_CRC: Final = crc32(bytes([BATCH]))

# How specs that were decoded are remembered: enough for all that are in real use.
_MAX_SPECS: Final = 65_536

_STATES: Final = (SCHEDULED, READY, LEASED, COMPLETED, FAILED)


class BadRecord(ValueError):
    """A body, whose CRC is right, says something impossible."""


def encode(events: Sequence[Event]) -> bytes:
    """The records of `events`, in order."""
    batches: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for event in events:
        # In the order of their frequency; a dict of functions would be slower, compiled and not.
        if isinstance(event, Leased):
            head = _SIZED_JOB_AT.pack(_JOB_AT.size, LEASE, event.job_id, event.at_ms)
            tail = b""
        elif isinstance(event, Completed):
            tail = event.result
            head = _SIZED_JOB_AT.pack(_JOB_AT.size + len(tail), COMPLETE, event.job_id, event.at_ms)
        elif isinstance(event, Added):
            job = event.job
            spec = job.spec.packed or pack_spec(job.spec)
            extra = job.extra
            if extra is None:
                tail = job.payload
                meta_length = 0
            else:
                tail = extra.meta + job.payload
                meta_length = len(extra.meta)
            length = _ADDED.size + len(spec) + len(tail)
            head = (
                _SIZED_ADDED.pack(
                    length, ADDED, job.job_id, job.seq, job.created_ms, job.scheduled_ms, len(spec), meta_length
                )
                + spec
            )
        elif isinstance(event, LeasedInARow):
            if batch:
                batches.append(_batch(batch))
            batches.append(encode(event.one_by_one()))
            batch = []
            size = 0
            continue
        else:
            tail = _other(event)
            head = LENGTH.pack(len(tail))
        length = len(head) + len(tail)
        if size + length > BATCH_BYTES and size > 0:
            batches.append(_batch(batch))
            batch = []
            size = 0
        size += length
        batch.append(head)
        if tail:
            batch.append(tail)
    if batch:
        batches.append(_batch(batch))
    return b"".join(batches)


def _batch(records: list[bytes]) -> bytes:
    """What holds `records` together; a single one needs nothing."""
    joined = b"".join(records)
    if LENGTH.size + LENGTH.unpack_from(joined)[0] == len(joined):
        return frame(joined[LENGTH.size :])
    return _BATCH.pack(1 + len(joined), crc32(joined, _BATCH_CRC), BATCH) + joined


def split(body: bytes) -> list[bytes] | None:
    """The bodies in the body of a batch; None if it is no row of records."""
    bodies: list[bytes] = []
    pos = 1
    while pos < len(body):
        start = pos + LENGTH.size
        if start > len(body):
            return None
        pos = start + LENGTH.unpack_from(body, pos)[0]
        if not start < pos <= len(body):
            return None
        bodies.append(body[start:pos])
    return bodies


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


def document(body: bytes) -> tuple[int, bytes, bytes] | None:
    """Area, key and value of the document that a body holds; None for other records."""
    if body[0] != DOCUMENT:
        return None
    _, area, key_length = _DOCUMENT.unpack_from(body)
    value_at = _DOCUMENT.size + key_length
    return area, body[_DOCUMENT.size : value_at], body[value_at:]


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
            _, job_id, seq, created_ms, scheduled_ms, spec_length, meta_length = _ADDED.unpack_from(body)
            meta_at = _ADDED.size + spec_length
            payload_at = meta_at + meta_length
            if payload_at > len(body):
                raise BadRecord(f"an added job with {spec_length} and {meta_length} bytes in a record of {len(body)}")
            spec = self._spec(body[_ADDED.size : meta_at])
            meta = body[meta_at:payload_at] if meta_length else b""
            return Added(Job(job_id, spec, body[payload_at:], created_ms, scheduled_ms, seq, meta))
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
        if kind == PROGRESS:
            _, job_id = _JOB.unpack_from(body)
            return Progressed(job_id, body[_JOB.size :])
        timed = _TIMED.get(kind)
        if timed is not None:
            _, job_id, time_ms = _JOB_AT.unpack(body)
            return timed(job_id, time_ms)
        if kind == COUNTERS:
            _, next_seq, evicted_jobs = _COUNTERS.unpack(body)
            return Counters(next_seq, evicted_jobs)
        if kind == SENT_TO_BACK:
            _, job_id, place = _JOB_PLACE.unpack(body)
            return SentToBack(job_id, place)
        stored = document(body)
        if stored is not None:
            area, key, value = stored
            if area >= len(AREA_NAMES) or not key:
                raise BadRecord(f"a document of area {area} with a key of {len(key)} bytes")
            return DocumentPut(area, key, value)
        event = _PLAIN.get(kind)
        if event is None:
            raise BadRecord(f"there is no record of type {kind}")
        _, job_id = _JOB.unpack(body)
        return event(job_id)

    def _decode_carried(self, body: bytes) -> Event:
        _, job_id, seq, created_ms, scheduled_ms, *more = _CARRIED.unpack_from(body)
        spec_length, meta_length, progress_length, payload_length, place, state, *more = more
        attempts, spent, fails, deadline_ms = more
        meta_at = _CARRIED.size + spec_length
        progress_at = meta_at + meta_length
        payload_at = progress_at + progress_length
        result_at = payload_at + payload_length
        if state not in _STATES or result_at > len(body):
            raise BadRecord(f"a carried job in state {state} with a payload of {payload_length} bytes")
        if spent > attempts:
            raise BadRecord(f"a carried job with {attempts} attempts, {spent} of them before a retry")
        spec = self._spec(body[_CARRIED.size : meta_at])
        meta = body[meta_at:progress_at]
        job = Job(job_id, spec, body[payload_at:result_at], created_ms, scheduled_ms, seq, meta)
        if progress_length or spent:
            extra = job.more()
            extra.progress = body[progress_at:payload_at]
            extra.spent = spent
        job.place = place
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
            ttr_ms, ttl_ms, priority, max_attempts, max_fails, name_length = _SPEC.unpack_from(packed)
            retry_at = _SPEC.size + name_length
            retry = RetryPolicy(*_RETRY.unpack(packed[retry_at:])) if retry_at < len(packed) else None
            name = packed[_SPEC.size : retry_at]
            spec = JobSpec(name, ttr_ms, ttl_ms, priority, max_attempts, max_fails, retry)
            spec.packed = packed
            if len(self._specs) >= _MAX_SPECS:
                self._specs.clear()
            self._specs[packed] = spec
        return spec


def pack_spec(spec: JobSpec) -> bytes:
    """The bytes of a spec, which it then keeps, because many jobs share it."""
    packed = (
        _SPEC.pack(spec.ttr_ms, spec.ttl_ms, spec.priority, spec.max_attempts, spec.max_fails, len(spec.name))
        + spec.name
    )
    retry = spec.retry
    if retry is not None:
        packed += _RETRY.pack(retry.delay_ms, retry.backoff_thousandths, retry.max_delay_ms)
    spec.packed = packed
    return packed


def _other(event: Event) -> bytes:
    """The body of an event that is not frequent."""
    if isinstance(event, Carried):
        return _carried(event.job)
    if isinstance(event, Failed):
        return _JOB_AT.pack(FAIL, event.job_id, event.at_ms) + event.result
    if isinstance(event, Due | Returned | Deleted | Expired | Retried):
        return _JOB.pack(_PLAIN_TYPES[type(event)], event.job_id)
    if isinstance(event, Progressed):
        return _JOB.pack(PROGRESS, event.job_id) + event.progress
    if isinstance(event, Touched):
        return _JOB_AT.pack(TOUCHED, event.job_id, event.at_ms)
    if isinstance(event, FailedOnce):
        return _JOB_AT.pack(FAILED_ONCE, event.job_id, event.due_ms)
    if isinstance(event, Released):
        return _JOB_AT.pack(RELEASED, event.job_id, event.due_ms)
    if isinstance(event, Exhausted):
        return _JOB_AT.pack(EXHAUSTED, event.job_id, event.at_ms)
    if isinstance(event, SentToBack):
        return _JOB_PLACE.pack(SENT_TO_BACK, event.job_id, event.place)
    if isinstance(event, Counters):
        return _COUNTERS.pack(COUNTERS, event.next_seq, event.evicted_jobs)
    if isinstance(event, DocumentPut):
        return _DOCUMENT.pack(DOCUMENT, event.area, len(event.key)) + event.key + event.value
    raise TypeError(f"the log does not know {type(event).__name__}")


def _carried(job: Job) -> bytes:
    spec = job.spec.packed or pack_spec(job.spec)
    extra = job.extra or Extra()
    head = _CARRIED.pack(
        CARRIED,
        job.job_id,
        job.seq,
        job.created_ms,
        job.scheduled_ms,
        len(spec),
        len(extra.meta),
        len(extra.progress),
        len(job.payload),
        job.place,
        job.state,
        job.attempts,
        extra.spent,
        job.fails,
        job.deadline_ms,
    )
    return b"".join([head, spec, extra.meta, extra.progress, job.payload, job.result or b""])


# Records that hold an id and nothing else, and those that hold an id and a time.
_PLAIN: Final[dict[int, type[Due | Returned | Deleted | Expired | Retried]]] = {
    DUE: Due,
    RETURNED: Returned,
    DELETED: Deleted,
    EXPIRED: Expired,
    RETRIED: Retried,
}
_PLAIN_TYPES: Final[dict[type[Event], int]] = {event: kind for kind, event in _PLAIN.items()}
_TIMED: Final[dict[int, type[Exhausted | FailedOnce | Touched | Released]]] = {
    EXHAUSTED: Exhausted,
    FAILED_ONCE: FailedOnce,
    TOUCHED: Touched,
    RELEASED: Released,
}

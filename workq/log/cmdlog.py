"""The command log of the old Go server, read only. `doc/log.md`, "Coming from the Go server", says what comes over.

The old server wrote a record after the change and without a common lock, so two records about one job may stand in the
wrong order. They have times: where the id was used before, a record that is older than its job is about the earlier
job; else the clock was put back. One that comes before its job is kept until the job comes.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Job
from workq.log.errors import DirectoryInUse, LogError
from workq.values import InvalidValue, JobSpec

_SEGMENT: Final = re.compile(r"[0-9]{9}\.log")
_HEADER: Final = b"wqwq\0\0\0\1"
_LOCK_NAME: Final = "append.lock"

_ADD: Final = 1
_SCHEDULE: Final = 2
_COMPLETE: Final = 3
_FAIL: Final = 4
_DELETE: Final = 5
_EXPIRE: Final = 6
_START_ATTEMPT: Final = 7
_TIMEOUT_ATTEMPT: Final = 8

_TIME_SIZE: Final = 15
_CRC_SIZE: Final = 4
_UNIX_SECONDS: Final = 62_135_596_800  # from the year 1 to 1970


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC32C: Final = _crc32c_table()


def is_cmdlog(names: list[str]) -> bool:
    """Whether a directory with the files `names` looks like a log of the old server."""
    return any([_SEGMENT.fullmatch(name) is not None for name in names])


class Lost(NamedTuple):
    """Bytes that hold no record that verifies."""

    name: str
    offset: int
    size: int


class Imported(NamedTuple):
    """What was in an old log: the jobs that live on, in the order of their creation, and what could not be read."""

    jobs: list[Job]
    expired: int
    lost: list[Lost]


def read_cmdlog(directory: Path, now_ms: int) -> Imported:
    """Read the old log in `directory`. Raises `LogError` and `OSError`."""
    names = sorted([name for name in os.listdir(directory) if _SEGMENT.fullmatch(name) is not None])
    if not names:
        raise LogError(f"{directory} holds no command log: there is no file like 000000001.log in it")
    lock_fd = _lock(directory)
    try:
        lost: list[Lost] = []
        reader = _Reader()
        for name in names:
            data = (directory / name).read_bytes()
            if not data.startswith(_HEADER[: len(data)]):
                if any(data) and next(_records(name, data, []), None) is None:
                    raise LogError(f"{directory / name} does not begin like a command log of version 1")
                lost.append(Lost(name, 0, min(len(data), len(_HEADER))))
            for time_ns, payload in _records(name, data, lost):
                reader.take(time_ns, payload)
    finally:
        if lock_fd is not None:
            os.close(lock_fd)
    old_jobs = sorted(reader.jobs.values(), key=lambda old: (old.created_ns, old.job_id))
    living = [job for job in [old.job(seq) for seq, old in enumerate(old_jobs, 1)] if job.expires_ms() > now_ms]
    return Imported(living, len(old_jobs) - len(living), lost)


def _lock(directory: Path) -> int | None:
    try:
        fd = os.open(directory / _LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise DirectoryInUse(f"{directory} is in use: stop the old server first") from None
    return fd


# -- bytes to records ------------------------------------------------------------------------------------------------


class _Malformed(ValueError):
    """No record begins here."""


class _Cursor:
    """Reads values from bytes, one after the other; raises `_Malformed`."""

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos

    def take(self, size: int) -> bytes:
        taken = self.data[self.pos : self.pos + size]
        if len(taken) < size:
            raise _Malformed
        self.pos += size
        return taken

    def uvarint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise _Malformed

    def varint(self) -> int:
        value = self.uvarint()
        return value >> 1 ^ -(value & 1)

    def time_ns(self) -> int:
        """Unix time; 0 for Go's zero time."""
        packed = self.take(_TIME_SIZE)
        if packed[0] != 1 or packed[13:] != b"\xff\xff":  # the version of the form, and UTC
            raise _Malformed
        seconds = int.from_bytes(packed[1:9], "big", signed=True)
        nanoseconds = int.from_bytes(packed[9:13], "big")
        return (seconds - _UNIX_SECONDS) * 1_000_000_000 + nanoseconds if seconds else 0


def _records(name: str, data: bytes, lost: list[Lost]) -> Iterator[tuple[int, bytes]]:
    """Time and payload of each record; what lies between them goes to `lost`."""
    pos = len(_HEADER)
    while pos < len(data):
        try:
            cursor = _Cursor(data, pos)
            time_ns = cursor.time_ns()
            payload = cursor.take(cursor.uvarint())
            crc = _crc32c(data[pos : cursor.pos])
            if int.from_bytes(cursor.take(_CRC_SIZE), "big") != crc:
                raise _Malformed
        except _Malformed:
            # The old server went on after a write that failed half-way, so good records may follow.
            next_pos = data.find(1, pos + 1)
            next_pos = len(data) if next_pos < 0 else next_pos
            if lost and lost[-1].name == name and lost[-1].offset + lost[-1].size == pos:
                lost[-1] = lost[-1]._replace(size=next_pos - lost[-1].offset)
            else:
                lost.append(Lost(name, pos, next_pos - pos))
            pos = next_pos
        else:
            yield time_ns, payload
            pos = cursor.pos


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    table = _CRC32C
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# -- records to jobs -------------------------------------------------------------------------------------------------


class _OldJob:
    """A job as the records told of it."""

    __slots__ = (
        "job_id",
        "spec",
        "payload",
        "created_ns",
        "scheduled_ns",
        "state",
        "attempts",
        "fails",
        "leased_ms",
        "ended_ms",
        "result",
        "is_reuse",
    )

    def __init__(
        self, job_id: bytes, spec: JobSpec, payload: bytes, created_ns: int, scheduled_ns: int, is_reuse: bool
    ) -> None:
        self.job_id = job_id
        self.spec = spec
        self.payload = payload
        self.created_ns = created_ns
        self.scheduled_ns = scheduled_ns
        self.state = SCHEDULED if scheduled_ns > created_ns else READY
        self.attempts = 0
        self.fails = 0
        self.leased_ms = 0
        self.ended_ms = 0
        self.result: bytes | None = None
        self.is_reuse = is_reuse  # of the id of an earlier job

    def finish(self, state: int, result: bytes, at_ms: int) -> None:
        if self.state not in (COMPLETED, FAILED):
            self.state = state
            self.result = result
            self.ended_ms = at_ms

    def start_attempt(self, at_ms: int) -> None:
        self.attempts += 1
        self.leased_ms = at_ms
        if self.state not in (COMPLETED, FAILED):
            self.state = LEASED

    def timeout_attempt(self, at_ms: int) -> None:
        # One that comes much too early is about the attempt before, and stands behind the next one.
        if self.state != LEASED or at_ms - self.leased_ms < self.spec.ttr_ms // 2:
            return
        if self.spec.max_attempts and self.attempts >= self.spec.max_attempts:
            self.finish(FAILED, b"", at_ms)
        else:
            self.state = READY

    def job(self, seq: int) -> Job:
        scheduled_ms = self.scheduled_ns // 1_000_000
        job = Job(self.job_id, self.spec, self.payload, self.created_ns // 1_000_000, scheduled_ms, seq)
        job.state = self.state
        job.attempts = self.attempts
        job.fails = self.fails
        if self.state == LEASED:
            job.deadline_ms = self.leased_ms + self.spec.ttr_ms
        else:
            job.deadline_ms = self.ended_ms or scheduled_ms
        job.result = self.result
        return job


class _Reader:
    """Puts records together to jobs."""

    def __init__(self) -> None:
        self.jobs: dict[bytes, _OldJob] = {}
        self._early: dict[bytes, list[tuple[int, bytes]]] = {}
        self._specs: dict[tuple[object, ...], JobSpec] = {}

    def take(self, time_ns: int, payload: bytes) -> None:
        cursor = _Cursor(payload)
        try:
            kind = cursor.take(1)[0]
            job_id = cursor.take(16)
            if kind in (_ADD, _SCHEDULE):
                self._add(job_id, cursor)
            else:
                self._change(time_ns, kind, job_id, payload, cursor)
        except (_Malformed, InvalidValue) as error:
            raise LogError(f"a record of type {payload[:1].hex()} is not readable: {error}") from None

    def _add(self, job_id: bytes, cursor: _Cursor) -> None:
        name = cursor.take(cursor.uvarint())
        ttr_ms, ttl_ms, priority = cursor.uvarint(), cursor.uvarint(), cursor.varint()
        max_attempts, max_fails = cursor.uvarint(), cursor.uvarint()
        payload = cursor.take(cursor.uvarint())
        scheduled_ns, created_ns = cursor.time_ns(), cursor.time_ns()
        key = (name, ttr_ms, ttl_ms, priority, max_attempts, max_fails)
        spec = self._specs.get(key)
        if spec is None:
            spec = self._specs[key] = JobSpec(name, ttr_ms, ttl_ms, priority, max_attempts, max_fails)
        is_reuse = job_id in self.jobs or job_id in self._early
        self.jobs[job_id] = _OldJob(job_id, spec, payload, created_ns, scheduled_ns, is_reuse)
        for time_ns, early in self._early.pop(job_id, ()):
            self.take(time_ns, early)

    def _change(self, time_ns: int, kind: int, job_id: bytes, payload: bytes, cursor: _Cursor) -> None:
        job = self.jobs.get(job_id)
        at_ms = time_ns // 1_000_000
        if job is None:
            if kind == _EXPIRE:
                self._early.pop(job_id, None)  # so end foreground jobs, which were never added
            else:
                self._early.setdefault(job_id, []).append((time_ns, payload))
        elif job.is_reuse and at_ms < job.created_ns // 1_000_000:
            return  # in whole milliseconds, within which its clocks disagree with themselves
        elif kind in (_DELETE, _EXPIRE):
            del self.jobs[job_id]
        elif kind == _START_ATTEMPT:
            job.start_attempt(at_ms)
        elif kind == _TIMEOUT_ATTEMPT:
            job.timeout_attempt(at_ms)
        elif kind == _COMPLETE:
            job.finish(COMPLETED, cursor.take(cursor.uvarint()), at_ms)
        elif kind == _FAIL:
            job.fails += 1
            job.finish(FAILED, cursor.take(cursor.uvarint()), at_ms)
        else:
            raise _Malformed(f"there is no type {kind}")

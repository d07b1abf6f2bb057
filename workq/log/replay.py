"""Reading a log back: segments in order, records into events, events into the state.

What a crash leaves behind and what is damage. A crash can only take, or leave in pieces, what was not durable: the end
of the log, and no `synced` record that lies behind the end speaks of it as durable. Such a torn end is cut off.
Anything else that does not verify was once durable, so something is wrong with the disk, or somebody changed a file:
that is `Damage`, and reading stops.

Who reads a log that is in use may find a place half written and then, further on, a record of later that says it is
durable. What was durable can be read from then on, so such a place is read again before it is called damage.
"""

import struct
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from workq.engine.events import JobEvent
from workq.engine.state import ImpossibleMove, State
from workq.log.errors import Damage, UnknownFormat
from workq.log.files import Files
from workq.log.records import (
    ADDED,
    CARRIED,
    FRAME,
    SYNCED,
    SYNCED_BYTES,
    TRIMMED,
    BadRecord,
    Decoder,
    unpack_synced,
    unpack_trimmed,
)
from workq.log.segments import (
    CHUNK_SIZE,
    HEADER_SIZE,
    BadHeader,
    Header,
    Records,
    last_written,
    segment_name,
    segment_numbers,
)
from workq.values import InvalidValue

# Bytes read so far, bytes in all.
OnProgress: TypeAlias = Callable[[int, int], None]

_RECORDS_PER_PROGRESS: Final = 16_384


class Torn(NamedTuple):
    """The end of the log that a crash left in pieces: from `offset` in `segment` on `size` bytes, in all segments."""

    segment: int
    offset: int
    size: int


class Recovered(NamedTuple):
    """What replay found out about the files.

    history   the name that the log gave itself
    ends      for each segment in use, where its records end
    torn      what is to be cut off, None after a good end
    durable   the position that was durable for certain: segment and offset
    leftover  segments that are not needed any more
    """

    history: bytes
    ends: dict[int, int]
    torn: Torn | None
    durable: tuple[int, int]
    leftover: list[int]


class Segment:
    """A segment file and its header, or what is wrong with that.

    misplaced  a header that is whole, but not of this file; else None
    """

    __slots__ = ("number", "name", "size", "header", "problem", "misplaced")

    def __init__(self, files: Files, number: int) -> None:
        self.number = number
        self.name = segment_name(number)
        self.size = files.size(self.name)
        self.header: Header | None = None
        self.problem = ""
        self.misplaced: Header | None = None
        fd = files.open(self.name)
        try:
            self.header = Header.unpack(files.read(fd, HEADER_SIZE, 0))
        except BadHeader as error:
            self.problem = str(error)
        except UnknownFormat as newer:
            raise UnknownFormat(f"{self.name} is of {newer}") from None
        finally:
            files.close(fd)
        if self.header is not None and self.header.number != number:
            self.problem = f"it was written as {segment_name(self.header.number)}"
            self.misplaced, self.header = self.header, None

    @property
    def history(self) -> bytes:
        """The log that it was written for; b"" if its header is not whole."""
        header = self.header or self.misplaced
        return b"" if header is None else header.history


def find_segments(files: Files) -> list[Segment]:
    """All segments that there are, in the order of their names."""
    return [Segment(files, number) for number in segment_numbers(files.names())]


def needed_segments(segments: list[Segment]) -> tuple[list[Segment], list[int]]:
    """Those of `segments` that the log consists of, and the numbers of older ones, which it does not need any more.

    Those of a state that was not written to its end are neither.
    """
    oldest = max([segment.header.oldest for segment in segments if segment.header is not None], default=0)
    needed = [segment for segment in segments if segment.number >= oldest]
    unfinished = len(needed)
    for index in reversed(range(len(needed))):
        header = needed[index].header
        if header is not None and not header.afresh:
            break
        if header is not None:
            unfinished = index
    if unfinished == 0 and needed:
        raise Damage(segment_name(needed[-1].number + 1), 0, "the file is missing")
    return needed[:unfinished], [segment.number for segment in segments if segment.number < oldest]


class Applier:
    """Lets what records say happen to `state`.

    trimmed  whether the log has lost its first segments, so that it may speak of jobs that are not in it any more
    """

    __slots__ = ("state", "trimmed", "_decoder")

    def __init__(self, state: State, trimmed: bool) -> None:
        self.state = state
        self.trimmed = trimmed
        self._decoder = Decoder()

    def apply(self, body: bytes) -> None:
        """Apply one record. Raises `BadRecord` for one that makes no sense here."""
        event = self._decoder.decode(body)
        if isinstance(event, JobEvent):
            kind = body[0]
            known = event.job_id in self.state.jobs
            if kind == ADDED:
                if known:
                    raise BadRecord(f"job {UUID(bytes=event.job_id)} is added, and it is there already")
            elif not known and kind != CARRIED:
                if self.trimmed:
                    return
                raise BadRecord(f"there is no job {UUID(bytes=event.job_id)}")
        try:
            event.apply(self.state)
        except (ImpossibleMove, InvalidValue) as error:
            raise BadRecord(str(error)) from None


def replay(files: Files, state: State, on_progress: OnProgress, in_use: bool = False) -> Recovered | None:
    """Bring `state`, which is empty, to where the log in the directory ends; None if there is no log.

    in_use  whether a server may be writing to it. The log then ends where nothing was written when that was read, and
            segments may go away: `FileNotFoundError`.

    Changes no file. Raises `Damage` and `OSError`.
    """
    found = find_segments(files)
    segments, leftover = needed_segments(found)
    if not segments:
        return None
    _must_belong_here(found, segments)
    return _Replay(files, segments, state, on_progress, in_use).run(leftover)


def _must_belong_here(found: list[Segment], needed: list[Segment]) -> None:
    """Raise `Damage` for a file of another name or log, before it is taken for something to be removed."""
    own = next((segment for segment in needed if segment.header is not None), None)
    for segment in found:
        problem = ""
        if segment.misplaced is not None:
            problem = segment.problem
        elif own is not None and segment.header is not None and segment.history != own.history:
            problem = f"it belongs to another log than {own.name}"
        if problem:  # no crash leaves that
            raise Damage(segment.name, 0, f"{problem}; if somebody has copied it here, move it away")


class _Replay:
    def __init__(
        self, files: Files, segments: list[Segment], state: State, on_progress: OnProgress, in_use: bool
    ) -> None:
        self._files = files
        self._in_use = in_use
        self._segments = segments
        self._applier = Applier(state, trimmed=segments[0].number > 1)
        self._on_progress = on_progress
        self._total = sum([segment.size for segment in segments])
        self._history = next((each.header.history for each in segments if each.header is not None), b"")
        self._ends: dict[int, int] = {}
        self._torn: Torn | None = None
        self._durable = (0, 0)
        self._trimmed = 0

    def run(self, leftover: list[int]) -> Recovered:
        done = 0
        for index, segment in enumerate(self._segments):
            expected = self._segments[index - 1].number + 1
            if index and segment.number != expected:
                self._stop(index, expected, 0, "the file is missing")
                break
            if not self._run_segment(index, done):
                break
            done += segment.size
        first = self._segments[0].number
        oldest = max([segment.header.oldest for segment in self._segments if segment.header is not None], default=1)
        if first > max(oldest, self._trimmed + 1):
            raise Damage(segment_name(first - 1), 0, "the file is missing")
        return Recovered(self._history, self._ends, self._torn, self._durable, leftover)

    def _run_segment(self, index: int, done: int) -> bool:
        """Replay one segment. False if the log ends in it, although there are more."""
        segment = self._segments[index]
        if segment.header is None:
            self._stop(index, segment.number, 0, segment.problem)
            return False
        end = self._end_told_by_next(index)
        fd = self._files.open(segment.name)
        try:
            records = Records(self._files, fd, segment.size if end is None else min(end, segment.size))
            self._apply(segment, records, done)
            self._ends[segment.number] = records.end
            if end is None:
                written = last_written(self._files, fd, records.end, segment.size)
                bad = written > records.end
            else:
                bad = records.end < end
        finally:
            self._files.close(fd)
        if bad:
            self._stop(index, segment.number, records.end, "the CRC or the length of a record is wrong")
        return not bad

    def _end_told_by_next(self, index: int) -> int | None:
        """Where the segment after that at `index` says that it ends; None if there is none that could know."""
        if index + 1 == len(self._segments):
            return None
        following = self._segments[index + 1]
        header = following.header
        if header is None or header.history != self._history or following.number != self._segments[index].number + 1:
            return None
        return header.previous_end

    def _apply(self, segment: Segment, records: Records, done: int) -> None:
        apply = self._applier.apply
        countdown = _RECORDS_PER_PROGRESS
        try:
            for offset, body in records:
                if body[0] < SYNCED:
                    apply(body)
                elif body[0] == SYNCED:
                    _, number, durable = unpack_synced(body)
                    self._durable = (number, durable)
                elif body[0] == TRIMMED:
                    self._trimmed = unpack_trimmed(body)
                else:
                    raise BadRecord(f"there is no record of type {body[0]}")
                countdown -= 1
                if countdown == 0:
                    self._on_progress(done + offset, self._total)
                    countdown = _RECORDS_PER_PROGRESS
        except (BadRecord, struct.error) as error:
            raise Damage(segment.name, offset, str(error)) from None

    def _stop(self, index: int, number: int, offset: int, why: str) -> None:
        """The log cannot be read on from `offset` in segment `number`, where it is torn or damaged.

        `index` is that of the first segment with anything behind this position.
        """
        header_of_all = index == 0 and offset == 0  # it was durable before anything was written behind it
        size = 0
        was_durable = False
        for segment in self._segments[index:]:
            start = offset if segment.number == number else 0
            fd = self._files.open(segment.name)
            try:
                written = last_written(self._files, fd, start, segment.size)
                used = header_of_all and written > HEADER_SIZE
                place = number, offset
                told = _tells_durable(self._files, fd, self._history, start, written, place)
                was_durable = was_durable or used or told
            finally:
                self._files.close(fd)
            size += written - start
        is_there = number in [segment.number for segment in self._segments]
        if self._in_use and is_there and _is_whole(self._files, self._history, number, offset):
            return
        if was_durable:
            raise Damage(segment_name(number), offset, why)
        self._torn = Torn(number, offset, size)


def is_torn(files: Files, segment: Segment, offset: int) -> bool:
    """Whether the newest segment may end at `offset`, where no record could be read: else what stood there was durable.

    A server may be writing to it; what it had in hand then can be read by now.
    """
    header = segment.header
    if header is None:
        return True
    fd = files.open(segment.name)
    try:
        written = last_written(files, fd, offset, segment.size)
        was_durable = _tells_durable(files, fd, header.history, offset, written, (segment.number, offset))
    finally:
        files.close(fd)
    return not was_durable or _is_whole(files, header.history, segment.number, offset)


def _is_whole(files: Files, history: bytes, number: int, offset: int) -> bool:
    """Whether there is a record, or the header, at this place by now."""
    segment = Segment(files, number)
    if segment.header is None or segment.header.history != history:
        return False
    if offset == 0:
        return True
    fd = files.open(segment.name)
    try:
        return next(iter(Records(files, fd, segment.size, offset)), None) is not None
    finally:
        files.close(fd)


def _tells_durable(files: Files, fd: int, history: bytes, start: int, end: int, position: tuple[int, int]) -> bool:
    """Whether a `synced` record from `start` on says that what stood at `position` was durable."""
    before = FRAME.size + 1  # bytes of the record before its history
    for offset in range(start, end, CHUNK_SIZE):
        data = files.read(fd, CHUNK_SIZE + SYNCED_BYTES, offset)
        at = data.find(history, before)
        while at >= 0:
            record = offset + at - before
            for _, body in Records(files, fd, record + SYNCED_BYTES, record):
                if body[0] == SYNCED and unpack_synced(body)[1:] > position:
                    return True
            at = data.find(history, at + 1)
    return False

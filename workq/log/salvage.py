"""Reading what can be read of a damaged log: every record that verifies, whatever lies around it."""

import struct
from collections import Counter
from typing import Final, NamedTuple
from uuid import UUID

from workq.engine.documents import RECURRED, RECURRING
from workq.engine.events import Added, Carried, Deleted, DocumentPut, Due, JobEvent, Leased, Returned
from workq.engine.job import LEASED, SCHEDULED
from workq.engine.state import ImpossibleMove, State
from workq.log.errors import Damage
from workq.log.files import Files
from workq.log.records import FRAME, MAX_BODY, SYNCED, TRIMMED, TYPE_NAMES, BadRecord, Decoder, unpack_trimmed
from workq.log.replay import Segment, find_segments, needed_segments
from workq.log.segments import HEADER_SIZE, Records, last_written, segment_name
from workq.values import InvalidValue

_TYPES: Final = frozenset(TYPE_NAMES)


class Salvaged(NamedTuple):
    """What was found.

    records  how many verified
    losses   in words: what did not, and what makes no sense without what is lost
    history  the name that the log gave itself, b"" if that is lost
    """

    records: int
    losses: list[str]
    history: bytes


def salvage(files: Files, state: State) -> Salvaged:
    """Let all that verifies happen to `state`, which is empty. Raises `UnknownFormat` and `OSError`."""
    losses: list[str] = []
    found = find_segments(files)
    history = _history(found)
    found = _in_place([segment for segment in found if _is_own(segment, history, losses)], losses)
    try:
        segments, _ = needed_segments(found)
    except Damage:
        segments = found
    applier = _LenientApplier(state, losses, trimmed=bool(segments) and segments[0].number > 1)
    oldest = max([segment.header.oldest for segment in segments if segment.header is not None], default=1)
    expected = segments[0].number if segments else oldest
    for segment in segments:
        losses += _missing(expected, segment.number)
        expected = segment.number + 1
        _read(files, segment, applier, losses)
    first = segments[0].number if segments else oldest
    losses += _missing(max(oldest, applier.trimmed_to + 1), first)
    return Salvaged(applier.records, losses, history)


def _history(found: list[Segment]) -> bytes:
    """Of the logs that the segments were written for, the one with most of them."""
    counted = Counter([segment.history for segment in found if segment.history])
    return counted.most_common(1)[0][0] if counted else b""


def _is_own(segment: Segment, history: bytes, losses: list[str]) -> bool:
    if segment.history and segment.history != history:  # its jobs are those of another server, which may be at them
        losses.append(f"{segment.name}: it belongs to another log, left out")
        return False
    return True


def _in_place(found: list[Segment], losses: list[str]) -> list[Segment]:
    """The segments in the order in which they were written, whatever their files are called now."""
    taken = {segment.number: segment for segment in found if segment.header is not None}
    for segment in found:
        header = segment.misplaced
        if header is not None and header.number in taken:
            losses.append(f"{segment.name}: a copy of {taken[header.number].name}, left out")
        elif header is not None:
            segment.number, segment.header = header.number, header
            taken[segment.number] = segment
    for segment in found:
        if segment.header is None and segment.misplaced is None:
            if segment.number in taken:
                whole = taken[segment.number].name
                losses.append(f"{segment.name}: its header, {segment.problem}; left out, for {whole} was it once")
            else:
                taken[segment.number] = segment
    return [taken[number] for number in sorted(taken)]


def _missing(first: int, end: int) -> list[str]:
    if end - first <= 1:
        return [f"{segment_name(first)} is missing"] if first < end else []
    return [f"{segment_name(first)} to {segment_name(end - 1)} are missing"]


class _LenientApplier:
    """Applies records of a log with holes: what does not fit is put right where that is plain, else left out."""

    def __init__(self, state: State, losses: list[str], trimmed: bool) -> None:
        self.records = 0
        self.trimmed_to = 0
        self._state = state
        self._losses = losses
        self._trimmed = trimmed
        self._decoder = Decoder()

    def apply(self, where: str, body: bytes) -> None:
        self.records += 1
        if body[0] >= SYNCED:
            if body[0] == TRIMMED:
                self.trimmed_to = max(self.trimmed_to, unpack_trimmed(body))
            return
        try:
            event = self._decoder.decode(body)
            if isinstance(event, JobEvent) and not self._fits(where, event):
                return
            event.apply(self._state)
        except (BadRecord, ImpossibleMove, struct.error) as error:
            self._losses.append(f"{where}: makes no sense any more: {error}")
        except InvalidValue as error:
            self._losses.append(f"{where}: makes no sense: {error}")
            if isinstance(event, DocumentPut) and event.area in (RECURRING, RECURRED):
                DocumentPut(event.area, event.key, b"").apply(self._state)  # it was kept, and then found to be wrong

    def _fits(self, where: str, event: JobEvent) -> bool:
        job = self._state.jobs.get(event.job_id)
        if isinstance(event, Added):
            if job is not None:  # the end of an earlier job of this id is lost
                Deleted(event.job_id).apply(self._state)
        elif job is None and not isinstance(event, Carried):
            if not self._trimmed:
                what, job_id = type(event).__name__.lower(), UUID(bytes=event.job_id)
                self._losses.append(f"{where}: {what}, but job {job_id} is lost")
            return False
        elif job is not None and isinstance(event, Leased):  # how it became ready is lost
            if job.state == LEASED:
                Returned(event.job_id).apply(self._state)
            elif job.state == SCHEDULED:
                Due(event.job_id).apply(self._state)
        return True


def _read(files: Files, segment: Segment, applier: "_LenientApplier", losses: list[str]) -> None:
    if segment.header is None:
        losses.append(f"{segment.name}: its header, {segment.problem}")
    fd = files.open(segment.name)
    try:
        written = last_written(files, fd, HEADER_SIZE, segment.size)
        start = HEADER_SIZE
        while start < written:
            records = Records(files, fd, segment.size, start)
            for offset, body in records:
                applier.apply(f"{segment.name}, offset {offset}", body)
            start = _next_record(files, fd, records.end, written, segment.size)
            if start > records.end:
                losses.append(f"{segment.name}: {start - records.end} bytes from offset {records.end} on")
    finally:
        files.close(fd)


def _next_record(files: Files, fd: int, start: int, written: int, size: int) -> int:
    """Where the next record that verifies begins, `start` or behind it; else where the zeros at the file's end begin.

    From `written` to `size` all is zero, so no record begins there, but one may end there.
    """
    for offset in range(start, written):
        frame = files.read(fd, FRAME.size, offset)
        if len(frame) < FRAME.size:
            break
        length, _ = FRAME.unpack(frame)
        end = offset + FRAME.size + length
        if not 0 < length <= MAX_BODY or end > size or files.read(fd, 1, offset + FRAME.size)[0] not in _TYPES:
            continue
        if next(iter(Records(files, fd, end, offset)), None) is not None:
            return offset
    return max(start, written)

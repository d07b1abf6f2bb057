"""Segment files: their names, their header, and reading their records. `doc/log.md` has the layout."""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

from workq.log.errors import UnknownFormat
from workq.log.files import Files
from workq.log.records import BATCH, FRAME, MAX_BODY, split

VERSION: Final = 1
MAGIC: Final = b"workqlog"

_HEADER: Final = struct.Struct("<8sHH8sQQQ")
_CRC: Final = struct.Struct("<I")
HEADER_SIZE: Final = _HEADER.size + _CRC.size

_NAME: Final = re.compile(r"([0-9]{10})\.seg")
# Read at a time: enough to make the calls cheap, small beside the memory of what is read.
CHUNK_SIZE: Final = 1_048_576


class BadHeader(ValueError):
    """The first bytes of a segment are not a header that can be trusted."""


class Header(NamedTuple):
    """What a segment says about itself.

    history       8 random bytes, the same in all segments of a log
    number        of this segment; the next one has the next number
    oldest        the first segment needed when this one was begun
    previous_end  length of the segment before, 0 if there is none
    afresh        it is part of a state written afresh, which counts if a segment follows that is not
    """

    history: bytes
    number: int
    oldest: int
    previous_end: int
    afresh: bool = False

    def pack(self) -> bytes:
        """The header's bytes."""
        packed = _HEADER.pack(MAGIC, VERSION, self.afresh, *self[:4])
        return packed + _CRC.pack(crc32(packed))

    @classmethod
    def unpack(cls, data: bytes) -> "Header":
        """The header at the begin of `data`; raises `BadHeader` and `UnknownFormat`."""
        if len(data) < HEADER_SIZE:
            raise BadHeader(f"{len(data)} bytes are too few for a header")
        if _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
            raise BadHeader("the CRC of its header is wrong")
        magic, version, afresh, *fields = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise BadHeader("it does not begin like a segment")
        if version != VERSION:
            raise UnknownFormat(f"version {version} of the log's format; this program reads version {VERSION}")
        history, number, oldest, previous_end = fields
        return cls(history, number, oldest, previous_end, bool(afresh))


def segment_name(number: int) -> str:
    """The name of the file of segment `number`."""
    return f"{number:010}.seg"


def segment_numbers(names: list[str]) -> list[int]:
    """The numbers of the segments among the files `names`, in order."""
    return sorted([int(match[1]) for match in map(_NAME.fullmatch, names) if match is not None])


class Records:
    """Iterates over the records of an open segment as (offset, body), up to the first that does not verify.

    The records in a batch come one by one, at the offset of the batch.

    end    where the last record that was returned ends, or the batch that it is in
    limit  where records end at the latest
    """

    __slots__ = ("_files", "_fd", "_chunk", "end", "limit")

    def __init__(self, files: Files, fd: int, limit: int, start: int = HEADER_SIZE, chunk: int = CHUNK_SIZE) -> None:
        self._files = files
        self._fd = fd
        self._chunk = chunk
        self.end = start
        self.limit = limit

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        data = b""
        pos = 0
        while True:
            body_at = pos + FRAME.size
            if body_at <= len(data):
                length, crc = FRAME.unpack_from(data, pos)
                if not 0 < length <= MAX_BODY:
                    return
                next_pos = body_at + length
                if next_pos <= len(data):
                    body = data[body_at:next_pos]
                    if crc32(body) != crc:
                        return
                    bodies = split(body) if body[0] == BATCH else None
                    if bodies is None and body[0] == BATCH:
                        return
                    offset = self.end
                    self.end = offset + next_pos - pos
                    pos = next_pos
                    if bodies is None:
                        yield offset, body
                    else:
                        for each in bodies:
                            yield offset, each
                    continue
            read_at = self.end + len(data) - pos
            size = min(self._chunk, self.limit - read_at)
            more = self._files.read(self._fd, size, read_at) if size > 0 else b""
            if not more:
                return
            data = data[pos:] + more
            pos = 0


def last_written(files: Files, fd: int, start: int, size: int) -> int:
    """Where the zeros begin that the file ends with, `start` at the least."""
    end = start
    for offset in range(start, size, CHUNK_SIZE):
        chunk = files.read(fd, min(CHUNK_SIZE, size - offset), offset).rstrip(b"\0")
        if chunk:
            end = offset + len(chunk)
    return end

"""Whatever the bytes and their chunks: the same commands, no exception, bounded memory, silence after a fatal error.

Besides, every command means the same when a client writes it anew, and every error is one line that can be printed.
"""

from random import Random
from typing import Final
from zlib import crc32

from workq.commands import Command
from workq.protocol import client, server
from workq.protocol.server import MAX_LINE, Decoder, Malformed
from workq.replies import Refused
from workq.values import PAYLOAD_SIZE

Found = Command | Malformed

# What a decoder may hold while it waits for more: a line, or a payload with the line end behind it.
MOST_BUFFERED: Final = max(MAX_LINE, PAYLOAD_SIZE.highest + 1)
# Room for words, and for a quotation that is cut short and of which every letter may have to be written as \U0001f600.
LONGEST_ERROR: Final = 1024


def check(data: bytes) -> None:
    """Raise if `data` breaks the promise."""
    for memory in server._MEMORIES.values():
        memory.lines.clear()
    whole = decoded([data])
    assert decoded([data]) == whole, "lines that came before mean something else now"
    assert decoded([data[i : i + 1] for i in range(len(data))]) == whole, "byte by byte it means something else"
    assert decoded(chunks(data)) == whole, "in chunks it means something else"
    for found in whole:
        if isinstance(found, Malformed):
            check_error(found.text)
        else:
            assert decoded([client.encode(found)]) == [found], "written anew it means something else"


def decoded(parts: list[bytes]) -> list[Found]:
    """All that a decoder finds in the bytes of `parts`, fed one after the other."""
    decoder = Decoder()
    found: list[Found] = []
    fatal = False
    for part in parts:
        decoder.feed(part)
        while (one := decoder.next()) is not None:
            assert not fatal, "something was understood after a fatal error"
            fatal = isinstance(one, Malformed) and one.fatal
            found.append(one)
        assert decoder.buffered() <= (0 if fatal else MOST_BUFFERED)
    return found


def chunks(data: bytes) -> list[bytes]:
    """`data` in pieces of all sizes, the same for the same data."""
    random = Random(crc32(data))
    parts = []
    while data:
        size = random.choice([1, 2, random.randint(1, 80), random.randint(1, 4096)])
        parts.append(data[:size])
        data = data[size:]
    return parts


def check_error(text: str) -> None:
    """Raise unless `text` is fit for a reply."""
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= LONGEST_ERROR
    assert server.encode(Refused(text)) == b"-CLIENT-ERROR " + text.encode() + b"\r\n"

"""Reads the answers of web workers: bytes in any chunks become status, location and body. No I/O.

llhttp, which parses, takes any amount of anything; what is kept of it is limited here. A body that was packed is
unpacked as it comes, up to what is kept, so that a small one cannot become a large one.
"""

import zlib
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# Of a body: what is kept, and what is read at all. Who sends more is cut off.
OUTPUT_LIMIT: Final = 1_048_576
READ_LIMIT: Final = 16 * OUTPUT_LIMIT
# What may come before the body, interim answers included, and at once between two pieces of it: more than any web
# worker has to say.
HEAD_LIMIT: Final = 65_536
# A packed body may be several in a row; each costs a state of its own.
_MOST_MEMBERS: Final = 100

REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_WITHOUT_BODY: Final = (204, 304)


class BadAnswer(Exception):
    """It is not HTTP, or breaks its own promises. The text says how."""


class Answer:
    """What a web worker answered.

    status_code
    location     of a redirect; None for any other answer
    body         unpacked, up to a limit
    cut          whether there was more
    """

    __slots__ = ("status_code", "location", "body", "cut")

    def __init__(self, status_code: int, location: str | None, body: bytes, cut: bool) -> None:
        self.status_code = status_code
        self.location = location
        self.body = body
        self.cut = cut


class AnswerReader:
    """Reads the answers of a connection, one after the other: `begin`, `feed` until it says so, `take`.

    status_code  0 as long as the head is not complete
    body_size    bytes of the body that have come, packed if they are
    """

    __slots__ = (
        "status_code",
        "body_size",
        "_parser",
        "_complete",
        "_reusable",
        "_head_size",
        "_quiet_size",
        "_location",
        "_framed",
        "_coding",
        "_unpacker",
        "_body",
        "_cut",
        "_fault",
    )

    def __init__(self) -> None:
        parser = HttpResponseParser(self)
        # Answers of which everybody knows what they mean: folded lines, LF without CR.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._parser: HttpResponseParser | None = parser
        self.begin()

    def begin(self) -> None:
        """A request is sent: what comes now is its answer."""
        self.status_code = 0
        self.body_size = 0
        self._complete = False
        self._reusable = False
        self._head_size = 0
        self._quiet_size = 0
        self._location: bytes | None = None
        self._framed = False  # whether the head says where the body ends
        self._coding = b""
        self._unpacker: _Unpacker | None = None
        self._body: bytes | bytearray = b""
        self._cut = False
        self._fault = ""

    def has_begun(self) -> bool:
        """Whether anything has come."""
        return self._head_size > 0

    def is_reusable(self) -> bool:
        """Whether another request may follow on this connection."""
        return self._complete and self._reusable

    def close(self) -> None:
        """Read no more. (The parser and its reader hold each other, and nobody collects such circles here.)"""
        self._parser = None

    def feed(self, data: bytes) -> bool:
        """Read on; return whether the answer is complete. Raises `BadAnswer`.

        Of a redirect the head is enough: what else there is is of no use to anybody.
        """
        if self.status_code:
            self._feed_body(data)
        else:
            self._feed_head(data)
        return self._is_enough()

    def end(self) -> bool:
        """There will be no more; return whether the answer is complete by that. Raises `BadAnswer`."""
        if self.status_code and not self._framed and not self._complete:
            self._end_body()
            self._check()
        return self._complete

    def take(self) -> Answer:
        """The answer, which is complete."""
        location = None if self._location is None else self._location.decode("utf-8", "replace")
        return Answer(self.status_code, location, bytes(self._body), self._cut)

    # -- what is fed ----------------------------------------------------------------------------------------------

    def _feed_head(self, data: bytes) -> None:
        room = HEAD_LIMIT - self._head_size
        if len(data) <= room:
            self._head_size += len(data)
            self._parse(data)
            return
        self._head_size = HEAD_LIMIT
        self._parse(data[:room])
        if not self.status_code:
            raise BadAnswer(f"its head has more than {HEAD_LIMIT} bytes")
        self._feed_body(data[room:])

    def _feed_body(self, data: bytes) -> None:
        if self._complete:
            if data.strip(b"\r\n"):  # empty lines are skipped by the parser, too
                self._reusable = False  # nobody has asked for that
            return
        before = self.body_size
        self._parse(data)
        self._quiet_size = self._quiet_size + len(data) if self.body_size == before else 0
        if self._quiet_size > HEAD_LIMIT and not self._is_enough():
            raise BadAnswer(f"there are more than {HEAD_LIMIT} bytes between two pieces of its body")

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fault = self._fault or str(error)
        self._check()

    def _check(self) -> None:
        """Complain, unless what is wrong comes too late to matter."""
        if self._fault:
            self._reusable = False
            if not self._is_enough():
                raise BadAnswer(self._fault)

    def _is_enough(self) -> bool:
        return self._complete or (self.status_code != 0 and self._location is not None)

    def _end_body(self) -> None:
        if self._unpacker is not None and self.body_size and not self._unpacker.is_at_end():
            self._fault = f"the {self._unpacker.coding} body is not complete"
        else:
            self._complete = True

    # -- what the parser calls ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Another answer begins, which should not be."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head, or of what follows a body in chunks."""
        if self.status_code or self._complete:
            return
        name = name.lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            self._framed = value.lower().rstrip().endswith(b"chunked")
        elif name == b"content-encoding":
            self._coding = value.lower().strip()
        elif name == b"location":
            self._location = value

    def on_headers_complete(self) -> None:
        """The head is complete, perhaps that of an interim answer."""
        assert self._parser is not None
        if self._complete:
            return
        status_code = self._parser.get_status_code()
        if status_code < 100:
            self._fault = f"its status is {status_code}"
        elif status_code == 101:
            self._fault = "it changes the protocol, which nobody asked for"
        if status_code < 200:
            self._location, self._framed, self._coding = None, False, b""
            return
        self.status_code = status_code
        self._reusable = self._parser.should_keep_alive()
        self._framed = self._framed or status_code in _WITHOUT_BODY
        if status_code not in REDIRECTS:
            self._location = None
        if self._coding in _CODINGS:
            self._unpacker = _Unpacker(self._coding.decode().removeprefix("x-"))

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._complete or self._fault or not self.status_code:
            return
        self.body_size += len(data)
        if not self._cut and self._location is None:
            self._keep(data)
        if self.body_size > READ_LIMIT:
            self._complete, self._reusable = True, False

    def _keep(self, data: bytes) -> None:
        room = OUTPUT_LIMIT - len(self._body)
        if self._unpacker is not None:
            try:
                data = self._unpacker.unpack(data, room + 1)
            except zlib.error as error:
                self._fault = f"the {self._unpacker.coding} body cannot be unpacked: {error}"
                return
        if len(data) > room:
            data, self._cut, self._unpacker = data[:room], True, None
        if not self._body:
            self._body = data
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data

    def on_message_complete(self) -> None:
        """The answer has ended."""
        if self.status_code and not self._complete and not self._fault:
            self._end_body()


class _Unpacker:
    """Unpacks a body piece by piece. `coding` is ``gzip`` or ``deflate``."""

    __slots__ = ("coding", "_zlib", "_members")

    def __init__(self, coding: str) -> None:
        self.coding = coding
        self._zlib: zlib._Decompress | None = None
        self._members = 0

    def is_at_end(self) -> bool:
        """Whether it could end here."""
        return self._zlib is None or self._zlib.eof

    def unpack(self, data: bytes, most: int) -> bytes:
        """What `data` holds, at most so many bytes; the rest is lost then. Raises `zlib.error`."""
        unpacked = b""
        while data and len(unpacked) < most:
            if self._zlib is None or self._zlib.eof:
                self._zlib = self._next_member(data)
            unpacked += self._zlib.decompress(data, most - len(unpacked))
            data = self._zlib.unused_data
        return unpacked

    def _next_member(self, data: bytes) -> "zlib._Decompress":
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise zlib.error(f"it consists of more than {_MOST_MEMBERS}")
        if self.coding == "gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        has_header = data[0] & 0x0F == 8  # some leave it out, against the standard
        return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


_CODINGS: Final = (b"gzip", b"x-gzip", b"deflate")

"""What is read of an answer, whatever the pieces in which it comes."""

import gzip
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.fuzz_answer import Read, check_same, read
from workq.dispatch.answer import HEAD_LIMIT, OUTPUT_LIMIT, READ_LIMIT, AnswerReader


def head(*lines: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode()


def pieces_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


CHUNKED = head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;name=value\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
PACKED = gzip.compress(b"hello " * 100)
BARE_DEFLATE = zlib.compress(b"hello")[2:-4]

GOOD = {
    "a length": (head("Content-Length: 3") + b"abc", Read(200, b"abc", reusable=True)),
    "an empty header": (head("X:", "Content-Length: 3", "Y: ") + b"abc", Read(200, b"abc", reusable=True)),
    "no body": (head("Content-Length: 0"), Read(200, reusable=True)),
    "chunks": (CHUNKED, Read(200, b"abcde", reusable=True)),
    "nothing after 204": (head(status="204 No Content"), Read(204, reusable=True)),
    "nothing after 304": (head("Content-Length: 9", status="304 Not Modified"), Read(304, reusable=True)),
    "interim answers": (
        head("Location: /a", "Content-Encoding: gzip", status="103 Early Hints")
        + head(status="100 Continue")
        + head("Content-Length: 1", status="201 Created")
        + b"x",
        Read(201, b"x", reusable=True),
    ),
    "no reason": (head("Content-Length: 1", status="200") + b"x", Read(200, b"x", reusable=True)),
    "LF without CR": (b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", Read(200, b"x", reusable=True)),
    "a folded line": (head("X: a\r\n b", "Content-Length: 1") + b"x", Read(200, b"x", reusable=True)),
    "close": (head("Content-Length: 1", "Connection: close") + b"x", Read(200, b"x")),
    "HTTP/1.0": (head("Content-Length: 1", version="1.0") + b"x", Read(200, b"x")),
    "HTTP/1.0 kept alive": (
        head("Content-Length: 1", "Connection: keep-alive", version="1.0") + b"x",
        Read(200, b"x", reusable=True),
    ),
    "a redirect": (
        head("Location: /é?x", "Content-Length: 0", status="302 Found"),
        Read(302, b"", "/é?x", reusable=True),
    ),
    "a redirect whose body is not of use": (
        head("Location: /", "Content-Encoding: gzip", "Transfer-Encoding: chunked", status="308 X") + b"junk\r\n",
        Read(308, b"", "/"),
    ),
    "a Location that is no redirect": (head("Location: /", "Content-Length: 0"), Read(200, reusable=True)),
    "more than the answer": (
        head("Content-Length: 1") + b"x" + head("Content-Length: 1", status="500 X"),
        Read(200, b"x"),
    ),
    "junk behind it": (head("Content-Length: 1", "Connection: close") + b"xyz", Read(200, b"x")),
    "gzip": (
        head("Content-Encoding: GZIP", f"Content-Length: {len(PACKED)}") + PACKED,
        Read(200, b"hello " * 100, reusable=True),
    ),
    "several gzips": (
        head("Content-Encoding: x-gzip", f"Content-Length: {2 * len(PACKED)}") + PACKED * 2,
        Read(200, b"hello " * 200, reusable=True),
    ),
    "deflate": (
        head("Content-Encoding: deflate", "Content-Length: 13") + zlib.compress(b"hello"),
        Read(200, b"hello", reusable=True),
    ),
    "deflate without its header": (
        head("Content-Encoding: deflate", f"Content-Length: {len(BARE_DEFLATE)}") + BARE_DEFLATE,
        Read(200, b"hello", reusable=True),
    ),
    "an empty gzip": (head("Content-Encoding: gzip", "Content-Length: 0"), Read(200, reusable=True)),
    "another coding": (head("Content-Encoding: br", "Content-Length: 1") + b"x", Read(200, b"x", reusable=True)),
}

# An error that is the parser's own is worded by its version.
BAD = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", ""),
    "no status": (head(status="abc OK"), ""),
    "a status below 100": (head("Content-Length: 1", status="099 X") + b"x", "its status is 99"),
    "a length below zero": (head("Content-Length: -1"), ""),
    "two lengths": (head("Content-Length: 1", "Content-Length: 2") + b"ab", ""),
    "a length and chunks": (
        head("Transfer-Encoding: chunked", "Content-Length: 1") + b"a",
        "",
    ),
    "a chunk without a size": (head("Transfer-Encoding: chunked") + b"zz\r\n", ""),
    "a chunk that does not end": (head("Transfer-Encoding: chunked") + b"1\r\nabc", ""),
    "another protocol from here on": (head(status="101 X"), "it changes the protocol, which nobody asked for"),
    "the same with consent": (
        head("Upgrade: h2c", "Connection: upgrade", status="101 X") + b"abc",
        "it changes the protocol, which nobody asked for",
    ),
    "gzip that is none": (
        head("Content-Encoding: gzip", "Content-Length: 5") + b"hello",
        "the gzip body cannot be unpacked",
    ),
    "gzip with junk behind": (
        head("Content-Encoding: gzip", f"Content-Length: {len(PACKED) + 4}") + PACKED + b"junk",
        "the gzip body cannot be unpacked",
    ),
    "half a gzip": (
        head("Content-Encoding: gzip", "Content-Length: 20") + PACKED[:20],
        "the gzip body is not complete",
    ),
}


class TestAnswers:
    @pytest.mark.parametrize("size", [1, 2, 7, 1_000_000])
    @pytest.mark.parametrize(("data", "expected"), GOOD.values(), ids=GOOD)
    def test_good_ones(self, data: bytes, expected: Read, size: int) -> None:
        assert read(pieces_of(data, size)) == expected

    @pytest.mark.parametrize("size", [1, 2, 7, 1_000_000])
    @pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD)
    def test_bad_ones(self, data: bytes, error: str, size: int) -> None:
        found = read(pieces_of(data, size))
        assert found is not None
        assert found.error
        assert found.error.startswith(error)

    def test_a_body_may_end_with_the_connection(self) -> None:
        data = head() + b"abc"
        assert read([data]) is None
        assert read([data], ends=True) == Read(200, b"abc")
        packed = head("Content-Encoding: gzip") + PACKED
        assert read([packed], ends=True) == Read(200, b"hello " * 100)
        assert read([packed[:-1]], ends=True) == Read(error="the gzip body is not complete")

    @pytest.mark.parametrize(
        "data",
        [b"", b"HTTP/1.1 200", head("Content-Length: 2") + b"a", head("Transfer-Encoding: chunked") + b"1\r\na\r\n"],
    )
    def test_others_do_not(self, data: bytes) -> None:
        assert read([data], ends=True) is None

    def test_one_after_the_other(self) -> None:
        reader = AnswerReader()
        for data, expected in [
            GOOD["gzip"],
            GOOD["a redirect"],
            GOOD["chunks"],
            GOOD["nothing after 204"],
            GOOD["a length"],
        ]:
            reader.begin()
            assert reader.feed(data)
            answer = reader.take()
            assert (answer.status_code, answer.body, answer.location) == (
                expected.status_code,
                expected.body,
                expected.location,
            )
            assert reader.is_reusable()


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, bool]:
    """The bytes of some answer, good or damaged, and whether the connection ends then."""
    body = draw(st.binary(max_size=300))
    lines = draw(
        st.lists(st.sampled_from(["X: y", "Location: /x", "Connection: close", "Set-Cookie:", "A: " + "b" * 99]))
    )
    if draw(st.booleans()):
        body = gzip.compress(body)
        lines.append("Content-Encoding: gzip")
    interim = b"".join(draw(st.lists(st.sampled_from([head(status="100 Continue"), head("L: x", status="103 X")]))))
    kind = draw(st.sampled_from(["length", "chunks", "until the end"]))
    if kind == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif kind == "chunks":
        lines.append("Transfer-Encoding: chunked")
        size = draw(st.integers(1, 100))
        body = b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in pieces_of(body, size)]) + b"0\r\n\r\n"
    status = draw(st.sampled_from(["200 OK", "204 No Content", "302 Found", "500 Oh", "304 X"]))
    data = interim + head(*lines, status=status) + body
    if draw(st.integers(0, 3)) == 0:
        start, end = sorted([draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))])
        data = data[:start] + draw(st.binary(max_size=5)) + data[end:]
    return data, draw(st.booleans())


class TestPieces:
    @given(answers(), st.data())
    def test_they_make_no_difference(self, answer: tuple[bytes, bool], data: st.DataObject) -> None:
        whole, ends = answer
        cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=20)))
        pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        check_same(read(pieces, ends=ends), read([whole], ends=ends), "in pieces")


class TestLimits:
    @pytest.mark.parametrize("size", [1_000, 65_536, 100_000_000])
    @pytest.mark.parametrize(
        "data",
        [
            head("X: " + "y" * HEAD_LIMIT, "Content-Length: 0"),
            head(*["X: y"] * 20_000, "Content-Length: 0"),
            b"HTTP/1.1 200 " + b"y" * HEAD_LIMIT + b"\r\nContent-Length: 0\r\n\r\n",
            head(status="100 Continue") * 5_000 + head("Content-Length: 0"),
        ],
        ids=["a long line", "many lines", "a long reason", "many interim answers"],
    )
    def test_a_head_is_not_too_long(self, data: bytes, size: int) -> None:
        assert read(pieces_of(data, size)) == Read(error=f"its head has more than {HEAD_LIMIT} bytes")

    def test_one_may_be_as_long_as_that(self) -> None:
        room = HEAD_LIMIT - len(head("X: ", "Content-Length: 100000"))
        data = head("X: " + "y" * room, "Content-Length: 100000") + b"z" * 100_000
        assert read([data]) == Read(200, b"z" * 100_000, reusable=True)

    @pytest.mark.parametrize("extra", [b"1;" + b"x" * 1_000_000, b"0\r\nX: " + b"y" * 1_000_000], ids=["in", "after"])
    def test_nor_is_what_comes_beside_chunks(self, extra: bytes) -> None:
        found = read(pieces_of(head("Transfer-Encoding: chunked") + extra, 1_000))
        assert found == Read(error=f"there are more than {HEAD_LIMIT} bytes between two pieces of its body")

    @pytest.mark.parametrize("framing", ["Content-Length: 99999999", "Transfer-Encoding: chunked", "X: until the end"])
    def test_a_body_is_kept_up_to_a_limit_and_read_up_to_another(self, framing: str) -> None:
        reader = AnswerReader()
        assert not reader.feed(head(framing))
        piece = b"x" * 65_536
        fed = 0
        while not reader.feed(b"10000\r\n" + piece + b"\r\n" if "chunked" in framing else piece):
            fed += len(piece)
        assert fed == READ_LIMIT
        answer = reader.take()
        assert (len(answer.body), answer.cut, reader.is_reusable()) == (OUTPUT_LIMIT, True, False)

    @pytest.mark.parametrize(("size", "cut"), [(OUTPUT_LIMIT, False), (OUTPUT_LIMIT + 1, True)])
    def test_so_is_one_that_is_unpacked(self, size: int, cut: bool) -> None:
        packed = gzip.compress(b"x" * size)
        for pieces in (1, 100, len(packed)):
            data = head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed
            assert read(pieces_of(data, pieces)) == Read(200, b"x" * OUTPUT_LIMIT, None, cut, True)

    def test_what_is_not_kept_is_not_unpacked(self) -> None:
        """Of a thousand times as much only so many bytes are ever there."""
        packed = gzip.compress(bytes(4 * OUTPUT_LIMIT)) + b"junk"
        found = read([head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed])
        assert found == Read(200, bytes(OUTPUT_LIMIT), None, True, True)

    def test_a_body_is_not_packed_in_too_many_pieces(self) -> None:
        packed = gzip.compress(b"") * 101
        found = read([head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed])
        assert found == Read(error="the gzip body cannot be unpacked: it consists of more than 100")

    def test_many_small_chunks_take_little_room(self) -> None:
        reader = AnswerReader()
        reader.feed(head("Transfer-Encoding: chunked"))
        for byte in Random(1).randbytes(10_000):
            reader.feed(b"2\r\n%b\r\n" % bytes([byte, byte]))
        assert isinstance(reader._body, bytearray)
        assert len(reader._body) == 20_000

"""What the fuzzers cannot see, because their inputs are small: the decoder's memory and work stay in bounds."""

import tracemalloc
from typing import Any

import pytest

from workq.protocol.server import MAX_DRAIN, MAX_LINE, Decoder, Malformed

ID = b"6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def decode_all(decoder: Decoder, data: bytes) -> int:
    decoder.feed(data)
    count = 0
    while decoder.next() is not None:
        count += 1
    return count


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"x" * (MAX_LINE + 1), id="endless line"),
        pytest.param(b"x" * (MAX_LINE + 1) + b"\r\n", id="long line"),
        pytest.param(b"complete %b %d\r\n" % (ID, MAX_DRAIN + 1), id="monstrous payload"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="http"),
    ],
)
@pytest.mark.parametrize("in_one", [True, False])
def test_nothing_follows_a_fatal_error(request_bytes: bytes, in_one: bool) -> None:
    """The connection is to be closed. Until it is, nothing is understood and nothing kept."""
    decoder = Decoder()
    rest = b"delete %b\r\n\r\n" % ID * 3
    decoder.feed(request_bytes + rest if in_one else request_bytes)
    found = decoder.next()
    assert isinstance(found, Malformed)
    assert found.fatal
    for _ in range(3):
        assert decoder.next() is None
        assert decoder.buffered() == 0
        decoder.feed(rest)
    decoder.feed(b"x" * (MAX_DRAIN + 2))
    assert decoder.next() is None
    assert decode_all(decoder, b"\r\n" + rest) == 0


class TestRememberedLines:
    """Lines that come again are recognised; who sends ever new ones cannot make the server remember them all."""

    def test_long_lines_are_not_kept(self) -> None:
        decoder = Decoder()
        tracemalloc.start()
        try:
            for number in range(30):
                names = b" ".join([b"a"] * 20_000)
                assert decode_all(decoder, b"lease %b %d\r\n" % (names, number)) == 1
                zeros = b"0" * 40_000
                assert decode_all(decoder, b"add %b q %b%d 1000 0\r\n\r\n" % (ID, zeros, number + 1)) == 1
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert kept < 1_000_000

    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
    def test_the_limit_of_a_line_holds_for_lines_that_came_before(self, line_end: bytes) -> None:
        line = b"lease " + b"a " * ((MAX_LINE - 8) // 2) + b"10"
        assert len(line) == MAX_LINE
        first, again = Decoder(), Decoder()
        first.feed(line + b"\n")
        assert not isinstance(first.next(), Malformed)
        again.feed(line + line_end)
        assert isinstance(again.next(), Malformed) == (len(line + line_end) - 1 > MAX_LINE)


class CountedBytes(bytes):
    """Bytes that count how many are copied out of them."""

    copied = 0

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        if isinstance(part, bytes):
            CountedBytes.copied += len(part)
        return part


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"add %b q 1000 1000 3\r\nabc\r\n" % ID, id="add"),
        pytest.param(b"add %b q 1000 1000 3 -priority=x\r\nabc\r\n" % ID, id="bad flag"),
        pytest.param(b"complete %b 3\r\nabcdef\r\n" % ID, id="wrong size"),
        pytest.param(b"complete %b 2000000\r\nabc\r\n" % ID, id="oversized"),
        pytest.param(b"nonsense\r\n", id="unknown"),
        pytest.param(b"\r\n", id="empty line"),
    ],
)
def test_a_request_is_not_dearer_for_what_follows_it(request_bytes: bytes) -> None:
    """Only its own bytes are copied, a few times at most, however many wait behind them."""
    CountedBytes.copied = 0
    data = CountedBytes(request_bytes * 2000)
    assert decode_all(Decoder(), data) >= 1
    assert CountedBytes.copied < 5 * len(data)

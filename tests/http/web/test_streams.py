"""However the bytes of a connection are cut, they mean the same: see also the fuzz target `http`."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fuzz.fuzz_http import answers

_NAMES = st.sampled_from(["/", "/wait", "/a/b%20c", "/q?a=b&c"])
_LINES = st.lists(st.sampled_from(["A: 1", "a: 2", "Accept: */*", "X-Long: " + "x" * 300]), max_size=4)
_BODIES = st.binary(max_size=100)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, and how it should be answered: by an echo that ends with its body."""
    method = draw(st.sampled_from(["GET", "POST"]))
    head = [f"{method} {draw(_NAMES)} HTTP/1.1", "Host: x", *draw(_LINES)]
    if method == "GET":
        return "\r\n".join([*head, "", ""]).encode()
    body = draw(_BODIES)
    if draw(st.booleans()):
        return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body
    cut = draw(st.integers(0, len(body)))
    chunks = [chunk for chunk in (body[:cut], body[cut:]) if chunk]
    encoded = b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks])
    return "\r\n".join([*head, "Transfer-Encoding: chunked", "", ""]).encode() + encoded + b"0\r\n\r\n"


@given(sent=st.lists(requests(), max_size=8), cuts=st.lists(st.integers(0, 4_000), max_size=12))
def test_pipelined_requests_in_any_slices(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(sent)
    places = sorted({0, len(stream), *[cut for cut in cuts if cut < len(stream)]})
    slices = [stream[start:end] for start, end in pairwise(places)]
    alone = b"".join([answers([each]) for each in sent])
    assert answers(slices) == answers([stream]) == alone
    assert alone.count(b"HTTP/1.1 200 OK\r\n") >= len(sent)

r"""JSON in which half of a character stands, as ``"\ud83d"``: somebody has cut a text in the middle of an emoji.

The parsers of Go, which the clients of the doors know, take it for U+FFFD; ours refuses it.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

# Whatever is escaped, and a whole character before a half.
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)", re.DOTALL)


def decode_halves(decode: Callable[[bytes], T], body: bytes) -> T:
    """What `decode` makes of `body`, with U+FFFD in the place of each half. Raises what `decode` raises."""
    try:
        return decode(body)
    except msgspec.DecodeError:
        whole = _ESCAPE.sub(_replace_half, body)
        if whole == body:
            raise
        return decode(whole)


def _replace_half(found: re.Match[bytes]) -> bytes:
    return found[0] if found["half"] is None else rb"\ufffd"

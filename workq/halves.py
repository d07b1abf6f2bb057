r"""JSON in which half of a character stands, as ``"\ud83d"``: somebody has cut a text in the middle of an emoji.

The parsers of Go, which the clients of the doors know, take it for U+FFFD; ours refuses it.
"""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

# The first half of a pair without the second, or the second without the first.
_HALF: Final = re.compile(
    rb"\\u[dD](?:[89abAB]..(?!\\u[dD][c-fC-F])|[c-fC-F]..(?<!\\u[dD][89abAB]..\\u[dD]...))", re.DOTALL
)
# Stands for a backslash that is escaped, and so begins no half. JSON has no such bytes.
_BACKSLASH: Final = b"\0\0"
# Halves that are replaced. Who cuts his texts has one in each.
_MOST: Final = 10_000


def decode_halves(decode: Callable[[bytes], T], body: bytes) -> T:
    """What `decode` makes of `body`, with U+FFFD in the place of each half, if there are not too many.

    Raises what `decode` raises.
    """
    try:
        return decode(body)
    except msgspec.DecodeError:
        if b"\0" in body:
            raise
        # No function is called for each escape, of which there may be millions: nobody is served meanwhile.
        whole = _HALF.sub(rb"\\ufffd", body.replace(rb"\\", _BACKSLASH), _MOST).replace(_BACKSLASH, rb"\\")
        if whole == body:
            raise
        return decode(whole)

"""How deeply JSON may be nested that a door keeps.

What could just be read when it came in could not be shown later, from deeper in the stack, and would spoil every list
that it is in. So there is a limit, far from what the decoder can do, which is about 980.
"""

import re
from itertools import accumulate
from typing import Final

DEEPEST: Final = 500
# All brackets are alike here: in JSON each is closed by its own kind.
_ALIKE: Final = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS: Final = bytes([byte for byte in range(256) if byte not in b"[]{}"])
_RUN: Final = re.compile(rb"\(+|\)+")
# Levels that are taken off one by one. Of what is left each run of brackets stands for so many at least, so there are
# few runs, which take far longer to count than brackets to be taken off.
_TAKEN_OFF: Final = 8


def is_too_deep(json: bytes) -> bool:
    """Whether the JSON text has arrays and objects in each other over more than `DEEPEST` levels."""
    if json.count(b"[") + json.count(b"{") <= DEEPEST:
        return False
    # What stands between quotes, but for those behind a backslash, is every second piece; also in text that only looks
    # like JSON, with a string that does not end.
    outside = b"".join(json.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    brackets = outside.translate(_ALIKE, _NO_BRACKETS)
    for _ in range(_TAKEN_OFF):
        brackets = brackets.replace(b"()", b"")
    runs = [len(run) if run[:1] == b"(" else -len(run) for run in _RUN.findall(brackets)]
    return max(accumulate(runs), default=0) > DEEPEST - _TAKEN_OFF

"""How deeply JSON may be nested that a door keeps.

What could just be read when it came in could not be shown later, from deeper in the stack, and would spoil every list
that it is in. So there is a limit, far from what the decoder can do, which is about 980.
"""

import re
from itertools import accumulate
from typing import Final

DEEPEST: Final = 500
# Also one that does not end, in text that only looks like JSON: to look for an end from each quote in it took hours.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKETS: Final = bytes([byte for byte in range(256) if byte not in b"[]{}"])
_STEPS: Final = tuple([1 if byte in b"[{" else -1 for byte in range(256)])


def is_too_deep(json: bytes) -> bool:
    """Whether the JSON text has arrays and objects in each other over more than `DEEPEST` levels."""
    if json.count(b"[") + json.count(b"{") <= DEEPEST:
        return False
    brackets = _STRING.sub(b"", json).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEEPEST

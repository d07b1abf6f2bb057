"""The numbers of jobs: 1, 2, 3 and so on in each queue, never twice, also over a restart.

A document says up to where numbers may be in use. It is moved on by a thousand at a time, before any of these is given
out, so a number costs nothing; after a restart the rest of a thousand is left out.
"""

from typing import Final

from workq.commands import GetDocument, PutDocument
from workq.gateway import Gateway
from workq.replies import Documents

_PREFIX: Final = "fireworq/numbers/"
_AT_ONCE: Final = 1_000


class _Range:
    """Numbers that may be given out: `next`, up to but without `end`."""

    __slots__ = ("next", "end")

    def __init__(self, end: int) -> None:
        self.next = end
        self.end = end


class Numbers:
    """Gives out numbers. Use it from the loop's thread only."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ranges: dict[str, _Range] = {}

    async def take(self, queue: str) -> int:
        """The next number of `queue`. Raises `ServerUnavailable`."""
        key = (_PREFIX + queue).encode("utf-8", "surrogatepass")
        numbers = self._ranges.get(queue)
        if numbers is None:
            reply = await self._gateway.execute(GetDocument(key))
            end = int(reply.documents[0][1]) if isinstance(reply, Documents) else 1
            numbers = self._ranges.setdefault(queue, _Range(end))
        while numbers.next == numbers.end:
            # Several may come here at once. What the last of them asks for is what counts.
            end = numbers.end + _AT_ONCE
            await self._gateway.execute(PutDocument(key, b"%d" % end))
            numbers.end = max(numbers.end, end)
        numbers.next += 1
        return numbers.next - 1

"""Work that is done in portions, one in each turn of the event loop, so that no turn is long.

What comes all at once would else be done all at once: sixty requests of a poll, the answers to them when the log has
their batch, as many jobs to be sent. Meanwhile the loop would look at no socket, and everybody else would wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# Pieces of a turn, each of which is a part of the work for one HTTP request, some tens of microseconds. Where others
# share the loop they are so few that those hardly wait; where nobody does, so many that what each turn costs is spread:
# a look at the sockets, and a batch of the log.
SHARED_PORTION: Final = 4
LONE_PORTION: Final = 32


class RunQueue:
    """Pieces of work that wait for their turn, first come, first served. Use it from the loop's thread only."""

    __slots__ = ("_is_shared", "_waiting", "_is_due")

    def __init__(self, is_shared: Callable[[], bool]) -> None:
        """`is_shared` says whether there are others, whom a long turn would keep waiting."""
        self._is_shared = is_shared
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = False  # the loop is going to call `_run`

    def add(self, piece: Callable[[], None]) -> None:
        """Have `piece` called in one of the next turns. It should do no more than what one request needs."""
        self._waiting.append(piece)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        waiting = self._waiting
        self._is_due = False
        portion = SHARED_PORTION if self._is_shared() else LONE_PORTION
        try:
            for _ in range(min(len(waiting), portion)):
                waiting.popleft()()
        finally:  # also when one raises, which the loop reports
            if waiting and not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._run)


def nobody_else() -> bool:
    """For a loop on which nobody else works."""
    return False

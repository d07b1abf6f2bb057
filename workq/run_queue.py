"""Work that is done in portions, one in each turn of the event loop, so that no turn is long.

What comes all at once would else be done all at once: sixty requests of a poll, the answers to them when the log has
their batch, as many jobs to be sent. Meanwhile the loop would look at no socket, and everybody else would wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

# Pieces of a turn. Each is a part of the work for one HTTP request, some tens of microseconds: so few that others
# hardly wait, so many that what a turn costs by itself is spread.
PORTION: Final = 4


class RunQueue:
    """Pieces of work that wait for their turn, first come, first served. Use it from the loop's thread only."""

    __slots__ = ("_waiting", "_is_due")

    def __init__(self) -> None:
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
        try:
            for _ in range(min(len(waiting), PORTION)):
                waiting.popleft()()
        finally:  # also when one raises, which the loop reports
            if waiting and not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._run)

"""A connection that broke, and the pause before the next try."""

import os
import random


class Broken(Exception):
    """A connection that cannot be used (any more).

    sent     whether the server may have seen the command that was tried
    garbled  whether the server's bytes made no sense, so that another try would not either
    """

    def __init__(self, reason: str, *, sent: bool, garbled: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.garbled = garbled


def reason(error: OSError) -> str:
    """The system's words for `error`; asyncio puts others, with less sense to a user, in their place."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or "timed out"


class Backoff:
    """Growing pauses with jitter, so that a herd of clients does not come back all at once."""

    __slots__ = ("_next_s", "_longest_s")

    FIRST_S = 0.05

    def __init__(self, longest_s: float = 2.0) -> None:
        self._next_s = self.FIRST_S
        self._longest_s = longest_s

    def pause_s(self) -> float:
        """Seconds to wait before the next try."""
        pause = self._next_s
        self._next_s = min(2 * pause, self._longest_s)
        return pause * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start over: something worked."""
        self._next_s = self.FIRST_S

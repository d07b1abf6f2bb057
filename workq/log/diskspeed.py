"""How fast the disk syncs, and whether the event loop may wait for that itself.

To have a sync done by a thread costs two wake-ups, which is much beside the sync of a fast disk. The loop may do such
a sync itself; it stands still meanwhile, so this must not go on when the disk is slow, or only sometimes fast.
"""

from math import inf
from typing import Final

# The loop waits for syncs while they take no longer than this on average ...
_FAST_S: Final = 0.0005
# ... and stops at once after one that takes longer than this.
_STALL_S: Final = 0.002
# Then it keeps away for so many times the time that it lost: all such losses together are at most a hundredth of its
# time. The number doubles every time, up to the second one, and a good while of fast syncs takes it back.
_PENANCE: Final = 100
_LONGEST_PENANCE: Final = 12_800
_GOOD_WHILE: Final = 1_000
# Before it tries (again), there have been so many syncs in the thread, one of them no longer than _STALL_S. What the
# thread measures is too long when the loop is busy, so it cannot decide more than that.
_TRIALS: Final = 16


class DiskSpeed:
    """Told how long syncs take, says whether the next may be done in the event loop. Times are in seconds."""

    __slots__ = ("_in_loop", "_average_s", "_fast", "_trials", "_least_s", "_not_before_s", "_penance")

    def __init__(self) -> None:
        self._in_loop = False
        self._average_s = 0.0  # of the last syncs in the loop
        self._fast = 0  # syncs in the loop since it had to stop
        self._trials = 0  # syncs in the thread since then
        self._least_s = inf  # the shortest of them
        self._not_before_s = 0.0  # when the loop may try again
        self._penance = _PENANCE

    def is_fast(self, now_s: float) -> bool:
        """Whether the event loop may wait for the next sync."""
        if not self._in_loop:
            self._in_loop = self._trials >= _TRIALS and self._least_s <= _STALL_S and now_s >= self._not_before_s
        return self._in_loop

    def took_in_thread(self, seconds: float) -> None:
        """A sync was done by the thread."""
        self._trials += 1
        self._least_s = min(self._least_s, seconds)

    def took_in_loop(self, seconds: float, now_s: float) -> None:
        """The loop has waited for a sync."""
        self._average_s += (seconds - self._average_s) / 8
        if seconds <= _STALL_S and self._average_s <= _FAST_S:
            self._fast += 1
            if self._fast == _GOOD_WHILE:
                self._penance = _PENANCE
            return
        self._in_loop = False
        self._not_before_s = now_s + seconds * self._penance
        self._penance = min(2 * self._penance, _LONGEST_PENANCE)
        self._average_s = 0.0
        self._fast = self._trials = 0
        self._least_s = inf

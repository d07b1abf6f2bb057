"""What happened in a queue: totals since the server was started, and how much of it in the last minute."""

from typing import Final

from workq.replies import QueueTotals

# The last minute is counted in slots: so many, of so many milliseconds.
_SLOT_MS: Final = 5_000
_MINUTE_MS: Final = 60_000


class Traffic:
    """Counters of a queue. Who counts calls `turn` first, once `slot_ends_ms` is reached.

    Only the engine counts, so what a log brings back is left out.
    """

    __slots__ = (
        *("added", "leased", "completed", "failed", "returned", "expired", "deleted"),
        *("slot_ends_ms", "_slots"),
    )

    def __init__(self) -> None:
        self.added = 0
        self.leased = 0
        self.completed = 0
        self.failed = 0
        self.returned = 0
        self.expired = 0
        self.deleted = 0
        self.slot_ends_ms = 0
        self._slots: list[tuple[int, int, int, int]] = []  # the start of each, and what had been counted by then

    def turn(self, now_ms: int) -> None:
        """A slot of time begins in which something is counted."""
        start_ms = now_ms - now_ms % _SLOT_MS
        oldest_ms = start_ms + _SLOT_MS - _MINUTE_MS
        self._slots = [slot for slot in self._slots if slot[0] >= oldest_ms]
        self._slots.append((start_ms, self.added, self.leased, self.completed + self.failed))
        self.slot_ends_ms = start_ms + _SLOT_MS

    def last_minute(self, now_ms: int) -> tuple[int, int, int]:
        """Jobs added, leased and finished in the last 55 to 60 s."""
        oldest_ms = now_ms - now_ms % _SLOT_MS + _SLOT_MS - _MINUTE_MS
        for start_ms, added, leased, finished in self._slots:
            if start_ms >= oldest_ms:
                return self.added - added, self.leased - leased, self.completed + self.failed - finished
        return 0, 0, 0

    def totals(self, now_ms: int) -> QueueTotals:
        """All of it."""
        return QueueTotals(
            self.added,
            self.leased,
            self.completed,
            self.failed,
            self.returned,
            self.expired,
            self.deleted,
            *self.last_minute(now_ms),
        )

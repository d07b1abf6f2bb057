"""A hierarchical timing wheel: O(1) to set and to cancel, and an idle server sleeps.

Time is divided into slots of 1 ms, 256 ms, 65 s, 4.7 h and so on, 256 of each. A deadline goes into the coarsest slot
that does not contain the wheel's present; when that slot's time comes, its items are dealt into finer slots, and from
a slot of 1 ms they are due. Prior art: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels"; the level of a
deadline is the place of the highest byte in which it differs from the present.

Invariant: an item with deadline d is in the slot that `_slot_of(d)` names, or in the open slot. It survives the passing
of time because the present never passes the start of a slot without opening it.
"""

import heapq
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from workq.engine.job import NEVER_MS

Item = TypeVar("Item")

_LEVELS: Final = 8  # of 8 bits: enough for any deadline below 2**64 ms


class TimerWheel(Generic[Item]):
    """Items with deadlines in integer milliseconds.

    `next_ms` is never later than the next deadline that is ahead, and may be earlier: one far away is approached in at
    most seven wakings, and the last one of a slot to be cancelled is still woken for. Then, with nothing set, it is
    `NEVER_MS`.
    """

    __slots__ = ("next_ms", "_now_ms", "_levels", "_starts", "_open", "_open_items", "_open_level", "_deadline_of")

    def __init__(self, deadline_of: Callable[[Item], int], now_ms: int = 0) -> None:
        self.next_ms = NEVER_MS
        self._now_ms = now_ms
        # Slots are dicts used as ordered sets: what was set first is due first, run after run.
        self._levels: list[dict[int, dict[Item, None]]] = [{} for _ in range(_LEVELS)]
        self._starts: list[tuple[int, int]] = []
        self._open: dict[Item, None] = {}
        self._open_items: list[Item] = []
        self._open_level = 0
        self._deadline_of = deadline_of

    def __len__(self) -> int:
        return len(self._open) + sum([len(slot) for level in self._levels for slot in level.values()])

    def add(self, item: Item, deadline_ms: int) -> None:
        """Set `item`, whose deadline may have passed already. It must not be set twice."""
        now_ms = self._now_ms
        if deadline_ms < now_ms:
            deadline_ms = now_ms
        level = (((deadline_ms ^ now_ms) | 1).bit_length() - 1) >> 3
        slots = self._levels[level]
        number = deadline_ms >> (level << 3)
        slot = slots.get(number)
        if slot is None:
            slots[number] = {item: None}
            start_ms = number << (level << 3)
            heapq.heappush(self._starts, (start_ms, level))
            if start_ms < self.next_ms:
                self.next_ms = start_ms
        else:
            slot[item] = None

    def remove(self, item: Item, deadline_ms: int) -> None:
        """Cancel `item`, set for `deadline_ms`. An item that `step` has returned is not set any more."""
        now_ms = self._now_ms
        if deadline_ms < now_ms:
            deadline_ms = now_ms
        level = (((deadline_ms ^ now_ms) | 1).bit_length() - 1) >> 3
        slot = self._levels[level].get(deadline_ms >> (level << 3))
        if slot is not None and item in slot:
            del slot[item]
        else:
            self._open.pop(item, None)

    def step(self, now_ms: int) -> Item | None:
        """Do one small piece of the work that is due at `now_ms`: return an item whose deadline has come, or deal one
        item into a finer slot and return None.

        Call it while `next_ms` is not later than `now_ms`. The work of one call is bounded, so a caller who must not
        stop the world may stop between calls.
        """
        if not self._open_items:
            self._open_next_slot(now_ms)
        while self._open_items:
            item = self._open_items.pop()
            if item not in self._open:
                continue  # cancelled while the slot was open
            del self._open[item]
            if not self._open_items:
                self._find_next(now_ms)
            if self._open_level == 0:
                return item
            self.add(item, self._deadline_of(item))
            return None
        self._find_next(now_ms)
        return None

    def _open_next_slot(self, now_ms: int) -> None:
        starts = self._starts
        if not starts or starts[0][0] > now_ms:
            return
        start_ms, level = heapq.heappop(starts)
        self._now_ms = max(self._now_ms, start_ms)
        self._open = self._levels[level].pop(start_ms >> (level << 3))
        self._open_items = list(self._open)
        self._open_items.reverse()
        self._open_level = level

    def _find_next(self, now_ms: int) -> None:
        starts = self._starts
        while starts:
            start_ms, level = starts[0]
            number = start_ms >> (level << 3)
            if self._levels[level][number]:
                self.next_ms = start_ms
                break
            del self._levels[level][number]
            heapq.heappop(starts)
        else:
            self.next_ms = NEVER_MS
        if self.next_ms > now_ms:
            self._now_ms = max(self._now_ms, now_ms)

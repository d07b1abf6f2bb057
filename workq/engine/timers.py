"""A hierarchical timing wheel: O(1) to set and to cancel, and an idle server sleeps.

Time is divided into slots of 1 ms, 256 ms, 65 s, 4.7 h and so on, 256 of each. A deadline goes into the coarsest slot
that does not contain the wheel's present; when that slot's time comes, its items are dealt into finer slots, and from
a slot of 1 ms they are due. Prior art: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels"; the level of a
deadline is the place of the highest byte in which it differs from the present.

Invariant: an item with deadline d is in the slot that its level and number name, or in the open slot. It survives the
passing of time because the present never passes the start of a slot without opening it.

A slot is a dict used as an ordered set: what was set first is due first, run after run. A dict that grows stops the
world while it moves all its items, so one that is full is laid aside, and the slot goes on in another.
"""

import heapq
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, Generic, TypeVar

from workq.engine.job import NEVER_MS

Item = TypeVar("Item")


def _level_of(difference: int) -> int:
    """The place of the highest byte that is not 0. Compiled, a comparison is an instruction and `bit_length` a call."""
    if difference < 1 << 8:
        return 0
    if difference < 1 << 16:
        return 1
    if difference < 1 << 24:
        return 2
    return (difference.bit_length() - 1) >> 3


_LEVELS: Final = 8  # of 8 bits: enough for any deadline below 2**64 ms
# Items in one dict, which are moved in a millisecond: as many as CPython puts into a table of 2**16 places.
MOST_IN_DICT: Final = 2**17 // 3


class TimerWheel(Generic[Item]):
    """Items with deadlines in integer milliseconds.

    `next_ms` is never later than the next deadline that is ahead, and may be earlier: one far away is approached in at
    most seven wakings, and the last one of a slot to be cancelled is still woken for. Then, with nothing set, it is
    `NEVER_MS`.
    """

    __slots__ = (
        "next_ms",
        "_now_ms",
        "_levels",
        "_last_from_ms",
        "_last_until_ms",
        "_last_slot",
        "_aside",
        "_starts",
        "_open",
        "_open_items",
        "_open_level",
        "_open_aside",
        "_deadline_of",
        "_most_in_dict",
    )

    def __init__(self, deadline_of: Callable[[Item], int], now_ms: int = 0, most_in_dict: int = MOST_IN_DICT) -> None:
        self.next_ms = NEVER_MS
        self._now_ms = now_ms
        self._levels: list[dict[int, dict[Item, None]]] = [{} for _ in range(_LEVELS)]
        # The slot that was last looked for, and its deadlines: most often it is the next one, too.
        self._last_from_ms = 0
        self._last_until_ms = 0
        self._last_slot: dict[Item, None] = {}
        # By start and level of a slot: the dicts of it that were full, in the order of their time.
        self._aside: dict[tuple[int, int], list[dict[Item, None]]] = {}
        self._starts: list[tuple[int, int]] = []
        self._open: dict[Item, None] = {}
        self._open_items: list[Item] = []
        self._open_level = 0
        self._open_aside: list[dict[Item, None]] = []  # the rest of the slot, the next dict last
        self._deadline_of = deadline_of
        self._most_in_dict = most_in_dict

    def __len__(self) -> int:
        return sum([len(items) for items in self._dicts()])

    def __iter__(self) -> Iterator[Item]:
        """All that is set, in no order."""
        return chain.from_iterable(self._dicts())

    def add(self, item: Item, deadline_ms: int) -> None:
        """Set `item`, whose deadline may have passed already. It must not be set twice."""
        slot = self._last_slot
        if not self._last_from_ms <= deadline_ms < self._last_until_ms or len(slot) >= self._most_in_dict:
            slot = self._slot_for(deadline_ms)
        slot[item] = None

    def add_all(self, items: list[Item], deadline_ms: int) -> None:
        """Set `items`, which have the same deadline."""
        room = 0
        slot: dict[Item, None] = {}
        for item in items:
            if room == 0:
                slot = self._slot_for(deadline_ms)
                room = self._most_in_dict - len(slot)
            slot[item] = None
            room -= 1

    def remove(self, item: Item, deadline_ms: int) -> None:
        """Cancel `item`, set for `deadline_ms`. An item that `step` has returned is not set any more."""
        slot: dict[Item, None] | None = self._last_slot
        if not self._last_from_ms <= deadline_ms < self._last_until_ms:
            level, number = self._place_of(deadline_ms)
            slot = self._slot(level, number)
        if slot is not None:
            try:
                del slot[item]
            except KeyError:
                pass
            else:
                return
        if item in self._open:
            del self._open[item]
        elif self._aside or self._open_aside:
            level, number = self._place_of(deadline_ms)
            self._remove_aside(item, (number << (level << 3), level))

    def step(self, now_ms: int) -> Item | None:
        """Do one small piece of the work that is due at `now_ms`: return an item whose deadline has come, or deal one
        item into a finer slot and return None.

        Call it while `next_ms` is not later than `now_ms`. The work of one call is bounded, so a caller who must not
        stop the world may stop between calls.
        """
        if not self._open_items:
            self._open_next(now_ms)
        while self._open_items:
            item = self._open_items.pop()
            if item not in self._open:
                continue  # cancelled while the slot was open
            del self._open[item]
            self._find_next(now_ms)
            if self._open_level == 0:
                return item
            self.add(item, self._deadline_of(item))
            return None
        self._find_next(now_ms)
        return None

    def _slot_for(self, deadline_ms: int) -> dict[Item, None]:
        """A dict with room for an item with this deadline."""
        level, number = self._place_of(deadline_ms)
        slot = self._slot(level, number)
        if slot is not None:
            if len(slot) < self._most_in_dict:
                return slot
            self._aside.setdefault((number << (level << 3), level), []).append(slot)
        else:
            start_ms = number << (level << 3)
            heapq.heappush(self._starts, (start_ms, level))
            if start_ms < self.next_ms:
                self.next_ms = start_ms
        slot = self._levels[level][number] = {}
        self._forget_last()
        return slot

    def _place_of(self, deadline_ms: int) -> tuple[int, int]:
        """The level and the number of the slot for a deadline."""
        now_ms = self._now_ms
        if deadline_ms < now_ms:
            deadline_ms = now_ms
        level = _level_of(deadline_ms ^ now_ms)
        return level, deadline_ms >> (level << 3)

    def _slot(self, level: int, number: int) -> dict[Item, None] | None:
        """The slot, if there is one; remembered for the next deadlines."""
        slot = self._levels[level].get(number)
        if slot is not None:
            self._last_from_ms = number << (level << 3)
            self._last_until_ms = (number + 1) << (level << 3)
            self._last_slot = slot
        return slot

    def _forget_last(self) -> None:
        """The slot that was last looked for is another one now, or time has passed."""
        self._last_until_ms = 0

    def _remove_aside(self, item: Item, slot: tuple[int, int]) -> None:
        aside = self._aside.get(slot, [])
        for dicts in (aside, self._open_aside):
            for items in dicts:
                if item in items:
                    del items[item]
                    if not items:
                        dicts.remove(items)
                        if dicts is aside and not aside:
                            del self._aside[slot]
                    return

    def _open_next(self, now_ms: int) -> None:
        """Open the next dict of the open slot, or the next slot if its time has come."""
        if not self._open_aside:
            starts = self._starts
            if not starts or starts[0][0] > now_ms:
                return
            start_ms, level = heapq.heappop(starts)
            self._now_ms = max(self._now_ms, start_ms)
            last = self._levels[level].pop(start_ms >> (level << 3))
            self._forget_last()
            self._open_aside = [last, *reversed(self._aside.pop((start_ms, level), []))]
            self._open_level = level
        self._open = self._open_aside.pop()
        self._open_items = list(self._open)
        self._open_items.reverse()

    def _find_next(self, now_ms: int) -> None:
        """Look for the next slot, once there is nothing left of the open one."""
        if self._open_items or self._open_aside:
            return
        starts = self._starts
        while starts:
            start_ms, level = starts[0]
            number = start_ms >> (level << 3)
            if self._levels[level][number] or (start_ms, level) in self._aside:
                self.next_ms = start_ms
                break
            del self._levels[level][number]
            heapq.heappop(starts)
        else:
            self.next_ms = NEVER_MS
        if self.next_ms > now_ms:
            self._now_ms = max(self._now_ms, now_ms)
        self._forget_last()

    def _dicts(self) -> list[dict[Item, None]]:
        slots = [slot for level in self._levels for slot in level.values()]
        aside = [items for dicts in self._aside.values() for items in dicts]
        return [*slots, *aside, self._open, *self._open_aside]

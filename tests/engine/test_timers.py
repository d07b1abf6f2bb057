"""The timing wheel against a plain list: never early, never late, whatever is set and cancelled in between."""

from itertools import groupby
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.snapshot import timers
from tests.engine.steps import histories
from workq.engine.job import NEVER_MS
from workq.engine.timers import TimerWheel


class Alarm:
    """Something with a deadline."""

    def __init__(self, deadline_ms: int) -> None:
        self.deadline_ms = deadline_ms


class Alarms:
    """A wheel, and a list of what is set in it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        # Two alarms fill a dict, so that what happens to a full one happens here.
        self.wheel: TimerWheel[Alarm] = TimerWheel(self.deadline_of, now_ms, most_in_dict=2)
        self.alarms: list[Alarm] = []
        self.sets = 0
        self.steps = 0
        self.dealt = 0
        self.past = False

    def deadline_of(self, alarm: Alarm) -> int:
        self.dealt += 1
        return alarm.deadline_ms

    def set(self, in_ms: int) -> None:
        alarm = Alarm(min(self.now_ms + in_ms, NEVER_MS - 1))
        self.past = self.past or in_ms < 0
        self.sets += 1
        self.alarms.append(alarm)
        self.wheel.add(alarm, alarm.deadline_ms)

    def set_all(self, in_ms: int, count: int) -> None:
        """Several in one go: the costs of dealing them are counted later, like those of others."""
        deadline_ms = min(self.now_ms + in_ms, NEVER_MS - 1)
        alarms = [Alarm(deadline_ms) for _ in range(count)]
        self.sets += len(alarms)
        self.alarms += alarms
        self.wheel.add_all(alarms, deadline_ms)

    def cancel(self, which: int) -> None:
        if self.alarms:
            alarm = self.alarms.pop(which % len(self.alarms))
            self.wheel.remove(alarm, alarm.deadline_ms)

    def wait(self, ms: int) -> None:
        """Time passes, and nobody looks."""
        self.now_ms = min(self.now_ms + ms, NEVER_MS - 1)

    def step(self) -> None:
        if self.wheel.next_ms > self.now_ms:
            return
        self.steps += 1
        dealt_before = self.dealt
        alarm = self.wheel.step(self.now_ms)
        assert self.dealt - dealt_before <= 1, "more than a piece of work at once"
        if alarm is not None:
            assert alarm.deadline_ms <= self.now_ms, "early"
            self.alarms.remove(alarm)
            assert self.past or all(alarm.deadline_ms <= other.deadline_ms for other in self.alarms), "out of turn"

    def drain(self) -> None:
        """Do all that is due."""
        while self.wheel.next_ms <= self.now_ms:
            self.step()
        assert all(alarm.deadline_ms > self.now_ms for alarm in self.alarms), "late"

    def check(self) -> None:
        assert len(self.wheel) == len(self.alarms)
        assert set(timers(self.wheel)) == set(self.alarms)
        next_ms = min([alarm.deadline_ms for alarm in self.alarms], default=NEVER_MS)
        assert self.wheel.next_ms <= max(next_ms, self.now_ms)


lengths = st.one_of(
    st.integers(0, 4),
    st.sampled_from([254, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 10**7]),
    st.integers(17, 62).map(lambda bits: 2**bits - 1),
)
Move: TypeAlias = tuple[str] | tuple[str, int] | tuple[str, int, int]
moves: st.SearchStrategy[Move] = st.one_of(
    st.tuples(st.just("set"), lengths),
    st.tuples(st.just("set"), st.integers(0, 600)),
    st.tuples(st.just("set_all"), st.sampled_from([0, 1, 300]), st.integers(0, 6)),
    st.tuples(st.just("cancel"), st.integers(0, 99)),
    st.tuples(st.just("wait"), st.one_of(st.integers(0, 600), st.sampled_from([65_536, 10**7, 2**40]))),
    st.tuples(st.just("step")),
    st.tuples(st.just("step")),
    st.tuples(st.just("drain")),
)
starts = st.sampled_from([0, 1, 255, 65_530, 2**32 - 3, 1_700_000_000_000])


@settings(max_examples=200)
@given(histories(st.one_of(moves, moves, st.tuples(st.just("set"), st.integers(-300, -1))), longest=80), starts)
def test_nothing_is_early_late_or_lost(history: list[Move], now_ms: int) -> None:
    """Deadlines that have passed already, and those set while others fall due, are due at once."""
    alarms = Alarms(now_ms)
    for move, *args in history:
        getattr(alarms, move)(*args)
        alarms.check()
    alarms.drain()


@settings(max_examples=200)
@given(histories(moves, longest=80), starts)
def test_the_earlier_deadline_comes_first(history: list[Move], now_ms: int) -> None:
    alarms = Alarms(now_ms)
    for move, *args in history:
        getattr(alarms, move)(*args)
    alarms.drain()
    assert not alarms.past


@settings(max_examples=200)
@given(histories(moves, longest=80), starts)
def test_an_alarm_costs_a_bounded_number_of_steps(history: list[Move], now_ms: int) -> None:
    """Each is dealt into a finer slot at most seven times; with its slot's opening and itself that is ten steps."""
    alarms = Alarms(now_ms)
    for move, *args in history:
        getattr(alarms, move)(*args)
    while alarms.alarms:
        alarms.now_ms = max(alarms.now_ms, alarms.wheel.next_ms)
        alarms.drain()
    assert alarms.steps <= 10 * alarms.sets


@pytest.mark.parametrize("together", [False, True])
@given(st.lists(st.integers(0, 3), max_size=60), starts)
def test_equal_deadlines_come_in_the_order_they_were_set(together: bool, lengths: list[int], now_ms: int) -> None:
    wheel: TimerWheel[Alarm] = TimerWheel(lambda alarm: alarm.deadline_ms, now_ms, most_in_dict=2)
    alarms = [Alarm(now_ms + 1000 * length) for length in lengths]
    for deadline_ms, same in groupby(alarms, key=lambda alarm: alarm.deadline_ms):
        if together:
            wheel.add_all(list(same), deadline_ms)
        else:
            for alarm in same:
                wheel.add(alarm, deadline_ms)
    due = []
    while wheel.next_ms <= now_ms + 5000:
        stepped = wheel.step(now_ms + 5000)
        due += [stepped] if stepped else []
    assert due == sorted(alarms, key=lambda alarm: alarm.deadline_ms)


def test_a_far_deadline_is_approached_in_a_few_wakings() -> None:
    """The server sleeps between them: seven, for the seven coarser kinds of slots, and the deadline itself."""
    now_ms = 1_700_000_000_000
    alarm = Alarm(NEVER_MS - 1)
    wheel: TimerWheel[Alarm] = TimerWheel(lambda alarm: alarm.deadline_ms, now_ms)
    wheel.add(alarm, alarm.deadline_ms)
    wakings: list[int] = []
    while not wakings or wheel.next_ms < NEVER_MS:
        wakings.append(wheel.next_ms)
        while wheel.next_ms <= wakings[-1]:
            due = wheel.step(wakings[-1])
    assert due is alarm
    assert wakings[-1] == alarm.deadline_ms
    assert len(wakings) <= 8


def test_nothing_set_means_no_next_time() -> None:
    wheel: TimerWheel[Alarm] = TimerWheel(lambda alarm: alarm.deadline_ms, 5)
    assert wheel.next_ms == NEVER_MS
    wheel.add(alarm := Alarm(9), 9)
    assert wheel.next_ms <= 9
    wheel.remove(alarm, 9)
    assert wheel.step(9) is None
    assert wheel.next_ms == NEVER_MS

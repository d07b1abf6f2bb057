"""Ids, and how times are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq.http.hq.ids import LARGEST_ID, Ids, parse_id, shown_duration, shown_time

EPOCH_MS = 1_546_300_800_000  # 2019-01-01T00:00:00Z


def test_the_layout_is_that_of_hq() -> None:
    ids = Ids(EPOCH_MS, 0)
    assert shown_time(ids.created_ms(109192606348480512)) == "2019-10-29T07:32:26.054Z"
    made = Ids(EPOCH_MS, 1023).new(EPOCH_MS + 5)
    assert made == 5 << 22 | 1023 << 12


@given(times=st.lists(st.integers(0, 2**40), min_size=1), server_id=st.integers(0, 1023))
def test_each_is_larger_than_all_before_whatever_the_clock_does(times: list[int], server_id: int) -> None:
    ids = Ids(EPOCH_MS, server_id)
    made = [ids.new(EPOCH_MS + time_ms) for time_ms in times]
    assert made == sorted(set(made))
    assert {number >> 12 & 1023 for number in made} == {server_id}


def test_a_millisecond_with_more_than_4096_borrows_from_the_next() -> None:
    ids = Ids(EPOCH_MS, 7)
    made = [ids.new(EPOCH_MS) for _ in range(4097)]
    assert made == sorted(set(made))
    assert ids.created_ms(made[-2]) == EPOCH_MS
    assert ids.created_ms(made[-1]) == EPOCH_MS + 1


def test_ids_go_on_above_those_of_an_earlier_process() -> None:
    before = Ids(EPOCH_MS, 3)
    last = [before.new(EPOCH_MS + 1000) for _ in range(10)][-1]
    after = Ids(EPOCH_MS, 3)
    after.follow(last)
    assert after.new(EPOCH_MS + 500) > last


def test_ids_of_another_server_are_followed_too() -> None:
    last = Ids(EPOCH_MS, 1023).new(EPOCH_MS + 1000)
    after = Ids(EPOCH_MS, 0)
    after.follow(last)
    assert after.new(EPOCH_MS + 1000) > last


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("109192606348480512", 109192606348480512),
        (str(LARGEST_ID), LARGEST_ID),
        (str(LARGEST_ID + 1), None),
        ("9" * 100, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("0x1", None),
        (" 1", None),
        ("\u0661", None),
    ],
)
def test_an_id_is_an_unsigned_64_bit_number(text: str, number: int | None) -> None:
    assert parse_id(text) == number


@pytest.mark.parametrize(
    ("millis", "fraction"), [(0, ""), (260, ".26"), (100, ".1"), (1, ".001"), (54, ".054"), (999, ".999")]
)
def test_times_have_no_zeros_at_the_end_of_their_fraction(millis: int, fraction: str) -> None:
    assert shown_time(1_574_000_000_000 + millis) == f"2019-11-17T14:13:20{fraction}Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2_419_200, "4 weeks"),
        (604_800, "1 week"),
        (90_000, "1 day"),
        (7_200, "2 hours"),
        (60, "1 minute"),
        (1, "1 second"),
        (0, "0 seconds"),
    ],
)
def test_durations_are_told_in_their_largest_unit(seconds: int, text: str) -> None:
    assert shown_duration(seconds) == text

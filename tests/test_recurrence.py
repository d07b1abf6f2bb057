"""When recurring jobs occur. The times over changes of the clocks are computed by hand."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workq.recurrence import RULE_LENGTH, Rule, parse_rule, recalled_rule
from workq.values import InvalidValue


def ms(text: str) -> int:
    """Unix milliseconds of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def occurrences(rule: str, start: str, count: int) -> list[str]:
    """The next occurrences after `start`, in UTC."""
    found = []
    at_ms: int | None = ms(start)
    for _ in range(count):
        assert at_ms is not None
        at_ms = parse_rule(rule).after(at_ms)
        found.append("" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


class TestDaylightSaving:
    """Berlin is at UTC+1; at UTC+2 from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC."""

    def test_what_falls_into_the_hour_left_out_in_spring_happens_when_it_would_have_begun(self) -> None:
        # 28th: 02:30 +1; 29th: 02:30 does not exist, at 02:00 +1 it becomes 03:00 +2; 30th: 02:30 +2
        found = occurrences("cron:30_2_*_*_*@Europe/Berlin", "2026-03-27T12:00", 3)
        assert found == ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]

    def test_what_falls_into_the_hour_that_comes_twice_in_autumn_happens_once(self) -> None:
        # 24th: 02:30 +2; 25th: the first 02:30, +2; 26th: 02:30 +1
        found = occurrences("cron:30_2_*_*_*@Europe/Berlin", "2026-10-23T12:00", 3)
        assert found == ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]

    def test_asked_in_the_second_of_the_two_hours_it_names_no_time_that_is_over(self) -> None:
        # 01:15 UTC is 02:15 for the second time; 02:30 for the first time was at 00:30 UTC
        assert occurrences("cron:30_2_*_*_*@Europe/Berlin", "2026-10-25T01:15", 1) == ["2026-10-26 01:30"]

    def test_every_half_hour_goes_on_through_both_changes(self) -> None:
        spring = occurrences("cron:*/30_*_*_*_*@Europe/Berlin", "2026-03-29T00:15", 3)
        assert spring == ["2026-03-29 00:30", "2026-03-29 01:00", "2026-03-29 01:30"]
        autumn = occurrences("cron:*/30_*_*_*_*@Europe/Berlin", "2026-10-24T23:45", 5)
        assert [time[11:] for time in autumn] == ["00:00", "00:30", "01:00", "01:30", "02:00"]

    def test_a_shift_of_half_an_hour_hides_nothing(self) -> None:
        # On Lord Howe 02:00 +11 becomes 01:30 +10:30 on 2026-04-05, and 02:00 +10:30 becomes 02:30 +11 on 2026-10-04.
        autumn = occurrences("cron:*/20_2_*_*_*@Australia/Lord_Howe", "2026-04-04T12:00", 4)
        assert autumn == ["2026-04-04 15:30", "2026-04-04 15:50", "2026-04-04 16:10", "2026-04-05 15:30"]
        spring = occurrences("cron:*/20_3_*_*_*@Australia/Lord_Howe", "2026-10-03T12:00", 4)
        assert spring == ["2026-10-03 16:00", "2026-10-03 16:20", "2026-10-03 16:40", "2026-10-04 16:00"]

    def test_a_shift_of_half_an_hour_hides_nothing_later_that_day(self) -> None:
        spring = occurrences("cron:*/20_8_*_*_*@Australia/Lord_Howe", "2026-10-03T12:00", 2)
        assert spring == ["2026-10-03 21:00", "2026-10-03 21:20"]
        autumn = occurrences("cron:*/30_23_*_*_*@Australia/Lord_Howe", "2026-04-04T14:00", 2)
        assert autumn == ["2026-04-05 12:30", "2026-04-05 13:00"]

    def test_a_working_day_begins_at_nine_on_the_clock_all_year(self) -> None:
        assert occurrences("cron:0_9_*_*_MON@Europe/Berlin", "2026-03-22T12:00", 2) == [
            "2026-03-23 08:00",
            "2026-03-30 07:00",
        ]

    def test_downtime_over_the_doubled_hour_leaves_one_to_catch_up(self) -> None:
        rule = parse_rule("cron:30_2_*_*_*@Europe/Berlin")
        for now in ("2026-10-25T00:31", "2026-10-25T01:15", "2026-10-25T01:45", "2026-10-25T09:00"):
            assert rule.caught_up(ms("2026-10-20T00:30"), ms(now)) == (ms("2026-10-25T00:30"), ms("2026-10-26T01:30"))


def test_without_a_zone_the_clock_is_utc() -> None:
    assert occurrences("cron:0_0_1_*_*", "2026-01-31T23:59", 2) == ["2026-02-01 00:00", "2026-03-01 00:00"]


def test_an_occurrence_is_after_the_time_it_is_asked_for() -> None:
    noon = ms("2026-01-01T12:00")
    rule = parse_rule("cron:0_12_*_*_*")
    assert rule.after(noon - 1) == noon
    assert rule.after(noon) == noon + 86_400_000
    assert rule.after(noon + 1) == noon + 86_400_000


@pytest.mark.parametrize(("range_text", "minute"), [("31-31/5", "31"), ("10-10/1,31-31/5", "10,31")])
def test_a_range_of_one_with_a_step_is_that_one(range_text: str, minute: str) -> None:
    start = "2026-01-01T00:00"
    found = occurrences(f"cron:{range_text}_9_*_*_*", start, 4)
    assert found == occurrences(f"cron:{minute}_9_*_*_*", start, 4)


def test_leap_days_are_waited_for() -> None:
    assert occurrences("cron:0_0_29_2_*", "2096-03-01T00:00", 1) == ["2104-02-29 00:00"]


rules = st.sampled_from(
    [
        "every:100",
        "every:7777",
        "cron:*_*_*_*_*",
        "cron:*/7_*_*_*_*@America/New_York",
        "cron:15,45_1-3_*_*_*@Europe/Berlin",
        "cron:30_2_*_*_*@Europe/Berlin",
        "cron:0_0_*_*_*@America/Havana",
        "cron:*_2_*_*_*@Australia/Lord_Howe",
    ]
).map(parse_rule)
around = st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00", "2026-11-01T06:00", "2026-04-04T15:00"]).map(ms)


@given(rules, around, st.integers(-7_200_000, 7_200_000), st.integers(0, 4), st.integers(0, 10_000_000))
def test_what_is_caught_up_is_the_last_of_all_that_were_missed(
    rule: Rule, change_ms: int, offset_ms: int, days: int, longer_ms: int
) -> None:
    due_ms = rule.after(change_ms + offset_ms - days * 86_400_000)
    assert due_ms is not None
    now_ms = due_ms + min(days * 86_400_000, 10_000_000 if rule.text[:5] == "every" else 10**10) + longer_ms
    last_ms, following_ms = rule.caught_up(due_ms, now_ms)
    expected, at_ms = due_ms, due_ms
    while True:
        after_ms = rule.after(at_ms)
        assert after_ms is not None
        assert after_ms > at_ms
        if after_ms > now_ms:
            break
        expected = at_ms = after_ms
    assert (last_ms, following_ms) == (expected, after_ms)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is not every:<ms> or cron:<minute>_<hour>_<day>_<month>_<weekday>[@<time zone>]"),
        ("daily", "'daily' is not every:"),
        ("every", "'' is not a whole number from 100 to 3155760000000 ms"),
        ("every:99", "'99' is not a whole number from 100"),
        ("every:3155760000001", "is not a whole number from 100"),
        ("every:1.5", "'1.5' is not a whole number"),
        ("every:+100", "'+100' is not a whole number"),
        ("cron:0_0_*_*", "has not five fields"),
        ("cron:0_0_0_*_*_*", "has not five fields"),
        ("cron:0__0_*_*", "has not five fields"),
        ("cron:0 0_0_*_*_*", "has not five fields"),
        ("cron:*\t*_*_*_*_*", "has not five fields of letters, digits and */,-#"),
        ("cron:0_0_1_1_*\n*", "has not five fields"),
        ("cron:0_0_1_1_*\n", "has not five fields"),
        ("cron:60_*_*_*_*", "'cron:60_*_*_*_*': bad minute"),
        ("cron:*_24_*_*_*", "bad hour"),
        ("cron:*_*_*_13_*", "bad month"),
        ("cron:*_*_*_*_FOO", "bad day-of-week"),
        ("cron:*/0_*_*_*_*", "bad minute"),
        ("cron:0_0_30_2_*", "bad day-of-month"),
        ("cron:0_0_31_4,6_*", "bad day-of-month"),
        ("cron:*_*_*_*_*@", "there is no time zone ''"),
        ("cron:*_*_*_*_*@Mars/Olympus", "there is no time zone 'Mars/Olympus'; allowed are IANA's"),
        ("cron:*_*_*_*_*@Europe", "there is no time zone 'Europe'"),
        ("cron:*_*_*_*_*@../../etc/passwd", "there is no time zone '../../etc/passwd'"),
        ("cron:*_*_*_*_*@/etc/localtime", "there is no time zone"),
        ("cron:*_*_*_*_*@zone.tab", "there is no time zone"),
        ("every:" + "0" * 250, "256 characters are too many, up to 255 are allowed"),
    ],
)
def test_a_wrong_rule_is_refused_with_words(text: str, words: str) -> None:
    with pytest.raises(InvalidValue, match="Invalid rule: ") as caught:
        parse_rule(text)
    assert words in str(caught.value)


@given(
    st.text(max_size=40).map("cron:".__add__) | st.text("0123456789*/,-#LW_@ MONé²", max_size=30).map("cron:".__add__)
)
def test_nothing_but_invalid_value_comes_of_nonsense(text: str) -> None:
    try:
        rule = parse_rule(text)
    except InvalidValue:
        return
    assert len(rule.text.split()) == 1  # it stands on a line of the protocol
    rule.after(ms("2026-01-01"))


@pytest.mark.parametrize(
    "text", ["every:100", "every:3155760000000", "cron:*/5_8-18_*_JAN-JUN_MON-FRI@Etc/GMT+5", "cron:0_0_L_*_5#1"]
)
def test_good_rules_are_taken(text: str) -> None:
    assert parse_rule(text).text == text


def test_the_longest_rule_is_taken() -> None:
    fields = "cron:" + ",".join(["00"] * 79) + "_*_*_*_*"
    assert len(fields.ljust(RULE_LENGTH, "0")) == RULE_LENGTH
    parse_rule("cron:*_*_*_*_" + ",".join(["*"] * 121))
    assert len("cron:*_*_*_*_" + ",".join(["*"] * 121)) <= RULE_LENGTH


def test_a_rule_that_can_match_no_date_never_occurs() -> None:
    assert parse_rule("cron:0_0_*/30_2_MON#5").after(ms("2026-01-01")) is None


def test_the_end_of_the_calendar_is_the_end() -> None:
    assert parse_rule("cron:0_0_*_*_*@Europe/Berlin").after(253_402_300_800_000 - 3_600_000) is None


def test_a_rule_in_the_log_whose_zone_is_not_here_does_nothing() -> None:
    rule = recalled_rule("cron:0_0_*_*_*@Mars/Olympus")
    assert "no time zone 'Mars/Olympus'" in rule.problem
    assert rule.after(0) is None
    assert rule.caught_up(1, 2) == (1, None)
    assert recalled_rule("every:100").problem == ""

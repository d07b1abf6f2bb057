"""When a recurring job occurs: the rules as users write them, and the times that follow from them.

Times are pure functions of a rule. The data of a time zone is read when a rule is parsed, by the door that was given it
or by the replay of the log; `ZoneInfo` holds all of it from then on, so the engine, which asks for times, does no I/O.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from workq.values import DELAY, InvalidValue, Range, shown

# A tenth of a second: whoever needs something more often than that wants a loop, not a job.
EVERY: Final = Range("rule", 100, DELAY.highest, "ms")
# The longest rule: far more than a list in each field takes.
RULE_LENGTH: Final = 255

_ALLOWED: Final = "every:<ms> or cron:<minute>_<hour>_<day>_<month>_<weekday>[@<time zone>]"
_DIGITS: Final = re.compile(r"[0-9]{1,20}")
_FIELDS: Final = re.compile(r"[0-9A-Za-z*,/#-]+(_[0-9A-Za-z*,/#-]+){4}")
# A range of one with a step. CronSim takes `5-5/10` for `5/10`, which goes on to the end.
_STEPPED_ONE: Final = re.compile(r"(?<![0-9A-Z])([0-9A-Z]+)-\1/[0-9]+", re.IGNORECASE)
_ZONE: Final = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Within this time of an occurrence a shift of the clocks may have hidden an earlier one: until the day is over.
_NEAR_MS: Final = 93_600_000  # 26 hours


class Rule:
    """When a job recurs; `text` is how it is written. Times are Unix milliseconds.

    It is no `Record`, because an interpreted class cannot have a compiled base.

    problem  why the rule cannot be followed here, "" if it can
    """

    problem = ""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Rule) and self.text == other.text

    def __hash__(self) -> int:
        return hash((type(self), self.text))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(text={self.text!r})"

    def after(self, time_ms: int) -> int | None:
        """The first occurrence after `time_ms`, None if there is none within 50 years."""
        raise NotImplementedError

    def caught_up(self, due_ms: int, now_ms: int) -> tuple[int, int | None]:
        """The last occurrence up to now, and the one after it; `due_ms` is an occurrence that is not in the future."""
        raise NotImplementedError


class Every(Rule):
    """Again and again after the same time, counted from its creation."""

    def __init__(self, text: str, every_ms: int) -> None:
        super().__init__(text)
        self._every_ms = every_ms

    def after(self, time_ms: int) -> int | None:
        return time_ms + self._every_ms

    def caught_up(self, due_ms: int, now_ms: int) -> tuple[int, int | None]:
        last_ms = now_ms - (now_ms - due_ms) % self._every_ms
        return last_ms, last_ms + self._every_ms


class Cron(Rule):
    """At the minutes that five fields match on the clocks of a time zone.

    As in Debian's cron: what falls into the hour that is left out in spring happens when that hour would have begun,
    what falls into the one that comes twice in autumn happens the first time; a rule with `*` in its minutes or hours
    goes on with every minute or hour that passes.
    """

    def __init__(self, text: str, fields: str, zone: tzinfo) -> None:
        super().__init__(text)
        self._fields = fields
        self._zone = zone

    def after(self, time_ms: int) -> int | None:
        found_ms = next((found_ms for found_ms in self._from(time_ms) if found_ms > time_ms), None)
        if found_ms is not None and self._has_odd_shift(found_ms):
            for earlier_ms in self._from(found_ms, reverse=True):
                if earlier_ms <= max(time_ms, found_ms - _NEAR_MS):
                    break
                found_ms = earlier_ms
        return found_ms

    def caught_up(self, due_ms: int, now_ms: int) -> tuple[int, int | None]:
        last_ms, following_ms = due_ms, self.after(due_ms)
        if following_ms is None or following_ms > now_ms:
            return last_ms, following_ms
        backwards = self._from(now_ms - now_ms % 1000 + 1000, reverse=True)
        last_ms = max(due_ms, next((found_ms for found_ms in backwards if found_ms <= now_ms), due_ms))
        # In an hour that comes twice, backwards is not the exact reverse of forwards.
        while (following_ms := self.after(last_ms)) is not None and following_ms <= now_ms:
            last_ms = following_ms
        return last_ms, following_ms

    def _has_odd_shift(self, time_ms: int) -> bool:
        """Whether clocks were put by a part of an hour shortly before, as Lord Howe's are.

        CronSim looks for a matching hour in steps of an hour, and may find it half an hour late then, all day long.
        """
        now, before = self._moment(time_ms), self._moment(time_ms - _NEAR_MS)
        shift = (now.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        return shift % timedelta(hours=1) != timedelta()

    def _moment(self, time_ms: int) -> datetime:
        return (_EPOCH + timedelta(milliseconds=time_ms)).astimezone(self._zone)

    def _from(self, time_ms: int, reverse: bool = False) -> Iterator[int]:
        """Occurrences before or after a time; in an hour that comes twice, some may lie on its other side."""
        try:
            for moment in CronSim(self._fields, self._moment(time_ms), reverse=reverse):
                yield (moment - _EPOCH) // timedelta(milliseconds=1)
        except OverflowError:  # the year 10000
            return


class Unreadable(Rule):
    """A rule out of the log that this machine cannot follow. It does nothing until one can."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(text)
        self.problem = problem

    def after(self, time_ms: int) -> int | None:
        return None

    def caught_up(self, due_ms: int, now_ms: int) -> tuple[int, int | None]:
        return due_ms, None


def parse_rule(text: str) -> Rule:
    """The rule that `text` says; raise `InvalidValue` for one that is wrong, or that matches no day of any year."""
    kind, _, rest = text.partition(":")
    if len(text) > RULE_LENGTH:
        raise InvalidValue(f"Invalid rule: {len(text)} characters are too many, up to {RULE_LENGTH} are allowed")
    if kind == "every":
        if _DIGITS.fullmatch(rest) is None:
            raise EVERY.error(rest)
        return Every(text, EVERY.check(int(rest)))
    if kind != "cron":
        raise InvalidValue(f"Invalid rule: {shown(text)} is not {_ALLOWED}")
    fields, at, zone = rest.partition("@")
    if _FIELDS.fullmatch(fields) is None:
        raise InvalidValue(f"Invalid rule: {shown(text)} has not five fields of letters, digits and */,-#: {_ALLOWED}")
    fields = fields.replace("_", " ")
    try:
        CronSim(fields, _EPOCH)
    except CronSimError as error:
        raise InvalidValue(f"Invalid rule: {shown(text)}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    return Cron(text, _STEPPED_ONE.sub(r"\1", fields), _zone(zone) if at else UTC)


def recalled_rule(text: str) -> Rule:
    """The rule that the log says. It was good when it was taken, but this machine may lack the time zone."""
    try:
        return parse_rule(text)
    except InvalidValue as error:
        return Unreadable(text, str(error))


def _zone(name: str) -> tzinfo:
    try:
        if _ZONE.fullmatch(name) is not None:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # a name may be that of a directory, or of a file of another kind
        pass
    raise InvalidValue(f"Invalid rule: there is no time zone {shown(name)}; allowed are IANA's, such as Europe/Berlin")

"""Which jobs a list shows: its parameters and its filters.

Expressions are RE2's, as HQ's were: their time is linear, whatever a client writes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from workq.archive import Pattern, compile_pattern
from workq.http.application import HttpError
from workq.http.hq.ids import LARGEST_ID, parse_id
from workq.values import InvalidValue, shown

# What Go's parser takes for a boolean, and so what HQ took.
BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}


@attrs.frozen
class Listing:
    """What a list request asks for.

    name    expression that the name has to match
    term    expression that the name, comment, URL, status or id has to match
    status  the status it has to have
    begin   the id to begin at, inclusive; None for the first or, reversed, the last
    limit   how many jobs at most; 0 for all
    """

    name: Pattern | None = None
    term: Pattern | None = None
    status: str | None = None
    begin: int | None = None
    reverse: bool = False
    limit: int = 0

    @property
    def filters(self) -> bool:
        """Whether jobs may not pass."""
        return not (self.name is None and self.term is None and self.status is None)

    def takes(self, name: str, url: str, status: str, number: int, comment: Callable[[], str]) -> bool:
        """Whether a job passes the filters. Its comment is only looked at when nothing else settled it."""
        if self.status is not None and status != self.status:
            return False
        if self.name is not None and not self.name.search(name):
            return False
        if self.term is None:
            return True
        search = self.term.search
        return any([search(text) for text in (name, url, status, str(number))]) or bool(search(comment()))


def read_listing(given: Mapping[str, str], default_limit: int) -> Listing:
    """The list that the parameters `given` write; empty ones count as not given. Raises `HttpError`."""
    limit = parameter(given, "limit", whole_number, "a whole number") or 0
    reverse = parameter(given, "reverse", BOOLEANS.get, "true or false") or False
    begin = parameter(given, "begin", parse_id, f"a whole number from 0 to {LARGEST_ID}")
    return Listing(
        name=_expression(given, "name"),
        term=_expression(given, "term"),
        status=given.get("status") or None,
        begin=None if reverse and begin == 0 else begin,
        reverse=reverse,
        limit=max(limit or default_limit, 0),
    )


def parameter(given: Mapping[str, str], name: str, parse: Callable[[str], Any], allowed: str) -> Any:
    """The value of a parameter, or of a field of a form; None if it is not given. Raises `HttpError`."""
    text = given.get(name)
    if not text:
        return None
    value = parse(text)
    if value is None:
        raise HttpError(400, f"{name} must be {allowed}, not {shown(text)}")
    return value


def whole_number(text: str) -> int | None:
    """The number that `text` writes, None unless it is one of 64 bits with a sign."""
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) is None:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _expression(given: Mapping[str, str], name: str) -> Pattern | None:
    text = given.get(name)
    if not text:
        return None
    try:
        return compile_pattern(text)
    except InvalidValue as error:
        # The status that HQ gave, although the mistake is the client's.
        raise HttpError(500, f"{name}: {error}") from None

"""Regular expressions of clients: RE2, which takes time in proportion to the text whatever the expression is."""

from typing import Final, Protocol

import re2  # type: ignore[import-untyped]

from workq.values import InvalidValue, shown

# An expression for a list of jobs is some words long; these bound what one can cost in memory.
LONGEST_PATTERN: Final = 1_000
_LARGEST_PROGRAM: Final = 1_048_576


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Something true if it matches anywhere in `text`, else None."""


def compile_pattern(pattern: str) -> Pattern:
    """Compile `pattern`, written in the syntax of RE2. Raises `InvalidValue` that says what is wrong with it."""
    if len(pattern) > LONGEST_PATTERN:
        raise InvalidValue(
            f"Invalid regular expression: {len(pattern)} characters are too many, {LONGEST_PATTERN} are allowed"
        )
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _LARGEST_PROGRAM
    try:
        compiled: Pattern = re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise InvalidValue(f"Invalid regular expression: {shown(pattern)} is not UTF-8") from None
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace")
        raise InvalidValue(f"Invalid regular expression: {shown(pattern)}: {reason}") from None
    return compiled

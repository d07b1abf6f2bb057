"""What can go wrong in a benchmark, told in one line."""

from collections.abc import Iterable, Sequence


class BenchError(Exception):
    """The benchmark cannot go on. The text tells the user why, and what to do."""


class NotMeasured(Exception):
    """A server did not get through a scenario. The text tells why; the others go on."""


def check_names(names: Iterable[str], known: Sequence[str], option: str) -> None:
    """Raise `BenchError` for a value of `option` that is not `known`."""
    for name in names:
        if name not in known:
            raise BenchError(f"{option} {name}: not one of {', '.join(known)}")

"""What was measured, and its form as JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from bench.errors import BenchError

_FORMAT: Final = 1


@attrs.frozen
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """The spread of one or more values."""
        return Spread(statistics.median(values), min(values), max(values))

    def overlaps(self, other: "Spread") -> bool:
        """Whether the two may well be the same."""
        return self.low <= other.high and other.low <= self.high


# Figures by name. The names are those of the load generator; `job_bytes` is the memory of a waiting job, without its
# payload, where that was measured.
Figures = dict[str, Spread]
# Of one server in one scenario: its figures, or why there are none.
Outcome = Figures | str


@attrs.frozen(kw_only=True)
class Row:
    """One scenario: the outcome of each server, in the order of the table."""

    title: str
    detail: str
    outcomes: dict[str, Outcome]

    def figures(self, server: str) -> Figures:
        """The figures of `server`; empty if it was not measured."""
        outcome = self.outcomes.get(server, "")
        return {} if isinstance(outcome, str) else outcome

    def ratio(self, server: str, baseline: str, figure: str) -> float | None:
        """`figure` of `server`, with that of `baseline` as 1; None if either was not measured."""
        above, below = self.figures(server).get(figure), self.figures(baseline).get(figure)
        return above.median / below.median if above and below and below.median else None


@attrs.frozen(kw_only=True)
class Results:
    """A whole run.

    header  when, where and how, in words
    rows    the scenarios by name
    """

    header: dict[str, str]
    rows: dict[str, Row]

    def servers(self) -> list[str]:
        """The servers that were measured, in the order of the table."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row.outcomes))


def save(results: Results, path: Path) -> None:
    """Write `results` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": _FORMAT, **attrs.asdict(results)}, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read what `save` wrote. Raises `BenchError` if that is not what is there."""
    try:
        document = json.loads(path.read_text())
        if document["format"] != _FORMAT:
            raise BenchError(f"{path}: results of format {document['format']}, this benchmark reads {_FORMAT}")
        rows = {name: _row(row) for name, row in document["rows"].items()}
        return Results(header=document["header"], rows=rows)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BenchError(f"{path}: not the results of a benchmark") from None


def _row(row: Mapping[str, Any]) -> Row:
    outcomes: dict[str, Outcome] = {}
    for server, outcome in row["outcomes"].items():
        outcomes[server] = outcome if isinstance(outcome, str) else {n: Spread(**s) for n, s in outcome.items()}
    return Row(title=row["title"], detail=row["detail"], outcomes=outcomes)

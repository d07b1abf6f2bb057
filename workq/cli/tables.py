"""How results look to people: tables. Imported where one is printed: rich takes a while to load."""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workq.cli.output import as_json

# A payload in a table is there to be recognised, not read.
_PREVIEW: Final = 48
# Piped tables are for grep: nothing is folded to the width of a terminal that is not there.
_PIPED_WIDTH: Final = 10_000


def console() -> Console:
    """The console for standard output."""
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_facts(value: Any) -> None:
    """A public value as a column of names and a column of values."""
    grid = Table.grid(padding=(0, 2))
    for field in dataclasses.fields(value):
        grid.add_row(Text(field.name.replace("_", " "), style="bold"), cell(getattr(value, field.name)))
    console().print(grid)


def print_table(values: Sequence[Any], columns: Iterable[str]) -> None:
    """Public values as rows of a table."""
    console().print(table(values, columns))


def table(values: Sequence[Any], columns: Iterable[str]) -> Table:
    """A table with a row for each of `values` and a column for each of their attributes named."""
    names = list(columns)
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numbers = values and all([isinstance(getattr(value, name), int | float) for value in values])
        found.add_column(name.replace("_", " "), justify="right" if numbers else "left", no_wrap=name != "payload")
    for value in values:
        found.add_row(*[cell(getattr(value, name), brief=True) for name in names])
    return found


def cell(value: Any, *, brief: bool = False) -> Text:
    """One value in a table: on one line, short, with nothing in it that could move a terminal's cursor.

    A `brief` time is without its date, if that is today, or without its seconds.
    """
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, bytes):
        shown = "".join([c if c.isprintable() else "\N{MIDDLE DOT}" for c in value[:200].decode("utf-8", "replace")])
        preview = shown if len(shown) <= _PREVIEW else f"{shown[:_PREVIEW]}... ({len(value)} bytes)"
        return Text(preview, no_wrap=True, overflow="ellipsis")
    if isinstance(value, datetime):
        zone = ""
        try:
            value = value.astimezone()
        except (OverflowError, ValueError):  # that clock here would show the year 10000
            zone = " UTC"
        today = value.date() == datetime.now().date()
        form = ("%H:%M:%S" if today else "%Y-%m-%d %H:%M") if brief else "%Y-%m-%d %H:%M:%S"
        return Text(value.strftime(form) + zone)
    if isinstance(value, float):
        return Text(f"{value:g}")
    return Text(str(as_json(value)))

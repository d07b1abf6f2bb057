"""Results as tables: for the terminal, and in Markdown for the README."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.results import Figures, Results, Row, Spread
from bench.servers import BASELINE

# A generator that is busier than this may be what limits the rate.
_BUSY_GENERATOR: Final = 0.9
# What the widest table takes.
_WIDTH: Final = 142


def new_console() -> Console:
    """The terminal, or a file that is wide enough for the tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def print_header(console: Console, header: Mapping[str, str]) -> None:
    """When, where, what and how."""
    grid = Table.grid(padding=(0, 2))
    for key, value in header.items():
        grid.add_row(f"[dim]{escape(key)}", escape(value))
    console.print(grid)
    console.print()


def print_row(console: Console, row: Row) -> None:
    """One scenario with all its figures. Where the terminal is narrow, those go first that the JSON file has, too."""
    columns = [column for column in _COLUMNS if not column.wide or console.width >= _WIDTH]
    title = f"[bold]{row.title}[/], {row.detail}"
    table = _new_table(title)
    table.add_column("server", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    notes = []
    for server, outcome in row.outcomes.items():
        if isinstance(outcome, str):
            notes.append(f"{server}: {outcome}")
        else:
            table.add_row(server, *[column.text(row, server, outcome) for column in columns])
    if table.row_count:
        console.print(table)
    else:
        console.print(title)
    for note in notes:
        console.print(f"[dim]{escape(note)}", soft_wrap=True)
    console.print()


def _median(name: str, form: str) -> Callable[[Row, str, Figures], str]:
    return lambda row, server, figures: format(figures[name].median, form) if name in figures else ""


def _spread(name: str, form: str, unit: float = 1) -> Callable[[Row, str, Figures], str]:
    return lambda row, server, figures: f"{figures[name].low / unit:{form}}-{figures[name].high / unit:{form}}"


def _ratio(name: str) -> Callable[[Row, str, Figures], str]:
    return lambda row, server, figures: _ratio_text(row, server, name)


def _ratio_text(row: Row, server: str, figure: str) -> str:
    ratio = row.ratio(server, BASELINE, figure)
    return "" if ratio is None else f"{ratio:.2f}x"


def _generator(row: Row, server: str, figures: Figures) -> str:
    share = figures["generator_share"].median
    return f"{share:.0%}" if share < _BUSY_GENERATOR else f"[yellow]{share:.0%}"


@attrs.frozen
class _Column:
    heading: str
    text: Callable[[Row, str, Figures], str]
    wide: bool = False


_COLUMNS: Final = (
    _Column("commands/s", _median("operations_per_s", ",.0f")),
    _Column("min-max k", _spread("operations_per_s", ".1f", 1000), wide=True),
    _Column("ratio", _ratio("operations_per_s")),
    _Column("CPU µs", _median("server_cpu_us", ".2f")),
    _Column("min-max", _spread("server_cpu_us", ".2f"), wide=True),
    _Column("user", _median("server_user_us", ".2f"), wide=True),
    _Column("sys", _median("server_system_us", ".2f"), wide=True),
    _Column("ratio", _ratio("server_cpu_us")),
    _Column("p50 µs", _median("p50_us", ",.0f")),
    _Column("p99", _median("p99_us", ",.0f")),
    _Column("p99.9", _median("p999_us", ",.0f")),
    _Column("max", lambda row, server, figures: f"{figures['max_us'].high:,.0f}"),
    _Column("B/job", _median("job_bytes", ".0f")),
    _Column("gen", _generator),
)


def _new_table(title: str) -> Table:
    return Table(
        title=title, title_style="", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def print_summary(console: Console, results: Results) -> None:
    """CPU of each server per command, and its ratio to the baseline."""
    table = _new_table(f"[bold]CPU of the server per command in µs, and as a ratio to {BASELINE}")
    table.add_column("scenario")
    for server in results.servers():
        table.add_column(server, justify="right")
    for cells in _summary(results):
        table.add_row(*cells)
    console.print(table)


def markdown(results: Results) -> str:
    """The summary as a Markdown table; below it, when and where."""
    servers = results.servers()
    lines = [f"| CPU of the server per command, µs | {' | '.join(servers)} |", "|---|" + "--:|" * len(servers)]
    lines += [f"| {' | '.join(cells)} |" for cells in _summary(results)]
    lines += ["", f"{results.header['date']}, {results.header['machine']}, {results.header['system']}."]
    return "\n".join(lines) + "\n"


def _summary(results: Results) -> Iterator[list[str]]:
    for row in results.rows.values():
        cells = [f"{row.title}, {row.detail}"]
        for server in results.servers():
            cpu = row.figures(server).get("server_cpu_us")
            ratio = "" if server == BASELINE else _ratio_text(row, server, "server_cpu_us")
            cells.append("" if cpu is None else f"{cpu.median:.2f}{ratio and f' ({ratio})'}")
        yield cells


def print_comparison(console: Console, old: Results, new: Results) -> None:
    """What changed since `old`. A change is coloured only where the rounds of the two do not overlap."""
    table = _new_table(f"[bold]Since {old.header.get('commit', 'then')}")
    for heading in ("scenario", "server"):
        table.add_column(heading)
    for heading in ("CPU before", "now", "", "commands/s before", "now", "", "p99 before", "now", ""):
        table.add_column(heading, justify="right")
    for name, row in new.rows.items():
        for server in new.servers():
            now = row.figures(server)
            before = old.rows[name].figures(server) if name in old.rows else {}
            if now and before:
                table.add_row(
                    f"{row.title}, {row.detail}",
                    server,
                    *_change(before["server_cpu_us"], now["server_cpu_us"], ".2f", less_is_better=True),
                    *_change(before["operations_per_s"], now["operations_per_s"], ",.0f", less_is_better=False),
                    *_change(before["p99_us"], now["p99_us"], ",.0f", less_is_better=True),
                )
    if table.row_count:
        console.print(table)
    else:
        console.print("The two runs have nothing in common.")
    if old.header.get("machine") != new.header.get("machine"):
        console.print(f"[yellow]The old results are from another machine: {old.header.get('machine', 'unknown')}")


def _change(before: Spread, now: Spread, form: str, *, less_is_better: bool) -> tuple[str, str, str]:
    change = f"{now.median / before.median - 1:+.0%}" if before.median else ""
    if not now.overlaps(before):
        colour = "green" if (now.median < before.median) == less_is_better else "red"
        change = f"[{colour}]{change}"
    return format(before.median, form), format(now.median, form), change

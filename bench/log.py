"""The command log: what it costs, how fast a start reads it back, and what compaction does to latency.

Started by `bin/bench log`. All servers of a table are up at the same time and measured in turn, A B A B; the ratios
mean something on another machine, the figures themselves do not. The disk is part of what is measured: `--directory`
says where the logs go.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console
from rich.table import Table

from bench.errors import BenchError, NotMeasured
from bench.loadgen import LoadGenerator, RawFigures
from bench.report import new_console
from bench.scenarios import Load
from bench.servers import BASELINE, RunningServer, Server, find_servers, running

_PIPELINED: Final = Load(connections=16, depth=32)
_SINGLE: Final = Load(connections=16)
# Jobs end two seconds after they were added, so that there is something to compact.
_SHORT_LIVED: Final = Load(connections=16, depth=4, ttl_ms=2000)
_LONG_LIVED: Final = Load(kind="add", connections=16, depth=32, queues=1, ttl_ms=864_000_000)


@attrs.frozen(kw_only=True)
class Way:
    """A way to run a server: with these flags for its log, or without a log."""

    name: str
    server: Server
    flags: tuple[str, ...] | None

    @contextmanager
    def running(self, home: Path) -> Iterator[RunningServer]:
        """The server, with its log in `home`."""
        flags = self.flags

        def command(port: int, _: Path | None) -> list[str]:
            if flags is None:
                return self.server.command(port, None)
            return [*self.server.command(port, home), *flags]

        with running(attrs.evolve(self.server, command=command), log=False) as started:
            yield started


def _ways(server: Server) -> list[Way]:
    """`server` without a log, and with each policy."""
    policies = [Way(name=each, server=server, flags=("--log-sync", each)) for each in ("os", "interval", "always")]
    return [Way(name="memory", server=server, flags=None), *policies]


class Bench:
    """Measures and prints tables. `seconds` is the length of a round."""

    def __init__(self, console: Console, directory: Path, rounds: int, seconds: float) -> None:
        self._console = console
        self._directory = directory
        self._rounds = rounds
        self._seconds = seconds
        self._generator = LoadGenerator()

    def throughput(self, title: str, load: Load, server: Server, baseline: Server | None) -> None:
        """Commands per second and CPU per command of every policy, beside the baseline with a sync per command."""
        ways = _ways(server)
        if baseline is not None:
            ways.insert(0, Way(name=f"{BASELINE} -f0", server=baseline, flags=()))
        figures = self._measure(ways, load)
        memory = figures["memory"]
        table = self._table(
            f"{title}, {server.name}", "commands/s", "of memory", f"of {BASELINE}", "CPU µs", "of memory"
        )
        for name, measured in figures.items():
            first = figures[ways[0].name] if baseline is not None else None
            table.add_row(
                name,
                f"{measured['operations_per_s']:,.0f}",
                _ratio(measured, memory, "operations_per_s"),
                _ratio(measured, first, "operations_per_s"),
                f"{measured['server_cpu_us']:.2f}",
                _ratio(measured, memory, "server_cpu_us"),
            )
        self._console.print(table)

    def compaction(self, server: Server) -> None:
        """Latency while segments are worked off all the time, and with a log that is never long enough for that."""
        ways = [
            Way(name="never compacts", server=server, flags=("--log-segment-size", "4GiB")),
            Way(name="compacts all the time", server=server, flags=("--log-segment-size", "1MiB")),
        ]
        figures = self._measure(ways, _SHORT_LIVED, warmup=4.0)
        table = self._table(f"Compaction, {server.name}", "commands/s", "p50 µs", "p99 µs", "p99.9 µs", "ratio of p99")
        for name, measured in figures.items():
            table.add_row(
                name,
                f"{measured['operations_per_s']:,.0f}",
                *[f"{measured[percentile]:,.0f}" for percentile in ("p50_us", "p99_us", "p999_us")],
                _ratio(measured, figures[ways[0].name], "p99_us"),
            )
        self._console.print(table)

    def start(self, server: Server, jobs: int) -> None:
        """How long a start takes with so many jobs, and how much memory."""
        way = Way(name="start", server=server, flags=("--log-sync", "os", "--log-level", "info"))
        with tempfile.TemporaryDirectory(dir=self._directory) as name:
            home = Path(name)
            with way.running(home) as target:
                empty_rss, _ = _memory(target)
            began = time.perf_counter()
            with way.running(home):
                nothing_s = time.perf_counter() - began
            with way.running(home) as target:
                self._generator.measure(target, attrs.evolve(_LONG_LIVED, jobs=jobs))
                filled_rss, _ = _memory(target)
            seconds = []
            for _ in range(self._rounds):
                began = time.perf_counter()
                with way.running(home) as target:
                    seconds.append(time.perf_counter() - began)
                    rss, peak = _memory(target)
        start_s = statistics.median(seconds)
        table = self._table(f"Start with {jobs:,} jobs of 100 bytes, {server.name}", "")
        table.add_row("start, s", f"{start_s:.2f}")
        table.add_row("jobs/s, without the start of Python", f"{jobs / (start_s - nothing_s):,.0f}")
        table.add_row("memory of a server that was given the jobs, MB", f"{filled_rss / 1e6:.0f}")
        table.add_row("memory after a start, MB", f"{rss / 1e6:.0f}")
        table.add_row("peak during the start, MB", f"{peak / 1e6:.0f}")
        table.add_row("peak / memory of the running server", f"{peak / filled_rss:.2f}")
        table.add_row("memory of an empty server, MB", f"{empty_rss / 1e6:.0f}")
        self._console.print(table)

    def _measure(self, ways: Sequence[Way], load: Load, warmup: float = 0.3) -> dict[str, RawFigures]:
        """The medians of each way, by its name."""
        rounds: dict[str, list[RawFigures]] = {way.name: [] for way in ways}
        with ExitStack() as stack:
            running = {}
            for way in ways:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._directory)))
                running[way.name] = stack.enter_context(way.running(home))
            for _ in range(self._rounds):
                for name, target in running.items():
                    figures = self._generator.measure(target, load, seconds=self._seconds, warmup=warmup)
                    rounds[name].append(figures)
        return {name: _medians(measured) for name, measured in rounds.items()}

    def _table(self, title: str, *columns: str) -> Table:
        table = Table(box=None, title=title, title_justify="left", title_style="bold", pad_edge=False)
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        return table


def _medians(rounds: Sequence[RawFigures]) -> RawFigures:
    return {name: statistics.median([figures[name] for figures in rounds]) for name in rounds[0]}


def _ratio(figures: RawFigures, base: RawFigures | None, name: str) -> str:
    return "" if base is None else f"{figures[name] / base[name]:.2f}"


def _memory(target: RunningServer) -> tuple[int, int]:
    """Resident memory of a server, now and at its highest, in bytes."""
    lines = Path(f"/proc/{target.pid}/status").read_text().splitlines()
    fields = dict([line.split(":", 1) for line in lines if ":" in line])
    now, peak = [int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")]
    return now, peak


@click.command()
@click.option("--jobs", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Jobs to start with.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="The median is shown.")
@click.option("--seconds", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Length of a round.")
@click.option(
    "--directory", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Keep the logs on this disk."
)
@click.option("--only", multiple=True, type=click.Choice(["pipelined", "single", "compaction", "start"]))
def main(jobs: int, rounds: int, seconds: float, directory: Path | None, only: tuple[str, ...]) -> None:
    """Measure the command log on every build of workq that is here, beside beanstalkd where it is installed."""
    servers, _ = find_servers()
    baseline = next((server for server in servers if server.name == BASELINE), None)
    console = new_console()
    with tempfile.TemporaryDirectory(prefix="workq-bench-", dir=directory) as name:
        bench = Bench(console, Path(name), rounds, seconds)
        for server in [server for server in servers if server.protocol == "workq"]:
            parts: dict[str, Callable[[], None]] = {
                "pipelined": partial(bench.throughput, "16 connections, 32 in flight", _PIPELINED, server, baseline),
                "single": partial(bench.throughput, "16 connections, 1 in flight", _SINGLE, server, baseline),
                "compaction": partial(bench.compaction, server),
                "start": partial(bench.start, server, jobs),
            }
            for part in only or parts:
                parts[part]()


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench log")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

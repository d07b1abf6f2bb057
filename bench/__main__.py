"""The command line of the benchmark: `bin/bench --help`."""

import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import click
from rich.console import Console

from bench import report
from bench.chart import draw
from bench.errors import BenchError, check_names
from bench.loadgen import LoadGenerator
from bench.machine import describe
from bench.measure import Measurement, Plan
from bench.results import Results, Row, load, save
from bench.scenarios import SCENARIOS, Scenario
from bench.servers import Server, find_servers

# Benchmarks of their own, each a script beside this one.
_OTHERS: Final = tuple(
    [name for name in ("clients", "fleet", "http", "log", "soak") if Path(__file__).with_name(f"{name}.py").exists()]
)
_RESULTS: Final = Path(__file__).parent.parent / "build" / "bench" / "results.json"

_QUICK: Final = Plan(rounds=1, seconds=0.15, warmup=0.05, scale=0.02)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command(
    epilog="Other benchmarks: `bin/bench clients` for the client library, `bin/bench log` for the log by itself, "
    "`bin/bench soak` for pauses, `bin/bench fleet` for bulk leases, touches and those who wait, `bin/bench http` for "
    "the HTTP doors."
)
@click.option("--only", multiple=True, metavar="SCENARIO", help="Measure only this scenario; repeatable. See --list.")
@click.option("--server", multiple=True, metavar="SERVER", help="Measure only this server; repeatable.")
@click.option("--quick", is_flag=True, help="One short round with few jobs: shows that it works, and little more.")
@click.option("--rounds", type=click.IntRange(1), help=f"Rounds of each scenario.  [default: {Plan().rounds}]")
@click.option("--seconds", type=click.FloatRange(0.01), help=f"Length of a round.  [default: {Plan().seconds}]")
@click.option("--json", "json_file", type=_FILE, help="Write the results here.  [a full run: build/bench/results.json]")
@click.option("--show", type=_FILE, help="Measure nothing, show the results in this file.")
@click.option("--compare", type=_FILE, help="Say what changed since the results in this file.")
@click.option("--chart", type=_FILE, help="Draw the results into this SVG file.")
@click.option("--markdown", type=_FILE, help="Write the summary into this Markdown file.")
@click.option("--list", "list_scenarios", is_flag=True, help="List the scenarios.")
def main(
    only: tuple[str, ...],
    server: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    json_file: Path | None,
    show: Path | None,
    compare: Path | None,
    chart: Path | None,
    markdown: Path | None,
    list_scenarios: bool,
) -> None:
    """Put workq beside beanstalkd and Redis, on the same work in the same run.

    All servers run on spare ports of 127.0.0.1 and are stopped at the end. A full run takes a few minutes; leave the
    machine alone meanwhile. doc/performance.md says how to read the tables.
    """
    console = report.new_console()
    if list_scenarios:
        for scenario in SCENARIOS:
            console.print(f"{scenario.name:14}{scenario.title}, {scenario.detail}")
        return
    old = load(compare) if compare is not None else None
    complete = True
    if show is not None:
        results = load(show)
        report.print_header(console, results.header)
        for row in results.rows.values():
            report.print_row(console, row)
    else:
        plan = _QUICK if quick else Plan()
        plan = attrs.evolve(plan, rounds=rounds or plan.rounds, seconds=seconds or plan.seconds)
        results, complete = _measure(console, _chosen_scenarios(only), _chosen_servers(console, server), plan)
        if json_file is None and not (only or server or quick):
            json_file = _RESULTS
    if json_file is not None:
        save(results, json_file)
        console.print(f"[dim]results: {json_file}\n")
    report.print_summary(console, results)
    if old is not None:
        report.print_comparison(console, old, results)
    if chart is not None:
        chart.write_text(draw(results))
    if markdown is not None:
        markdown.write_text(report.markdown(results))
    if not complete:
        raise BenchError("not everything was measured; the notes above say why")


def _measure(
    console: Console, scenarios: Sequence[Scenario], servers: Sequence[Server], plan: Plan
) -> tuple[Results, bool]:
    """The results, and whether everything was measured that the servers can do."""
    generator = LoadGenerator()
    header = describe(plan, servers)
    report.print_header(console, header)
    rows: dict[str, Row] = {}
    with console.status("") as status:

        def on_row(scenario: Scenario, row: Row) -> None:
            rows[scenario.name] = row
            report.print_row(console, row)

        measurement = Measurement(servers, generator, plan, status.update)
        measurement.run(scenarios, on_row)
    return Results(header=header, rows=rows), not measurement.failures


def _chosen_scenarios(names: Sequence[str]) -> list[Scenario]:
    check_names(names, [scenario.name for scenario in SCENARIOS], "--only")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]


def _chosen_servers(console: Console, names: Sequence[str]) -> list[Server]:
    servers, absent = find_servers()
    check_names(names, [*[server.name for server in servers], *absent], "--server")
    for name, reason in absent.items():
        if not names or name in names:
            console.print(f"[yellow]without {name}: {reason}", soft_wrap=True)
    chosen = [server for server in servers if not names or server.name in names]
    if not chosen:
        raise BenchError("there is no server to measure")
    return chosen


def _stop(number: int, _: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in _OTHERS:
        del sys.argv[0]
        runpy.run_module(f"bench.{sys.argv[0]}", run_name="__main__", alter_sys=True)
    else:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, _stop)  # leave as on Ctrl-C: with everything stopped
        try:
            main(prog_name="bin/bench")
        except BenchError as error:
            sys.exit(f"bin/bench: {error}")
        except OSError as error:
            sys.exit(f"bin/bench: {error.filename}: {error.strerror}")

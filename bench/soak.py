"""Pauses: latency with a million jobs resident beside that with none, and the longest pause of a long run.

Started by `bin/bench soak`. A pause is what a client waits for a reply, so those of the machine are among them:
beanstalkd, which has none of its own to speak of, is watched in turn and shows how long they are.
"""

import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import click
from rich.console import Console
from rich.progress import track

from bench.errors import BenchError, NotMeasured, check_names
from bench.loadgen import LoadGenerator, RawFigures
from bench.report import new_console
from bench.scenarios import Load
from bench.servers import BASELINE, RunningServer, find_servers, running

_RESIDENT_TTL_MS: Final = 864_000_000
# Completed jobs are gone after a while, so the server soon neither grows nor shrinks. What a slice leaves must last
# until the next one takes it.
_LOAD: Final = Load(connections=16, ttl_ms=20_000)
_SOAK: Final = Load(connections=4, depth=4, ttl_ms=20_000)
_SLICE_SECONDS: Final = 10.0
_CONTROL_SECONDS: Final = 2.0
_PAUSE_MS: Final = 50.0


class Soak:
    """One build of workq under a long load."""

    def __init__(self, console: Console, generator: LoadGenerator) -> None:
        self._console = console
        self._generator = generator

    def fill(self, target: RunningServer, jobs: int) -> None:
        """Add `jobs` that stay, to a queue that nobody leases from."""
        load = Load(
            kind="add", connections=16, depth=32, queues=1, queue_letter="r", ttl_ms=_RESIDENT_TTL_MS, jobs=jobs
        )
        figures = self._generator.measure(target, load)
        self._console.print(f"{jobs:,} jobs added; the longest wait for a reply was {_longest_ms([figures]):.1f} ms")

    def compare(self, empty: RunningServer, full: RunningServer, rounds: int, seconds: float) -> None:
        """Latency on an empty server and on one with jobs, in turn."""
        found: dict[str, list[RawFigures]] = {"with none": [], "with them": []}
        for _ in range(rounds):
            for name, target in (("with none", empty), ("with them", full)):
                found[name].append(self._generator.measure(target, _LOAD, seconds=seconds, warmup=0.2))
        tails = {name: statistics.median([each["p999_us"] for each in figures]) for name, figures in found.items()}
        for name, tail_us in tails.items():
            self._console.print(f"p99.9 {name}: {tail_us:,.0f} µs; longest {_longest_ms(found[name]):.1f} ms")
        self._console.print(f"p99.9, ratio: {tails['with them'] / tails['with none']:.2f}")

    def soak(self, target: RunningServer, control: RunningServer | None, seconds: float) -> None:
        """Keep `target` busy for `seconds`, and look at `control` in between."""
        slices = max(round(seconds / _SLICE_SECONDS), 1)
        length = min(seconds, _SLICE_SECONDS)
        found: list[RawFigures] = []
        controls: list[RawFigures] = []
        for _ in track(range(slices), "soaking", console=self._console, transient=True):
            found.append(self._generator.measure(target, _SOAK, seconds=length))
            if control is not None:
                controls.append(self._generator.measure(control, _SOAK, seconds=min(length, _CONTROL_SECONDS)))
        pauses = [each["max_us"] / 1000 for each in found]
        over = len([pause for pause in pauses if pause > _PAUSE_MS])
        commands = sum([each["operations"] for each in found])
        self._console.print(f"{commands:,.0f} commands in {slices * length:,.1f} s; longest pause {max(pauses):.1f} ms")
        self._console.print(f"over {_PAUSE_MS:.0f} ms: in {over} of {slices} slices of {length:g} s")
        if controls:
            self._console.print(f"{BASELINE} in between: longest pause {_longest_ms(controls):.1f} ms")
        memory = [each["rss_after_bytes"] / 2**20 for each in found]
        self._console.print(
            f"memory in MiB: first slice {memory[0]:.0f}, highest {max(memory):.0f}, last {memory[-1]:.0f}"
        )


def _longest_ms(figures: Sequence[RawFigures]) -> float:
    return max([each["max_us"] for each in figures]) / 1000


@click.command()
@click.option("--seconds", type=click.FloatRange(0.1), default=600.0, show_default=True, help="Length of the soak.")
@click.option("--jobs", type=click.IntRange(1), default=1_000_000, show_default=True, help="Jobs resident meanwhile.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of the comparison.")
@click.option("--server", "name", default=None, help="workq-compiled or workq-pure.  [default: the first there is]")
def main(seconds: float, jobs: int, rounds: int, name: str | None) -> None:
    """Show the pauses of a server that holds many jobs, over ten minutes."""
    servers, _ = find_servers()
    builds = [server for server in servers if server.protocol == "workq"]
    if name is not None:
        check_names([name], [build.name for build in builds], "--server")
    chosen = next(build for build in builds if name in (None, build.name))
    baseline = next((server for server in servers if server.name == BASELINE), None)
    console = new_console()
    console.print(f"[bold]{chosen.name}[/], {chosen.version}")
    bench = Soak(console, LoadGenerator())
    with ExitStack() as stack:
        empty, full = [stack.enter_context(running(chosen, log=False)) for _ in range(2)]
        control = None if baseline is None else stack.enter_context(running(baseline, log=False))
        bench.fill(full, jobs)
        bench.compare(empty, full, rounds, min(seconds, 1.0))
        bench.soak(full, control, seconds)


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench soak")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

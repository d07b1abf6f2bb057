"""The clients: adds a second of `AsyncClient` and `Client`, jobs a second of a `Worker`, how long `workq import` takes.

Started by `bin/bench clients`. Adds are put beside those of the load generator in C, one at a time on each of as many
connections, on the same server in the same run: only the ratio means anything on another machine.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.table import Table

import workq
from bench.errors import BenchError, NotMeasured
from bench.loadgen import LoadGenerator
from bench.report import new_console
from bench.scenarios import Load
from bench.servers import RunningServer, Server, find_servers, running

_CONCURRENCY: Final = 32
_PAYLOAD: Final = b"x" * 100


def generator_adds(server: RunningServer, jobs: int) -> float:
    """Adds a second of the load generator, one in flight on each connection."""
    load = Load(kind="add", connections=_CONCURRENCY, depth=1, payload_bytes=len(_PAYLOAD), jobs=jobs)
    return LoadGenerator().measure(server, load)["operations_per_s"]


def async_adds(server: RunningServer, jobs: int) -> float:
    """Adds a second of one `AsyncClient` with 32 calls at a time."""

    async def measure() -> float:
        async with workq.AsyncClient(_url(server)) as client:
            todo = iter(range(jobs))

            async def produce() -> None:
                for _ in todo:
                    await client.add("async", _PAYLOAD)

            started = time.perf_counter()
            await asyncio.gather(*[produce() for _ in range(_CONCURRENCY)])
            return jobs / (time.perf_counter() - started)

    return asyncio.run(measure())


def blocking_adds(server: RunningServer, jobs: int) -> float:
    """Adds a second of one `Client`, one after the other."""
    with workq.Client(_url(server)) as client:
        started = time.perf_counter()
        for _ in range(jobs):
            client.add("blocking", _PAYLOAD)
        return jobs / (time.perf_counter() - started)


def import_seconds(server: RunningServer, jobs: int) -> float:
    """Seconds that `workq import` takes for a file of `jobs` lines, its start included."""
    with tempfile.NamedTemporaryFile("w", suffix=".ndjson") as file:
        file.writelines([f'{{"name": "import", "payload": "{_PAYLOAD.decode()}"}}\n'] * jobs)
        file.flush()
        command = [sys.executable, "-m", "workq.cli", "import", file.name, "--server", _url(server)]
        started = time.perf_counter()
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=_environment(), timeout=120)
        return time.perf_counter() - started


def worker_jobs(server: RunningServer, jobs: int) -> float:
    """Jobs a second of a `Worker` with 32 slots for an async function that does nothing."""
    asyncio.run(_fill(server, "worker", jobs))
    worker = workq.Worker(_url(server))
    left = jobs

    @worker.job("worker", concurrency=_CONCURRENCY)
    async def nothing(_: bytes) -> None:
        nonlocal left
        left -= 1
        if not left:
            worker.stop()

    started = time.perf_counter()
    worker.run()
    return jobs / (time.perf_counter() - started)


async def _fill(server: RunningServer, name: str, jobs: int) -> None:
    async with workq.AsyncClient(_url(server)) as client:
        for start in range(0, jobs, 1000):
            await asyncio.gather(*[client.add(name, _PAYLOAD) for _ in range(start, min(start + 1000, jobs))])


def _url(server: RunningServer) -> str:
    return f"workq://127.0.0.1:{server.port}"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def measure(server: Server, jobs: int, rounds: int) -> dict[str, float]:
    """The medians of as many rounds, by the names of their rows."""
    measured: dict[str, list[float]] = {}

    def note(name: str, figure: float) -> None:
        measured.setdefault(name, []).append(figure)

    for _ in range(rounds):
        with running(server, log=False) as target:
            generator = generator_adds(target, jobs)
            asynchronous = async_adds(target, jobs)
            note("load generator in C, adds/s", generator)
            note("AsyncClient, adds/s", asynchronous)
            note("AsyncClient / load generator", asynchronous / generator)
            note("Client, adds/s", blocking_adds(target, jobs // 10))
            note(f"workq import of {jobs} jobs, s", import_seconds(target, jobs))
        with one_core(), running(server, log=False) as target:
            note("Worker and server on one core, jobs/s", worker_jobs(target, jobs // 5))
    return {name: statistics.median(figures) for name, figures in measured.items()}


@contextmanager
def one_core() -> Iterator[None]:
    """This process, and what it starts, keep to one core."""
    if not hasattr(os, "sched_setaffinity"):
        raise BenchError("the worker is measured on one core, and this system cannot keep a process to one")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@click.command()
@click.option("--jobs", type=click.IntRange(1000), default=100_000, show_default=True, help="Jobs per measurement.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="The median is shown.")
def main(jobs: int, rounds: int) -> None:
    """Measure the Python clients, the worker and `workq import`, on a server of their own."""
    server = find_servers()[0][0]
    table = Table(box=None, title=server.version, title_justify="left")
    table.add_column(f"{jobs} jobs of {len(_PAYLOAD)} bytes, median of {rounds}")
    table.add_column(justify="right")
    for name, figure in measure(server, jobs, rounds).items():
        table.add_row(name, f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}")
    new_console().print(table)


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench clients")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

"""The doors of other systems: how many jobs they take a second, and how many they have delivered.

Started by `bin/bench http`. `wrk` pushes small jobs over 64 connections while a web worker that does nothing gets them;
all changes are on disk before they are acknowledged. A bare handler of the same framework is measured beside.
"""

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import click
from rich.console import Console
from rich.table import Table

from bench.errors import BenchError, NotMeasured
from bench.servers import Server, find_servers, running

_CONNECTIONS: Final = 64
_PATIENCE_S: Final = 10.0


@attrs.frozen(kw_only=True)
class Door:
    """A door that is measured.

    listen    the flag for its own listener
    settings  a TOML file
    path      where a job is POSTed
    body      a small job for a URL
    old       what the system did whose door it is, on a machine with 2 cores: jobs accepted and delivered a second
    """

    name: str
    listen: str
    settings: str
    path: str
    body: Callable[[str], str]
    old: tuple[int, int]


DOORS: Final = (
    Door(
        name="hq",
        listen="--hq-listen",
        settings=f"[hq]\ndispatchers = 2\nmax_workers = {_CONNECTIONS // 2}\n",
        path="/job",
        body=lambda url: f'{{"url": "{url}", "payload": {{"message": "Hello world!"}}}}',
        old=(950, 950),
    ),
    Door(
        name="fireworq",
        listen="--fireworq-listen",
        settings=f"[fireworq]\nkeep_alive = true\nqueue_default_max_workers = {_CONNECTIONS}\n",
        path="/job/foo",
        body=lambda url: f'{{"url": "{url}", "payload": {{"id": 12345}}}}',
        old=(1870, 1600),
    ),
)


@attrs.frozen
class Rates:
    """Jobs a second. `delivered` counts until the last of them has reached the web worker."""

    accepted: float
    delivered: float | None = None


def _server(build: Server, door: Door, settings: Path) -> Server:
    """`build`, with `door` on its port."""

    def command(port: int, log_directory: Path | None) -> list[str]:
        base = build.command(0, log_directory)
        return [*base, "--config", str(settings), door.listen, f"127.0.0.1:{port}"]

    return attrs.evolve(build, command=command)


def _helper(*flags: str) -> Server:
    """The web worker, or the bare handler."""
    root = str(Path(__file__).parent.parent)
    return Server(
        name="web worker",
        version="",
        protocol="http",
        command=lambda port, _: [sys.executable, "-m", "bench.webworker", *flags, str(port)],
        environment={"PYTHONPATH": root},
    )


def _load(url: str, body: str, seconds: float, directory: Path) -> tuple[float, int]:
    """Push jobs to `url`; the rate, and how many were accepted. Raises `BenchError`."""
    script = directory / "push.lua"
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[{body}]==]\n'
    )
    command = ["wrk", "-t2", f"-c{_CONNECTIONS}", f"-d{max(round(seconds), 1)}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    rate = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    count = re.search(r"([\d]+) requests in", done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout:
        raise BenchError(f"wrk could not push to {url}: {done.stdout}{done.stderr}")
    return float(rate[1]), int(count[1])


def _delivered(url: str) -> int:
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:
        return int(answer.read())


def measure(build: Server, door: Door, seconds: float) -> Rates:
    """The rates of a door."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="workq-bench-")))
        settings = directory / "workq.toml"
        settings.write_text(door.settings)
        worker = stack.enter_context(running(_helper(), log=False))
        server = stack.enter_context(running(_server(build, door, settings), log=True))
        worker_url = f"http://127.0.0.1:{worker.port}/"
        started = last = time.monotonic()
        rate, accepted = _load(f"http://127.0.0.1:{server.port}{door.path}", door.body(worker_url), seconds, directory)
        # wrk does not wait for the last answers, so a few more than it counted may come.
        count = 0
        while time.monotonic() - last < (1.0 if count >= accepted else _PATIENCE_S):
            before, count = count, _delivered(worker_url)
            if count != before:
                last = time.monotonic()
            time.sleep(0.02)
        if count < accepted:
            raise BenchError(f"{door.name}: of {accepted} jobs {count} were delivered")
        return Rates(rate, count / (last - started))


def measure_bare(seconds: float) -> Rates:
    """The rate of a handler that does nothing."""
    with TemporaryDirectory(prefix="workq-bench-") as directory, running(_helper("--bare"), log=False) as server:
        rate, _ = _load(f"http://127.0.0.1:{server.port}/job", DOORS[0].body("http://x/"), seconds, Path(directory))
        return Rates(rate)


@click.command()
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="How long jobs are pushed.")
def main(seconds: float) -> None:
    """Measure the HTTP doors: jobs accepted and delivered a second, with --data-dir and --log-sync always."""
    console = Console()
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed; on Debian and Ubuntu: apt install wrk")
    builds = [server for server in find_servers()[0] if server.protocol == "workq"]
    bare = measure_bare(seconds)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "",
        "accepted/s",
        "of a bare handler",
        "delivered/s",
        "accepted, of the old",
        "delivered, of the old",
    ):
        table.add_column(title, justify="right" if title else "left", no_wrap=not title)
    table.add_row("bare handler", f"{bare.accepted:,.0f}", "1.00", "", "", "")
    for door in DOORS:
        for build in builds:
            rates = measure(build, door, seconds)
            assert rates.delivered is not None
            table.add_row(
                f"{door.name} ({build.name})",
                f"{rates.accepted:,.0f}",
                f"{rates.accepted / bare.accepted:.2f}",
                f"{rates.delivered:,.0f}",
                f"{rates.accepted / door.old[0]:.1f}x",
                f"{rates.delivered / door.old[1]:.1f}x",
            )
    console.print(table)


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench http")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

"""The doors of other systems: how many jobs they take a second, and how many they have delivered.

Started by `bin/bench http`. `wrk` pushes small jobs over 64 connections while a web worker that does nothing gets them;
all changes are on disk before they are acknowledged. Beside the doors: a bare handler of the same framework, the native
API, what MariaDB commits to the same disk, what HTTP does to the latency of TCP, and what waiting jobs cost.
"""

import http.client
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import attrs
import click
from rich.table import Table

from bench.errors import BenchError, NotMeasured, check_names
from bench.loadgen import LoadGenerator, may_be_first
from bench.mariadb import commit_rate
from bench.report import new_console
from bench.scenarios import Load
from bench.servers import RunningServer, Server, find_servers, running, spare_port

_CONNECTIONS: Final = 64
_PATIENCE_S: Final = 10.0
# How seldom a job may leave the queue in which jobs wait.
_THROTTLE: Final = {"max_dispatches_per_second": 0.001, "max_burst_size": 1}
# How many TCP clients there are beside those of HTTP; one job in flight each. How much of what HTTP can take it gets.
_TCP_CONNECTIONS: Final = (1, 64)
_PARTS_OF_LOAD: Final = (0.5, 1.0)
_PARTS: Final = ("doors", "mariadb", "latency", "idle")


@attrs.frozen(kw_only=True)
class Door:
    """A door that is measured.

    listen    the flag for its own listener
    settings  a TOML file
    path      where a job is POSTed
    body      a small job for a URL
    old       what the system did whose door it is, on a machine with 2 cores: jobs accepted and delivered a second;
              None for our own API
    """

    name: str
    listen: str
    settings: str
    path: str
    body: Callable[[str], str]
    old: tuple[int, int] | None = None


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
    Door(
        name="native",
        listen="--http",
        settings="",
        path="/v1/jobs",
        body=lambda url: f'{{"queue": "bench", "url": "{url}", "payload": "{{\\"id\\": 12345}}"}}',
    ),
)
_FIREWORQ: Final = DOORS[1]


@attrs.frozen
class Rates:
    """Jobs a second. `delivered` counts until the last of them has reached the web worker."""

    accepted: float
    delivered: float | None = None


def _server(build: Server, door: Door, settings: Path, tcp_port: int = 0) -> Server:
    """`build`, with `door` on its port, and TCP on another."""

    def command(port: int, log_directory: Path | None) -> list[str]:
        base = build.command(tcp_port, log_directory)
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


def _load_command(url: str, body: str, seconds: float, directory: Path, rate: float | None = None) -> list[str]:
    """How to push jobs to `url`, as fast as it goes or up to `rate` a second, for `seconds` or a little longer:
    `wrk` knows whole ones only.
    """
    script = directory / "push.lua"
    lines = ['wrk.method = "POST"', 'wrk.headers["Content-Type"] = "application/json"', f"wrk.body = [==[{body}]==]"]
    if rate is not None:  # the mean of the pauses that are made is what a connection has for a job
        lines.append(f"function delay() return math.random(0, {round(2_000 * _CONNECTIONS / rate)}) end")
    script.write_text("\n".join(lines) + "\n")
    return ["wrk", "-t2", f"-c{_CONNECTIONS}", f"-d{math.ceil(seconds)}s", "-s", str(script), url]


def _load(url: str, body: str, seconds: float, directory: Path) -> tuple[float, int]:
    """Push jobs to `url`; the rate, and how many were accepted. Raises `BenchError`."""
    command = _load_command(url, body, seconds + 1, directory)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
        try:
            wrk.wait(seconds)
        except subprocess.TimeoutExpired:
            wrk.send_signal(signal.SIGINT)  # has it say what it has done so far
        told, _ = wrk.communicate(timeout=60)
    rate = re.search(r"Requests/sec: +([\d.]+)", told)
    count = re.search(r"([\d]+) requests in", told)
    if rate is None or count is None or "Non-2xx" in told:
        raise BenchError(f"wrk could not push to {url}: {told}")
    return float(rate[1]), int(count[1])


def _delivered(url: str) -> int:
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:
        return int(answer.read())


@contextmanager
def _door(build: Server, door: Door, tcp_port: int = 0) -> Iterator[tuple[RunningServer, str, Path]]:
    """A server with `door` on its port, the URL of a web worker, and a directory."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="workq-bench-")))
        settings = directory / "workq.toml"
        settings.write_text(door.settings)
        worker = stack.enter_context(running(_helper(), log=False))
        server = stack.enter_context(running(_server(build, door, settings, tcp_port), log=True))
        yield server, f"http://127.0.0.1:{worker.port}/", directory


def measure(build: Server, door: Door, seconds: float) -> Rates:
    """The rates of a door."""
    with _door(build, door) as (server, worker_url, directory):
        if door.old is None:  # others say it in their settings
            _put(server.port, "/v1/queues/bench/push", {"concurrency": _CONNECTIONS})
        started = time.monotonic()
        rate, accepted = _load(f"http://127.0.0.1:{server.port}{door.path}", door.body(worker_url), seconds, directory)
        # wrk does not wait for the last answers, so a few more than it counted may come.
        count = 0
        last = time.monotonic()
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


@attrs.frozen
class Latency:
    """What 99 of 100 commands over TCP take at most, in microseconds; medians of the rounds.

    alone  while the machine does nothing else
    twin   while another server has the load of HTTP: what the machine alone makes of it
    under  while the same server has it
    """

    alone: float
    twin: float
    under: float


def measure_latency(build: Server, connections: int, part: float, seconds: float, rounds: int) -> Latency:
    """The latency of TCP while `wrk` pushes to Fireworq's door, `part` of what that takes at most."""
    generator, load, tcp_port = LoadGenerator(), Load(connections=connections), spare_port()

    def measured(target: RunningServer) -> float:
        return generator.measure(target, load, seconds=seconds, warmup=min(0.5, seconds), first=True)["p99_us"]

    figures: list[tuple[float, float, float]] = []
    with (
        _door(build, _FIREWORQ, tcp_port) as (server, worker_url, directory),
        _door(build, _FIREWORQ) as (twin, _, _),
    ):
        target = attrs.evolve(server, port=tcp_port)
        body = _FIREWORQ.body(worker_url)
        urls = [f"http://127.0.0.1:{each.port}{_FIREWORQ.path}" for each in (twin, server)]
        rate = None if part == 1 else part * _load(urls[1], body, min(2, seconds), directory)[0]
        for _ in range(rounds):
            alone = measured(target)
            beside = []
            for url in urls:
                command = _load_command(url, body, seconds + 30, directory, rate)
                with subprocess.Popen(command, stdout=subprocess.DEVNULL) as wrk:
                    try:
                        time.sleep(min(0.5, seconds))  # until it has begun
                        beside.append(measured(target))
                        if wrk.poll() is not None:
                            raise BenchError(f"wrk ended too early, with status {wrk.returncode}")
                    finally:
                        wrk.terminate()
                _wait_until_delivered(worker_url)
            figures.append((alone, beside[0], beside[1]))
    return Latency(*[median(each) for each in zip(*figures, strict=True)])


def _wait_until_delivered(worker_url: str) -> None:
    """Return when the web worker gets no more jobs."""
    count = -1
    while count != (now := _delivered(worker_url)):
        count = now
        time.sleep(0.3)


def measure_idle(build: Server, jobs: int, seconds: float) -> tuple[float, float]:
    """CPU time of the server in `seconds`, in milliseconds: empty, and with `jobs` that wait in a throttled queue."""
    with _door(build, _FIREWORQ) as (server, worker_url, _):
        empty_ms = _cpu_ms(server, seconds)
        _put(server.port, "/queue/idle", _THROTTLE)
        _put(server.port, "/routing/idle", {"queue_name": "idle"})
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_S)
        body = _FIREWORQ.body(worker_url).encode()
        for _ in range(jobs + 1):  # the first leaves at once
            _ask(connection, "POST", "/job/idle", body)
        connection.close()
        return empty_ms, _cpu_ms(server, seconds)


def _cpu_ms(server: RunningServer, seconds: float) -> float:
    time.sleep(1)  # until what came before is through
    before_us = server.cpu_us()
    time.sleep(seconds)
    return (server.cpu_us() - before_us) / 1000


def _put(port: int, path: str, value: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    _ask(connection, "PUT", path, json.dumps(value).encode())
    connection.close()


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> None:
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise BenchError(f"{method} {path} was answered {answer.status}: {text.decode(errors='replace').strip()}")


@click.command()
@click.option("--only", "parts", type=click.Choice(_PARTS), multiple=True, help="Measure only this; may be repeated.")
@click.option("--server", "names", multiple=True, metavar="SERVER", help="Measure only this build; may be repeated.")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="How long to push jobs.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Of latencies: the median counts.")
@click.option("--waiting", type=click.IntRange(1), default=10_000, show_default=True, help="Jobs in a throttled queue.")
def main(parts: Sequence[str], names: Sequence[str], seconds: float, rounds: int, waiting: int) -> None:
    """Measure the HTTP doors, with --data-dir and --log-sync always: jobs accepted and delivered a second, beside a
    bare handler and the commits of MariaDB; the latency of TCP meanwhile; the CPU time of jobs that wait.
    """
    console = new_console()
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not installed; on Debian and Ubuntu: apt install wrk")
    builds = [server for server in find_servers()[0] if server.protocol == "workq"]
    check_names(names, [build.name for build in builds], "--server")
    builds = [build for build in builds if not names or build.name in names]
    for part in parts or _PARTS:
        if part == "doors":
            table = _doors_table(builds, seconds)
        elif part == "mariadb":
            table = _mariadb_table(seconds)
        elif part == "latency":
            table = _latency_table(builds, seconds, rounds)
        else:
            table = _idle_table(builds, waiting, seconds)
        console.print(table)
        console.print()


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, justify="right" if title else "left", no_wrap=not title)
    return table


def _mariadb_table(seconds: float) -> Table:
    table = _table("", "commits/s")
    try:
        told = f"{commit_rate(_CONNECTIONS, seconds):,.0f}"
    except NotMeasured as reason:
        told = str(reason)
    table.add_row(f"MariaDB, {_CONNECTIONS} connections", told)
    return table


def _latency_table(builds: Sequence[Server], seconds: float, rounds: int) -> Table:
    table = _table("", "load", "alone", "another", "same", "of alone", "of another")
    table.title = "TCP p99 in µs: alone, with HTTP load on another server, and on the same"
    if not may_be_first():
        table.caption = "The generator may not run before other programs (that takes root): it waits for the CPU, too."
    for build in builds:
        for connections in _TCP_CONNECTIONS:
            for part in _PARTS_OF_LOAD:
                latency = measure_latency(build, connections, part, seconds, rounds)
                table.add_row(
                    f"{connections} TCP connection{'s' if connections > 1 else ''} ({build.name})",
                    f"{part:.0%}",
                    f"{latency.alone:,.0f}",
                    f"{latency.twin:,.0f}",
                    f"{latency.under:,.0f}",
                    f"{latency.under / latency.alone:.1f}",
                    f"{latency.under / latency.twin:.1f}",
                )
    return table


def _idle_table(builds: Sequence[Server], waiting: int, seconds: float) -> Table:
    table = _table("", f"CPU ms in {seconds:g} s", "empty server")
    for build in builds:
        empty_ms, waiting_ms = measure_idle(build, waiting, seconds)
        table.add_row(f"{waiting:,} jobs throttled ({build.name})", f"{waiting_ms:.1f}", f"{empty_ms:.1f}")
    return table


def _doors_table(builds: Sequence[Server], seconds: float) -> Table:
    bare = measure_bare(seconds)
    table = _table(
        "", "accepted/s", "of a bare handler", "delivered/s", "accepted, of the old", "delivered, of the old"
    )
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
                "" if door.old is None else f"{rates.accepted / door.old[0]:.1f}x",
                "" if door.old is None else f"{rates.delivered / door.old[1]:.1f}x",
            )
    return table


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench http")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

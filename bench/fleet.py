"""What a fleet of workers costs the server: bulk leases beside single ones, touches beside completes; waking one of
many that wait; and a queue whose jobs may not be leased yet.

Started by `bin/bench fleet`. Everything is CPU time of the server process. Per job, all requests are pipelined a
hundred at a time, and rounds alternate, so that what disturbs one disturbs the other. Leases are measured with one
connection, where the server goes to sleep and is woken for every hundred jobs, and with a few that are served in turn.
Only ratios mean anything on another machine.
"""

import contextlib
import os
import resource
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final

import click

from bench.errors import BenchError, NotMeasured
from bench.servers import RunningServer, Server, find_servers, running

_BATCH: Final = 100
_CONNECTIONS: Final = 16
_PAYLOAD: Final = b"x" * 100
_DAY_MS: Final = 86_400_000
# Jobs that are added while so and so many wait for one.
_WAKES: Final = 1_000
# Descriptors that the benchmark has beside a connection for each who waits.
_OTHER_FILES: Final = 100


class _Connection:
    """A connection that sends requests and reads a number of lines of replies."""

    def __init__(self, server: RunningServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._reader = self._socket.makefile("rb")

    def ask(self, requests: bytes, lines: int) -> list[bytes]:
        """Send `requests`; return the lines of the replies, which must not be errors."""
        self._socket.sendall(requests)
        replies = [self._reader.readline() for _ in range(lines)]
        for line in replies:
            if line.startswith(b"-"):
                raise BenchError(f"the server answered {line.decode().strip()}")
        return replies

    def send(self, request: bytes) -> None:
        """Send a request whose reply is not waited for."""
        self._socket.sendall(request)

    def close(self) -> None:
        """End it."""
        self._reader.close()
        self._socket.close()


def _fill(connection: _Connection, jobs: int) -> list[bytes]:
    ids = [str(uuid.uuid4()).encode() for _ in range(jobs)]
    tail = b" fleet 60000 %d %d\r\n%b\r\n" % (_DAY_MS, len(_PAYLOAD), _PAYLOAD)
    for start in range(0, jobs, _BATCH):
        adds = [b"add " + one + tail for one in ids[start : start + _BATCH]]
        connection.ask(b"".join(adds), len(adds))
    return ids


def _lease(connections: list[_Connection], jobs: int, bulk: bool) -> None:
    """Lease `jobs`, in batches: each connection asks for one, then all are read."""
    ask = b"lease fleet 0 -count=%d\r\n" % _BATCH if bulk else b"lease fleet 0\r\n" * _BATCH
    lines = 1 + 2 * _BATCH if bulk else 3 * _BATCH
    for _ in range(jobs // (_BATCH * len(connections))):
        for connection in connections:
            connection.send(ask)
        for connection in connections:
            connection.ask(b"", lines)


def _touches(connection: _Connection, ids: list[bytes]) -> None:
    for start in range(0, len(ids), _BATCH):
        connection.ask(b"".join([b"touch %b -attempt=1\r\n" % one for one in ids[start:][:_BATCH]]), _BATCH)


def _completes(connection: _Connection, ids: list[bytes]) -> None:
    for start in range(0, len(ids), _BATCH):
        requests = [b"complete %b 2 -attempt=1\r\nok\r\n" % one for one in ids[start:][:_BATCH]]
        connection.ask(b"".join(requests), _BATCH)


def measure(server: Server, jobs: int, rounds: int) -> dict[str, float]:
    """Medians of microseconds of CPU per job, by what was done with it."""
    measured: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], None]) -> None:
        before_us = target.cpu_us()
        work()
        measured.setdefault(name, []).append((target.cpu_us() - before_us) / jobs)

    with running(server, log=False) as target, contextlib.ExitStack() as stack:
        connections = [_Connection(target) for _ in range(_CONNECTIONS)]
        for each in connections:
            stack.callback(each.close)
        one = connections[0]
        for _ in range(rounds + 1):
            for some in (connections[:1], connections):
                for bulk in (False, True):
                    ids = _fill(one, jobs)
                    note(_lease_name(bulk, len(some)), partial(_lease, some, jobs, bulk))
            note("touch", partial(_touches, one, ids))
            note("complete", partial(_completes, one, ids))
    return {name: statistics.median(figures[1:]) for name, figures in measured.items()}  # the first warms up


def _lease_name(bulk: bool, connections: int) -> str:
    return f"{'lease -count=100' if bulk else '100 leases'}, {connections} at once"


def wake(server: Server, leasers: int) -> tuple[float, float]:
    """Microseconds for an `add` that wakes the first of `leasers`, who then completes it and waits again at the end.

    Returns CPU time of the server for all of it, and the median time from the `add` to the woken one's job.
    """
    wait = b"lease fleet %d\r\n" % _DAY_MS
    times_us: list[float] = []
    with running(server, log=False) as target, contextlib.ExitStack() as stack:
        waiting = [_Connection(target) for _ in range(leasers)]
        for each in waiting:
            stack.callback(each.close)
            each.send(wait)
        adding = _Connection(target)
        stack.callback(adding.close)
        while int(_figures(adding)[b"waiting-leasers"]) < leasers:
            pass
        before_us = target.cpu_us()
        for number in range(_WAKES):
            woken = waiting[number % leasers]  # those who wait longest are served first
            began_s = time.perf_counter()
            _fill(adding, 1)
            job = woken.ask(b"", 3)[1]
            times_us.append((time.perf_counter() - began_s) * 1e6)
            woken.ask(b"complete %b 2\r\nok\r\n%b" % (job.split()[0], wait), 1)
        return (target.cpu_us() - before_us) / _WAKES, statistics.median(times_us)


def idle(server: Server, jobs: int, seconds: float) -> dict[str, float]:
    """CPU seconds per second of a server that has nothing to do, while somebody waits.

    That is without jobs, and with `jobs` in a queue whose rate allows none for now.
    """
    found: dict[str, float] = {}

    def note(name: str) -> None:
        began_s, before_us = time.monotonic(), target.cpu_us()
        time.sleep(seconds)
        found[name] = (target.cpu_us() - before_us) / 1e6 / (time.monotonic() - began_s)

    with running(server, log=False) as target:
        filling, waiting = _Connection(target), _Connection(target)
        waiting.send(b"lease other %d\r\n" % _DAY_MS)
        note("no jobs")
        filling.ask(b"queue fleet -lease-rate=1 -lease-burst=1\r\n", 1)  # one in 1000 s
        _fill(filling, jobs)
        filling.ask(b"lease fleet 0\r\n", 3)
        filling.send(b"lease fleet %d\r\n" % _DAY_MS)
        note(f"{jobs} jobs, paced")
        filling.close()
        waiting.close()
    return found


def _figures(connection: _Connection) -> dict[bytes, bytes]:
    _, label = connection.ask(b"inspect queue fleet\r\n", 2)
    lines = connection.ask(b"", int(label.split()[1]))
    return {line.split()[0]: line.split()[1] for line in lines}


@click.command()
@click.option("--jobs", default=20_000, show_default=True, help="Jobs of a round.")
@click.option("--rounds", default=7, show_default=True, help="Rounds, of which the median counts.")
@click.option("--leasers", default=10_000, show_default=True, help="Wake one of 10, 100 and so on up to this many.")
@click.option("--waiting", default=1_000_000, show_default=True, help="Jobs that wait in the queue with a rate.")
@click.option("--idle", "idle_s", default=10.0, show_default=True, help="Seconds to watch it.")
def main(jobs: int, rounds: int, leasers: int, waiting: int, idle_s: float) -> None:
    """Measure what bulk leases, touches, workers that wait and queues with a rate cost the server."""
    _raise_file_limit(leasers)
    server = find_servers()[0][0]
    figures = measure(server, jobs - jobs % (_BATCH * _CONNECTIONS), rounds)
    click.echo(f"{server.version}, load {os.getloadavg()[0]:.1f}, CPU per job")
    for name, cpu_us in figures.items():
        click.echo(f"{name:24} {cpu_us:6.2f} us")
    for count in (1, _CONNECTIONS):
        ratio = figures[_lease_name(True, count)] / figures[_lease_name(False, count)]
        click.echo(f"bulk / single, {count:2} at once {ratio:6.2f}")
    click.echo(f"touch / complete         {figures['touch'] / figures['complete']:6.2f}")
    click.echo("an add wakes one of those who wait, who completes it and waits again: CPU, time until the job is there")
    count = 10
    while count <= leasers:
        cpu_us, took_us = wake(server, count)
        click.echo(f"{count:6} wait {cpu_us:18.1f} us {took_us:8.0f} us")
        count *= 10
    click.echo("nothing to do, CPU seconds per second")
    for name, share in idle(server, waiting, idle_s).items():
        click.echo(f"{name:24} {share:8.5f}")


def _raise_file_limit(leasers: int) -> None:
    """Allow a connection for each who waits, here and in the server, which inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = leasers + _OTHER_FILES
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise NotMeasured(f"{leasers} who wait need {wanted} open files, the limit is {hard}: see ulimit -Hn")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench fleet")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

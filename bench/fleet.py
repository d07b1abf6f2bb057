"""What a fleet of workers costs the server: bulk leases beside single ones, touches beside completes.

Started by `bin/bench fleet`. Everything is CPU time of the server process per job, all requests are pipelined a hundred
at a time on one connection, and rounds alternate, so that what disturbs one disturbs the other. Only ratios mean
anything on another machine.
"""

import socket
import statistics
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from bench.errors import BenchError, NotMeasured
from bench.servers import RunningServer, Server, find_servers, running

_BATCH: Final = 100
_PAYLOAD: Final = b"x" * 100


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

    def close(self) -> None:
        """End it."""
        self._reader.close()
        self._socket.close()


def _cpu_us(server: RunningServer) -> float:
    """CPU time of the server so far, all threads."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    return sum([int((task / "schedstat").read_text().split()[0]) for task in tasks]) / 1000


def _fill(connection: _Connection, jobs: int) -> list[bytes]:
    ids = [str(uuid.uuid4()).encode() for _ in range(jobs)]
    for start in range(0, jobs, _BATCH):
        adds = [
            b"add %b fleet 60000 600000 %d\r\n%b\r\n" % (one, len(_PAYLOAD), _PAYLOAD) for one in ids[start:][:_BATCH]
        ]
        connection.ask(b"".join(adds), len(adds))
    return ids


def _single_leases(connection: _Connection, ids: list[bytes]) -> None:
    for _ in range(0, len(ids), _BATCH):
        connection.ask(b"lease fleet 0\r\n" * _BATCH, 3 * _BATCH)


def _bulk_leases(connection: _Connection, ids: list[bytes]) -> None:
    for _ in range(0, len(ids), _BATCH):
        connection.ask(b"lease fleet 0 -count=%d\r\n" % _BATCH, 1 + 2 * _BATCH)


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

    def note(name: str, work: Callable[[_Connection, list[bytes]], None], ids: list[bytes]) -> None:
        before_us = _cpu_us(target)
        work(connection, ids)
        measured.setdefault(name, []).append((_cpu_us(target) - before_us) / len(ids))

    with running(server, log=False) as target:
        connection = _Connection(target)
        for _ in range(rounds + 1):
            note("lease, 100 single ones", _single_leases, _fill(connection, jobs))
            ids = _fill(connection, jobs)
            note("lease -count=100", _bulk_leases, ids)
            note("touch", _touches, ids)
            note("complete", _completes, ids)
        connection.close()
    return {name: statistics.median(figures[1:]) for name, figures in measured.items()}  # the first warms up


@click.command()
@click.option("--jobs", default=20_000, show_default=True, help="Jobs of a round.")
@click.option("--rounds", default=7, show_default=True, help="Rounds, of which the median counts.")
def main(jobs: int, rounds: int) -> None:
    """Measure what bulk leases and touches cost the server."""
    server = find_servers()[0][0]
    figures = measure(server, jobs - jobs % _BATCH, rounds)
    click.echo(f"{server.version}, CPU per job")
    for name, cpu_us in figures.items():
        click.echo(f"{name:24} {cpu_us:6.2f} us")
    click.echo(f"bulk lease / single      {figures['lease -count=100'] / figures['lease, 100 single ones']:6.2f}")
    click.echo(f"touch / complete         {figures['touch'] / figures['complete']:6.2f}")


if __name__ == "__main__":
    try:
        main(prog_name="bin/bench fleet")
    except (BenchError, NotMeasured) as error:
        sys.exit(f"bin/bench: {error}")

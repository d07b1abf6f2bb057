"""A server process for tests, and plain dialogues with it: send these bytes, expect those."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Self, TypeAlias

from tests.forking import ForkedServer

# How long anything may take that should happen at once. Only a failing test waits that long.
PATIENCE_S = 30.0

Address: TypeAlias = tuple[str, int] | str


class ServerProcess:
    """A real server on a free port of its own, started with any flags; killed at the end of the `with` block.

    `under` is a command that runs another one, such as `nice`.

    address         of its first listener: (host, port), or the path of a Unix socket
    addresses       of all its listeners for the text protocol
    http_addresses  of its HTTP listeners, by the name of the door, of our own API by ""; none unless flags ask for them
    """

    def __init__(
        self,
        *flags: str,
        env: dict[str, str] | None = None,
        file_limit: int | None = None,
        under: Sequence[str] = (),
    ) -> None:
        listens = any([flag.startswith(("--listen", "--port")) for flag in flags])
        flags = ("--http", "off", *flags, *(() if listens else ("--port", "0")))
        if file_limit is not None:
            under = (*under, "sh", "-c", f'ulimit -n {file_limit}; exec "$@"', "sh")
        self._stderr, stderr = os.pipe()
        with open(os.devnull) as nowhere, open(stderr, "w"):
            self._process = _start(flags, env or {}, under, nowhere.fileno(), stderr)
        self.pid = self._process.pid
        self.addresses: list[Address] = []
        self.http_addresses: dict[str, tuple[str, int]] = {}
        self._log: list[str] = []
        self._told = threading.Event()  # it is ready, or it has ended
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._told.wait(PATIENCE_S) or not self.addresses:
            self.kill()
            raise RuntimeError(f"the server did not start; it said:\n{self.log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    @property
    def address(self) -> Address:
        return self.addresses[0]

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Of its first listener, which is a TCP one unless told otherwise."""
        assert not isinstance(self.address, str)
        return self.address

    def connect(self, address: Address | None = None) -> "Dialogue":
        """A new connection, to the first listener unless told otherwise."""
        return Dialogue(address or self.address)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process; its exit status."""
        status = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def log(self) -> str:
        """What it has written to standard error so far."""
        return "".join(self._log)

    def _read_log(self) -> None:
        with open(self._stderr) as lines:
            for line in lines:
                self._log.append(line)
                ready = re.search(r" is ready on (.+)$", line)
                if ready is not None:
                    self._take_addresses(ready[1].split(", "))
                    self._told.set()
        self._told.set()

    def _take_addresses(self, texts: list[str]) -> None:
        urls = [re.fullmatch(r"http://(\S+)(?: \((\w+)\))?", text) for text in texts]
        self.http_addresses = {url[2] or "": _tcp_address(url[1]) for url in urls if url is not None}
        self.addresses = [_address(text) for text, url in zip(texts, urls, strict=True) if url is None]


def run_server(
    *flags: str, env: Mapping[str, str] | None = None, under: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """Run a server that should end by itself."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = _start(flags, env or {}, under, stdout.fileno(), stderr.fileno())
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)
            raise
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(flags, status, stdout.read(), stderr.read())


@contextlib.contextmanager
def reserved_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port for a test to listen on, or to have a server listen on, even twice. No other program is given it."""
    with socket.socket() as reserving:
        reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that others who say so may listen on it
        reserving.bind((host, 0))
        yield int(reserving.getsockname()[1])


def _start(
    flags: Sequence[str], env: Mapping[str, str], under: Sequence[str], stdout: int, stderr: int
) -> "subprocess.Popen[bytes] | ForkedServer":
    """Start a server; a forked one, which is quicker, where nothing is asked for that must be there from the start."""
    whole_env = {**os.environ, **env}
    if not under and not any([name.startswith(("PYTHON", "WORKQ_PURE")) for name in env]):
        return ForkedServer(flags, whole_env, stdout, stderr)
    command = [*under, sys.executable, "-m", "workq.server.main", *flags]
    return subprocess.Popen(command, env=whole_env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    return _tcp_address(text)


def _tcp_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Dialogue:
    """One connection, used step by step. Every read has a time limit."""

    def __init__(self, address: Address) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(PATIENCE_S)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, PATIENCE_S)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def stop_sending(self) -> None:
        """Close this side only."""
        self.socket.shutdown(socket.SHUT_WR)

    def line(self) -> bytes:
        """The next line from the server, without its CRLF."""
        while b"\r\n" not in self._received:
            self._receive()
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def read(self, size: int) -> bytes:
        """The next `size` bytes from the server."""
        while len(self._received) < size:
            self._receive()
        data, self._received = self._received[:size], self._received[size:]
        return data

    def ask(self, data: bytes) -> bytes:
        """Send `data`, return the next line."""
        self.send(data)
        return self.line()

    def expect(self, *lines: bytes) -> None:
        """Read as many lines and compare."""
        assert [self.line() for _ in lines] == list(lines)

    def expect_end(self) -> None:
        """Read the end of the connection, and nothing before it."""
        assert not self._received, f"the end was expected, not {self._received!r}"
        with contextlib.suppress(ConnectionResetError):
            rest = self.socket.recv(65_536)
            assert not rest, f"the end was expected, not {rest!r}"

    def inspect(self, what: str) -> dict[str, str]:
        """The keys and values of an `inspect` of one thing."""
        self.send(f"inspect {what}\r\n".encode())
        self.expect(b"+OK 1")
        count = int(self.line().split(b" ")[1])
        return {key: value for key, _, value in [self.line().decode().partition(" ") for _ in range(count)]}

    def wait_for_clients(self, count: int) -> None:
        """Ask the server, who notices clients coming and going in its own time, until it counts so many."""
        give_up = time.monotonic() + PATIENCE_S
        while (active := self.inspect("server")["active-clients"]) != str(count):
            assert time.monotonic() < give_up, f"{active} clients are active, not {count}"

    def has_input(self, server: ServerProcess) -> bool:
        """Whether there is something to read, after `server` has done all that was sent to it until now."""
        with server.connect() as other:
            other.ask(b"inspect server\r\n")
        return bool(self._received) or bool(select.select([self.socket], [], [], 0)[0])

    def _receive(self) -> None:
        try:
            data = self.socket.recv(65_536)
        except TimeoutError:
            raise AssertionError(f"nothing more came within {PATIENCE_S:g} s, after {self._received!r}") from None
        if not data:
            raise ConnectionError(f"the server closed the connection after {self._received!r}")
        self._received += data

"""A job's whole life, typed by hand into the programs that people have: `nc` and `telnet`."""

import os
import select
import shutil
import subprocess
import time
from typing import Self

import pytest

from tests.server import PATIENCE_S, ServerProcess

ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


class Terminal:
    """A program that somebody types into, and reads."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def type(self, *lines: str) -> None:
        assert self._process.stdin is not None
        for line in lines:
            self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def expect(self, *lines: str) -> None:
        """Wait until these lines are shown."""
        assert [self._line() for _ in lines] == list(lines)

    def skip_to(self, beginning: str) -> None:
        """Wait for a line that begins so."""
        while not self._line().startswith(beginning):
            pass

    def _line(self) -> str:
        assert self._process.stdout is not None
        give_up = time.monotonic() + PATIENCE_S
        while "\n" not in self._shown:
            readable, _, _ = select.select([self._process.stdout], [], [], give_up - time.monotonic())
            assert readable, f"nothing more is shown after {self._shown!r}"
            data = os.read(self._process.stdout.fileno(), 65_536)
            assert data, f"the program ended after {self._shown!r}"
            self._shown += data.decode()
        line, _, self._shown = self._shown.partition("\n")
        return line.rstrip("\r")


PROGRAMS = [["nc"], ["nc", "-C"], ["telnet"]]


def start(program: list[str], server: ServerProcess) -> Terminal:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    host, port = server.tcp_address
    terminal = Terminal([*program, str(host), str(port)])
    if program[0] == "telnet":
        terminal.skip_to("Escape character")
    return terminal


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_jobs_whole_life_by_hand(server: ServerProcess, program: list[str]) -> None:
    with start(program, server) as one, start(program, server) as two:
        one.type(f"add {ID} greet 5000 60000 5", "world")
        one.expect("+OK")
        two.type("lease greet 60000")
        two.expect("+OK 1", f"{ID} greet 5000 5", "world")
        one.type(f"result {ID} 60000")
        two.type(f"complete {ID} 11", "hello world")
        two.expect("+OK")
        one.expect("+OK 1", f"{ID} 1 11", "hello world")
        one.type(f"delete {ID}")
        one.expect("+OK")

        one.type(f"run {ID} greet 5000 60000 3", "you")
        two.type("lease greet 60000")
        two.expect("+OK 1", f"{ID} greet 5000 3", "you")
        two.type(f"complete {ID} 9", "hello you")
        two.expect("+OK")
        one.expect("+OK 1", f"{ID} 1 9", "hello you")

        one.type(f"schedule {ID} greet 5000 60000 2100-01-01T00:00:00Z 5", "later")
        one.expect("+OK")
        one.type("inspect queue greet")
        one.expect("+OK 1", "greet 25", "ready-len 0", "scheduled-len 1", "leased-len 0")
        one.skip_to("finished-per-minute ")
        one.type(f"delete {ID}", "bye")
        one.expect("+OK")
        one.skip_to("-CLIENT-ERROR Unknown command: 'bye'")


def test_a_file_sent_with_nc(server: ServerProcess) -> None:
    """`nc -N` closes its side at the end of the file; all replies come, then the end."""
    if shutil.which("nc") is None:
        pytest.skip("nc is not installed")
    host, port = server.tcp_address
    requests = f"add {ID} file 5000 60000 5\nworld\nlease file 0\ncomplete {ID} 2\nok\nresult {ID} 0\ndelete {ID}\n"
    sent = subprocess.run(
        ["nc", "-N", str(host), str(port)], input=requests.encode(), capture_output=True, timeout=PATIENCE_S
    )
    assert sent.stdout.decode().split("\r\n") == [
        "+OK",
        *["+OK 1", f"{ID} file 5000 5", "world"],
        "+OK",
        *["+OK 1", f"{ID} 1 2", "ok"],
        "+OK",
        "",
    ]

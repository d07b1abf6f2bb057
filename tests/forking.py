"""Servers that are forked from one that has loaded all modules: most of what a start costs is loading them.

What is forked is a process as any other, with flags, an environment and outputs of its own; signals and exit statuses
are the real ones. How it is called from a shell is none of its business.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
_NUMBER_SIZE = 8


class ForkedServer:
    """A server process with these flags in this environment, with the face of `subprocess.Popen`.

    `stdout` and `stderr` are the files that it writes to.
    """

    def __init__(self, flags: Sequence[str], env: Mapping[str, str], stdout: int, stderr: int) -> None:
        self._told, tell = socket.socketpair()
        with tell:
            request = json.dumps({"flags": flags, "env": dict(env), "cwd": os.getcwd()})
            _mother.ask(request.encode(), [stdout, stderr, tell.fileno()])
        self.pid = _receive_number(self._told)
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        if self.returncode is None and not select.select([self._told], [], [], 0)[0]:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int:
        """Its exit status, or the number of the signal that killed it, negative. Raises `TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout_s)[0]:
                raise subprocess.TimeoutExpired("a forked server", timeout_s)
            self.returncode = _receive_number(self._told)
            self._told.close()
        return self.returncode


class _Mother:
    """The process that forks, seen from the tests. It runs from the first request until `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket

    def ask(self, request: bytes, files: Sequence[int]) -> None:
        with self._lock:
            if self._process is None:
                self._start()
            socket.send_fds(self._channel, [_number(len(request))], files)
            self._channel.sendall(request)

    def stop(self) -> None:
        if self._process is not None:
            self._channel.close()
            self._process.wait()
            self._process = None

    def _start(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tests.forking", str(theirs.fileno())]
            self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])


_mother = _Mother()
stop = _mother.stop


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_SIZE, "big", signed=True)


def _receive_number(channel: socket.socket) -> int:
    data = channel.recv(_NUMBER_SIZE, socket.MSG_WAITALL)
    if not data:
        raise ConnectionError("the process that forks servers has ended")
    return int.from_bytes(data, "big", signed=True)


# -- in the process that forks ---------------------------------------------------------------------------------------


def _fork_servers(channel: socket.socket) -> dict[str, Any] | None:
    """Fork a server per request. Returns None at the end of `channel`, and in each child its request."""
    children: dict[int, tuple[int, int]] = {}  # the pipe that closes when it ends -> its process id, who is told
    while True:
        for ready in select.select([channel, *children], [], [])[0]:
            if ready is not channel:
                pid, tell = children.pop(ready)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(tell, _number(status))
                os.close(ready)
                os.close(tell)
                continue
            head, files, _, _ = socket.recv_fds(channel, _NUMBER_SIZE, 3)
            if not head:
                return None
            request = json.loads(channel.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
            lives, held = os.pipe()
            pid = os.fork()
            if pid == 0:
                channel.close()
                os.dup2(files[0], 1)
                os.dup2(files[1], 2)
                for file in [*files, lives, *children, *[tell for _, tell in children.values()]]:
                    os.close(file)
                return request
            os.write(files[2], _number(pid))
            children[lives] = (pid, files[2])
            for file in [*files[:2], held]:
                os.close(file)


def _main() -> int:
    import workq.server.main
    import workq.server.web

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who ends the tests with it ends this by closing the channel
    request = _fork_servers(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = request["flags"]
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    return workq.server.main.main()


if __name__ == "__main__":
    sys.exit(_main())

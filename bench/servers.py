"""The servers that are compared: which of them this machine has, and a running one for as long as it is needed."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from bench.errors import BenchError, NotMeasured

BASELINE: Final = "beanstalkd"

_ROOT: Final = Path(__file__).parent.parent
_PURE: Final = "WORKQ_PURE"

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 10.0


@attrs.frozen(kw_only=True)
class Server:
    """A server that can be started.

    name         what it is called in results
    version      what it says about itself
    protocol     what the load generator calls its protocol
    command      how to start it: on a port, with its log in a directory, or without a log
    environment  variables it needs
    """

    name: str
    version: str
    protocol: str
    command: Callable[[int, Path | None], list[str]]
    environment: Mapping[str, str] = {}


@attrs.frozen(kw_only=True)
class RunningServer:
    """A server that takes connections on 127.0.0.1. `log_directory` is where it was told to keep its log."""

    server: Server
    port: int
    pid: int
    log_directory: Path | None

    def cpu_us(self) -> float:
        """CPU time of the server so far, all threads."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum([int((task / "schedstat").read_text().split()[0]) for task in tasks]) / 1000

    def check_log(self) -> None:
        """Raise `NotMeasured` if the server was told to keep a log and does not."""
        if self.log_directory is not None and not any(self.log_directory.rglob("*")):
            raise NotMeasured("not available: it wrote nothing to its log directory")


def find_servers() -> tuple[list[Server], dict[str, str]]:
    """The servers that this machine has, in the order of the table, and why the others are left out."""
    servers = []
    absent = {}
    for find in (_workq_compiled, _workq_pure, _beanstalkd, _redis):
        try:
            servers.append(find())
        except _Absent as reason:
            absent[reason.name] = reason.text
    return servers, absent


class _Absent(Exception):
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text


def _workq_command(port: int, log_directory: Path | None) -> list[str]:
    command = [sys.executable, "-m", "workq.server.main", "--port", str(port), "--http", "off"]
    command += ["--log-level", "warning"]
    return command if log_directory is None else [*command, "--data-dir", str(log_directory), "--log-sync", "always"]


def _workq(name: str, environment: Mapping[str, str]) -> Server:
    environment = {"PYTHONPATH": str(_ROOT), **environment}  # this checkout, whatever is installed
    version = _output([sys.executable, "-m", "workq.server.main", "--version"], environment)
    return Server(name=name, version=version, protocol="workq", command=_workq_command, environment=environment)


def _is_compiled(server: Server) -> bool:
    return "compiled" in server.version


def _workq_compiled() -> Server:
    server = _workq("workq-compiled", {})
    if not _is_compiled(server):
        raise _Absent(server.name, "the build here is pure Python")
    return server


def _workq_pure() -> Server:
    server = _workq("workq-pure", {})
    if _is_compiled(server):
        server = _workq("workq-pure", {_PURE: "1"})
        if _is_compiled(server):
            raise _Absent(server.name, f"{_PURE}=1 does not choose it here")
    return server


def _beanstalkd() -> Server:
    def command(port: int, log_directory: Path | None) -> list[str]:
        log = [] if log_directory is None else ["-b", str(log_directory), "-f0"]
        return [program, "-l", "127.0.0.1", "-p", str(port), "-z", "1048576", *log]

    program = _program("beanstalkd", "beanstalkd")
    return Server(name="beanstalkd", version=_output([program, "-v"]), protocol="beanstalk", command=command)


def _redis() -> Server:
    def command(port: int, log_directory: Path | None) -> list[str]:
        log = ["--appendonly", "no"]
        if log_directory is not None:
            log = ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(log_directory)]
        return [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", *log]

    program = _program("redis", "redis-server")
    version = " ".join(_output([program, "--version"]).split()[:3])
    return Server(name="redis", version=version, protocol="redis", command=command)


def _program(name: str, program: str) -> str:
    # Debian installs servers into /usr/sbin, which is not always on the PATH of a user.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise _Absent(name, f"{program} is not installed; on Debian and Ubuntu: apt install {program}")
    return found


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    """The environment without the user's own settings for the server; the choice of the build is kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WORKQ_") or name == _PURE}
    return kept | dict(additions)


def _output(command: list[str], environment: Mapping[str, str] = {}) -> str:
    done = subprocess.run(command, env=_environment(environment), capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def running(server: Server, *, log: bool) -> Iterator[RunningServer]:
    """Start `server` in a directory of its own, and stop it and remove the directory at the end.

    Raises `NotMeasured` if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="workq-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        log_directory = None
        if log:
            log_directory = directory / "log"
            log_directory.mkdir()
        port = spare_port()
        with open(directory / "output", "w+") as output:
            process = subprocess.Popen(
                server.command(port, log_directory),
                env=_environment(server.environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then stops its servers
            )
            try:
                _wait_until_ready(process, port, output.name)
                yield RunningServer(server=server, port=port, pid=process.pid, log_directory=log_directory)
            finally:
                stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a server to end, and see to it that it does."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def spare_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, output: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                lines = Path(output).read_text(errors="replace").strip().splitlines()
                raise NotMeasured(f"it did not start: {lines[-1] if lines else 'it said nothing'}") from None
            if time.monotonic() > deadline:
                raise NotMeasured(f"it did not take connections within {_START_SECONDS:g} s") from None
            time.sleep(0.02)
        else:
            return

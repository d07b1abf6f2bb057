"""MariaDB as a yardstick: how many small transactions a second it commits to the disk that the servers use.

It runs on a socket and with data of its own, and is gone afterwards.
"""

import getpass
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.errors import NotMeasured
from bench.servers import stop

_START_S: Final = 60.0
_TABLE: Final = "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, url VARCHAR(200), payload TEXT) ENGINE=InnoDB"
_INSERT: Final = "INSERT INTO jobs (url, payload) VALUES ('http://127.0.0.1:8000/', '{\\\"id\\\": 12345}')"
# How many tell how long to go on.
_FIRST: Final = 2_000


def commit_rate(connections: int, seconds: float) -> float:
    """Commits a second, with `connections` that insert one small row each time. Raises `NotMeasured`."""
    programs = {name: _program(name) for name in ("mariadbd", "mariadb-install-db", "mariadb-slap")}
    with TemporaryDirectory(prefix="workq-bench-", ignore_cleanup_errors=True) as name, _running(programs, name):
        rate = _load(programs["mariadb-slap"], name, connections, _FIRST)
        return _load(programs["mariadb-slap"], name, connections, max(round(rate * seconds), _FIRST))


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotMeasured(f"{name} is not installed; on Debian and Ubuntu: apt install mariadb-server")
    return found


@contextmanager
def _running(programs: dict[str, str], directory: str) -> Iterator[None]:
    data = f"--datadir={directory}/data"
    user = f"--user={getpass.getuser()}"  # who is root has to say so
    install = [programs["mariadb-install-db"], "--no-defaults", data, user, "--auth-root-authentication-method=normal"]
    _run([*install, "--skip-test-db"])
    command = [programs["mariadbd"], "--no-defaults", data, user, f"--socket={directory}/socket", "--skip-networking"]
    # What it does from the start, said aloud: a commit is on disk before it is acknowledged.
    command += [f"--pid-file={directory}/pid", "--innodb-flush-log-at-trx-commit=1", "--skip-log-bin"]
    with open(Path(directory) / "output", "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait_until_ready(process, Path(directory))
            yield
        finally:
            stop(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", directory: Path) -> None:
    give_up = time.monotonic() + _START_S
    while b"ready for connections" not in (output := (directory / "output").read_bytes()):
        if process.poll() is not None or time.monotonic() > give_up:
            lines = output.decode(errors="replace").strip().splitlines()
            raise NotMeasured(f"mariadbd did not start: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(0.05)


def _load(slap: str, directory: str, connections: int, queries: int) -> float:
    command = [slap, "--no-defaults", f"--socket={directory}/socket", "--user=root", "--silent", "--delimiter=;"]
    command += [f"--concurrency={connections}", f"--number-of-queries={queries}", f"--create={_TABLE}"]
    command += [f"--query={_INSERT}", "--csv"]
    done = _run(command)
    # Engine, kind, seconds on average, at least and at most, clients, queries of each.
    told = re.search(r"^[^,\n]*,[^,\n]*,([\d.]+),[\d.]+,[\d.]+,(\d+),(\d+)", done, re.M)
    if told is None or float(told[1]) == 0:
        raise NotMeasured(f"mariadb-slap said something else than expected: {done.strip()[:200]}")
    return int(told[2]) * int(told[3]) / float(told[1])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotMeasured(f"{Path(command[0]).name} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout

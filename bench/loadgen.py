"""The load generator: compiled once, then started for each measurement."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from bench.errors import BenchError, NotMeasured
from bench.scenarios import Load
from bench.servers import RunningServer

_SOURCE: Final = Path(__file__).with_name("loadgen.c")
_CACHE: Final = Path(__file__).parent.parent / "build" / "bench"

# The priority of a generator that is not to wait for other programs.
_FIRST: Final = -15

RawFigures = dict[str, float]


def may_be_first() -> bool:
    """Whether programs may be started that run before others: root's may."""
    return os.geteuid() == 0


class LoadGenerator:
    """The compiled program. Raises `BenchError` if it cannot be compiled."""

    def __init__(self, cache: Path = _CACHE) -> None:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        command = [*compiler, "-O2", "-std=gnu11"]
        fingerprint = hashlib.sha256(_SOURCE.read_bytes() + " ".join(command).encode()).hexdigest()
        self._program = cache / f"loadgen-{fingerprint[:16]}"
        if self._program.exists():
            return
        if shutil.which(compiler[0]) is None:
            raise BenchError(
                f"no C compiler found (tried {compiler[0]}), and the load generator is a C program. On Debian and "
                "Ubuntu: apt install gcc libc6-dev. Or say where one is: CC=/path/to/compiler"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            built = Path(directory) / "loadgen"
            done = subprocess.run([*command, "-o", str(built), str(_SOURCE)], capture_output=True, text=True)
            if done.returncode:
                raise BenchError(f"{compiler[0]} cannot compile {_SOURCE}:\n{done.stderr.strip()}")
            built.rename(self._program)

    def measure(
        self, target: RunningServer, load: Load, *, seconds: float = 0, warmup: float = 0, first: bool = False
    ) -> RawFigures:
        """Put `load` on `target`; return what the generator prints, by name. Raises `NotMeasured` if anything fails.

        A load with `jobs` is measured from its first job to its last; any other for `seconds` after `warmup`. `first`
        lets the generator run before other programs where that is allowed, so that its own waiting is not measured.
        """
        options: dict[str, object] = {
            "protocol": target.server.protocol,
            "port": target.port,
            "pid": target.pid,
            "scenario": load.kind,
            "connections": load.connections,
            "depth": load.depth,
            "payload": load.payload_bytes,
            "queues": load.queues,
            "letter": load.queue_letter,
            "priorities": load.priorities,
            "ttl": load.ttl_ms,
            "jobs": load.jobs,
        }
        if load.jobs is None:
            options |= {"seconds": seconds, "warmup": warmup}
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        command = [str(self._program), *arguments]
        if first and may_be_first():
            command = ["nice", "-n", str(_FIRST), *command]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NotMeasured(done.stderr.strip().removeprefix("loadgen: ") or f"exit status {done.returncode}")
        figures: RawFigures = json.loads(done.stdout)
        return figures

"""Where, when and how a benchmark ran."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.measure import Plan
from bench.servers import Server

_ROOT: Final = Path(__file__).parent.parent


def describe(plan: Plan, servers: Sequence[Server]) -> dict[str, str]:
    """The header of the results, in words."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    log_directory = tempfile.gettempdir()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{_processor()}, {cores} {'core' if cores == 1 else 'cores'}, {memory_gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": f"{os.getloadavg()[0]:.2f} over the last minute",
        "log directory": f"{log_directory}, {_output('stat', '-f', '-c', '%T', log_directory)}",
        "rounds": f"{plan.rounds} of {plan.seconds:g} s after {plan.warmup:g} s of warm-up",
        **{server.name: server.version for server in servers},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _commit() -> str:
    commit = _output("git", "-C", str(_ROOT), "rev-parse", "--short", "HEAD")
    changed = _output("git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no", "--", "workq")
    return f"{commit} with changes" if changed not in ("", "unknown") else commit


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"

"""Warnings of clocks that are wrong.

The server's time is the wall clock at its start and what has passed since; it never jumps. So a wall clock that was
wrong at the start, or is put later, is another one until the next start.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from workq.engine.job import COMPLETED, FAILED, Job
from workq.engine.state import State

# The clocks of machines that do their best differ by less.
_FUTURE_MS: Final = 60_000
# Of the two clocks of one machine: no leap second, and nothing that keeps a clock in step makes so much.
_PUT_MS: Final = 5_000
_LOOK_SECONDS: Final = 60.0

log = logging.getLogger("workq")


def warn_of_future(state: State, now_ms: int) -> None:
    """Tell if something in the log happened later than now."""
    newest_ms = max(map(_newest_ms, state.jobs.values()), default=0)  # no list of them: there may be millions
    if newest_ms > now_ms + _FUTURE_MS:
        log.warning(
            "the clock may be wrong: it is %s, and the log has jobs of %s; leases, TTLs and schedules wait until then",
            _shown(now_ms),
            _shown(newest_ms),
        )


class ClockWatch:
    """Tells when the wall clock has been put, so that it shows no longer the time of the server, `now_ms`."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._told_ms = 0  # how far the wall clock is ahead

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look once a minute, as long as `loop` runs."""
        self.look()
        loop.call_later(_LOOK_SECONDS, self.start, loop)

    def look(self) -> None:
        """Look at both clocks now."""
        ahead_ms = time.time_ns() // 1_000_000 - self._now_ms()
        if abs(ahead_ms - self._told_ms) <= _PUT_MS:
            return
        if abs(ahead_ms) <= _PUT_MS:
            self._told_ms = 0
            log.info("the wall clock shows the server's time again")
            return
        self._told_ms = ahead_ms
        log.warning(
            "the wall clock was put: it is %.1f s %s the server's time, which goes on; a restart takes it over",
            abs(ahead_ms) / 1000,
            "ahead of" if ahead_ms > 0 else "behind",
        )


def _newest_ms(job: Job) -> int:
    """When the last thing happened to `job` of which it has the time."""
    return job.deadline_ms if job.state in (COMPLETED, FAILED) else job.created_ms


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

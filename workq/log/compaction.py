"""Freeing the disk: what lives in the oldest segment is written again at the head, and the file is removed.

Segments go strictly in order. Long-lived jobs move to the head again and again, so what that costs is in proportion to
what the log grows by: there is always as much dead in the log as there is alive when it is begun.
"""

from collections.abc import Callable, Iterator
from typing import Final

from workq.engine import Engine
from workq.log.errors import Damage
from workq.log.filelog import FileLog
from workq.log.records import FRAME, JOB_OVERHEAD, base
from workq.log.segments import Records, segment_name

# Begin when the log is larger than this many times what lives in it, plus one segment.
LIVE_FACTOR: Final = 2
_CHUNK: Final = 65_536


class Compaction:
    """Works off the oldest segment of `log` in small steps."""

    def __init__(self, log: FileLog, engine: Engine) -> None:
        self._log = log
        self._engine = engine
        self._number = 0  # the segment at work, 0 for none
        self._fd = -1
        self._records: Records | None = None
        self._iterator: Iterator[tuple[int, bytes]] = iter(())
        self._held_back: bytes | None = None
        self._finished = False  # with a segment that is still there

    def is_due(self) -> bool:
        """Whether there is work."""
        if self._finished or self._number:
            return not self._finished
        if not self._log.ends:
            return False
        state = self._engine.state
        live_bytes = state.stored_bytes + len(state.jobs) * JOB_OVERHEAD
        return self._log.total_bytes > LIVE_FACTOR * live_bytes + self._log.segment_size

    def step(self, budget: int, admit: Callable[[int], bool]) -> int:
        """Read on in the oldest segment and have the engine carry the jobs that live there, for about `budget` bytes.

        `admit` is asked for room in the log before a job is carried. Returns 0, or at the end of the segment its
        number: it can be removed as soon as all that the engine has carried is durable, and then call `trimmed`.

        Raises `Damage` and `OSError`; the log must then be written afresh.
        """
        if not self._number:
            self._open(next(iter(self._log.ends)))
        jobs = self._engine.state.jobs
        while budget > 0:
            body = self._held_back
            if body is None:
                _, body = next(self._iterator, (0, b""))
                if not body:
                    return self._finish()
                budget -= FRAME.size + len(body)
            self._held_back = None
            found = base(body)
            if found is None:
                continue
            job = jobs.get(found[0])
            if job is None or job.seq != found[1]:
                continue
            size = JOB_OVERHEAD + job.size()
            if not admit(size):
                self._held_back = body
                break
            self._engine.carry(job)
            budget -= size
        return 0

    def trimmed(self) -> None:
        """The segment that `step` has returned is gone."""
        self._finished = False

    def stop(self) -> None:
        """Give up the segment at work."""
        self._close()
        self._finished = False

    def _close(self) -> None:
        if self._number:
            self._log.files.close(self._fd)
            self._number = 0
            self._held_back = None

    def _open(self, number: int) -> None:
        self._fd = self._log.files.open(segment_name(number))
        self._log.files.prefetch(self._fd)
        self._number = number
        self._records = Records(self._log.files, self._fd, self._log.ends[number], chunk=_CHUNK)
        self._iterator = iter(self._records)

    def _finish(self) -> int:
        number = self._number
        self._close()
        assert self._records is not None
        if self._records.end < self._log.ends[number]:
            raise Damage(segment_name(number), self._records.end, "the CRC or the length of a record is wrong")
        self._finished = True
        return number

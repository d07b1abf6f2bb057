"""Freeing the disk: what lives in the oldest segment is written again at the head, and the file is removed.

Segments go strictly in order. Long-lived jobs move to the head again and again, so what that costs is in proportion to
what the log grows by: there is always as much dead in the log as there is alive when it is begun.
"""

from collections.abc import Callable, Generator
from typing import Final

from workq.engine import Engine
from workq.engine.documents import QUEUES
from workq.log.interface import Log
from workq.log.records import DOCUMENT_OVERHEAD, FRAME, JOB_OVERHEAD, base, document

# Begin when the log is larger than this many times what lives in it, plus one segment.
LIVE_FACTOR: Final = 2


class Compaction:
    """Works off the oldest segment of `log` in small steps."""

    def __init__(self, log: Log, engine: Engine) -> None:
        self._log = log
        self._engine = engine
        self._number = 0  # the segment at work
        self._bodies: Generator[bytes, None, None] | None = None  # what is left of it, None without one
        self._held_back: bytes | None = None
        self._finished = False  # with a segment that is still there

    def is_due(self) -> bool:
        """Whether there is work."""
        if self._finished or self._bodies is not None:
            return not self._finished
        if not self._log.oldest:
            return False
        state = self._engine.state
        documents = sum([len(area) for area in state.documents])
        live_bytes = state.stored_bytes + len(state.jobs) * JOB_OVERHEAD + documents * DOCUMENT_OVERHEAD
        return self._log.total_bytes > LIVE_FACTOR * live_bytes + self._log.segment_size

    def step(self, budget: int, admit: Callable[[int], bool]) -> int:
        """Read on in the oldest segment and have the engine carry the jobs that live there, for about `budget` bytes.

        `admit` is asked for room in the log before a job is carried. Returns 0, or at the end of the segment its
        number: it can be removed as soon as all that the engine has carried is durable, and then call `trimmed`.

        Raises `Damage` and `OSError`; the log must then be written afresh.
        """
        if self._bodies is None:
            self._number = self._log.oldest
            self._bodies = self._log.read(self._number)
        while budget > 0:
            body = self._held_back or next(self._bodies, None)
            if body is None:
                self._bodies = None
                self._finished = True
                return self._number
            self._held_back = None
            budget -= FRAME.size + len(body)
            size = self._size_of_living(body)
            if size == 0:
                continue
            if not admit(size):
                self._held_back = body
                break
            self._carry(body)
            budget -= size
        return 0

    def _size_of_living(self, body: bytes) -> int:
        """Bytes to carry what the record holds whole; 0 if that lives no more, or if it holds nothing whole."""
        state = self._engine.state
        found = base(body)
        if found is not None:
            job = state.jobs.get(found[0])
            if job is None or job.seq != found[1]:
                return 0
            options = state.documents[QUEUES].get(job.spec.name, b"")  # `Engine.carry` may write them, too
            return JOB_OVERHEAD + job.size() + DOCUMENT_OVERHEAD + len(job.spec.name) + len(options)
        stored = document(body)
        if stored is not None and stored[2] and state.documents[stored[0]].get(stored[1]) == stored[2]:
            return DOCUMENT_OVERHEAD + len(stored[1]) + len(stored[2])
        return 0

    def _carry(self, body: bytes) -> None:
        found = base(body)
        if found is not None:
            self._engine.carry(self._engine.state.jobs[found[0]])
            return
        stored = document(body)
        assert stored is not None
        self._engine.carry_document(stored[0], stored[1])

    def trimmed(self) -> None:
        """The segment that `step` has returned is gone."""
        self._finished = False

    def stop(self) -> None:
        """Give up the segment at work."""
        if self._bodies is not None:
            self._bodies.close()
            self._bodies = None
        self._held_back = None
        self._finished = False

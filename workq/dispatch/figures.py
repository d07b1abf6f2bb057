"""What is counted of the pushes of a queue. Counters begin at nought when the server starts."""

from typing import Final

import attrs

# A rate is that of the last second, in steps of a tenth.
_STEPS: Final = 10
_STEP_MS: Final = 100


@attrs.frozen
class Figures:
    """The figures of a queue at a moment.

    pushes              jobs accepted by a door
    pops                jobs taken to be sent, those taken again counted again
    successes           jobs that succeeded
    failures            tries that failed, whether they are the last one or not
    permanent_failures  jobs that failed for good
    completes           jobs that ended, either way
    elapsed_ms          from the creation of a job to its end, summed up over those that ended
    pushes_per_second   in the last second; so are pops
    sending             jobs that are being sent now
    """

    pushes: int
    pops: int
    successes: int
    failures: int
    permanent_failures: int
    completes: int
    elapsed_ms: int
    pushes_per_second: int
    pops_per_second: int
    sending: int


class Rate:
    """How often something happened in the last second."""

    __slots__ = ("_counts", "_step")

    def __init__(self) -> None:
        self._counts = [0] * _STEPS
        self._step = 0  # the last step that was counted in, since 1970

    def count(self, now_ms: int) -> None:
        """It happened now."""
        self._forget(now_ms)
        self._counts[self._step % _STEPS] += 1

    def per_second(self, now_ms: int) -> int:
        """So often in the last second."""
        self._forget(now_ms)
        return sum(self._counts)

    def _forget(self, now_ms: int) -> None:
        step = now_ms // _STEP_MS
        if step == self._step:
            return
        for passed in range(self._step + 1, min(step, self._step + _STEPS) + 1):
            self._counts[passed % _STEPS] = 0
        self._step = max(step, self._step)


class Counters:
    """Where the events of a queue are counted, as they happen."""

    __slots__ = (
        "pushes",
        "pops",
        "successes",
        "failures",
        "permanent_failures",
        "elapsed_ms",
        "push_rate",
        "pop_rate",
    )

    def __init__(self) -> None:
        self.pushes = 0
        self.pops = 0
        self.successes = 0
        self.failures = 0
        self.permanent_failures = 0
        self.elapsed_ms = 0
        self.push_rate = Rate()
        self.pop_rate = Rate()

    def snapshot(self, now_ms: int, sending: int) -> Figures:
        """The figures as they are."""
        return Figures(
            self.pushes,
            self.pops,
            self.successes,
            self.failures,
            self.permanent_failures,
            self.successes + self.permanent_failures,
            self.elapsed_ms,
            self.push_rate.per_second(now_ms),
            self.pop_rate.per_second(now_ms),
            sending,
        )

"""What the server counts about itself, cheaply enough for the way of every command: plain numbers, read when asked for.

Who shows them (`workq/http/metrics.py`) says what they are called outside.
"""

from bisect import bisect_left
from typing import Final

import attrs

# From what a busy turn takes to what nobody waits for.
SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Queues that are told apart; the jobs of all others are told as one. So many lines a monitoring system takes lightly.
MOST_QUEUES: Final = 200


class Histogram:
    """How many values were at most so large, for each of `bounds`, which ascend, and beyond; and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # values up to this bound, and above the one before
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LogFigures:
    """What the command log has done since the start.

    batches  events that were written together
    clients  how many each batch was for
    bytes    written
    syncs    seconds from the writing of a batch until it was on disk
    """

    __slots__ = ("batches", "clients", "bytes", "syncs")

    def __init__(self) -> None:
        self.batches = 0
        self.clients = 0
        self.bytes = 0
        self.syncs = Histogram()

    def wrote(self, size: int, clients: int) -> None:
        """A batch of so many bytes was written, for so many clients."""
        self.batches += 1
        self.clients += clients
        self.bytes += size


@attrs.frozen
class QueueFigures:
    """Jobs of a queue by state, in the order of `STATE_NAMES`; `name` None for all queues that are not told apart."""

    name: str | None
    jobs: list[int]


@attrs.frozen
class Figures:
    """Figures of the engine and what is around it.

    queues          those with the most jobs, and the rest as one
    queue_count     how many queues there are
    stored_bytes    of payloads, results and all else that the log must keep
    lease_waiters   clients that wait for a job
    result_waiters  clients that wait for a result
    commands        how many were executed, by the name of their class
    turns           seconds that loop turns took, from the first command to the last reply; of one turn in 16
    connections     of the text protocol
    log             None without one
    """

    queues: list[QueueFigures]
    queue_count: int
    evicted_jobs: int
    stored_bytes: int
    lease_waiters: int
    result_waiters: int
    commands: dict[str, int]
    turns: Histogram
    connections: int
    log: LogFigures | None

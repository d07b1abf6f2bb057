"""What the server asks of a log, whatever keeps it. `FileLog` is the one there is; one that is replicated would fit."""

from collections.abc import Generator
from typing import Protocol


class Log(Protocol):
    """A durable, ordered history of records, in numbered segments: the newest grows, the oldest can be removed.

    Errors of what keeps the log are `OSError`. After one from `append` or `sync` the log cannot be trusted to hold what
    it was given, and has to be written afresh.

    step         bytes in which room is taken
    total_bytes  of all segments
    room         bytes that can be appended without taking more
    oldest       number of the oldest segment that is not the newest, 0 if there is none
    sync_fd      readable when what `start_sync` began is over; -1 where it begins nothing
    needs_sync   whether there are segments before the newest that are not durable yet
    """

    segment_size: int
    step: int

    @property
    def total_bytes(self) -> int: ...
    @property
    def room(self) -> int: ...
    @property
    def oldest(self) -> int: ...
    @property
    def sync_fd(self) -> int: ...
    @property
    def needs_sync(self) -> bool: ...

    def extend(self, size: int) -> int:
        """Take room for `size` bytes more, at least; return by how much `room` has grown."""

    def append(self, batch: bytes, restated: bytes) -> None:
        """Write records at the end.

        `restated` are records that say what a segment has to begin with when `batch` has been applied; they are needed
        only if this batch `is_last_of_segment`.
        """

    def is_last_of_segment(self, batch: bytes) -> bool:
        """Whether a new segment is due after `batch`."""

    def sync(self, newest: bool = True) -> None:
        """Return when all that was appended before the call is durable; if not `newest`, what is in older segments."""

    def start_sync(self) -> bool:
        """Begin to make durable all that was appended; False where only `sync` can do that. `finish_sync` ends it."""

    def is_sync_over(self) -> bool:
        """Whether there is a sync for `finish_sync`."""

    def finish_sync(self) -> None:
        """All that was appended before `start_sync` is durable. Raises `BlockingIOError` while it is not over."""

    def read(self, number: int) -> Generator[bytes, None, None]:
        """The bodies of the records in a segment before the newest; raises `Damage`."""

    def trim(self, through: int) -> None:
        """Remove the segments up to `through`. That they are not needed must be in the log, and durable."""

    def begin_afresh(self, restated: bytes) -> None:
        """Leave what there is behind. What is appended from here on counts only after `finish_afresh`.

        May be called again after a failure in between.
        """

    def finish_afresh(self, restated: bytes) -> None:
        """Return when what was appended since `begin_afresh` is durable, and all that the log consists of."""

    def close(self) -> None:
        """Write down that all is durable, and let go of the log."""

    def abandon(self) -> None:
        """Let go of the log as it is."""

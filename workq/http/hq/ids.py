"""Ids of HQ jobs: 41 bits of milliseconds since an epoch, 10 bits of the server's id, 12 bits of a sequence.

So they are unique, sort by creation, fit into 63 bits, and tell when a job was made.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

LARGEST_ID: Final = 2**64 - 1
LARGEST_SERVER_ID: Final = 2**10 - 1
_SEQUENCE_BITS: Final = 12
_SERVER_BITS: Final = 10
_TIME_SHIFT: Final = _SERVER_BITS + _SEQUENCE_BITS
_LARGEST_SEQUENCE: Final = 2**_SEQUENCE_BITS - 1
_LARGEST_TIME_MS: Final = 2**41 - 1


class Ids:
    """Makes ids, each larger than all before, and reads their times.

    epoch_ms   where time begins, as Unix time
    server_id  0 to 1023: servers with different ones never make the same id
    """

    def __init__(self, epoch_ms: int, server_id: int) -> None:
        self._epoch_ms = epoch_ms
        self._server = server_id << _SEQUENCE_BITS
        self._time_ms = -1
        self._sequence = 0

    def new(self, now_ms: int) -> int:
        """A new id. When a millisecond has no more, or the clock went back, time is borrowed from the future."""
        time_ms = now_ms - self._epoch_ms
        if time_ms > self._time_ms:
            self._time_ms, self._sequence = time_ms, 0
        elif self._sequence < _LARGEST_SEQUENCE:
            self._sequence += 1
        else:
            self._time_ms, self._sequence = self._time_ms + 1, 0
        return self._time_ms << _TIME_SHIFT | self._server | self._sequence

    def follow(self, number: int) -> None:
        """Make ids above `number` only: it was made before, by an earlier process."""
        time_ms = number >> _TIME_SHIFT
        if time_ms > self._time_ms:
            self._time_ms, self._sequence = time_ms, _LARGEST_SEQUENCE

    def created_ms(self, number: int) -> int:
        """When the job with the id `number` was made, as Unix time."""
        return (number >> _TIME_SHIFT) + self._epoch_ms

    def first_at(self, time_ms: int) -> int:
        """The smallest id that can be made at `time_ms`."""
        return min(max(time_ms - self._epoch_ms, 0), _LARGEST_TIME_MS) << _TIME_SHIFT


def parse_id(text: str) -> int | None:
    """The number that `text` writes in decimal, None unless it is one of 64 bits."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = int(text) if len(text) <= 20 else LARGEST_ID + 1
    return number if number <= LARGEST_ID else None


def shown_time(time_ms: int) -> str:
    """`time_ms` as RFC 3339 in UTC, without the zeros that end its fraction."""
    whole_s, millis = divmod(time_ms, 1000)
    return f"{_shown_second(whole_s)}.{millis:03}".rstrip("0").rstrip(".") + "Z"


@lru_cache(16)  # of the jobs that are pushed now
def _shown_second(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()[:19]


def shown_duration(seconds: int) -> str:
    """`seconds` in the largest unit that fits, such as ``4 weeks``."""
    for unit, length in (("week", 604_800), ("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"

"""How doors call things in the engine: the names of their queues, and the ids of jobs that they know by number.

Both ways need no table: a door finds the job of a number, and the number of a job, by computing.
"""

import re
from functools import lru_cache
from hashlib import sha256
from typing import Final

from workq.values import NAME_LENGTH, InvalidValue, Range

_ESCAPED: Final = re.compile(rb"[^A-Za-z0-9.\-]")
# Ends a name that was cut. It cannot come from escaping, where two hexadecimal digits follow the underscore.
_CUT: Final = b"_."
_HASH_DIGITS: Final = 32

# In bytes, what doors take as the name of a queue: it goes into the keys of their documents, which have a limit.
_LONGEST_NAME: Final = 1_000

# What a door may use as a number: unsigned, as 8 bytes.
NUMBER: Final = Range("id", 0, 2**64 - 1)


def is_too_long(name: str) -> bool:
    """Whether `name` is too long to be kept."""
    return _size(name) > _LONGEST_NAME


def check_length(what: str, name: str) -> None:
    """Raise `InvalidValue` if `name` is too long to be kept."""
    if is_too_long(name):
        raise InvalidValue(f"Invalid {what}: it has {_size(name)} bytes, at most {_LONGEST_NAME} are allowed")


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


@lru_cache(4_096)
def queue_name(door: str, name: str) -> bytes:
    """The engine's name for the queue that `door` calls `name`, which may be any text. Different names stay different.

    It is ``door.name``, with everything but ``A-Z a-z 0-9 . -`` written as ``_hh`` per UTF-8 byte; what is too long for
    the engine is cut and completed by a hash.
    """
    text = name.encode("utf-8", "surrogatepass")
    whole = door.encode() + b"." + _ESCAPED.sub(lambda match: b"_%02x" % match[0][0], text)
    if len(whole) <= NAME_LENGTH:
        return whole
    ending = _CUT + sha256(text).hexdigest()[:_HASH_DIGITS].encode()
    return whole[: NAME_LENGTH - len(ending)] + ending


@lru_cache(4_096)
def numbered_jobs(door: str, name: str) -> "NumberedJobs":
    """The ids of the jobs of the queue that `door` calls `name`."""
    return NumberedJobs(queue_name(door, name))


class NumberedJobs:
    """The ids of the jobs of one queue of a door, or of all of them where numbers are unique within the door.

    An id is 8 bytes that say whose it is (a hash, marked as a UUID of version 8) and the number as 8 bytes, so ids sort
    as their numbers do.
    """

    __slots__ = ("_whose",)

    def __init__(self, queue: bytes) -> None:
        """`queue` is the engine's name of the queue."""
        whose = sha256(queue).digest()[:8]
        self._whose = whose[:6] + bytes([0x80 | whose[6] & 0x0F, whose[7]])

    def job_id(self, number: int) -> bytes:
        """The id of the job `number`. Raises `InvalidValue` for what is not an unsigned 64-bit number."""
        return self._whose + NUMBER.check(number).to_bytes(8, "big")

    def number(self, job_id: bytes) -> int | None:
        """The number of a job; None for one that was not made here."""
        return int.from_bytes(job_id[8:], "big") if job_id[:8] == self._whose else None

"""What the archive keeps of a job, and what it can be asked."""

from collections.abc import Callable
from enum import Enum
from typing import Literal, TypeAlias

import attrs

from workq.engine.job import Job


class ArchiveError(Exception):
    """The archive cannot be read or written. The text says which file, and why."""


@attrs.frozen(kw_only=True)
class ArchivedJob:
    """A finished job. What the archive does not look at (the payload, the output) goes into `data`, in any form.

    door         whose it is
    queue        the door's own name for the queue; "" where it has one only
    number       the door's own id, unique in the queue, below 2**63; None to be given the next one of the queue
    job_id       the id in the engine, 16 bytes
    name         what the door calls the kind of job: HQ's name, Fireworq's category
    created_ms   Unix time, as are the next two
    started_ms   0 for a job that never began
    finished_ms
    flags        of the door's own choice
    url          "" for a job that has none
    data         the rest, as JSON
    """

    door: str
    queue: str = ""
    number: int | None
    job_id: bytes
    name: str = ""
    created_ms: int
    started_ms: int = 0
    finished_ms: int
    flags: int = 0
    url: str = ""
    data: bytes = b"{}"


class Fate(Enum):
    """What becomes of a finished job that is not archived."""

    FORGET = "it is deleted"
    LEAVE = "it stays where it is until its TTL ends"


# What a door makes of a finished job; called in the archive's thread.
Converter: TypeAlias = Callable[[Job], ArchivedJob | Fate]

Order: TypeAlias = Literal["number", "created", "finished"]


@attrs.frozen(kw_only=True)
class Query:
    """A page of a door's jobs, in an order. Of those created in the same millisecond the lower `job_id` comes first, of
    those finished in the same the lower number.

    queue       None for all of them
    begin       where to begin, inclusive: the value that is ordered by or, by creation, that and the job's `job_id`.
                What does not exist (any more) is no error: what comes next is the first.
    limit       how many jobs at most, after filtering; None for no limit
    keep        whether a job is wanted; called in the archive's thread
    """

    door: str
    queue: str | None = None
    order: Order = "number"
    descending: bool = False
    begin: int | tuple[int, bytes] | None = None
    limit: int | None = None
    keep: Callable[[ArchivedJob], bool] | None = None

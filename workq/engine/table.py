"""Jobs by id."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from workq.engine.job import Job

_PIECES: Final = 256


class JobTable:
    """A dict of jobs by id, in pieces.

    A dict that grows stops the world while it moves all its entries: 50 ms for a million. A piece of it takes less than
    one. The last byte of an id says which piece: it is random in a UUID of version 4 or 7, and counts where ids do.
    """

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[dict[bytes, Job]] = [{} for _ in range(_PIECES)]
        self._size = 0

    def add(self, job: Job) -> None:
        """Take in `job`. Its id must not be there."""
        job_id = job.job_id
        self._pieces[job_id[15]][job_id] = job
        self._size += 1

    def remove(self, job: Job) -> None:
        """Forget `job`, which must be there."""
        job_id = job.job_id
        del self._pieces[job_id[15]][job_id]
        self._size -= 1

    def get(self, job_id: bytes) -> Job | None:
        """The job with the 16 bytes `job_id`, if there is one."""
        return self._pieces[job_id[15]].get(job_id)

    def __getitem__(self, job_id: bytes) -> Job:
        return self._pieces[job_id[15]][job_id]

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._pieces[job_id[15]]

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._pieces)

    def values(self) -> Iterable[Job]:
        """All jobs, in no order. No job may come or go while they are read."""
        return chain.from_iterable([piece.values() for piece in self._pieces])

"""The JSON of Fireworq's API, and what the door keeps with a job and in the failure log."""

from typing import Annotated, Final, Literal

import msgspec

_NOTHING: Final = msgspec.Raw(b"null")

Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class QueueRequest(msgspec.Struct):
    """The body of a PUT of a queue; None stands for the default, as 0 does."""

    polling_interval: Count | None = None
    max_workers: Count | None = None
    max_dispatches_per_second: Annotated[float, msgspec.Meta(ge=0)] | None = None
    max_burst_size: Count | None = None


class Queue(msgspec.Struct):
    """A queue as the API shows it. The last two are left out where nothing is throttled."""

    name: str
    polling_interval: int
    max_workers: int
    max_dispatches_per_second: float | msgspec.UnsetType = msgspec.UNSET
    max_burst_size: int | msgspec.UnsetType = msgspec.UNSET


class Routing(msgspec.Struct):
    """Which queue the jobs of a category go to."""

    queue_name: str
    job_category: str


class RoutingRequest(msgspec.Struct):
    """The body of a PUT of a routing."""

    queue_name: str = ""


class PushRequest(msgspec.Struct):
    """The body of a push; None stands for the default. Times are in seconds."""

    url: str | None = None
    payload: msgspec.Raw = _NOTHING
    run_after: Seconds | None = None
    max_retries: Count | None = None
    retry_delay: Seconds | None = None
    timeout: Seconds | None = None


class Pushed(msgspec.Struct):
    """What a push is answered. Times are in seconds."""

    id: int
    queue_name: str
    category: str
    url: str
    payload: msgspec.Raw
    run_after: int
    timeout: int
    retry_delay: int
    max_retries: int


class ShownJob(msgspec.Struct):
    """A job that has not ended. `timeout` and `retry_delay` are in seconds, the other times RFC 3339."""

    id: int
    category: str
    url: str
    payload: msgspec.Raw
    status: Literal["claimed", "grabbed"]
    created_at: str
    next_try: str
    timeout: int
    fail_count: int
    max_retries: int
    retry_delay: int


class Result(msgspec.Struct):
    """What came of the last try of a job that failed; `code` is the status of the answer, 0 for none."""

    status: str
    code: int
    message: str


class Failure(msgspec.Struct):
    """An entry of the failure log."""

    id: int
    job_id: int
    category: str
    url: str
    payload: msgspec.Raw
    result: Result
    fail_count: int
    failed_at: str
    created_at: str


class Kept(msgspec.Struct):
    """What the door wants to have back with a job. Times are in seconds."""

    queue: str
    number: int
    category: str
    timeout: int
    retry_delay: int


class Ended(msgspec.Struct):
    """What the archive keeps of a failed job, beside its columns."""

    job_id: int
    payload: msgspec.Raw
    result: Result
    fail_count: int


class Node(msgspec.Struct):
    """The server that works for a queue."""

    id: str
    host: str


class ProcessStats(msgspec.Struct):
    """Of the figures that the original has of its process, those that mean something here: Unix nanoseconds, bytes."""

    time: int
    cpu_num: int
    memory_sys: int


class Stats(msgspec.Struct):
    """The figures of a queue since the start; times are in milliseconds."""

    total_pushes: int
    total_pops: int
    total_successes: int
    total_failures: int
    total_permanent_failures: int
    total_completes: int
    total_elapsed: int
    pushes_per_second: int
    pops_per_second: int
    outstanding_jobs: int
    total_workers: int
    idle_workers: int
    active_nodes: int

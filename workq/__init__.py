"""Workq: a job server, and the clients, the worker and the command to use it.

Producers use `Client` or `AsyncClient`, workers `Worker`. They are imported at their first use, so that the server, and
whoever wants one room of this package, does not pay for the others.
"""

# ruff: noqa: F403, F405 -- the names come from the list in workq.client; a test holds the two lists together

from typing import TYPE_CHECKING

from workq import build

build.choose()

if TYPE_CHECKING:
    from workq.client import *

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Job",
    "JobInfo",
    "JobResult",
    "JobState",
    "NotFound",
    "QueueInfo",
    "RecurringInfo",
    "Reject",
    "Retry",
    "ServerError",
    "ServerInfo",
    "Timeout",
    "Worker",
    "WorkqError",
    "current_job",
    "report_progress",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'workq' has no attribute {name!r}")
        from workq import client

        value = globals()[name] = getattr(client, name)
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])

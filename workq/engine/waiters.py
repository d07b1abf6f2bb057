"""Clients that wait inside the engine for a job or for a result."""

from collections.abc import Callable
from typing import TypeAlias

from workq.engine.job import Job
from workq.engine.queue import Queue
from workq.replies import Reply

OnReply: TypeAlias = Callable[[Reply], None]


class Waiter:
    """A blocked command. Its reply goes to `on_reply`, exactly once, unless the waiter is cancelled."""

    __slots__ = ("on_reply", "deadline_ms", "done")

    def __init__(self, on_reply: OnReply, deadline_ms: int) -> None:
        self.on_reply = on_reply
        self.deadline_ms = deadline_ms
        self.done = False


class LeaseWaiter(Waiter):
    """Waits for a job of one of `queues`; see `commands.Lease`."""

    __slots__ = ("queues", "fenced")

    def __init__(self, on_reply: OnReply, deadline_ms: int, queues: list[Queue], fenced: bool) -> None:
        super().__init__(on_reply, deadline_ms)
        self.queues = queues
        self.fenced = fenced


class ResultWaiter(Waiter):
    """Waits for the result of `job`."""

    __slots__ = ("job",)

    def __init__(self, on_reply: OnReply, deadline_ms: int, job: Job) -> None:
        super().__init__(on_reply, deadline_ms)
        self.job = job


class RunWaiter(ResultWaiter):
    """Waits for the result of the foreground job that it owns.

    `overdue` is set when its wait has timed out while a worker holds the job; it then lasts until that lease ends.
    """

    __slots__ = ("overdue",)

    def __init__(self, on_reply: OnReply, deadline_ms: int, job: Job) -> None:
        super().__init__(on_reply, deadline_ms, job)
        self.overdue = False

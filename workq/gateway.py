"""Commands from coroutines: `reply = await gateway.execute(command)`.

The reply comes when the log has what the command did, as the sync policy promises; the requests of a loop turn share a
batch. Whoever is cancelled while a command waits (a `lease`, a `run`, a `result`) takes nothing with him.
"""

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from workq.broker import Broker
from workq.commands import Command, Release
from workq.commit import Holder
from workq.engine import Waiter, nobody_is_told
from workq.figures import Figures
from workq.replies import LeasedJob, LeasedJobs, Reply, Unavailable
from workq.run_queue import RunQueue
from workq.values import JobSpec

T = TypeVar("T")

log = logging.getLogger("workq")

# Makes a `JobSpec`, or gives the one that was made with the same words, so that jobs with the same words share one. How
# many are at hand is bounded, not how many are in use.
job_spec: Final = lru_cache(4096)(JobSpec)


_MOST_IDLE: Final = 1_024


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do all of `work`, also when the caller is cancelled meanwhile, since his client is gone: half would be worse."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_tell_failure)
        raise
    finally:
        del task  # what it raises holds this frame, and it would hold that


def _tell_failure(task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.warning("what a client had begun who is gone could not be finished: %r", error)


class ServerUnavailable(Exception):
    """The server cannot do it now: its log has failed, its disk is full, or it is stopping. The text says which."""


_STOPPING = Unavailable("The server is stopping")


class _Call(Holder):
    """One command on its way: what the broker knows of it."""

    __slots__ = ("_broker", "_run_queue", "_future", "reply", "_lost")

    def __init__(self, broker: Broker, run_queue: RunQueue) -> None:
        self._broker = broker
        self._run_queue = run_queue
        self._future: asyncio.Future[Reply] | None = None
        self.reply: Reply | None = None
        self._lost: Unavailable | None = None

    def future(self, reply: Reply | None = None) -> asyncio.Future[Reply]:
        """Where the reply comes: `reply` when the log has it, or what `on_reply` gets."""
        self.reply = reply
        self._future = asyncio.get_running_loop().create_future()
        return self._future

    def on_reply(self, reply: Reply) -> None:
        """The command that waited is answered."""
        self.reply = reply
        if self._broker.is_changing():
            self._broker.wait_for_log(self)
        else:
            self._run_queue.add(self._answer)

    def hold(self) -> None:
        """The log has begun to write what the reply depends on."""

    def release(self, lost: Unavailable | None) -> None:
        """The log has written it, or has `lost` it."""
        self._lost = lost
        self._run_queue.add(self._answer)

    def forget(self) -> None:
        """It is over, so keep nothing of it."""
        self._future = self.reply = self._lost = None

    def _answer(self) -> None:
        reply = self._lost or self.reply
        if reply is not None and self._future is not None and not self._future.done():  # else cancelled meanwhile
            self._future.set_result(reply)


class Outbox(Holder, Generic[T]):
    """Commands of somebody in the house who gives many and waits for none: he is told batch by batch.

    on_durable  called with those whose commands the log has now, or has lost: then with what to say of that
    """

    def __init__(self, broker: Broker, on_durable: Callable[[list[T], Unavailable | None], None]) -> None:
        self._broker = broker
        self._on_durable = on_durable
        self._given: list[T] = []
        self._held: deque[list[T]] = deque()

    def execute(self, command: Command, who: T) -> Reply | None:
        """Execute a `command` that never waits. None if it is done and the log is to have it first; else its reply."""
        reply = self._broker.execute(command, nobody_is_told)
        assert isinstance(reply, Reply)
        if not self._broker.changed:
            return reply
        self._given.append(who)
        self._broker.wait_for_log(self)
        return None

    def hold(self) -> None:
        """The log has begun to write what was given."""
        self._held.append(self._given)
        self._given = []

    def release(self, lost: Unavailable | None) -> None:
        """The log has written the oldest of it, or has `lost` it."""
        self._on_durable(self._held.popleft(), lost)


class Gateway:
    """Executes commands for coroutines. Use it from the loop's thread only.

    Nobody has to be registered: it serves any number of requests at a time.

    run_queue  what is to be done for them, a few in each turn of the loop
    """

    def __init__(self, broker: Broker) -> None:
        self.run_queue = RunQueue(broker.is_serving)
        self._broker = broker
        # Used again, since the log counts those who hold a batch to know how many to wait for with the next.
        self._idle: list[_Call] = []
        self._waiting: dict[asyncio.Future[Reply], Waiter] = {}
        self._stopping = False

    async def execute(self, command: Command) -> Reply:
        """Execute `command`; return its reply when it may leave. Raises `ServerUnavailable`.

        When cancelled, a command that waits is forgotten; any other has been done all the same.
        """
        broker = self._broker
        call = self._idle.pop() if self._idle else _Call(broker, self.run_queue)
        answer = broker.execute(command, call.on_reply)
        if not isinstance(answer, Reply):
            answer = await self._wait(call, answer)
        elif broker.changed:
            future = call.future(answer)
            broker.wait_for_log(call)
            try:
                answer = await future
            except asyncio.CancelledError:
                self._give_back(answer)
                raise
        if len(self._idle) < _MOST_IDLE:  # after an exception something might still be said to it
            call.forget()
            self._idle.append(call)
        if isinstance(answer, Unavailable):
            raise ServerUnavailable(answer.text)
        return answer

    def post(self, command: Command) -> Reply:
        """Execute a `command` that never waits; return what was decided, durable or not. Raises `ServerUnavailable`.

        It is for what does no harm when a crash undoes it, and for what goes with an `execute` in the same turn.
        """
        answer = self._broker.execute(command, nobody_is_told)
        assert isinstance(answer, Reply)
        if isinstance(answer, Unavailable):
            raise ServerUnavailable(answer.text)
        return answer

    def outbox(self, on_durable: Callable[[list[T], Unavailable | None], None]) -> Outbox[T]:
        """For somebody who gives many commands, whose replies he need not know one by one."""
        return Outbox(self._broker, on_durable)

    async def _wait(self, call: _Call, waiter: Waiter) -> Reply:
        """The reply that is given to `waiter`."""
        future = call.future()
        if self._stopping:
            self._stop(future, waiter)
        self._waiting[future] = waiter
        try:
            return await future
        except asyncio.CancelledError:
            self._broker.cancel(waiter)
            self._give_back(call.reply)
            raise
        finally:
            del self._waiting[future]

    def _give_back(self, reply: Reply | None) -> None:
        """Whoever was to get `reply` is gone: what it hands out goes back at once, not when its TTR ends."""
        leased = reply.jobs if isinstance(reply, LeasedJobs) else [reply] if isinstance(reply, LeasedJob) else []
        with contextlib.suppress(ServerUnavailable):
            for job in leased:
                self.post(Release(job.job_id, 0, job.attempt))

    def _stop(self, future: asyncio.Future[Reply], waiter: Waiter) -> None:
        # Else the answer is on its way, and waits for the log, or the caller is gone.
        if not waiter.done and not future.done():
            self._broker.cancel(waiter)
            future.set_result(_STOPPING)

    def new_job_id(self) -> bytes:
        """A new id: a UUID of version 7, so that ids sort by the time of their making, to the millisecond."""
        random = os.urandom(10)
        stamped = self._broker.now_ms().to_bytes(6, "big") + random
        return stamped[:6] + bytes([0x70 | stamped[6] & 0x0F, stamped[7], 0x80 | stamped[8] & 0x3F]) + stamped[9:]

    def now_ms(self) -> int:
        """The time as the engine sees it, as Unix time."""
        return self._broker.now_ms()

    def waiting(self) -> int:
        """How many commands wait."""
        return len(self._waiting)

    def figures(self) -> Figures:
        """What the broker counts."""
        return self._broker.figures()

    def trouble(self) -> str | None:
        """Why commands that change something are refused at the moment, if they are."""
        return _STOPPING.text if self._stopping else self._broker.trouble()

    def shut_down(self) -> None:
        """From now on nothing waits: those who do get `ServerUnavailable`. Other commands are executed as before."""
        self._stopping = True
        for future, waiter in self._waiting.items():
            self._stop(future, waiter)

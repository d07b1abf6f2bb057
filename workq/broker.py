"""The engine with a clock, on an event loop: the one thing that doors talk to.

A loop turn is the unit of work. At its end the commands of all connections whose bytes have arrived are executed, then
the events of all of them leave together, and then the replies of all connections do. So a busy server pays for a write
and a wake-up once per turn, not once per command; and reading, executing and writing come each in a row, so that the
caches of the processor hold one of them at a time.
"""

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

from workq.commands import Command, InspectServer
from workq.commit import GroupCommit, Holder
from workq.engine import NEVER_MS, Engine, OnReply, Waiter
from workq.engine.job import Job
from workq.engine.queue import Queue
from workq.figures import MOST_QUEUES, Figures, Histogram, QueueFigures
from workq.replies import Reply, ServerInfo

# The longest sleep; a deadline further away is approached in steps.
_LONGEST_SLEEP_MS = 3_600_000
# One turn in 16 is timed.
_TIMED_TURNS: Final = 15
# For how long a client counts that did something.
_LATELY_MS: Final = 1_000

logger = logging.getLogger("workq")


@mypyc_attr(allow_interpreted_subclasses=True)
class Client(Holder):
    """Base of what a door registers with the broker for each of its connections.

    is_awake  whether the broker will call `serve` and `end_turn`
    """

    __slots__ = ("is_awake",)

    def __init__(self) -> None:
        self.is_awake = False

    def serve(self) -> None:
        """The turn in which `wake` was called ends: execute what has come."""
        raise NotImplementedError

    def end_turn(self) -> None:
        """All have been served, and the log has the events: send what there is to send."""
        raise NotImplementedError

    def shut_down(self) -> None:
        """Close, in good order but soon."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        raise NotImplementedError


class Clock:
    """Unix time in milliseconds that never jumps: the wall clock at the start, and monotonic time since."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """The time now. It never goes back."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000


class Broker:
    """Executes commands for clients and lets time pass for the engine; without `commit`, in memory only.

    Use it from the loop's thread only.

    on_finished  called at the end of a turn with the jobs that have `meta` and finished in it; replaced by who wants to
                 know. The first call is about those that the log brought back.
    changed      whether the last `execute` did something that the log has to hold before its reply may leave. A client
                 with such a reply says `wait_for_log` and keeps this reply and later ones back until its `release`.
    """

    def __init__(
        self, engine: Engine, clock: Clock, loop: asyncio.AbstractEventLoop, commit: GroupCommit | None = None
    ) -> None:
        self.changed = False
        self.on_finished: Callable[[list[Job]], None] = _nobody_listens
        self._engine = engine
        self._clock = clock
        self._loop = loop
        self._commit = commit
        if commit is not None:
            commit.on_writable = self._on_writable
        self._turn_ms = 0  # the time of this turn; 0 until something has to know it, and between turns
        self._is_ending = False  # `_end_turn` will be called
        self._served_ms = 0  # the time of the last turn that a client had to do with
        self._mark = 0  # how many events there were before the engine was called
        self._has_room = True  # in the log, for what time does to jobs
        self._awake: list[Client] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = NEVER_MS
        self._clients: set[Client] = set()
        self._no_clients = asyncio.Event()
        self._no_clients.set()
        self._started_ms = clock.now_ms()
        self._turns = Histogram()
        self._turn_number = 0
        self._turn_began_s = 0.0  # 0 if this turn is not timed
        self._counted: dict[type, int] = {}  # commands by kind, without those of the last kind:
        self._last_kind: type = Command
        self._last_count = 0

    def clients(self) -> list[Client]:
        """The clients that are connected."""
        return list(self._clients)

    def is_serving(self) -> bool:
        """Whether a client has had to do with a turn of late, or will. One that only stays connected does not count."""
        return bool(self._awake) or self.now_ms() - self._served_ms < _LATELY_MS

    async def wait_for_no_clients(self) -> None:
        """Return when the last client is gone."""
        await self._no_clients.wait()

    def connect(self, client: Client) -> None:
        """Count `client` among the active ones."""
        self._clients.add(client)
        self._no_clients.clear()

    def disconnect(self, client: Client) -> None:
        """`client` is gone."""
        self._clients.discard(client)
        if client.is_awake and client in self._awake:
            self._awake.remove(client)
        if not self._clients:
            self._no_clients.set()

    def execute(self, command: Command, on_reply: OnReply) -> Reply | Waiter:
        """Execute `command`: see `Engine.execute`. Replies may leave at the end of the turn, not before (`wake`)."""
        now_ms = self._turn_ms or self._begin_turn()
        kind = type(command)
        if kind is not self._last_kind:  # commands come in runs, so a run is counted
            self._end_run(kind)
        self._last_count += 1
        if kind is InspectServer:
            self.changed = False
            return ServerInfo(len(self._clients), self._engine.state.evicted_jobs, self._started_ms)
        commit = self._commit
        if commit is None:
            return self._engine.execute(command, now_ms, on_reply)
        self.changed = False
        if command.changes:
            refusal = commit.admit(command.log_bytes())
            if refusal is not None:
                return refusal
        events = self._engine.events
        self._mark = len(events)
        answer = self._engine.execute(command, now_ms, on_reply)
        self.changed = len(events) != self._mark
        return answer

    def is_changing(self) -> bool:
        """Like `changed`, for a reply that is given to a waiter."""
        return self._commit is not None and len(self._engine.events) != self._mark

    def wait_for_log(self, holder: Holder) -> None:
        """Have `holder` told by `hold` and `release` what becomes of the events of this turn."""
        assert self._commit is not None
        self._commit.hold(holder)

    def trouble(self) -> str | None:
        """Why the log refuses commands that change something, if it does."""
        return None if self._commit is None else self._commit.trouble()

    def now_ms(self) -> int:
        """The time of this turn, or now."""
        return self._turn_ms or self._clock.now_ms()

    def figures(self) -> Figures:
        """What there is and what was done until now. It looks at each queue, and at each client that waits."""
        self._end_run(self._last_kind)
        state = self._engine.state
        lease_waiters, result_waiters = self._engine.waiting()
        return Figures(
            queues=_largest_queues(list(state.queues.values())),
            queue_count=len(state.queues),
            evicted_jobs=state.evicted_jobs,
            stored_bytes=state.stored_bytes,
            lease_waiters=lease_waiters,
            result_waiters=result_waiters,
            commands={kind.__name__: count for kind, count in self._counted.items() if count},
            turns=self._turns,
            connections=len(self._clients),
            log=None if self._commit is None else self._commit.figures,
        )

    def cancel(self, waiter: Waiter) -> None:
        """Forget the waiter of a client that is gone."""
        if not self._turn_ms:
            self._begin_turn()
        self._mark = len(self._engine.events)  # others who wait for its job are told: see `is_changing`
        self._engine.cancel(waiter)

    def wake(self, client: Client) -> None:
        """Have `client.serve` and `client.end_turn` called at the end of this turn.

        Time does nothing to jobs in here, because the log calls it while it has events half in hand.
        """
        if not client.is_awake:
            client.is_awake = True
            self._awake.append(client)
        if not self._is_ending:
            self._end_turn_soon()

    async def close(self) -> None:
        """Stop the timer, so that nothing happens by itself any more, and close the log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._commit is not None:
            await self._commit.close()

    def _end_run(self, kind: type) -> None:
        """Count the commands of the last kind; the next are of another."""
        self._counted[self._last_kind] = self._counted.get(self._last_kind, 0) + self._last_count
        self._last_kind = kind
        self._last_count = 0

    def _end_turn_soon(self) -> None:
        self._is_ending = True
        self._loop.call_soon(self._end_turn)

    def _begin_turn(self) -> int:
        """Take the time, and let what is due by now happen before anything else does."""
        if not self._is_ending:
            self._end_turn_soon()
        self._turn_number += 1
        if self._turn_number & _TIMED_TURNS == 0:
            self._turn_began_s = time.perf_counter()
        now_ms = self._turn_ms = self._clock.now_ms()
        engine = self._engine
        if self._commit is not None:
            engine.held = self._commit.is_broken
            engine.recurring_held = self._commit.trouble() is not None
            self._has_room = True
        if engine.next_ms() <= now_ms:
            if self._commit is not None:
                self._tick_with_log(self._commit, now_ms)
            else:
                engine.tick(now_ms)
        return now_ms

    def _tick_with_log(self, commit: GroupCommit, now_ms: int) -> None:
        engine = self._engine
        job_steps = 0 if engine.held else commit.admit_steps()
        self._has_room = job_steps > 0
        self._mark = len(engine.events)
        engine.tick(now_ms, job_steps, lambda size: commit.admit(size) is None)
        engine.held = True  # until the next turn: `execute` must not let more happen than there is room for

    def _end_turn(self) -> None:
        awake = self._serve()
        self._turn_ms = 0
        self._is_ending = False
        began_s, self._turn_began_s = self._turn_began_s, 0.0
        if self._commit is None:
            self._engine.events.clear()
        else:
            self._commit.end_turn()
            self._engine.held = self._commit.is_broken or not self._has_room
            self._engine.recurring_held = self._commit.trouble() is not None
        state = self._engine.state
        if state.finished:
            finished, state.finished = state.finished, []
            self.on_finished(finished)
        for client in awake:
            client.is_awake = False
            try:
                client.end_turn()  # may `wake`, and so have another turn end
            except Exception:
                _cut_off(client)
        next_ms = self._engine.next_ms()
        if next_ms < self._timer_ms:
            self._set_timer(next_ms)
        if began_s:
            self._turns.observe(time.perf_counter() - began_s)
        if self._commit is not None:
            self._commit.look()

    def _serve(self) -> list[Client]:
        """Let those who are awake execute what has come; return them, and who was woken by that."""
        awake, self._awake = self._awake, []
        if awake:
            self._served_ms = self._turn_ms or self._begin_turn()
        for client in awake:
            try:
                client.serve()
            except Exception:
                _cut_off(client)
        if self._awake:
            awake += self._awake
            self._awake = []
        return awake

    def _on_writable(self) -> None:
        if not self._turn_ms:
            self._begin_turn()

    def _set_timer(self, next_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = next_ms
        delay_ms = min(next_ms - self._clock.now_ms(), _LONGEST_SLEEP_MS)
        self._timer = self._loop.call_later(max(delay_ms, 0) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_ms = NEVER_MS
        if not self._turn_ms:
            self._begin_turn()


def _largest_queues(queues: list[Queue]) -> list[QueueFigures]:
    """The queues with the most jobs, and all others as one."""
    largest = heapq.nlargest(MOST_QUEUES, queues, key=_size) if len(queues) > MOST_QUEUES else queues
    figures = [QueueFigures(queue.name.decode(), queue.counts) for queue in largest]
    if len(queues) > MOST_QUEUES:
        told = set(largest)
        others = [queue.counts for queue in queues if queue not in told]
        figures.append(QueueFigures(None, [sum(counts) for counts in zip(*others, strict=True)]))
    return figures


def _size(queue: Queue) -> int:
    return sum(queue.counts)


def _cut_off(client: Client) -> None:
    """A fault of the program has come up with `client`: the others must not suffer."""
    logger.exception("a client is cut off, because of a fault of the server")
    client.abort()


def _nobody_listens(finished: list[Job]) -> None:
    """Without an archive, finished jobs stay where they are until their TTL ends."""

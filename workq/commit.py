"""Group commit: the events of a loop turn go to the log together, and replies leave when their events are there.

A batch is written in the event loop, which only hands it to the system, and synced by the kernel or, where that takes
more than syncing a file, in a thread. Under `always` its clients are released when it is synced, and the next batch
collects meanwhile. Under `interval` and `os` they are released at once, and what was written is synced once an
interval, or when a segment is full.

The log is asked for room before a command is decided (`admit`): on a full disk commands are refused and nothing has
changed. When writing fails nevertheless, memory is ahead of the log: what was being written counts as lost, nothing may
change any more, and the whole state is written into the log afresh until that succeeds.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Final, Literal, TypeAlias

from mypy_extensions import mypyc_attr

from workq.engine import Engine
from workq.engine.engine import TICK_STEPS
from workq.engine.events import restated
from workq.figures import LogFigures
from workq.log.compaction import Compaction
from workq.log.errors import Damage
from workq.log.interface import Log
from workq.log.records import COMMAND_BYTES, MAX_COMMAND, STEP_BYTES, encode, trimmed
from workq.replies import Unavailable

SyncPolicy: TypeAlias = Literal["always", "interval", "os"]

# How often a full disk is tried again.
_PROBE_SECONDS: Final = 0.25
# How long to wait before the state is written afresh once more.
_LEAST_RETRY_SECONDS: Final = 0.1
_LONGEST_RETRY_SECONDS: Final = 5.0
# How long a batch waits for one more of those who were in the last ones, as a part of the time that the last one took,
# and how long for all of them.
_GATHER_PART: Final = 0.5
_LONGEST_GATHER_SECONDS: Final = 0.002
# What the last measurement counts in an average of the recent ones.
_NEWEST_PART: Final = 0.2
# Waits that are shorter are not worth a timer, nor would most event loops get them right.
_SHORTEST_TIMER_SECONDS: Final = 0.0005
# Jobs written afresh in one go.
_SLICE: Final = 500
# Compaction reads this many times the bytes that a turn appended, within bounds; and without traffic this often.
_COMPACTION_FACTOR: Final = 4
_LEAST_COMPACTION: Final = 4_096
_MOST_COMPACTION: Final = 131_072
_IDLE_COMPACTION: Final = 32_768
_IDLE_SECONDS: Final = 0.005

logger = logging.getLogger("workq.log")


@mypyc_attr(allow_interpreted_subclasses=True)
class Holder:
    """Base of those whose replies wait for the log. A base and not a protocol, so that compiled calls are direct."""

    __slots__ = ()

    def hold(self) -> None:
        """The replies given so far are for the batch that is being written now."""
        raise NotImplementedError

    def release(self, lost: Unavailable | None) -> None:
        """The oldest batch held is as durable as promised: its replies may leave. If it was `lost`, that instead."""
        raise NotImplementedError


class _Batch:
    __slots__ = ("records", "size", "holders", "trim")

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.size = 0
        self.holders: dict[Holder, None] = {}
        self.trim = 0  # the segment that can go when this batch is durable

    def add(self, records: bytes) -> None:
        self.records.append(records)
        self.size += len(records)


class _DiskThread:
    """Does what blocks, one thing after the other, and tells the event loop when it is done.

    An executor from the standard library would do, at twice the price for each batch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._todo: SimpleQueue[tuple[Callable[[], None], Callable[[Exception | None], None]] | None] = SimpleQueue()
        self._worker = Thread(target=self._work, name="workq-log", daemon=True)
        self._worker.start()

    def submit(self, work: Callable[[], None], on_done: Callable[[Exception | None], None]) -> None:
        """Have `work` done, and then `on_done` called in the event loop with what it raised."""
        self._todo.put((work, on_done))

    async def run(self, work: Callable[[], None]) -> None:
        """Have `work` done, and wait for it."""
        done = self._loop.create_future()

        def on_done(error: Exception | None) -> None:
            if not done.done():  # cancelled
                done.set_result(error)

        self.submit(work, on_done)
        error = await done
        if error is not None:
            raise error

    def stop(self) -> None:
        """End the thread when all is done."""
        self._todo.put(None)
        self._worker.join()

    def _work(self) -> None:
        while (item := self._todo.get()) is not None:
            work, on_done = item
            error: Exception | None = None
            try:
                work()
            except Exception as raised:
                error = raised
            self._loop.call_soon_threadsafe(on_done, error)


class GroupCommit:
    """Takes the events from `engine` to `log`. Use it from the loop's thread only.

    is_broken    whether the log cannot be written, so that neither commands nor time may change anything
    on_writable  called when they may again
    figures      what it has written
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        policy: SyncPolicy,
        interval_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._engine = engine
        self._log = log
        self._policy = policy
        self._interval_s = interval_s
        self._loop = loop
        self.on_writable: Callable[[], None] = _nothing
        self._compaction = Compaction(log, engine)
        self._disk = _DiskThread(loop)
        self._sync_fd = log.sync_fd
        if self._sync_fd >= 0:
            loop.add_reader(self._sync_fd, self._on_kernel_synced)
        self._collecting = _Batch()
        self._flying: _Batch | None = None  # written, and being synced
        self._launched_s = 0.0  # when it was launched
        self._recent: dict[Holder, None] = {}  # the holders of the last batch
        self._took_s = 0.0  # how long a batch takes the disk, of late
        self._away_s = 0.0  # how long a holder takes to be back with the next command, of late
        self._released_s = 0.0  # when the last batch was released
        self._awaited = 0  # how many holders of it are not back yet; 0 once that has been measured
        self._is_busy = False  # longer with its clients than the disk is with a batch: see `_weigh`
        self._expected = 0  # holders worth waiting for before the next batch is launched
        self._gather_s = 0.0  # how long to wait for one more of them
        self._gathered = 0  # how many had come when last looked
        self._gathered_s = 0.0  # and when that number grew
        self._gather_began_s = 0.0
        self._poll: asyncio.Handle | None = None
        self._syncing = False  # in the thread, what was written before
        self._trim = 0  # the segment that goes with the next sync
        self._reserve = log.step // 2  # bytes for time, which may make room again, and not for commands
        self._left = log.room  # bytes that may still be decided upon
        self._claimed = 0  # bytes that the commands since the last turn may need at most
        self._refusal: Unavailable | None = None
        self.is_broken = False
        self.figures = LogFigures()
        self._synced_from_s = 0.0  # when the sync began that is going on in the thread
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._landed = asyncio.Event()

    # -- before a command ----------------------------------------------------------------------------------------

    def admit(self, payload_size: int) -> Unavailable | None:
        """Make sure that what a command does can be written, and read; otherwise return what to answer."""
        if payload_size > MAX_COMMAND:
            return Unavailable(f"Nothing was changed: {payload_size} bytes are more than a record of the log may have")
        size = COMMAND_BYTES + payload_size
        if self._refusal is None and (size <= self._left - self._reserve or self._take_room(size)):
            self._left -= size
            self._claimed += size
            return None
        return self._refusal

    def admit_steps(self) -> int:
        """Make sure that what so many steps of `Engine.tick` do can be written; 0 if there is no room for any."""
        wanted = min(TICK_STEPS, 2 * len(self._engine.state.jobs) + 1)
        if wanted * STEP_BYTES > self._left and self._refusal is None:
            self._take_room(wanted * STEP_BYTES)
        steps = min(wanted, self._left // STEP_BYTES)
        self._left -= steps * STEP_BYTES
        self._claimed += steps * STEP_BYTES
        return steps

    def trouble(self) -> str | None:
        """Why commands are refused, if they are."""
        return None if self._refusal is None else self._refusal.text

    def hold(self, holder: Holder) -> None:
        """Let `holder` wait: its replies depend on events of this turn."""
        self._collecting.holders[holder] = None

    # -- after the commands of a turn ----------------------------------------------------------------------------

    def end_turn(self) -> None:
        """Take the events since the last call. May be called at any time between commands."""
        if self.is_broken:
            return
        self._take_events()
        if self._awaited and len(self._collecting.holders) >= self._awaited:
            self._measure_away(time.monotonic())
        if self._flying is None and len(self._collecting.holders) >= self._expected:
            self._launch()

    def look(self) -> None:
        """Notice now, and not when the event loop next asks the system, that a batch has landed."""
        if self._flying is not None and self._log.is_sync_over():
            self._on_kernel_synced()

    async def drain(self) -> None:
        """Return when there is nothing to be written or synced."""
        while True:
            if self._flying is None and self._collecting.records and not self.is_broken:
                self._launch()
            elif self._flying is not None or self._syncing:
                self._landed.clear()
                await self._landed.wait()
            else:
                return

    async def close(self) -> None:
        """Write down what there is and close the log."""
        self.end_turn()
        await self.drain()
        if self._recovery is not None:
            self._recovery.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recovery
        self._stop_gathering()
        for timer in self._timers.values():
            timer.cancel()
        self._compaction.stop()
        if self._sync_fd >= 0:
            self._loop.remove_reader(self._sync_fd)
        try:
            await self._disk.run(self._log.abandon if self.is_broken else self._log.close)
        except OSError as error:
            logger.error("the end of the command log may not be on disk: %s", error.strerror)
        self._disk.stop()

    # -- writing -------------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        events = self._engine.events
        self._left += self._claimed
        self._claimed = 0
        if events:
            records = encode(events)
            events.clear()
            self._collecting.add(records)
            self._left -= len(records)

    def _launch(self) -> None:
        """Begin to write the batch that was collected. None is being written now."""
        self._stop_gathering()
        if self._compaction.is_due():
            self._compact()
        if self.is_broken or not self._collecting.records:
            return
        batch, self._collecting = self._collecting, _Batch()
        data = b"".join(batch.records)
        counters = encode([self._engine.counters()]) if self._log.is_last_of_segment(data) else b""
        for holder in batch.holders:
            holder.hold()
        try:
            self._log.append(data, counters)
        except Exception as error:  # whatever it is, memory is ahead of the log now
            self._fail(batch, error)
            return
        self._left = self._log.room
        self.figures.wrote(len(data), len(batch.holders))
        if self._policy == "always":
            self._flying = batch
            self._launched_s = time.monotonic()
            if batch.trim or not self._log.start_sync():
                self._disk.submit(partial(self._sync_and_trim, True, batch.trim), self._on_landed)
            return
        for holder in batch.holders:
            holder.release(None)
        self._trim = batch.trim or self._trim
        if self._trim or self._log.needs_sync:
            self._sync()
        elif self._policy == "interval":
            self._after("sync", self._interval_s, self._sync)

    def _on_kernel_synced(self) -> None:
        """What `start_sync` began is over."""
        error: Exception | None = None
        try:
            self._log.finish_sync()
        except BlockingIOError:
            return
        except Exception as raised:
            error = raised
        self._on_landed(error)

    def _on_landed(self, error: Exception | None) -> None:
        batch, self._flying = self._flying, None
        assert batch is not None
        self._landed.set()
        if error is not None:
            self._fail(batch, error)
            return
        if batch.trim:
            self._compaction.trimmed()
        now_s = time.monotonic()
        took_s = now_s - self._launched_s
        self.figures.syncs.observe(took_s)
        self._weigh(batch, now_s, took_s)
        if self._is_busy:
            self.end_turn()  # first, so that the disk works while the holders are told
        else:
            self._gather(now_s)
        self._released_s = now_s
        self._awaited = len(batch.holders)
        for holder in batch.holders:
            holder.release(None)

    # -- gathering -----------------------------------------------------------------------------------------------

    def _weigh(self, batch: _Batch, now_s: float, took_s: float) -> None:
        """`batch` has landed: should the next one wait for those who are told now?

        That spares them a sync, but the disk stands still meanwhile. It pays where they are back sooner than a sync
        takes; else two groups take turns, one at the disk while the other is served.
        """
        expected = len({**self._recent, **batch.holders, **self._collecting.holders})
        if self._awaited:
            self._measure_away(now_s)  # some are not back: it takes at least so long
        self._took_s += (took_s - self._took_s) * _NEWEST_PART
        self._is_busy = self._away_s * expected > self._took_s
        self._expected = 0 if self._is_busy else expected
        self._recent = batch.holders

    def _measure_away(self, now_s: float) -> None:
        self._away_s += ((now_s - self._released_s) / self._awaited - self._away_s) * _NEWEST_PART
        self._awaited = 0

    def _gather(self, now_s: float) -> None:
        """A batch has landed: let the next one wait for those who are answered now.

        They will soon be back with their next commands. To wait for them costs a part of a sync; a batch without them
        makes them wait for a whole one.
        """
        self._gather_s = min((now_s - self._launched_s) * _GATHER_PART, _LONGEST_GATHER_SECONDS)
        if self._gather_s < _SHORTEST_TIMER_SECONDS:
            self._gathered = 0
            self._gathered_s = self._gather_began_s = now_s
            self._poll = self._loop.call_soon(self._on_poll)
        else:
            self._after("gather", self._gather_s, self._on_gathered)

    def _on_poll(self) -> None:
        """The loop has gone round once: has anybody come?"""
        now_s = time.monotonic()
        if len(self._collecting.holders) > self._gathered:
            self._gathered = len(self._collecting.holders)
            self._gathered_s = now_s
        if now_s < min(self._gathered_s + self._gather_s, self._gather_began_s + _LONGEST_GATHER_SECONDS):
            self._poll = self._loop.call_soon(self._on_poll)
        else:
            self._on_gathered()

    def _on_gathered(self) -> None:
        self._stop_gathering()
        self.end_turn()

    def _stop_gathering(self) -> None:
        self._expected = 0
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        timer = self._timers.pop("gather", None)
        if timer is not None:
            timer.cancel()

    # -- syncing what nobody waits for ---------------------------------------------------------------------------

    def _sync(self) -> None:
        """Sync in the thread what was written; under `os` only what must be."""
        if self.is_broken:
            return
        if self._syncing:
            self._after("sync", self._interval_s, self._sync)
            return
        self._syncing = True
        self._synced_from_s = time.monotonic()
        trim, self._trim = self._trim, 0
        head = self._policy == "interval" or trim > 0
        self._disk.submit(partial(self._sync_and_trim, head, trim), lambda error: self._on_synced(error, trim))

    def _sync_and_trim(self, head: bool, trim: int) -> None:
        self._log.sync(head)
        if trim:
            self._log.trim(trim)

    def _on_synced(self, error: Exception | None, trim: int) -> None:
        self._syncing = False
        self._landed.set()
        if error is not None:
            self._fail(_Batch(), error)
            return
        self.figures.syncs.observe(time.monotonic() - self._synced_from_s)
        if trim:
            self._compaction.trimmed()

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Have `call` called in `seconds`, unless that is going to happen already."""

        def on_timer() -> None:
            del self._timers[name]
            call()

        if name not in self._timers:
            self._timers[name] = self._loop.call_later(seconds, on_timer)

    # -- room ----------------------------------------------------------------------------------------------------

    def _claim(self, size: int) -> bool:
        if size > self._left and (self._refusal is not None or not self._take_room(size)):
            return False
        self._left -= size
        self._claimed += size
        return True

    def _take_room(self, size: int) -> bool:
        """Take more room from the disk. If there is none, refuse commands until there is."""
        try:
            self._left += self._log.extend(size)
        except OSError as error:
            logger.error("the command log cannot grow: %s; commands that change something are refused", _reason(error))
            self._refusal = Unavailable(f"Nothing was changed: the command log cannot grow: {_reason(error)}")
            self._after("probe", _PROBE_SECONDS, self._probe)
            return False
        return True

    def _probe(self) -> None:
        if self.is_broken:
            return
        try:
            self._left += self._log.extend(1)
        except OSError:
            self._after("probe", _PROBE_SECONDS, self._probe)
            return
        logger.info("the command log can grow again")
        self._refusal = None
        self.on_writable()

    # -- compaction ----------------------------------------------------------------------------------------------

    def _compact(self) -> None:
        """Do a little of what there is to do, in proportion to what the batch adds to the log."""
        batch = self._collecting
        self._after("compaction", _IDLE_SECONDS, self.end_turn)
        if not self._claim(COMMAND_BYTES):
            return
        budget = max(batch.size * _COMPACTION_FACTOR, _LEAST_COMPACTION) if batch.size else _IDLE_COMPACTION
        try:
            finished = self._compaction.step(min(budget, _MOST_COMPACTION), self._claim)
        except (Damage, OSError) as error:
            self._fail(_Batch(), error)
            return
        if finished:
            self._engine.events.append(self._engine.counters())
        self._take_events()
        if finished:
            batch.add(trimmed(finished))
            batch.trim = finished

    # -- after a failure -----------------------------------------------------------------------------------------

    def _fail(self, batch: _Batch, error: Exception) -> None:
        """`batch` may be lost, and what was decided since is ahead of the log: write the state afresh."""
        reason = _reason(error)
        if not self.is_broken:
            text = "the command log has failed: %s; commands that change something are refused"
            logger.error(text, reason, exc_info=_unforeseen(error))
            self.is_broken = True
            self._engine.held = True
            self._compaction.stop()
            self._refusal = Unavailable(f"Nothing was changed: the command log has failed: {reason}")
            self._recovery = self._loop.create_task(self._recover())
        self._engine.events.clear()
        later, self._collecting = self._collecting, _Batch()
        for holder in later.holders:
            holder.hold()
        lost = Unavailable(f"It may have been done or not: the command log has failed: {reason}")
        for holder in [*batch.holders, *later.holders]:
            holder.release(lost)

    async def _recover(self) -> None:
        delay_s = 0.0
        while self.is_broken:
            await asyncio.sleep(delay_s)
            try:
                await self._write_afresh()
            except Exception as error:  # whatever it is, the only way on is to try again
                text = "the command log cannot be written afresh: %s"
                logger.warning(text, _reason(error), exc_info=_unforeseen(error))
                delay_s = min(max(2 * delay_s, _LEAST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
            else:
                self.is_broken = False
        logger.info("the command log has been written afresh")
        self._left = self._log.room
        self._claimed = 0
        self._refusal = None
        self.on_writable()

    async def _write_afresh(self) -> None:
        """Write the whole state, which does not change meanwhile, slice by slice."""
        log = self._log
        counters = encode([self._engine.counters()])
        events = restated(self._engine.state)
        await self._disk.run(lambda: log.begin_afresh(counters))
        for start in range(0, len(events), _SLICE):
            records = encode(events[start : start + _SLICE])
            await self._disk.run(partial(log.append, records, counters))
        await self._disk.run(lambda: log.finish_afresh(counters))


def _unforeseen(error: Exception) -> Exception | None:
    """`error` if it is a fault of the program, whose place has to be told."""
    return None if isinstance(error, OSError | Damage) else error


def _nothing() -> None:
    pass


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)

"""Leases the jobs of pushed queues and has them sent.

Which queues are pushed, and how many of their jobs are sent at a time, is in documents, ``push/`` and the name of the
queue. What more limits a queue (its pace, its pauses) is the engine's business. A job that waits for its turn waits in
the engine, ready, and whatever is leased is sent at once.

A lease is kept up by touching it for as long as the web worker takes. All that is said about a job carries the number
of the attempt, so that what comes too late does no harm. Retries, delays and limits are those of the engine.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from workq.commands import (
    Command,
    Complete,
    Fail,
    InspectLeasedJobs,
    Lease,
    ListDocuments,
    PutDocument,
    Release,
    Touch,
)
from workq.dispatch.figures import Counters, Figures
from workq.dispatch.sender import Sender
from workq.dispatch.target import MOST_SENDING, PushResult, PushTarget
from workq.engine.job import COMPLETED, Job
from workq.gateway import Gateway, ServerUnavailable
from workq.replies import Documents, Jobs, LeasedJob, LeasedJobs, Ok
from workq.values import WAIT_TIMEOUT, InvalidValue

# The key of the document that makes a queue a pushed one begins with this; its value is a `_Pushed`.
DOCUMENT_PREFIX: Final = b"push/"

# How many jobs are leased with one command; so many tasks begin in one turn of the loop.
_LEASED_AT_ONCE: Final = 100
# How long to wait before asking again for what the server could not do.
_RETRY_S: Final = 1.0
# A lease is touched three times in its TTR, but not more often than this.
_SHORTEST_TOUCH_S: Final = 0.05
# Of a queue whose pushes fail, this often one is told in the log, with how many more there were.
_TELL_MS: Final = 1_000

log = logging.getLogger("workq.dispatch")


class _Pushed(msgspec.Struct):
    """What is kept about a pushed queue."""

    concurrency: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Pushed).decode


class _Push:
    """A job that is being sent."""

    __slots__ = ("job", "queue", "started_ms", "canceled", "task", "toucher")

    def __init__(self, job: LeasedJob, queue: "_Queue", started_ms: int) -> None:
        self.job = job
        self.queue = queue
        self.started_ms = started_ms
        self.canceled = False
        self.task: asyncio.Task[None] | None = None
        self.toucher: asyncio.TimerHandle | None = None


class _Queue:
    """A pushed queue, or one that was or might be: its figures stay."""

    __slots__ = ("name", "counters", "leaser", "sending", "most", "has_room", "told_ms", "untold")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.counters = Counters()
        self.leaser: asyncio.Task[None] | None = None
        self.sending = 0
        self.most = MOST_SENDING
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.told_ms = 0
        self.untold = 0


class Dispatcher:
    """Pushes jobs to web workers. Use it from the loop's thread only."""

    def __init__(self, gateway: Gateway, make_sender: Callable[[], Sender]) -> None:
        """`make_sender` is called on the loop."""
        self._gateway = gateway
        self._make_sender = make_sender
        self._sender: Sender | None = None
        self._queues: dict[bytes, _Queue] = {}
        self._pushes: dict[bytes, _Push] = {}  # by the id of the job
        self._tasks: set[asyncio.Task[None]] = set()
        self._counting = False

    # -- which queues are pushed ----------------------------------------------------------------------------------

    async def push_queue(self, name: bytes, concurrency: int | None = None) -> None:
        """Push the jobs of the queue `name` from now on, over restarts. Raises `ServerUnavailable`.

        concurrency  how many of them are sent at a time, at most 1000; None for as it was
        """
        most = self._queue(name).most if concurrency is None else min(concurrency, MOST_SENDING)
        if not self.is_pushed(name) or most != self._queue(name).most:
            await self._gateway.execute(PutDocument(DOCUMENT_PREFIX + name, _encode(_Pushed(most))))
            self.limit(name, most)
            self._begin_leasing(name)

    async def unpush_queue(self, name: bytes) -> None:
        """Push no more jobs of the queue `name`; those that are being sent go on. Raises `ServerUnavailable`."""
        queue = self._queues.get(name)
        if queue is None or queue.leaser is None:
            return
        await self._gateway.execute(PutDocument(DOCUMENT_PREFIX + name, b""))
        leaser, queue.leaser = queue.leaser, None
        if leaser is not None:
            leaser.cancel()
            await asyncio.wait([leaser])

    def limit(self, name: bytes, most: int) -> None:
        """Send at most so many jobs of the queue `name` at a time, until the server stops."""
        queue = self._queue(name)
        queue.most = min(most, MOST_SENDING)
        queue.has_room.set()

    def concurrency(self, name: bytes) -> int:
        """How many jobs of the queue `name` are sent at a time."""
        queue = self._queues.get(name)
        return MOST_SENDING if queue is None else queue.most

    def is_pushed(self, name: bytes) -> bool:
        """Whether the jobs of the queue `name` are pushed."""
        queue = self._queues.get(name)
        return queue is not None and queue.leaser is not None

    def pushed_queues(self) -> list[bytes]:
        """The names of the queues that are pushed."""
        return [name for name, queue in self._queues.items() if queue.leaser is not None]

    # -- jobs that are being sent ---------------------------------------------------------------------------------

    def started_ms(self, job_id: bytes) -> int:
        """When the request of a job began, that is being sent; 0 if it is not."""
        push = self._pushes.get(job_id)
        return 0 if push is None else push.started_ms

    def sending(self, name: bytes) -> list[bytes]:
        """The ids of the jobs of the queue `name` that are being sent."""
        return [job_id for job_id, push in self._pushes.items() if push.queue.name == name]

    def cancel(self, job_id: bytes) -> bool:
        """Drop the request of a job that is being sent; the job fails for good. Return whether it was being sent."""
        push = self._pushes.get(job_id)
        if push is None or push.task is None:
            return False
        if not push.canceled:
            push.canceled = True
            push.task.cancel()
        return True

    def is_canceled(self, job_id: bytes) -> bool:
        """Whether `cancel` was called for a job that is still being sent."""
        push = self._pushes.get(job_id)
        return push is not None and push.canceled

    # -- figures --------------------------------------------------------------------------------------------------

    def count_push(self, name: bytes) -> None:
        """A door has accepted a job for the queue `name`."""
        counters = self._queue(name).counters
        counters.pushes += 1
        counters.push_rate.count(self._gateway.now_ms())

    def figures(self, name: bytes) -> Figures:
        """The figures of the queue `name`."""
        queue = self._queues.get(name)
        now_ms = self._gateway.now_ms()
        return Counters().snapshot(now_ms, 0) if queue is None else queue.counters.snapshot(now_ms, queue.sending)

    def all_figures(self) -> dict[bytes, Figures]:
        """The figures of every queue that has any."""
        return {name: self.figures(name) for name in self._queues}

    def on_finished(self, jobs: list[Job]) -> None:
        """These jobs have finished: what the broker calls."""
        if not self._counting:
            return  # they had finished before the server started
        now_ms = self._gateway.now_ms()
        for job in jobs:
            queue = self._queues.get(job.spec.name)
            if queue is not None:
                counters = queue.counters
                if job.state == COMPLETED:
                    counters.successes += 1
                else:
                    counters.permanent_failures += 1
                counters.elapsed_ms += now_ms - job.created_ms

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to push the queues that are pushed."""
        self._sender = self._make_sender()
        reply = await self._gateway.execute(ListDocuments(DOCUMENT_PREFIX))
        assert isinstance(reply, Documents)
        for key, value in reply.documents:
            name = key.removeprefix(DOCUMENT_PREFIX)
            self.limit(name, _decode(value).concurrency)
            with contextlib.suppress(ServerUnavailable):  # then their leases end by themselves
                await self._take_back(name)
            self._begin_leasing(name)
        await asyncio.sleep(0)  # to the end of the turn, when the broker tells of what had finished before
        self._counting = True

    async def stop(self, drain_s: float) -> None:
        """Lease no more; wait for the answers to what is being sent for so long, and give the rest back."""
        leasers = [queue.leaser for queue in self._queues.values() if queue.leaser is not None]
        for leaser in leasers:
            leaser.cancel()
        if leasers:
            await asyncio.wait(leasers)
        if self._tasks and drain_s > 0:
            await asyncio.wait(self._tasks, timeout=drain_s)
        left = list(self._tasks)
        if left:
            log.warning("giving back jobs that were not answered within %g s: %d", drain_s, len(left))
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        if self._sender is not None:
            await self._sender.close()

    async def _take_back(self, name: bytes) -> None:
        """Release the jobs of the queue `name` that were being sent when the server was killed."""
        reply = self._gateway.post(InspectLeasedJobs(name, 0, MOST_SENDING))
        if isinstance(reply, Jobs) and reply.jobs:
            log.info("jobs of %s that were being pushed when the server ended: %d", name.decode(), len(reply.jobs))
            await asyncio.gather(*[self._gateway.execute(Release(job.job_id)) for job in reply.jobs])

    # -- leasing --------------------------------------------------------------------------------------------------

    def _queue(self, name: bytes) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue(name)
        return queue

    def _begin_leasing(self, name: bytes) -> None:
        queue = self._queue(name)
        if queue.leaser is None:
            queue.leaser = asyncio.get_running_loop().create_task(self._lease(queue))

    async def _lease(self, queue: _Queue) -> None:
        """Lease what may be leased of `queue`, and send it, for ever."""
        names = (queue.name,)
        while True:
            while queue.sending >= queue.most:
                queue.has_room.clear()
                await queue.has_room.wait()
            room = min(queue.most - queue.sending, _LEASED_AT_ONCE)
            try:
                reply = await self._gateway.execute(Lease(names, WAIT_TIMEOUT.highest, fenced=True, count=room))
            except ServerUnavailable:
                await asyncio.sleep(_RETRY_S)
                continue
            if isinstance(reply, LeasedJobs):
                for job in reply.jobs:
                    self._begin_push(queue, job)
            elif isinstance(reply, LeasedJob):
                self._begin_push(queue, reply)

    def _begin_push(self, queue: _Queue, job: LeasedJob) -> None:
        now_ms = self._gateway.now_ms()
        queue.counters.pops += 1
        queue.counters.pop_rate.count(now_ms)
        queue.sending += 1
        push = self._pushes[job.job_id] = _Push(job, queue, now_ms)
        push.task = task = asyncio.get_running_loop().create_task(self._push(push))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._touch_later(push)

    # -- sending --------------------------------------------------------------------------------------------------

    async def _push(self, push: _Push) -> None:
        """Send a job and tell the engine what came of it; give it back when the server stops."""
        try:
            result = await self._send(push)
            await self._tell(push, result)
        except asyncio.CancelledError:
            # The server stops. If that does not work the lease ends by itself.
            with contextlib.suppress(ServerUnavailable):
                self._gateway.post(Release(push.job.job_id, 0, push.job.attempt))
        except Exception:
            log.exception("job %s: the push failed; its lease ends by itself", push.job.job_id.hex())
        finally:
            self._end_push(push)

    async def _send(self, push: _Push) -> PushResult:
        assert self._sender is not None
        try:
            target = PushTarget.from_meta(push.job.meta)
        except InvalidValue as error:
            text = str(error) if push.job.meta else "the job has no URL"
            return PushResult("permanent-failure", 0, self._gateway.now_ms(), None, "no-url", text)
        try:
            return await self._sender.send(target, push.job.payload)
        except asyncio.CancelledError:
            if not push.canceled:
                raise
            assert push.task is not None
            push.task.uncancel()
            now_ms = self._gateway.now_ms()
            return PushResult("permanent-failure", push.started_ms, now_ms, None, "canceled", "it was canceled")

    async def _tell(self, push: _Push, result: PushResult) -> None:
        """Tell the engine, again and again if it must be. Not being cancelled by `cancel` any more is the caller's."""
        push.task = None  # what has an outcome cannot be cancelled
        job = push.job
        command: Command
        if result.outcome == "success":
            command = Complete(job.job_id, result.to_result(), job.attempt)
        else:
            push.queue.counters.failures += 1
            self._report(push, result)
            command = Fail(job.job_id, result.to_result(), job.attempt, final=result.outcome == "permanent-failure")
        while True:
            try:
                reply = await self._gateway.execute(command)
                break
            except ServerUnavailable:
                await asyncio.sleep(_RETRY_S)
        if not isinstance(reply, Ok):
            log.warning("job %s: the outcome of its push came too late: %s", job.job_id.hex(), result.outcome)

    def _end_push(self, push: _Push) -> None:
        if push.toucher is not None:
            push.toucher.cancel()
            push.toucher = None
        push.task = None
        if self._pushes.get(push.job.job_id) is push:  # else it has been leased again meanwhile
            del self._pushes[push.job.job_id]
        queue = push.queue
        queue.sending -= 1
        queue.has_room.set()

    def _report(self, push: _Push, result: PushResult) -> None:
        """Log a failure, but not each of a queue where nothing works."""
        queue = push.queue
        if result.finished_ms - queue.told_ms < _TELL_MS:
            queue.untold += 1
            return
        more = f" (and {queue.untold} more of this queue before)" if queue.untold else ""
        queue.told_ms, queue.untold = result.finished_ms, 0
        log.info(
            "job %s of %s: attempt %d failed: %s%s",
            push.job.job_id.hex(),
            queue.name.decode(),
            push.job.attempt,
            result.error or result.error_kind,
            more,
        )

    # -- keeping leases up ----------------------------------------------------------------------------------------

    def _touch_later(self, push: _Push) -> None:
        delay_s = max(push.job.ttr_ms / 3_000, _SHORTEST_TOUCH_S)
        push.toucher = asyncio.get_running_loop().call_later(delay_s, self._touch, push)

    def _touch(self, push: _Push) -> None:
        push.toucher = None
        try:
            reply = self._gateway.post(Touch(push.job.job_id, push.job.attempt))
        except ServerUnavailable:  # and then no lease ends either
            self._touch_later(push)
            return
        if isinstance(reply, Ok):  # else it was deleted or taken away; what becomes of it is no longer up to us
            self._touch_later(push)

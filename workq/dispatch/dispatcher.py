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
from typing import Final, Protocol
from uuid import UUID

import msgspec

from workq.commands import (
    Command,
    Complete,
    Fail,
    InspectJobs,
    Lease,
    ListDocuments,
    PutDocument,
    Release,
    Touch,
)
from workq.dispatch.figures import Counters, Figures
from workq.dispatch.request import one_line
from workq.dispatch.sender import Sender, Sending
from workq.dispatch.target import MOST_SENDING, PushedQueue, PushResult, PushTarget
from workq.engine.job import COMPLETED, NEVER_MS, Job
from workq.gateway import Gateway, ServerUnavailable, to_the_end
from workq.replies import Documents, Jobs, LeasedJob, LeasedJobs, Ok, Unavailable
from workq.values import WAIT_TIMEOUT, InvalidValue

# The key of the document that makes a queue a pushed one begins with this; its value is a `PushedQueue`.
DOCUMENT_PREFIX: Final = b"push/"

# How many jobs are leased with one command.
_LEASED_AT_ONCE: Final = 100
# How long to wait before asking again for what the server could not do.
_RETRY_S = 1.0
# Leases are not touched more often than this.
_SHORTEST_TOUCH_MS: Final = 50
# Of a queue whose pushes fail, this often one is told in the log, with how many more there were.
_TELL_MS: Final = 1_000

log = logging.getLogger("workq.dispatch")


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(PushedQueue).decode


class _Push:
    """A job that is being sent, until the log has what came of it.

    touch_ms  when its lease is to be touched; NEVER_MS for one that is not ours any more
    waits     it has not been its turn yet
    sending   the request; None before that, and when there is an outcome
    retry     when the server could not take the outcome: the next try
    """

    __slots__ = (
        "job",
        "queue",
        "started_ms",
        "touch_ms",
        "canceled",
        "waits",
        "sending",
        "retry",
        "_send",
        "_on_result",
    )

    def __init__(
        self,
        job: LeasedJob,
        queue: "_Queue",
        started_ms: int,
        send: "Callable[[_Push], None]",
        on_result: "Callable[[_Push, PushResult], None]",
    ) -> None:
        self.job = job
        self.queue = queue
        self.started_ms = started_ms
        self.touch_ms = started_ms + self.touch_interval_ms()
        self.canceled = False
        self.waits = True
        self.sending: Sending | None = None
        self.retry: asyncio.TimerHandle | None = None
        self._send = send
        self._on_result = on_result

    def touch_interval_ms(self) -> int:
        """A lease is touched three times in its TTR, but not too often."""
        return max(self.job.ttr_ms // 3, _SHORTEST_TOUCH_MS)

    def on_turn(self) -> None:
        """Its turn to be sent has come."""
        self._send(self)

    def on_result(self, result: PushResult) -> None:
        """What the sender says."""
        self._on_result(self, result)


class Watcher(Protocol):
    """Hears of each job that is pushed, as it happens. It must not take long."""

    def on_begin(self, job: LeasedJob) -> None:
        """A job is sent."""

    def on_failed_try(self, job: LeasedJob, result: PushResult) -> None:
        """A try has failed, and the engine knows."""

    def on_end(self, job: Job) -> None:
        """A job has ended, pushed or not."""


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
        self._unfinished: set[_Push] = set()  # these, and those whose jobs have been leased again meanwhile
        self._outbox = gateway.outbox(self._on_durable)
        self._next_touch_ms = NEVER_MS
        self._toucher: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None  # somebody waits until nothing is being sent
        self._counting = False
        self._changing = asyncio.Lock()  # which queues are pushed
        self._watcher: Watcher | None = None

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` what happens from now on."""
        self._watcher = watcher

    # -- which queues are pushed ----------------------------------------------------------------------------------

    async def push_queue(self, name: bytes, concurrency: int | None = None) -> None:
        """Push the jobs of the queue `name` from now on, over restarts. Raises `ServerUnavailable`.

        concurrency  how many of them are sent at a time, at most 1000; None for as it was
        """
        await to_the_end(self._push_queue(name, concurrency))

    async def _push_queue(self, name: bytes, concurrency: int | None) -> None:
        async with self._changing:
            most = self._queue(name).most if concurrency is None else min(concurrency, MOST_SENDING)
            if not self.is_pushed(name) or most != self._queue(name).most:
                await self._gateway.execute(PutDocument(DOCUMENT_PREFIX + name, _encode(PushedQueue(most))))
                self.limit(name, most)
                self._begin_leasing(name)

    async def unpush_queue(self, name: bytes) -> None:
        """Push no more jobs of the queue `name`; those that are being sent go on. Raises `ServerUnavailable`."""
        await to_the_end(self._unpush_queue(name))

    async def _unpush_queue(self, name: bytes) -> None:
        async with self._changing:
            queue = self._queues.get(name)
            if queue is None or queue.leaser is None:
                return
            await self._gateway.execute(PutDocument(DOCUMENT_PREFIX + name, b""))
            leaser, queue.leaser = queue.leaser, None
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
        if push is None or not (push.waits or push.sending):
            return False
        if not push.canceled:
            push.canceled = True
            if push.sending is not None:
                push.sending.cancel()
            asyncio.get_running_loop().call_soon(self._end_canceled, push)
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
                if self._watcher is not None:
                    self._watcher.on_end(job)

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
        if self._unfinished and drain_s > 0:
            self._drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._drained], timeout=drain_s)
        left = list(self._unfinished)
        if left:
            log.warning("giving back jobs that were not answered within %g s: %d", drain_s, len(left))
            for push in left:
                self._give_back(push)
        if self._toucher is not None:
            self._toucher.cancel()
            self._toucher = None
        if self._sender is not None:
            self._sender.close()

    async def _take_back(self, name: bytes) -> None:
        """Release the jobs of the queue `name` that were being sent when the server was killed."""
        reply = self._gateway.post(InspectJobs(name, "leased", 0, MOST_SENDING))
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
        """A job is leased: it is sent when its turn comes."""
        now_ms = self._gateway.now_ms()
        queue.counters.pops += 1
        queue.counters.pop_rate.count(now_ms)
        queue.sending += 1
        push = self._pushes[job.job_id] = _Push(job, queue, now_ms, self._send, self._on_result)
        self._unfinished.add(push)
        if self._watcher is not None:
            self._watcher.on_begin(job)
        if push.touch_ms < self._next_touch_ms:
            self._touch_at(push.touch_ms)
        self._gateway.run_queue.add(push.on_turn)

    def _send(self, push: _Push) -> None:
        if push not in self._unfinished or push.canceled:  # it was given back, or there is an outcome on its way
            return
        assert self._sender is not None
        job = push.job
        push.waits = False
        try:
            target = PushTarget.from_meta(job.meta)
            push.sending = self._sender.send(target, job.payload, push.on_result)
        except InvalidValue as error:
            text = str(error) if job.meta else "the job has no URL"
            push.on_result(PushResult("permanent-failure", 0, self._gateway.now_ms(), None, "no-url", text))
        except Exception:
            self._abandon(push)

    # -- the end of a push ----------------------------------------------------------------------------------------

    def _on_result(self, push: _Push, result: PushResult) -> None:
        """Tell the engine what came of a job."""
        if push not in self._unfinished:  # it was given back
            return
        push.waits = False
        push.sending = None
        job = push.job
        try:
            command: Command
            if result.outcome == "success":
                command = Complete(job.job_id, result.to_result(), job.attempt)
            else:
                push.queue.counters.failures += 1
                self._report(push, result)
                command = Fail(job.job_id, result.to_result(), job.attempt, final=result.outcome == "permanent-failure")
            self._tell(push, command)
            if self._watcher is not None and result.outcome != "success":
                self._watcher.on_failed_try(job, result)
        except Exception:
            self._abandon(push)

    def _abandon(self, push: _Push) -> None:
        """While an exception is handled that should not be."""
        log.exception("job %s: the push failed; its lease ends by itself", UUID(bytes=push.job.job_id))
        self._end_push(push)

    def _end_canceled(self, push: _Push) -> None:
        now_ms = self._gateway.now_ms()
        text = "it was canceled"
        push.on_result(PushResult("permanent-failure", push.started_ms, now_ms, None, "canceled", text))

    def _tell(self, push: _Push, command: Command) -> None:
        push.retry = None
        reply = self._outbox.execute(command, (push, command))
        if isinstance(reply, Unavailable):
            self._tell_later(push, command)
        elif reply is not None:
            if not isinstance(reply, Ok):
                outcome = "success" if isinstance(command, Complete) else "failure"
                log.warning("job %s: the outcome of its push came too late: %s", UUID(bytes=push.job.job_id), outcome)
            self._end_push(push)

    def _tell_later(self, push: _Push, command: Command) -> None:
        if push in self._unfinished:  # else it was given back
            push.retry = asyncio.get_running_loop().call_later(_RETRY_S, self._tell, push, command)

    def _on_durable(self, told: list[tuple[_Push, Command]], lost: Unavailable | None) -> None:
        """The log has these outcomes, or has lost them."""
        for push, command in told:
            if lost is None:
                self._end_push(push)
            else:
                self._tell_later(push, command)

    def _give_back(self, push: _Push) -> None:
        """The server stops. If that does not work the lease ends by itself."""
        if push.sending is not None:
            push.sending.cancel()
            push.sending = None
        if push.retry is not None:
            push.retry.cancel()
            push.retry = None
        with contextlib.suppress(ServerUnavailable):
            self._gateway.post(Release(push.job.job_id, 0, push.job.attempt))
        self._end_push(push)

    def _end_push(self, push: _Push) -> None:
        if push not in self._unfinished:  # it was given back
            return
        self._unfinished.remove(push)
        if self._pushes.get(push.job.job_id) is push:  # else it has been leased again meanwhile
            del self._pushes[push.job.job_id]
        queue = push.queue
        queue.sending -= 1
        queue.has_room.set()
        if self._drained is not None and not self._unfinished and not self._drained.done():
            self._drained.set_result(None)

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
            UUID(bytes=push.job.job_id),
            queue.name.decode(),
            push.job.attempt,
            one_line(result.error) or result.error_kind,
            more,
        )

    # -- keeping leases up ----------------------------------------------------------------------------------------

    def _touch_at(self, time_ms: int) -> None:
        """One timer serves all pushes."""
        if self._toucher is not None:
            self._toucher.cancel()
        self._next_touch_ms = time_ms
        delay_s = max(time_ms - self._gateway.now_ms(), 0) / 1_000
        self._toucher = asyncio.get_running_loop().call_later(delay_s, self._touch_all)

    def _touch_all(self) -> None:
        """Touch the leases whose time has come, and those whose time will come soon."""
        self._toucher = None
        now_ms = self._gateway.now_ms()
        next_ms = NEVER_MS
        for push in list(self._unfinished):
            interval_ms = push.touch_interval_ms()
            if push.touch_ms <= now_ms + interval_ms // 4:
                push.touch_ms = now_ms + interval_ms if self._touch(push.job) else NEVER_MS
            next_ms = min(next_ms, push.touch_ms)
        self._next_touch_ms = next_ms
        if next_ms < NEVER_MS:
            self._touch_at(next_ms)

    def _touch(self, job: LeasedJob) -> bool:
        """Touch a lease; return whether it is still ours."""
        try:
            reply = self._gateway.post(Touch(job.job_id, job.attempt))
        except ServerUnavailable:  # and then no lease ends either
            return True
        return isinstance(reply, Ok)  # else it was deleted or taken away; what becomes of it is no longer up to us

"""The worker: leases jobs, has functions do them, tells the server how they ended.

Each function has as many slots as its `concurrency`. A slot leases a job, runs the function, acknowledges, and only
then leases again, so nothing is leased that there is no room for. The slots of a function lease over one connection,
those that are free at the same time in one `lease`; all acknowledgements go through one `AsyncClient`.

Leases are fenced, so a worker that is too late cannot disturb the one that took over. A server that does not know that
refuses the first lease; then the worker goes on without, and without what builds on it.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, Final, TypeVar

from workq import commands as c
from workq import replies as r
from workq.client.address import Address
from workq.client.asynchronous import AsyncClient
from workq.client.call import Seconds, in_seconds
from workq.client.codecs import CodecChoice, find_codec
from workq.client.errors import ClientError, NotFound, WorkqError
from workq.client.jobs import Job, id_text
from workq.client.link import SharedLink
from workq.client.retry import Backoff, Broken
from workq.client.runners import Function, Outcome, Runner, Verdict, make_runner
from workq.values import BULK_COUNT, InvalidValue, check_name

F = TypeVar("F", bound=Callable[[Any], Any])

# A waiting lease is renewed at this interval, which is also how long a dead connection may go unnoticed, plus patience.
LEASE_WAIT_S: Final = 30.0
PATIENCE_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
# Work that is done is worth some trouble to report.
ACKNOWLEDGE_FOR_S: Final = 30.0
# A year: whoever means no limit has one that is no burden.
MAX_TIME_LIMIT_S: Final = 365 * 86_400
# Cancelled functions get this long to clean up when the worker leaves.
CANCEL_S: Final = 1.0
# A function that does not say otherwise may take so long: enough for honest work, and a hung one does not hold its job
# for ever.
DEFAULT_TIME_LIMIT_S: Final = 3_600.0
# A job is touched so many times in a TTR: two of them may be lost. But not more often than this: a TTR that is shorter
# than the way to the server is nothing to be kept.
TOUCHES_PER_TTR: Final = 3
LEAST_TOUCH_S: Final = 0.05
# No job has more fails than this left.
_MAX_FAILS: Final = 255

# What a server says that does not know the flag of a fenced lease.
_NOT_KNOWN: Final = ("Invalid command args", "Invalid command flags")

log = logging.getLogger("workq.worker")


class Worker:
    """Runs functions for the jobs of queues.

    url    the server, as for `Client`
    codec  how payloads and results of its functions become bytes: ``"bytes"``, ``"json"``, or (to_bytes, from_bytes)
    grace  seconds that running functions have to finish once the worker is told to stop

    It raises `ClientError` for arguments that are not allowed. Losing the server is no error: it logs so, and goes on
    when the server is back. It logs a line per job to the logger ``workq.worker``.

    Example::

        worker = workq.Worker()

        @worker.job("resize", concurrency=8)
        def resize(payload: bytes) -> bytes:
            return payload.upper()

        worker.run()
    """

    def __init__(self, url: str | None = None, *, codec: CodecChoice = "bytes", grace: Seconds = 30.0) -> None:
        self._url = url
        self._codec = codec
        self._grace_s = in_seconds(grace)
        self._functions: dict[str, Function] = {}
        self._stop_wanted = False
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def job(
        self,
        name: str,
        *,
        concurrency: int = 1,
        codec: CodecChoice | None = None,
        processes: bool = False,
        time_limit: Seconds | None = None,
        heartbeat: bool = True,
    ) -> Callable[[F], F]:
        """Decorate the function for the jobs of the queue `name`. It is called with the payload.

        concurrency  jobs of this queue at the same time
        codec        another than the worker's
        processes    run a plain function in processes instead of threads; it must be at the top of a module, and what
                     starts the worker below ``if __name__ == "__main__":``
        time_limit   seconds that the function has for a job; without it an hour or, if that is longer, the job's TTR
        heartbeat    whether the worker keeps the lease meanwhile, by touching the job a few times in its TTR. So the
                     TTR can be short, and the job of a worker that died is soon with another. Without it the function
                     has no more than the TTR

        What the function returns is the job's result (None: an empty one); an exception fails the job with its words;
        `Retry` and `Reject` say what is to happen instead. When the time is over, or the lease is lost, an `async`
        function is cancelled and a process killed; a thread cannot be ended and blocks its slot until it returns. The
        job is not acknowledged then: it goes back to its queue.

        Raises `ClientError` for a value that is not allowed and for a second function of a queue.
        """
        try:
            check_name(name.encode())
            chosen = find_codec(self._codec if codec is None else codec)
        except InvalidValue as error:
            raise ClientError(str(error)) from None
        if concurrency < 1:
            raise ClientError(f"Invalid concurrency: {concurrency}; at least 1 is needed")
        limit_s = None if time_limit is None else in_seconds(time_limit)
        if limit_s is not None and not 0 < limit_s <= MAX_TIME_LIMIT_S:
            raise ClientError(f"Invalid time_limit: {limit_s:g} s; allowed is more than 0, up to {MAX_TIME_LIMIT_S} s")
        if name in self._functions:
            raise ClientError(f"Invalid Name: {name} has a function already")

        def register(call: F) -> F:
            function = Function(name, call, chosen, concurrency, processes, limit_s, heartbeat)
            if processes and function.is_async:
                raise ClientError(f"the function for {name} is async, and processes run plain functions only")
            self._functions[name] = function
            return call

        return register

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, or until `stop`; then finish what runs, within the grace time.

        A second signal ends the process at once. What is not finished comes back at the end of its TTR.
        Call it from the main thread: elsewhere it does not see signals. Raises `ClientError` when it cannot start.
        """
        loop = asyncio.new_event_loop()
        try:
            with self._signals(loop):
                loop.run_until_complete(self.run_async())
        finally:
            # Not asyncio.run: that would wait for ever for a function which does not let itself be cancelled.
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_S))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def run_async(self) -> None:
        """Work in the running event loop until `stop`; then finish what runs, within the grace time.

        Cancelling it gives up what runs at once. Raises `ClientError` when it cannot start.
        """
        address = Address.parse(self._url)
        self._check_functions()
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        if self._stop_wanted:
            self._stopping.set()
        shown = ", ".join([f"{each.name} x{each.concurrency}" for each in self._functions.values()])
        log.info("%s: working on %s", address, shown)
        client = AsyncClient(address.url, retry_for=ACKNOWLEDGE_FOR_S)
        crews = [_Crew(function, address, client) for function in self._functions.values()]
        try:
            stop = asyncio.create_task(self._stopping.wait())
            await asyncio.wait([stop, *[slot for crew in crews for slot in crew.slots]], return_when="FIRST_COMPLETED")
            stop.cancel()
            await asyncio.gather(*[crew.finish(self._grace_s) for crew in crews])
        finally:
            self._stopping = self._loop = None
            self._stop_wanted = False
            await asyncio.gather(*[crew.close() for crew in crews])
            await client.close()
            log.info("%s: worker stopped", address)

    def stop(self) -> None:
        """Begin to stop; from any thread, any number of times. A worker that does not run yet will not begin."""
        self._stop_wanted = True
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed this moment: it has stopped
                loop.call_soon_threadsafe(stopping.set)

    def _check_functions(self) -> None:
        # So multiprocessing itself asks. A worker in there would lease jobs, which its own processes could never do.
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ClientError(
                "the processes of a worker import the main module, and must not start the worker there: "
                "put what starts it below `if __name__ == '__main__':`"
            )
        if not self._functions:
            raise ClientError("the worker has no functions: register them with @worker.job(name)")
        try:
            for function in self._functions.values():
                if function.processes:
                    function.check_process_safe()
        except InvalidValue as error:
            raise ClientError(str(error)) from error.__cause__

    @contextlib.contextmanager
    def _signals(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, _: FrameType | None) -> None:
            # From now on a signal has its usual effect, even if a function blocks the event loop.
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            say = "%s: finishing what runs, for %g s at most; a second signal ends the process at once"
            loop.call_soon_threadsafe(log.info, say, signal.Signals(number).name, self._grace_s)
            self.stop()

        before = {each: signal.signal(each, on_signal) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler or signal.SIG_DFL)


class _Crew:
    """The slots of one function, their leases, and the jobs they have in hand."""

    def __init__(self, function: Function, address: Address, client: AsyncClient) -> None:
        self._function = function
        self._leases = _Leases(function.name, address)
        self._client = client
        self._runners = [make_runner(function) for _ in range(function.concurrency)]
        self._running: dict[asyncio.Future[Outcome], str] = {}  # to the id of the job, which two slots may share
        self.slots = [asyncio.create_task(self._slot(runner)) for runner in self._runners]

    async def finish(self, grace_s: float) -> None:
        """Lease no more; let what runs finish, but for no longer than `grace_s` seconds."""
        await self._leases.close()
        ended, _ = await asyncio.wait(self.slots, timeout=grace_s)
        for slot in ended:
            slot.result()  # a slot ends by our leave or by a mistake of ours, which must not stay in the dark
        for job_id in self._running.values():
            log.warning("%s %s still runs after %g s of grace: left to its TTR", self._function.name, job_id, grace_s)

    async def close(self) -> None:
        """Give up what still runs."""
        await self._leases.close()
        running = list(self._running)
        for slot in self.slots:
            slot.cancel()
        for runner in self._runners:
            runner.close()
        await asyncio.wait(self.slots)
        if running:
            await asyncio.wait(running, timeout=CANCEL_S)

    async def _slot(self, runner: Runner) -> None:
        while (leased := await self._leases.next()) is not None:
            await self._work(runner, leased)

    async def _work(self, runner: Runner, leased: r.LeasedJob) -> None:
        ttr = timedelta(milliseconds=leased.ttr_ms)
        limit_s = self._limit_s(leased)
        keeps = limit_s > ttr.total_seconds()
        deadline = datetime.now(UTC) + timedelta(seconds=limit_s)
        name = self._function.name
        attempt = leased.attempt or None
        job = Job(id_text(leased.job_id), name, leased.payload, ttr.total_seconds(), deadline, attempt)
        loop = asyncio.get_running_loop()
        started = loop.time()
        reports = _Reports(self._client, job, touches=keeps)
        running = runner.start(job, reports.take)
        self._running[running] = job.id
        keeping: asyncio.Task[WorkqError] | None = None
        try:
            pause_s = max(job.ttr / TOUCHES_PER_TTR, LEAST_TOUCH_S)
            await asyncio.wait([running], timeout=min(pause_s, limit_s) if keeps else limit_s)
            left_s = limit_s - (loop.time() - started)
            if keeps and not running.done() and left_s > 0:  # most are done by now, and need no task for it
                keeping = asyncio.create_task(self._keep(job, pause_s))
                awaited: list[asyncio.Future[Any]] = [running, keeping]
                await asyncio.wait(awaited, timeout=left_s, return_when="FIRST_COMPLETED")
            if not running.done():
                if keeping is not None and keeping.done():
                    log.warning("%s %s lost: %s; not acknowledged", name, job.id, keeping.result())
                else:
                    limit = "its TTR of " if limit_s == job.ttr else ""
                    log.warning("%s %s overdue: not done in %s%g s, not acknowledged", name, job.id, limit, limit_s)
                if keeping is not None:
                    keeping.cancel()
                runner.interrupt()
                await asyncio.wait([running])
                return
            outcome = _outcome(running)
            took_s = loop.time() - started
            problem = await self._acknowledge(job, outcome)
        finally:
            del self._running[running]
            reports.close()
            if keeping is not None:
                keeping.cancel()
        self._log(job, outcome, took_s, problem)

    def _limit_s(self, leased: r.LeasedJob) -> float:
        """How long the function may take. Without fencing no lease can be kept for longer than the TTR."""
        ttr_s = leased.ttr_ms / 1000
        function = self._function
        limit_s = max(DEFAULT_TIME_LIMIT_S, ttr_s) if function.time_limit_s is None else function.time_limit_s
        return limit_s if leased.attempt and function.heartbeat else min(limit_s, ttr_s)

    async def _keep(self, job: Job, pause_s: float) -> WorkqError:
        """Touch a job again and again; return why it is not ours any more."""
        while True:
            try:
                await self._client.touch(job.id, attempt=job.attempt)
            except (NotFound, ClientError) as error:
                return error
            except WorkqError as error:  # the server may be back before the TTR ends, or give the job back to us
                log.debug("%s %s cannot be kept now: %s", job.name, job.id, error)
            await asyncio.sleep(pause_s)

    async def _acknowledge(self, job: Job, outcome: Outcome) -> WorkqError | None:
        """Tell the server. What prevents that is no reason to stop: without the word the job comes back."""
        client = self._client
        attempt = job.attempt
        try:
            if outcome.verdict is Verdict.DONE:
                await client.complete(job.id, outcome.result, attempt=attempt)
            elif outcome.verdict is Verdict.FAILED:
                await client.fail(job.id, outcome.result, attempt=attempt)
            elif outcome.verdict is Verdict.REJECTED and attempt:
                await client.fail(job.id, outcome.result, attempt=attempt, final=True)
            elif outcome.verdict is Verdict.REJECTED:
                await self._fail_for_good(job.id, outcome.result)
            elif outcome.delay_s is not None and attempt:
                await client.release(job.id, delay=outcome.delay_s, attempt=attempt)
        except WorkqError as error:
            return error
        return None

    async def _fail_for_good(self, job_id: str, reason: bytes) -> None:
        """Fail a job until it is final, on a server that knows no final fail: `max_fails` may put it back."""
        await self._client.fail(job_id, reason)
        for _ in range(_MAX_FAILS):
            try:
                await self._client.fail(job_id, reason)
            except NotFound:
                return
            except ClientError as error:
                if error.text.startswith(r.DUPLICATE_RESULT.text):
                    return
                raise

    def _log(self, job: Job, outcome: Outcome, took_s: float, problem: WorkqError | None) -> None:
        if problem is None and not log.isEnabledFor(logging.INFO):
            return
        verdict = outcome.verdict
        size = f", {len(outcome.result)} bytes"
        about = size if verdict is Verdict.DONE else f": {outcome.result.decode()}" if outcome.result else ""
        if problem is None:
            log.info("%s %s %s in %.3f s%s", job.name, job.id, verdict.value, took_s, about)
        else:
            say = "%s %s %s in %.3f s%s; not acknowledged: %s"
            log.warning(say, job.name, job.id, verdict.value, took_s, about, problem)
        if outcome.trace:
            log.debug("%s %s: %s", job.name, job.id, outcome.trace.rstrip())


def _outcome(running: "asyncio.Future[Outcome]") -> Outcome:
    if running.cancelled():
        return Outcome(Verdict.FAILED, b"the function was cancelled")
    return running.result()


class _Reports:
    """Passes on what a function tells of its progress: the last word, when the server has heard the one before."""

    def __init__(self, client: AsyncClient, job: Job, *, touches: bool) -> None:
        self._client = client
        self._job = job
        self._touches = touches
        self._next: bytes | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_closed = job.attempt is None  # such a server does not know progress

    def take(self, progress: bytes) -> None:
        """Have the server told."""
        if self._is_closed:
            return
        self._next = progress
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def close(self) -> None:
        """The job is over."""
        self._is_closed = True
        if self._sending is not None:
            self._sending.cancel()

    async def _send(self) -> None:
        job = self._job
        while (progress := self._next) is not None:
            self._next = None
            try:
                await self._client.progress(job.id, progress, attempt=job.attempt, touch=self._touches)
            except WorkqError as error:  # it matters to nobody's result
                log.debug("%s %s: its progress is not told: %s", job.name, job.id, error)


class _Leases:
    """Jobs of one queue for the slots that ask, over one connection that is renewed for as long as it takes.

    Slots that ask in the same turn of the event loop share a lease, for as many jobs as they are.
    """

    def __init__(self, name: str, address: Address) -> None:
        self._address = address
        self._names = (name.encode(),)
        self._knows_flags = True  # the server, until it says otherwise
        self._shared = SharedLink(address, CONNECT_TIMEOUT_S)
        self._backoff = Backoff()
        self._pause: asyncio.Task[None] | None = None
        self._asking: list[asyncio.Future[r.LeasedJob | None]] = []
        self._rounds: set[asyncio.Task[None]] = set()
        self._is_down = False
        self._is_closed = False

    async def next(self) -> r.LeasedJob | None:
        """The next job; None when there will be no more."""
        loop = asyncio.get_running_loop()
        if not self._asking:
            loop.call_soon(self._begin_round)
        asked: asyncio.Future[r.LeasedJob | None] = loop.create_future()
        self._asking.append(asked)
        return await asked

    async def close(self) -> None:
        """Hang up: slots that wait get None. Closing twice is fine."""
        self._is_closed = True
        if self._pause is not None:
            self._pause.cancel()
        await self._shared.close()
        if self._rounds:
            await asyncio.wait(self._rounds)

    def _begin_round(self) -> None:
        slots, self._asking = self._asking, []
        this_round = asyncio.create_task(self._lease_for(slots))
        self._rounds.add(this_round)
        this_round.add_done_callback(self._rounds.discard)

    async def _lease_for(self, slots: list[asyncio.Future[r.LeasedJob | None]]) -> None:
        """Lease until each of `slots` has a job."""
        try:
            while not self._is_closed and (slots := [slot for slot in slots if not slot.done()]):
                for slot, job in zip(slots, await self._lease(min(len(slots), BULK_COUNT.highest)), strict=False):
                    if not slot.done():  # given up meanwhile: its job comes back
                        slot.set_result(job)
        except Exception as error:  # a mistake of ours, which ends the worker
            for slot in slots:
                if not slot.done():
                    slot.set_exception(error)
        for slot in slots:
            if not slot.done():
                slot.set_result(None)

    async def _lease(self, count: int) -> list[r.LeasedJob]:
        """Up to `count` jobs; none for many a reason, after a pause where one is due."""
        fenced = self._knows_flags
        command = c.Lease(self._names, int(LEASE_WAIT_S * 1000), fenced, count if fenced else 1)
        try:
            link = self._shared.now() or await self._shared.get()
            reply = await link.ask(command, LEASE_WAIT_S + PATIENCE_S)
        except Broken as broken:
            self._knows_flags = True  # it may be another server that comes back
            await self._wait_out(str(broken))
            return []
        if isinstance(reply, r.LeasedJob | r.LeasedJobs):
            self._recovered()
            return [reply] if isinstance(reply, r.LeasedJob) else reply.jobs
        if isinstance(reply, r.TimedOut):
            self._recovered()
        elif fenced and isinstance(reply, r.Refused) and reply.text.startswith(_NOT_KNOWN):
            if self._knows_flags:
                log.info("%s: the server does not number attempts; going on without", self._address)
            self._knows_flags = False
        else:
            await self._wait_out(reply.text if isinstance(reply, r.Refused | r.Unavailable) else repr(reply))
        return []

    async def _wait_out(self, reason: str) -> None:
        """Pause once for all slots, which learn of an outage in the same moment."""
        if self._is_closed:
            return
        if self._pause is None or self._pause.done():
            if not self._is_down:
                self._is_down = True
                log.warning("%s: %s; trying again until it works", self._address, reason)
            self._pause = asyncio.create_task(asyncio.sleep(self._backoff.pause_s()))
        await asyncio.wait([self._pause])

    def _recovered(self) -> None:
        if self._is_down:
            self._is_down = False
            self._backoff.reset()
            log.info("%s: leasing again", self._address)

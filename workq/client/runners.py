"""Where a worker's functions run: as tasks, in threads, in processes.

Each runner takes one job at a time. `start` gives a future of the `Outcome`; `interrupt` does what can be done to end a
function that has had its time; `close` gives up what runs and frees what the runner holds.
"""

import asyncio
import contextlib
import inspect
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import Enum
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeAlias

from workq.client.call import Seconds, in_seconds
from workq.client.codecs import Codec
from workq.client.errors import ClientError
from workq.client.jobs import Job
from workq.values import DELAY, MIB, PROGRESS_SIZE, InvalidValue

# Takes what a function tells of its progress; from any thread.
Report: TypeAlias = Callable[[bytes], None]

_current: Final[ContextVar[Job]] = ContextVar("workq_current_job")
_report: Final[ContextVar[Report]] = ContextVar("workq_report")
# A function's words about its failure are a result that somebody reads, not a place for data.
_LONGEST_REASON: Final = 4096


def current_job() -> Job:
    """The `Job` that the calling function of a `Worker` works on: its id, its queue, the `deadline` for it.

    The worker keeps the lease until then (`Worker.job`), so it may lie beyond the job's `ttr`.

    Raises `LookupError` outside of a job. Example::

        @worker.job("resize")
        def resize(payload: bytes) -> None:
            print(workq.current_job().id, workq.current_job().remaining(), "seconds left")
    """
    try:
        return _current.get()
    except LookupError:
        raise LookupError("there is no current job: this is not a function called by a worker") from None


def report_progress(progress: str | bytes) -> None:
    """Tell how far the calling function of a `Worker` is: text or bytes of at most 4096. `inspect_job` shows the last.

    It does not wait: what is told faster than the server can be told is skipped, and so is all of it with a server that
    does not know progress. Where the worker keeps jobs (`heartbeat`) it does that, too.

    Raises `LookupError` outside of a job and `ClientError` for a progress that is too long. Example::

        workq.report_progress("7 of 10 pages")
    """
    current_job()
    data = progress.encode() if isinstance(progress, str) else bytes(progress)
    try:
        PROGRESS_SIZE.check(len(data))
    except InvalidValue as error:
        raise ClientError(str(error)) from None
    _report.get()(data)


class Retry(Exception):
    """Raised by a worker's function to have the job tried again: after `delay` seconds, or at the end of its TTR.

    It is no `fail`; only `max_attempts` bounds how often. The reason is logged. A server that cannot take jobs back
    has it come back at the end of its TTR. Raises `ClientError` for a delay below 0. Example::

        raise workq.Retry("the printer is out of paper", delay=60)
    """

    def __init__(self, reason: str = "", *, delay: Seconds | None = None) -> None:
        super().__init__(reason)
        self.delay_s = None if delay is None else in_seconds(delay)
        if self.delay_s is not None and not 0 <= self.delay_s <= DELAY.highest / 1000:
            raise ClientError(f"Invalid delay: {self.delay_s:g} s; allowed are 0 to {DELAY.highest // 1000} s")


class Reject(Exception):
    """Raised by a worker's function to end the job for good: it fails, whatever `max_fails` still allows.

    The reason, cut at 4096 characters, becomes the job's result. Raises nothing by itself. Example::

        raise workq.Reject("photo.jpg is not an image")
    """


class Verdict(Enum):
    """How a function ended; the value is the word in the log."""

    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    RETRY = "left for a retry"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a function ended: the encoded result or the reason as UTF-8, and the traceback if there is one.

    delay_s  for RETRY: when to try again; None for the end of the TTR
    """

    verdict: Verdict
    result: bytes
    trace: str = ""
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a worker, and how it wants to be called."""

    name: str
    call: Callable[[Any], Any]
    codec: Codec
    concurrency: int
    processes: bool
    time_limit_s: float | None = None
    heartbeat: bool = True

    @property
    def is_async(self) -> bool:
        """Whether it is to be awaited."""
        return inspect.iscoroutinefunction(self.call) or inspect.iscoroutinefunction(type(self.call).__call__)

    def check_process_safe(self) -> None:
        """Raise `InvalidValue` if another process could not find the function."""
        try:
            pickle.dumps(self)
        except Exception as error:
            raise InvalidValue(
                f"the function for {self.name} cannot run in processes, it must be at the top of a module: {error}"
            ) from error

    def perform(self, job: Job, report: Report) -> Outcome:
        """Call a plain function."""
        try:
            return self._outcome(self.call(self._enter(job, report)))
        except BaseException as error:  # whatever it is, it must not end the thread or the process of the slot
            return _failure(error)

    async def perform_async(self, job: Job, report: Report) -> Outcome:
        """Await an `async` function."""
        try:
            return self._outcome(await self.call(self._enter(job, report)))
        except (asyncio.CancelledError, KeyboardInterrupt):  # meant for the worker
            raise
        except BaseException as error:  # a function that wants to exit ends itself, not the worker
            return _failure(error)

    def _enter(self, job: Job, report: Report) -> Any:
        job = replace(job, payload=self.codec.decode(job.payload))
        _current.set(job)
        _report.set(report)
        return job.payload

    def _outcome(self, value: Any) -> Outcome:
        result = self.codec.encode(value)
        if len(result) > MIB:
            raise InvalidValue(f"the result has {len(result)} bytes, {MIB} are allowed")
        return Outcome(Verdict.DONE, result)


def _failure(error: BaseException) -> Outcome:
    if isinstance(error, Retry):
        return Outcome(Verdict.RETRY, _reason(str(error)), delay_s=error.delay_s)
    if isinstance(error, Reject):
        return Outcome(Verdict.REJECTED, _reason(str(error)))
    text = str(error)
    if not isinstance(error, InvalidValue):  # from the codec, whose words say it all
        text = ": ".join([type(error).__name__, *([text] if text else [])])
    return Outcome(Verdict.FAILED, _reason(text), "".join(traceback.format_exception(error)))


def _reason(text: str) -> bytes:
    return text[:_LONGEST_REASON].encode("utf-8", "replace")


class Runner(Protocol):
    """One slot of a function."""

    def start(self, job: Job, report: Report) -> "asyncio.Future[Outcome]":
        """Call the function with `job`, whose payload is still encoded. `report` takes its progress, in the loop."""

    def interrupt(self) -> None:
        """End the function that runs, as far as that is possible."""

    def close(self) -> None:
        """Free what the runner holds. A function that still runs is given up."""


class TaskRunner:
    """Runs an `async` function in the worker's event loop; an interrupt cancels it."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._task: asyncio.Task[Outcome] | None = None

    def start(self, job: Job, report: Report) -> "asyncio.Future[Outcome]":
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._function.perform_async(job, _in_loop(loop, report)))
        return self._task

    def interrupt(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        self.interrupt()


class ThreadRunner:
    """Runs a plain function in a thread of its own, which stays for the next job.

    Nothing can end a thread: an interrupt does nothing, and a thread that is given up lives until the process ends.
    That is why they are daemon threads and not those of an executor, for which Python waits at exit.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Job, Report, asyncio.Future[Outcome]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._outcome: asyncio.Future[Outcome] | None = None

    def start(self, job: Job, report: Report) -> "asyncio.Future[Outcome]":
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"workq-{self._function.name}", daemon=True)
            self._thread.start()
        outcome = self._outcome = self._loop.create_future()
        self._jobs.put((job, _in_loop(self._loop, report), outcome))
        return outcome

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        self._jobs.put(None)
        if self._outcome is not None:
            self._outcome.cancel()

    def _perform(self, job: Job, report: Report) -> Outcome:
        return self._function.perform(job, report)

    def _serve(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, report, future = item
            outcome = self._perform(job, report)
            with contextlib.suppress(RuntimeError):  # the event loop is closed: the worker gave this job up
                self._loop.call_soon_threadsafe(_resolve, future, outcome)


def _in_loop(loop: asyncio.AbstractEventLoop, report: Report) -> Report:
    """`report` for another thread than that of `loop`."""

    def pass_on(data: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens any more
            loop.call_soon_threadsafe(report, data)

    return pass_on


def _resolve(future: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


class ProcessRunner(ThreadRunner):
    """Runs a plain function in a process of its own, which stays for the next job; an interrupt kills it.

    The runner's thread talks to the process, so that a process that dies takes one job with it and nothing else.
    """

    # A fork would copy the event loop, its sockets and the other threads' locks into the child.
    _processes = multiprocessing.get_context("spawn")

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: multiprocessing.connection.Connection | None = None
        self._is_interrupted = False

    def start(self, job: Job, report: Report) -> "asyncio.Future[Outcome]":
        self._is_interrupted = False
        return super().start(job, report)

    def interrupt(self) -> None:
        self._is_interrupted = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        super().close()
        self.interrupt()

    def _perform(self, job: Job, report: Report) -> Outcome:
        try:
            pipe = self._send(job)
            while isinstance(said := pipe.recv(), bytes):
                report(said)
            outcome: Outcome = said
            return outcome
        except (EOFError, OSError) as error:
            return Outcome(Verdict.FAILED, _reason(f"the process that ran it {self._bury() or error}"))
        except Exception as error:  # whatever it is, it must not end the thread, for which the slot would wait for ever
            self.interrupt()
            self._bury()
            return _failure(error)

    def _send(self, job: Job) -> "multiprocessing.connection.Connection":
        """Give the process the job, and another one if it died while it had none: this job has not begun then."""
        if self._process is not None and not self._process.is_alive():
            self._bury()
        pipe = self._pipe or self._start_process()
        try:
            pipe.send(job)
        except OSError:  # it died after that look
            if self._is_interrupted:
                raise
            self._bury()
            pipe = self._start_process()
            pipe.send(job)
        return pipe

    def _start_process(self) -> "multiprocessing.connection.Connection":
        self._pipe, childs_end = self._processes.Pipe()
        process = self._processes.Process(
            target=_serve_in_child, args=(childs_end, self._function), name=f"workq-{self._function.name}", daemon=True
        )
        process.start()
        childs_end.close()
        self._process = process
        if self._is_interrupted:  # before there was a process to kill
            process.kill()
        return self._pipe

    def _bury(self) -> str:
        """Forget the process, which is dead; tell how it ended."""
        process = self._process
        self._process = self._pipe = None
        if process is None:
            return ""
        process.join()
        code = process.exitcode or 0
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended itself with status {code}"


def _serve_in_child(pipe: "multiprocessing.connection.Connection", function: Function) -> None:
    """What the process of a `ProcessRunner` does."""
    # Signals for the whole process group are the worker's business: it lets running jobs finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            job: Job = pipe.recv()
            pipe.send(function.perform(job, pipe.send))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def make_runner(function: Function) -> Runner:
    """The runner that suits the function."""
    if function.processes:
        return ProcessRunner(function)
    return TaskRunner(function) if function.is_async else ThreadRunner(function)

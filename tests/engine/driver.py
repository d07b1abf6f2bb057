"""An engine for tests: a clock that the test moves, short ways to say commands, and every reply at hand."""

from workq import commands as c
from workq.engine import Engine, Waiter
from workq.replies import JobInfo, Jobs, LeasedJob, Reply
from workq.values import JobSpec, RetryPolicy

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def job_id(number: int) -> bytes:
    """The id that tests know as a small number."""
    return number.to_bytes(16, "big")


def number_of(reply: Reply | None) -> int | None:
    """Which job was leased; None when none was."""
    return int.from_bytes(reply.job_id, "big") if isinstance(reply, LeasedJob) else None


class Call:
    """A command and, as soon as there is one, its reply."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.waiter: Waiter | None = None

    def take(self, reply: Reply) -> None:
        assert self.reply is None, f"a second reply, {reply}, after {self.reply}"
        self.reply = reply


class Driver:
    """Executes commands at a time that only `wait` moves."""

    def __init__(self, seed: int = 0, now_ms: int = START_MS) -> None:
        self.engine = Engine(now_ms, seed)
        self.now_ms = now_ms

    def start(self, command: c.Command) -> Call:
        """Execute a command that may wait."""
        call = Call()
        answer = self.engine.execute(command, self.now_ms, call.take)
        if isinstance(answer, Waiter):
            call.waiter = answer
        else:
            call.take(answer)
        return call

    def do(self, command: c.Command) -> Reply:
        """Execute a command that is answered at once."""
        reply = self.start(command).reply
        assert reply is not None, f"{command} waits"
        return reply

    def cancel(self, call: Call) -> None:
        """The client that made `call` goes away."""
        assert call.waiter is not None
        self.engine.cancel(call.waiter)

    def wait(self, ms: int) -> None:
        """Let time pass, with a tick whenever the engine asks for one, as in the server."""
        end_ms = self.now_ms + ms
        while (next_ms := self.engine.next_ms()) <= end_ms:
            self.now_ms = max(self.now_ms, next_ms)
            self.engine.tick(self.now_ms)
        self.now_ms = end_ms

    # -- commands, with what does not matter left out ------------------------------------------------------------

    def add(
        self,
        number: int,
        name: bytes = b"q",
        ttr_ms: int = 1000,
        ttl_ms: int = HOUR_MS,
        priority: int = 0,
        max_attempts: int = 0,
        max_fails: int = 0,
        retry: RetryPolicy | None = None,
        delay_ms: int = 0,
    ) -> Reply:
        spec = JobSpec(name, ttr_ms, ttl_ms, priority, max_attempts, max_fails, retry)
        return self.do(c.Add(job_id(number), spec, b"payload", delay_ms=delay_ms))

    def schedule(
        self, number: int, in_ms: int, name: bytes = b"q", ttr_ms: int = 1000, ttl_ms: int = HOUR_MS, priority: int = 0
    ) -> Reply:
        spec = JobSpec(name, ttr_ms, ttl_ms, priority)
        return self.do(c.Schedule(job_id(number), spec, self.now_ms + in_ms, b"payload"))

    def run(self, number: int, wait_ms: int, name: bytes = b"q", ttr_ms: int = 1000) -> Call:
        spec = JobSpec(name, ttr_ms, 0, foreground=True)
        return self.start(c.Run(job_id(number), spec, wait_ms, b"payload"))

    def lease(self, *names: bytes, wait_ms: int = 0, fenced: bool = False, count: int = 1) -> Call:
        return self.start(c.Lease(names or (b"q",), wait_ms, fenced, count))

    def leased(self, *names: bytes) -> int | None:
        """The number of the job that a lease gets now; None when there is none."""
        return number_of(self.lease(*names).reply)

    def complete(self, number: int, result: bytes = b"done", attempt: int = 0) -> Reply:
        return self.do(c.Complete(job_id(number), result, attempt))

    def fail(self, number: int, result: bytes = b"broken", attempt: int = 0, final: bool = False) -> Reply:
        return self.do(c.Fail(job_id(number), result, attempt, final))

    def touch(self, number: int, attempt: int = 0) -> Reply:
        return self.do(c.Touch(job_id(number), attempt))

    def progress(self, number: int, progress: bytes, attempt: int = 0, touches: bool = False) -> Reply:
        return self.do(c.Progress(job_id(number), progress, attempt, touches))

    def release(self, number: int, delay_ms: int = 0, attempt: int = 0) -> Reply:
        return self.do(c.Release(job_id(number), delay_ms, attempt))

    def delete(self, number: int) -> Reply:
        return self.do(c.Delete(job_id(number)))

    def result(self, number: int, wait_ms: int = 0) -> Call:
        return self.start(c.Result(job_id(number), wait_ms))

    def results(self, *numbers: int, wait_ms: int = 0) -> Call:
        return self.start(c.Results(tuple([job_id(number) for number in numbers]), wait_ms))

    def inspect(self, number: int) -> JobInfo:
        reply = self.do(c.InspectJob(job_id(number)))
        assert isinstance(reply, Jobs)
        return reply.jobs[0]

"""One call of a method: from the command that it sends to the value or the error that it ends with.

A client's method makes a `Call`, sends its command, and asks the call what the reply means or, when the connection
broke, when to try again. Whether the client blocks or awaits meanwhile is nothing the call knows of.
"""

import inspect
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeAlias, TypeVar

from workq import commands as c
from workq import replies as r
from workq.client.address import Address
from workq.client.codecs import CodecChoice, find_codec
from workq.client.errors import ClientError, ConnectionLost, NotFound, ServerError, Timeout, WorkqError
from workq.client.jobs import id_text
from workq.client.retry import Backoff, Broken
from workq.values import InvalidValue

P = ParamSpec("P")
T = TypeVar("T")

Seconds: TypeAlias = float | timedelta

# Sockets take no time that is much longer, and whoever says math.inf means something like this.
LONGEST_TIMEOUT_S: Final = 7 * 86_400

# Commands that the server may hold back; everything behind them on their connection waits too.
WAITING: Final = (c.Lease, c.Run, c.Result, c.Results)

# Commands that may be sent again when the connection broke before the answer, and the answers that say that the first
# one arrived. A second `run` could do the work twice, a second `fail` or `release` could end the next worker's attempt.
_REPEATABLE: Final[dict[type[c.Command], tuple[r.Reply, ...]]] = {
    c.Add: (r.DUPLICATE_JOB,),
    c.Schedule: (r.DUPLICATE_JOB,),
    c.Recur: (r.DUPLICATE_JOB,),
    c.Complete: (r.DUPLICATE_RESULT,),
    c.Touch: (),
    c.Progress: (),
    c.Ping: (),
    c.Retry: (r.NOT_FAILED,),
    c.Clear: (),
    c.ConfigureQueue: (),
    c.PauseQueue: (),
    c.ResumeQueue: (),
    c.Delete: (r.NOT_FOUND,),
    c.Lease: (),
    c.Result: (),
    c.Results: (),
    c.InspectServer: (),
    c.InspectQueue: (),
    c.InspectQueues: (),
    c.InspectJob: (),
    c.InspectJobs: (),
    c.InspectRecurring: (),
}
# The same for those that name their attempt, which can do nothing to another one.
_REPEATABLE_BY_ATTEMPT: Final[dict[type[c.Command], tuple[r.Reply, ...]]] = {
    c.Fail: (r.DUPLICATE_RESULT, r.LEASE_EXPIRED),
    c.Release: (r.LEASE_EXPIRED,),
}

_ERRORS: Final[dict[type[r.Reply], type[WorkqError]]] = {
    r.TimedOut: Timeout,
    r.NotFound: NotFound,
    r.Refused: ClientError,
    r.Unavailable: ServerError,
}


def in_seconds(value: Seconds) -> float:
    """The seconds of a user's duration."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


class Caller:
    """What the two clients share: where the server is, how values are encoded, how patient to be."""

    def __init__(
        self,
        url: str | None,
        *,
        codec: CodecChoice,
        connect_timeout: Seconds,
        reply_timeout: Seconds,
        retry_for: Seconds,
        pool_size: int,
    ) -> None:
        self._address = Address.parse(url)
        self.url = self._address.url
        try:
            self._codec = find_codec(codec)
        except InvalidValue as error:
            raise ClientError(str(error), self.url) from None
        self._connect_timeout_s = min(in_seconds(connect_timeout), LONGEST_TIMEOUT_S)
        self._reply_timeout_s = min(in_seconds(reply_timeout), LONGEST_TIMEOUT_S)
        self._retry_for_s = in_seconds(retry_for)
        for name, seconds in (("connect_timeout", self._connect_timeout_s), ("reply_timeout", self._reply_timeout_s)):
            if not seconds > 0:
                raise ClientError(f"Invalid {name}: {seconds:g} s; it must be above 0", self.url)
        if not self._retry_for_s >= 0:
            raise ClientError(f"Invalid retry_for: {self._retry_for_s:g} s; it must not be below 0", self.url)
        if pool_size < 1:
            raise ClientError(f"Invalid pool_size: {pool_size}; at least 1 connection is needed", self.url)

    def _build(
        self, build: "Callable[Concatenate[Caller, P], Call[T]]", *args: P.args, **kwargs: P.kwargs
    ) -> "Call[T]":
        """The call that `build` makes of the user's arguments; raise `ClientError` for a value that is not allowed."""
        try:
            return build(self, *args, **kwargs)
        except InvalidValue as error:
            given = inspect.signature(build).bind(self, *args, **kwargs).arguments
            job_id = str(given["id"]) if given.get("id") else None
            action = build.__name__.replace("_", " ")
            if job_id is not None:
                action = action.removesuffix(" job")  # the error itself says "job" before the id
            raise ClientError(str(error), self.url, action, job_id) from error.__cause__


class Call(Generic[T]):
    """One method call: its command, the meaning of its reply, and the rules for trying again."""

    __slots__ = ("command", "_caller", "_read", "_started", "_sent", "_give_up_at", "_backoff")

    def __init__(self, caller: Caller, command: c.Command, read: Callable[[Any], T]) -> None:
        self.command = command
        self._caller = caller
        self._read = read
        self._started = time.monotonic()
        self._sent = False
        self._give_up_at = math.inf
        self._backoff: Backoff | None = None

    @property
    def patience_s(self) -> float:
        """How long to wait for the reply before the connection counts as dead."""
        command = self.command
        patience = self._caller._reply_timeout_s
        if isinstance(command, WAITING):
            patience += command.wait_ms / 1000
        if isinstance(command, c.Run):
            patience += command.spec.ttr_ms / 1000  # a worker at work when the wait ends is waited for
        return patience

    def value(self, reply: r.Reply) -> T:
        """What the method returns, or raises, for `reply`."""
        kind = type(reply)
        if kind in _ERRORS:
            if not (self._sent and any([_same(reply, known) for known in _proofs(self.command) or ()])):
                raise self._error(_ERRORS[kind], _words(self.command, reply))
            reply = r.OK
        try:
            return self._read(reply)
        except InvalidValue as error:
            raise self._error(ClientError, str(error)) from error.__cause__

    def pause_after(self, broken: Broken) -> float:
        """Seconds to wait before the command is sent again; raise the error that ends the call if it must not be."""
        now = time.monotonic()
        self._sent = self._sent or broken.sent
        if broken.garbled:
            raise self._error(ServerError, str(broken)) from broken
        if self._backoff is None or self._broke_while_held(broken, now):
            self._backoff = Backoff()
            self._give_up_at = now + self._caller._retry_for_s
        if now >= self._give_up_at or (self._sent and _proofs(self.command) is None):
            raise self._lost(broken)
        pause = min(self._backoff.pause_s(), self._give_up_at - now)
        self._shorten_wait(now + pause)
        return pause

    def _broke_while_held(self, broken: Broken, now: float) -> bool:
        """Whether the server had been back and waited with us, so that this is another outage than the one before."""
        command = self.command
        tried_s = now - self._started
        return (
            broken.sent
            and isinstance(command, WAITING)
            and self._caller._retry_for_s < tried_s < command.wait_ms / 1000  # silence would have lasted longer
        )

    def _shorten_wait(self, now: float) -> None:
        """A repeated wait goes on until the time at which the first would have ended."""
        command = self.command
        waited_ms = int((now - self._started) * 1000)
        if isinstance(command, c.Lease):
            left_ms = max(0, command.wait_ms - waited_ms)
            self.command = c.Lease(command.names, left_ms, command.fenced, command.count)
        elif isinstance(command, c.Results):
            self.command = c.Results(command.job_ids, max(0, command.wait_ms - waited_ms))
        elif isinstance(command, c.Result):
            self.command = c.Result(command.job_id, max(0, command.wait_ms - waited_ms))
        self._started = now

    def closed(self) -> WorkqError:
        """What ends a call whose client has been closed. One that was sent may have been done all the same."""
        if self._sent and not isinstance(self.command, WAITING):
            return self._lost(Broken("the client is closed", sent=True))
        return ClientError("the client is closed", self._caller.url, _action(self.command), self._job_id())

    def _lost(self, broken: Broken) -> ConnectionLost:
        outcome = "whether the server did it is unknown" if self._sent else "nothing was sent"
        text = f"{broken}; {outcome}"
        error = ConnectionLost(text, self._caller.url, _action(self.command), self._job_id(), self._sent)
        error.__cause__ = broken
        return error

    def _error(self, kind: type[WorkqError], text: str) -> WorkqError:
        return kind(text, self._caller.url, _action(self.command), self._job_id())

    def _job_id(self) -> str | None:
        job_id = getattr(self.command, "job_id", None)
        return None if job_id is None else id_text(job_id)


def _proofs(command: c.Command) -> tuple[r.Reply, ...] | None:
    """The answers to a repeated command that say that the first one arrived; None if it must not be repeated."""
    if getattr(command, "attempt", 0) and type(command) in _REPEATABLE_BY_ATTEMPT:
        return _REPEATABLE_BY_ATTEMPT[type(command)]
    return _REPEATABLE.get(type(command))


def _same(reply: r.Reply, known: r.Reply) -> bool:
    """Whether `reply` is the `known` one; what stands behind a colon is for people."""
    if isinstance(reply, r.Refused) and isinstance(known, r.Refused):
        return reply.text.startswith(known.text.partition(":")[0])
    return reply == known


def _action(command: c.Command) -> str:
    match command:
        case c.Lease(names=names):
            return f"lease from {', '.join([name.decode() for name in names])}"
        case c.Results(job_ids=job_ids):
            return f"results of {len(job_ids)} jobs"
        case c.InspectServer():
            return "inspect server"
        case c.InspectQueue(name=name):
            return f"inspect queue {name.decode()}"
        case c.InspectQueues():
            return "inspect queues"
        case c.InspectJob():
            return "inspect"
        case c.InspectJobs(name=name, state=state):
            return f"inspect {state} jobs of {name.decode()}"
        case c.ConfigureQueue(name=name):
            return f"configure queue {name.decode()}"
        case c.Clear(name=name):
            return f"clear {name.decode()}"
        case c.PauseQueue(name=name):
            return f"pause {name.decode()}"
        case c.ResumeQueue(name=name):
            return f"resume {name.decode()}"
        case c.InspectRecurring():
            return "inspect recurring jobs"
    return type(command).__name__.lower()


def _words(command: c.Command, reply: r.Reply) -> str:
    if isinstance(reply, r.Refused | r.Unavailable):
        return reply.text
    if isinstance(command, c.Lease):
        return f"no job within {command.wait_ms / 1000:g} s"
    if isinstance(reply, r.TimedOut):
        return "no result in the time given"
    if isinstance(command, c.Results):
        return "no such jobs"
    return "no such job" if hasattr(command, "job_id") else "no such queue"

"""What both clients can do: each method once, from the arguments to the command and from the reply to the value.

`add`, `lease` and the others here build a `Call`. A client's methods are these functions wrapped in a few lines that
carry the call's command to the server, wait, and ask the call what the reply means or when to try again.
"""

import inspect as python_inspect
import math
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeAlias, TypeVar

from workq import commands as c
from workq import replies as r
from workq.client.address import Address
from workq.client.codecs import BYTES, CodecChoice, find_codec
from workq.client.errors import ClientError, ConnectionLost, NotFound, ServerError, Timeout, WorkqError
from workq.client.jobs import Job, JobInfo, JobResult, QueueInfo, ServerInfo, id_text
from workq.client.retry import Backoff, Broken
from workq.protocol.text import check_id, parse_id
from workq.values import (
    CURSOR,
    LIMIT,
    MAX_ATTEMPTS,
    MAX_FAILS,
    PAYLOAD_SIZE,
    PRIORITY,
    RESULT_SIZE,
    TTL,
    TTR,
    WAIT_TIMEOUT,
    InvalidValue,
    JobSpec,
    Range,
    check_name,
)

P = ParamSpec("P")
T = TypeVar("T")

Seconds: TypeAlias = float | timedelta
JobId: TypeAlias = str | uuid.UUID

DEFAULT_TTR: Final = timedelta(minutes=1)
DEFAULT_TTL: Final = timedelta(days=1)
DEFAULT_TIMEOUT: Final = timedelta(minutes=1)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Commands that the server may hold back; everything behind them on their connection waits too.
WAITING: Final = (c.Lease, c.Run, c.Result)

# Commands that may be sent again when a connection broke before the answer. A second `run` could do the work twice,
# a second `fail` could fail the next worker's attempt.
_REPEATABLE: Final = frozenset(
    [
        *[c.Add, c.Schedule, c.Lease, c.Complete, c.Result, c.Delete],
        *[c.InspectServer, c.InspectQueue, c.InspectQueues, c.InspectJob, c.InspectJobs, c.InspectScheduledJobs],
    ]
)
# The answer that a repeated command gets when its first try did arrive.
_DONE_BEFORE: Final[dict[type[c.Command], r.Reply]] = {
    c.Add: r.DUPLICATE_JOB,
    c.Schedule: r.DUPLICATE_JOB,
    c.Complete: r.DUPLICATE_RESULT,
    c.Delete: r.NOT_FOUND,
}

_ERRORS: Final[dict[type[r.Reply], type[WorkqError]]] = {
    r.TimedOut: Timeout,
    r.NotFound: NotFound,
    r.Refused: ClientError,
    r.Unavailable: ServerError,
}


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
        self._connect_timeout_s = in_seconds(connect_timeout)
        self._reply_timeout_s = in_seconds(reply_timeout)
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
            given = python_inspect.signature(build).bind(self, *args, **kwargs).arguments
            job_id = str(given["id"]) if given.get("id") else None
            action = build.__name__.replace("_", " ")
            raise ClientError(str(error), self.url, action, job_id) from error.__cause__

    def _closed(self) -> ClientError:
        return ClientError("the client is closed", self.url)


class Call(Generic[T]):
    """One method call: its command, the meaning of its reply, and the rules for trying again."""

    __slots__ = ("command", "_caller", "_value", "_started", "_sent", "_give_up_at", "_backoff")

    def __init__(self, caller: Caller, command: c.Command, value: Callable[[Any], T]) -> None:
        self.command = command
        self._caller = caller
        self._value = value
        self._started = time.monotonic()
        self._sent = False
        self._give_up_at = math.inf
        self._backoff: Backoff | None = None

    @property
    def patience_s(self) -> float:
        """How long to wait for the reply before the connection counts as dead."""
        command = self.command
        patience = self._caller._reply_timeout_s
        if isinstance(command, c.Lease | c.Result | c.Run):
            patience += command.wait_ms / 1000
        if isinstance(command, c.Run):
            patience += command.spec.ttr_ms / 1000  # a worker at work when the wait ends is waited for
        return patience

    def value(self, reply: r.Reply) -> T:
        """What the method returns, or raises, for `reply`."""
        kind = type(reply)
        if kind in _ERRORS:
            if not (self._sent and _same(reply, _DONE_BEFORE.get(type(self.command)))):
                raise self._error(_ERRORS[kind], _words(self.command, reply))
            reply = r.OK
        try:
            return self._value(reply)
        except InvalidValue as error:
            raise self._error(ClientError, str(error)) from error.__cause__

    def pause_after(self, broken: Broken) -> float:
        """Seconds to wait before the command is sent again; raise the error that ends the call if it must not be."""
        now = time.monotonic()
        self._sent = self._sent or broken.sent
        if broken.garbled:
            raise self._error(ServerError, str(broken)) from broken
        if self._backoff is None:
            self._backoff = Backoff()
            self._give_up_at = now + self._caller._retry_for_s
        if now >= self._give_up_at or (self._sent and type(self.command) not in _REPEATABLE):
            raise self._lost(broken)
        pause = min(self._backoff.pause_s(), self._give_up_at - now)
        self._shorten_wait(now + pause)
        return pause

    def _shorten_wait(self, now: float) -> None:
        """A repeated wait goes on until the time at which the first would have ended."""
        command = self.command
        waited_ms = int((now - self._started) * 1000)
        if isinstance(command, c.Lease):
            self.command = c.Lease(command.names, max(0, command.wait_ms - waited_ms))
        elif isinstance(command, c.Result):
            self.command = c.Result(command.job_id, max(0, command.wait_ms - waited_ms))
        self._started = now

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


def _same(reply: r.Reply, known: r.Reply | None) -> bool:
    """Whether `reply` is the `known` one; servers may add details to its text."""
    if isinstance(reply, r.Refused) and isinstance(known, r.Refused):
        return reply.text.startswith(known.text)
    return reply == known


def _action(command: c.Command) -> str:
    words = {
        c.InspectServer: "inspect server",
        c.InspectQueue: "inspect queue",
        c.InspectQueues: "inspect queues",
        c.InspectJob: "inspect",
        c.InspectJobs: "inspect jobs of",
        c.InspectScheduledJobs: "inspect scheduled jobs of",
        c.Lease: "lease from",
    }.get(type(command), type(command).__name__.lower())
    names = (
        command.names if isinstance(command, c.Lease) else [name for name in [getattr(command, "name", b"")] if name]
    )
    return " ".join([words, ", ".join([name.decode() for name in names])]).strip()


def _words(command: c.Command, reply: r.Reply) -> str:
    if isinstance(reply, r.Refused | r.Unavailable):
        return reply.text
    if isinstance(command, c.Lease):
        return f"no job within {command.wait_ms / 1000:g} s"
    if isinstance(reply, r.TimedOut):
        return "no result in the time given"
    return "no such job" if hasattr(command, "job_id") else "no such queue"


# -- arguments -----------------------------------------------------------------------------------------------------


def in_seconds(value: Seconds) -> float:
    """The seconds of a user's duration."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _ms(what: Range, value: Seconds) -> int:
    """Seconds as the milliseconds of the wire, in range."""
    if not isinstance(value, int | float | timedelta):
        raise InvalidValue(f"Invalid {what.what}: {value!r} is neither a number of seconds nor a timedelta")
    seconds = in_seconds(value)
    if not math.isfinite(seconds):
        raise what.error(f"{seconds} s")
    return what.check(round(seconds * 1000))


def _whole(what: Range, value: int) -> int:
    if not isinstance(value, int):
        raise what.error(str(value))
    return what.check(value)


def _id(value: JobId) -> bytes:
    if not isinstance(value, str | uuid.UUID):
        raise InvalidValue(f"Invalid ID: {value!r} is neither a str nor a UUID")
    return check_id(value.bytes if isinstance(value, uuid.UUID) else parse_id(value.encode()))


def _new_id(value: JobId | None) -> bytes:
    return uuid.uuid4().bytes if value is None else _id(value)


def _name(value: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidValue(f"Invalid Name: {value!r} is not a str")
    return check_name(value.encode())


def _body(size: Range, data: bytes) -> bytes:
    size.check(len(data))
    return data


@lru_cache(maxsize=4096)
def _spec(
    name: str,
    ttr: Seconds,
    ttl: Seconds | None,
    priority: int,
    max_attempts: int = 0,
    max_fails: int = 0,
) -> JobSpec:
    """The spec of a job; a `ttl` of None is that of a foreground job. Producers repeat themselves, hence the cache."""
    return JobSpec(
        _name(name),
        _ms(TTR, ttr),
        0 if ttl is None else _ms(TTL, ttl),
        _whole(PRIORITY, priority),
        _whole(MAX_ATTEMPTS, max_attempts),
        _whole(MAX_FAILS, max_fails),
        foreground=ttl is None,
    )


def _run_at_ms(at: datetime) -> int:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidValue(f"Invalid Time: {at!r} is not a datetime with a time zone")
    return (at - _EPOCH) // timedelta(milliseconds=1)


def _nothing(_: r.Ok) -> None:
    return None


# -- the methods ---------------------------------------------------------------------------------------------------


def add(
    caller: Caller,
    name: str,
    payload: Any = None,
    *,
    id: JobId | None = None,
    ttr: Seconds = DEFAULT_TTR,
    ttl: Seconds = DEFAULT_TTL,
    priority: int = 0,
    max_attempts: int = 0,
    max_fails: int = 0,
) -> Call[str]:
    """Create a job that is ready at once, and return its id.

    name          its queue: 1 to 255 of ``A-Z a-z 0-9 _ - .``
    payload       what the worker gets: bytes, or what the client's codec takes; at most 1 MiB encoded
    id            a UUID of your own, unused on the server; made up when not given
    ttr           seconds a worker has for it, 0.001 to 86 400
    ttl           seconds after which the job is gone in whatever state, its result with it
    priority      higher is leased first, -2**31 to 2**31-1
    max_attempts  leases allowed, 0 for no limit, up to 255
    max_fails     the fail that is final, up to 255; 0 and 1 both mean the first

    Raises `ClientError` for values out of range and an id in use, `ConnectionLost`, `ServerError`. When the connection
    breaks, the job is added again under its id for the client's `retry_for` seconds, so it is added once.

    Example::

        job_id = client.add("resize", b"photo.jpg", ttr=30)
    """
    job_id = _new_id(id)
    spec = _spec(name, ttr, ttl, priority, max_attempts, max_fails)
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    return Call(caller, c.Add(job_id, spec, data), lambda _: id_text(job_id))


def schedule(
    caller: Caller,
    name: str,
    payload: Any = None,
    *,
    at: datetime,
    id: JobId | None = None,
    ttr: Seconds = DEFAULT_TTR,
    ttl: Seconds = DEFAULT_TTL,
    priority: int = 0,
    max_attempts: int = 0,
    max_fails: int = 0,
) -> Call[str]:
    """Create a job that is ready at the time `at`, an aware `datetime`, and return its id.

    The TTL starts at that time. A time gone by is allowed while `at` plus `ttl` lies ahead: the job is ready at once.
    The other arguments and errors are those of `add`.

    Example::

        tomorrow = datetime.now(UTC) + timedelta(days=1)
        client.schedule("remind", b"water the plants", at=tomorrow)
    """
    job_id = _new_id(id)
    spec = _spec(name, ttr, ttl, priority, max_attempts, max_fails)
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    return Call(caller, c.Schedule(job_id, spec, _run_at_ms(at), data), lambda _: id_text(job_id))


def run(
    caller: Caller,
    name: str,
    payload: Any = None,
    *,
    timeout: Seconds = DEFAULT_TIMEOUT,
    id: JobId | None = None,
    ttr: Seconds = DEFAULT_TTR,
    priority: int = 0,
) -> Call[JobResult]:
    """Have a job done and wait for its `JobResult`. The job lives only as long as this call.

    timeout  seconds to wait for a worker, 0 to 86 400; one that is at work then is waited for until its TTR ends
    ttr, priority, payload, id   as in `add`

    A job that failed is no error here: see `JobResult.success`. Raises `Timeout`, `ClientError`, `ServerError`, and
    `ConnectionLost`, which leaves open whether a worker did the job: it is not sent a second time.

    Example::

        outcome = client.run("resize", b"photo.jpg", timeout=10)
    """
    job_id = _new_id(id)
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    command = c.Run(job_id, _spec(name, ttr, None, priority), _ms(WAIT_TIMEOUT, timeout), data)
    return Call(caller, command, lambda reply: _job_result(caller, reply))


def result(caller: Caller, id: JobId, *, timeout: Seconds = DEFAULT_TIMEOUT) -> Call[JobResult]:
    """Wait up to `timeout` seconds (0 to 86 400) for the `JobResult` of a job. It stays readable until the job's TTL.

    Raises `Timeout` when there is none yet, `NotFound`, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        outcome = client.result(job_id, timeout=30)
    """
    command = c.Result(_id(id), _ms(WAIT_TIMEOUT, timeout))
    return Call(caller, command, lambda reply: _job_result(caller, reply))


def _job_result(caller: Caller, reply: r.JobResult) -> JobResult:
    value = caller._codec.decode(reply.result) if reply.success else reply.result
    return JobResult(id_text(reply.job_id), reply.success, value)


def lease(caller: Caller, *names: str, timeout: Seconds = DEFAULT_TIMEOUT) -> Call[Job]:
    """Take the best ready `Job` of one of the queues `names`, waiting up to `timeout` seconds (0 to 86 400) for one.

    You have the job's `ttr` to `complete` or `fail` it; then it goes back to its queue.

    Raises `Timeout` when there is none, `ConnectionLost`, `ServerError`, and `ClientError`, for a payload that the
    client's codec cannot decode, too: the error's `job_id` is leased to you then.

    Example::

        job = client.lease("resize", "crop", timeout=5)
    """
    if not names:
        raise InvalidValue("Invalid Name: at least one queue is needed")
    command = c.Lease(tuple([_name(name) for name in names]), _ms(WAIT_TIMEOUT, timeout))
    return Call(caller, command, lambda reply: _job(caller, reply))


def _job(caller: Caller, reply: r.LeasedJob) -> Job:
    job_id = id_text(reply.job_id)
    try:
        payload = caller._codec.decode(reply.payload)
    except InvalidValue as error:
        raise ClientError(str(error), caller.url, "lease of", job_id) from error.__cause__
    ttr = timedelta(milliseconds=reply.ttr_ms)
    return Job(job_id, reply.name.decode(), payload, ttr.total_seconds(), datetime.now(UTC) + ttr)


def complete(caller: Caller, id: JobId, result: Any = None) -> Call[None]:
    """Finish a job with success. `result` is bytes, or what the client's codec takes; at most 1 MiB encoded.

    Raises `NotFound` for a job that is gone, `ClientError` (``Duplicate result``) for one that is finished already,
    `ConnectionLost`, `ServerError`. Like `add`, it is sent again when the connection breaks.

    Example::

        client.complete(job.id, b"320x200")
    """
    data = _body(RESULT_SIZE, caller._codec.encode(result))
    return Call(caller, c.Complete(_id(id), data), _nothing)


def fail(caller: Caller, id: JobId, reason: str | bytes = b"") -> Call[None]:
    """Say that an attempt failed, and why: text or bytes of at most 1 MiB, whatever the codec.

    The job goes back to its queue while its `max_fails` and `max_attempts` allow, else `reason` is its result.

    Raises what `complete` raises; it is never sent twice, as a second fail would count.

    Example::

        client.fail(job.id, "photo.jpg is not an image")
    """
    data = _body(RESULT_SIZE, BYTES.encode(reason))
    return Call(caller, c.Fail(_id(id), data), _nothing)


def delete(caller: Caller, id: JobId) -> Call[None]:
    """Remove a job in whatever state it is, its result with it.

    Raises `NotFound`, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        client.delete(job_id)
    """
    return Call(caller, c.Delete(_id(id)), _nothing)


def inspect_server(caller: Caller) -> Call[ServerInfo]:
    """The figures of the server. Raises `ConnectionLost`, `ServerError`.

    Example::

        print(client.inspect_server().active_clients)
    """
    return Call(caller, c.InspectServer(), ServerInfo.of)


def inspect_queue(caller: Caller, name: str) -> Call[QueueInfo]:
    """The figures of one queue. Raises `NotFound` for one never used, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        print(client.inspect_queue("resize").ready)
    """
    return Call(caller, c.InspectQueue(_name(name)), lambda reply: QueueInfo.of(reply.queues[0]))


def inspect_queues(caller: Caller, *, cursor: int = 0, limit: int = LIMIT.highest) -> Call[list[QueueInfo]]:
    """Queues by name, at most `limit` (1 to 100) of them after the first `cursor`.

    Raises `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        for queue in client.inspect_queues():
            print(queue.name, queue.ready)
    """
    command = c.InspectQueues(_whole(CURSOR, cursor), _whole(LIMIT, limit))
    return Call(caller, command, lambda reply: [QueueInfo.of(queue) for queue in reply.queues])


def inspect_job(caller: Caller, id: JobId) -> Call[JobInfo]:
    """What the server knows of a job. Raises `NotFound`, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        print(client.inspect_job(job_id).state.value)
    """
    return Call(caller, c.InspectJob(_id(id)), lambda reply: _job_infos(caller, reply)[0])


def inspect_jobs(caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest) -> Call[list[JobInfo]]:
    """The ready jobs of a queue in the order of their lease, at most `limit` (1 to 100) after the first `cursor`.

    Raises `NotFound` for a queue never used, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        next_ten = client.inspect_jobs("resize", limit=10)
    """
    command = c.InspectJobs(_name(name), _whole(CURSOR, cursor), _whole(LIMIT, limit))
    return Call(caller, command, lambda reply: _job_infos(caller, reply))


def inspect_scheduled_jobs(
    caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest
) -> Call[list[JobInfo]]:
    """The jobs of a queue that wait for their time; arguments and errors are those of `inspect_jobs`.

    Example::

        waiting = client.inspect_scheduled_jobs("remind")
    """
    command = c.InspectScheduledJobs(_name(name), _whole(CURSOR, cursor), _whole(LIMIT, limit))
    return Call(caller, command, lambda reply: _job_infos(caller, reply))


def _job_infos(caller: Caller, reply: r.Jobs) -> list[JobInfo]:
    return [JobInfo.of(info, caller._codec.decode(info.payload)) for info in reply.jobs]

"""What both clients can do, each method once: its arguments, its command, the meaning of its reply.

`Client` and `AsyncClient` have these functions as methods, wrapped in the few lines that carry a `Call` out.
"""

import logging
import math
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from workq import commands as c
from workq import replies as r
from workq.client.call import Call, Caller, Seconds, in_seconds
from workq.client.codecs import BYTES
from workq.client.errors import ClientError
from workq.client.jobs import Job, JobInfo, JobResult, QueueInfo, RecurringInfo, ServerInfo, id_text
from workq.protocol.text import check_id, parse_id
from workq.recurrence import EVERY, Rule, parse_rule
from workq.values import (
    ATTEMPT,
    BULK_COUNT,
    CURSOR,
    DELAY,
    LEASE_BURST,
    LEASE_RATE,
    LIMIT,
    MAX_ATTEMPTS,
    MAX_FAILS,
    MAX_LEASED,
    MAX_LEN,
    PAYLOAD_SIZE,
    PRIORITY,
    PROGRESS_SIZE,
    QUEUE_TTR,
    RESULT_SIZE,
    RETRY_BACKOFF,
    RETRY_DELAY,
    RETRY_MAX_DELAY,
    TTL,
    TTR,
    WAIT_TIMEOUT,
    InvalidValue,
    JobSpec,
    Range,
    RetryPolicy,
    check_name,
)

JobId: TypeAlias = str | uuid.UUID

DEFAULT_TTR: Final = timedelta(minutes=1)
DEFAULT_TTL: Final = timedelta(days=1)
DEFAULT_TIMEOUT: Final = timedelta(minutes=1)

log = logging.getLogger("workq.client")

_SMALLEST_RATE: Final = 0.001

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


# -- arguments -----------------------------------------------------------------------------------------------------


def _ms(what: Range, value: Seconds) -> int:
    """Seconds as the milliseconds of the wire, in range."""
    if not isinstance(value, int | float | timedelta):
        raise InvalidValue(f"Invalid {what.what}: {value!r} is neither a number of seconds nor a timedelta")
    try:
        seconds = in_seconds(value)
    except OverflowError:  # a whole number beyond all floats
        seconds = math.inf
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
    return check_id(value.bytes if isinstance(value, uuid.UUID) else parse_id(_bytes(value)))


def _new_id(value: JobId | None) -> bytes:
    return uuid.uuid4().bytes if value is None else _id(value)


def _name(value: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidValue(f"Invalid Name: {value!r} is not a str")
    return check_name(_bytes(value))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # bytes that are no text come so from a shell, to be refused


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
    retry_delay: Seconds = 0,
    retry_backoff: float = 1,
    retry_max_delay: Seconds = 0,
) -> JobSpec:
    """The spec of a job; a `ttl` of None is that of a foreground job. Producers repeat themselves, hence the cache."""
    return JobSpec(
        _name(name),
        _ms(TTR, ttr),
        0 if ttl is None else _ms(TTL, ttl),
        _whole(PRIORITY, priority),
        _whole(MAX_ATTEMPTS, max_attempts),
        _whole(MAX_FAILS, max_fails),
        _retry_policy(retry_delay, retry_backoff, retry_max_delay),
        foreground=ttl is None,
    )


def _retry_policy(delay: Seconds, backoff: float, max_delay: Seconds) -> RetryPolicy | None:
    """How long to wait after a fail; None for not at all, which says nothing that an old server does not know."""
    if not isinstance(backoff, int | float) or not 1 <= backoff <= 10:
        raise InvalidValue(f"Invalid {RETRY_BACKOFF.what}: {backoff!r} is not a number from 1 to 10")
    delay_ms = _ms(RETRY_DELAY, delay)
    max_delay_ms = _ms(RETRY_MAX_DELAY, max_delay)
    if delay_ms:
        return RetryPolicy(delay_ms, round(backoff * 1000), max_delay_ms)
    if backoff != 1:
        raise InvalidValue(f"Invalid {RETRY_BACKOFF.what}: {backoff:g} is nothing without a retry delay")
    if max_delay_ms:
        raise InvalidValue(
            f"Invalid {RETRY_MAX_DELAY.what}: {in_seconds(max_delay):g} s is nothing without a retry delay"
        )
    return None


def _attempt(value: int | None) -> int:
    return 0 if value is None else _whole(ATTEMPT, value)


def _lease_rate(per_s: float) -> int:
    """Leases per second as leases per 1000 s. A rate too small for that must not become 0, which is no limit at all."""
    per_1000_s = _ms(LEASE_RATE, per_s)
    if per_s and in_seconds(per_s) < _SMALLEST_RATE:
        allowed = f"the smallest rate is {_SMALLEST_RATE} leases per second, and 0 stands for no limit"
        raise InvalidValue(f"Invalid {LEASE_RATE.what}: '{per_s:g}' is too small; {allowed}")
    return per_1000_s


def _rule(every: Seconds | None, cron: str | None, zone: str | None) -> Rule:
    if every is not None and cron is None and zone is None:
        return parse_rule(f"every:{_ms(EVERY, every)}")
    if not isinstance(cron, str) or every is not None:
        raise InvalidValue("Invalid rule: either every or cron is needed, and zone only goes with cron")
    at_zone = "" if zone is None else f"@{zone}"
    return parse_rule(f"cron:{'_'.join(cron.split())}{at_zone}")


def _run_at_ms(at: datetime) -> int:
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidValue(f"Invalid Time: {at!r} is not a datetime with a time zone")
    try:
        return (at.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
    except OverflowError:
        raise InvalidValue(f"Invalid Time: {at} is not in the years 1 to 9999 of UTC") from None


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
    retry_delay: Seconds = 0,
    retry_backoff: float = 1,
    retry_max_delay: Seconds = 0,
    delay: Seconds = 0,
) -> Call[str]:
    """Create a job that is ready at once, or after a `delay`, and return its id.

    name             its queue: 1 to 255 of ``A-Z a-z 0-9 _ - .``
    payload          what the worker gets: bytes, or what the client's codec takes; at most 1 MiB encoded
    id               a UUID of your own, unused on the server; made up when not given
    ttr              seconds a worker has for it, 0.001 to 86 400
    ttl              seconds after which the job is gone in whatever state, its result with it; they begin after `delay`
    priority         higher is leased first, -2**31 to 2**31-1
    max_attempts     leases allowed, 0 for no limit, up to 255
    max_fails        the fail that is final, up to 255; 0 and 1 both mean the first
    retry_delay      seconds that it waits after a fail that is not final
    retry_backoff    what each further fail multiplies that with, 1 to 10; only with `retry_delay`
    retry_max_delay  the longest such wait in seconds, 0 for no limit; only with `retry_delay`
    delay            seconds until it is ready

    Raises `ClientError` for values out of range and an id in use, `ConnectionLost`, `ServerError`. When the connection
    breaks, the job is added again under its id for the client's `retry_for` seconds, so it is added once.

    Example::

        job_id = client.add("resize", b"photo.jpg", ttr=30)
    """
    job_id = _new_id(id)
    retry = (retry_delay, retry_backoff, retry_max_delay)
    spec = _spec(name, ttr, ttl, priority, max_attempts, max_fails, *retry)
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    return Call(caller, c.Add(job_id, spec, data, delay_ms=_ms(DELAY, delay)), lambda _: id_text(job_id))


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
    retry_delay: Seconds = 0,
    retry_backoff: float = 1,
    retry_max_delay: Seconds = 0,
) -> Call[str]:
    """Create a job that is ready at the time `at`, an aware `datetime`, and return its id.

    The TTL starts at that time. A time gone by is allowed while `at` plus `ttl` lies ahead: the job is ready at once.
    The other arguments and errors are those of `add`.

    Example::

        tomorrow = datetime.now(UTC) + timedelta(days=1)
        client.schedule("remind", b"water the plants", at=tomorrow)
    """
    job_id = _new_id(id)
    retry = (retry_delay, retry_backoff, retry_max_delay)
    spec = _spec(name, ttr, ttl, priority, max_attempts, max_fails, *retry)
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    return Call(caller, c.Schedule(job_id, spec, _run_at_ms(at), data), lambda _: id_text(job_id))


def recur(
    caller: Caller,
    name: str,
    payload: Any = None,
    *,
    every: Seconds | None = None,
    cron: str | None = None,
    zone: str | None = None,
    overlap: Literal["allow", "skip"] = "allow",
    id: JobId | None = None,
    ttr: Seconds = DEFAULT_TTR,
    ttl: Seconds = DEFAULT_TTL,
    priority: int = 0,
    max_attempts: int = 0,
    max_fails: int = 0,
    retry_delay: Seconds = 0,
    retry_backoff: float = 1,
    retry_max_delay: Seconds = 0,
) -> Call[str]:
    """Have the server add a job again and again, and return the id by which `delete` ends that.

    every    seconds between two jobs, at least 0.1; or
    cron     the five fields of cron: minute, hour, day, month, weekday
    zone     the IANA time zone whose clocks `cron` means, such as ``Europe/Berlin``; UTC when not given
    overlap  ``"skip"`` holds the next job back while the last one is unfinished

    Each job has an id of its own, made from this one and its time. The other arguments and errors are those of `add`.

    Example::

        client.recur("report", b"daily", cron="0 9 * * MON-FRI", zone="Europe/Berlin")
    """
    job_id = _new_id(id)
    retry = (retry_delay, retry_backoff, retry_max_delay)
    spec = _spec(name, ttr, ttl, priority, max_attempts, max_fails, *retry)
    if overlap not in ("allow", "skip"):
        raise InvalidValue(f"Invalid overlap: {overlap!r} is not 'allow' or 'skip'")
    data = _body(PAYLOAD_SIZE, caller._codec.encode(payload))
    command = c.Recur(job_id, spec, _rule(every, cron, zone), overlap == "skip", data)
    return Call(caller, command, lambda _: id_text(job_id))


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

    timeout  seconds to wait for a worker, 0 to 86 400; one that is at work then is waited for until its TTR ends. A
             worker that keeps the job puts that off, but this call does not wait longer than `timeout`, `ttr` and the
             client's `reply_timeout` together: choose it for the whole of the work
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


def results(caller: Caller, ids: Iterable[JobId], *, timeout: Seconds = DEFAULT_TIMEOUT) -> Call[list[JobResult]]:
    """Wait up to `timeout` seconds (0 to 86 400) for the ends of several jobs, at most 1000.

    Returns the `JobResult` of each that has one when the wait ends, in the order of `ids`; ask again for the others.
    Jobs that are not there are left out. Raises `Timeout` when there is no result yet, `NotFound` when there is none of
    these jobs, `ConnectionLost`, `ServerError`, and `ClientError`, for a result that the client's codec cannot decode,
    too: the error's `job_id` is that of the job to leave out.

    Example::

        for outcome in client.results(job_ids, timeout=30):
            print(outcome.id, outcome.success)
    """
    job_ids = tuple([_id(each) for each in ids])
    if not 1 <= len(job_ids) <= BULK_COUNT.highest:
        raise InvalidValue(f"Invalid ID: {len(job_ids)} ids are given, 1 to {BULK_COUNT.highest} are allowed")
    wait_ms = _ms(WAIT_TIMEOUT, timeout)
    if len(job_ids) == 1:
        return Call(caller, c.Result(job_ids[0], wait_ms), lambda reply: [_job_result(caller, reply)])
    command = c.Results(job_ids, wait_ms)
    return Call(caller, command, lambda reply: [_job_result(caller, each) for each in reply.results])


def _job_result(caller: Caller, reply: r.JobResult) -> JobResult:
    job_id = id_text(reply.job_id)
    value = _decoded(caller, "result of", job_id, reply.result) if reply.success else reply.result
    return JobResult(job_id, reply.success, value)


def _decoded(caller: Caller, action: str, job_id: str, data: bytes) -> Any:
    """`data` of a job as the codec reads it. Raises `ClientError`, which names the job."""
    try:
        return caller._codec.decode(data)
    except InvalidValue as error:
        raise ClientError(str(error), caller.url, action, job_id) from error.__cause__


def lease(caller: Caller, *names: str, timeout: Seconds = DEFAULT_TIMEOUT, fenced: bool = False) -> Call[Job]:
    """Take the best ready `Job` of one of the queues `names`, waiting up to `timeout` seconds (0 to 86 400) for one.

    You have the job's `ttr` to `complete` or `fail` it, or to `touch` it for more; then it goes back to its queue. Ask
    for a `fenced` lease to know your `attempt`: whoever names it cannot disturb the worker that took over.

    Raises `Timeout` when there is none, `ConnectionLost`, `ServerError`, and `ClientError`, for a payload that the
    client's codec cannot decode, too: the error's `job_id` is leased to you then.

    Example::

        job = client.lease("resize", "crop", timeout=5)
    """
    _check_names(names)
    command = c.Lease(tuple([_name(name) for name in names]), _ms(WAIT_TIMEOUT, timeout), fenced)
    return Call(caller, command, lambda reply: _job(caller, reply))


def lease_many(
    caller: Caller, *names: str, count: int, timeout: Seconds = DEFAULT_TIMEOUT, fenced: bool = False
) -> Call[list[Job]]:
    """Take up to `count` (1 to 1000) ready jobs at a time, waiting up to `timeout` seconds for the first.

    There is at least one; the other arguments and errors are those of `lease`. A job whose payload the client's codec
    cannot decode costs the others nothing: it is left out, a line in the log of ``workq.client`` names it, and it is an
    error only if there is no other.

    Example::

        for job in client.lease_many("resize", count=100):
            client.complete(job.id)
    """
    _check_names(names)
    command = c.Lease(
        tuple([_name(name) for name in names]), _ms(WAIT_TIMEOUT, timeout), fenced, _whole(BULK_COUNT, count)
    )

    def read(reply: r.LeasedJob | r.LeasedJobs) -> list[Job]:
        jobs, errors = [], []
        for each in reply.jobs if isinstance(reply, r.LeasedJobs) else [reply]:
            try:
                jobs.append(_job(caller, each))
            except ClientError as error:
                errors.append(error)
        if not jobs:
            raise errors[0]
        for each_error in errors:
            log.warning("%s; it goes back to its queue at the end of its TTR", each_error)
        return jobs

    return Call(caller, command, read)


def _check_names(names: tuple[str, ...]) -> None:
    if not names:
        raise InvalidValue("Invalid Name: at least one queue is needed")


def _job(caller: Caller, reply: r.LeasedJob) -> Job:
    job_id = id_text(reply.job_id)
    payload = _decoded(caller, "lease of", job_id, reply.payload)
    ttr = timedelta(milliseconds=reply.ttr_ms)
    return Job(
        job_id, reply.name.decode(), payload, ttr.total_seconds(), datetime.now(UTC) + ttr, reply.attempt or None
    )


def complete(caller: Caller, id: JobId, result: Any = None, *, attempt: int | None = None) -> Call[None]:
    """Finish a job with success. `result` is bytes, or what the client's codec takes; at most 1 MiB encoded.

    With the `attempt` of a fenced lease, `ClientError` (``Lease expired``) says that it does not hold the job any more.
    Raises `NotFound` for a job that is gone, `ClientError` (``Duplicate result``) for one that is finished already,
    `ConnectionLost`, `ServerError`. Like `add`, it is sent again when the connection breaks.

    Example::

        client.complete(job.id, b"320x200")
    """
    data = _body(RESULT_SIZE, caller._codec.encode(result))
    return Call(caller, c.Complete(_id(id), data, _attempt(attempt)), _nothing)


def fail(
    caller: Caller, id: JobId, reason: str | bytes = b"", *, attempt: int | None = None, final: bool = False
) -> Call[None]:
    """Say that an attempt failed, and why: text or bytes of at most 1 MiB, whatever the codec.

    The job goes back to its queue while its `max_fails` and `max_attempts` allow, after its `retry_delay`; else, or if
    this fail is `final`, `reason` is its result.

    Raises what `complete` raises, for `attempt`, too. Without one it is never sent twice, as a second fail would count.

    Example::

        client.fail(job.id, "photo.jpg is not an image")
    """
    data = _body(RESULT_SIZE, BYTES.encode(reason))
    return Call(caller, c.Fail(_id(id), data, _attempt(attempt), final), _nothing)


def touch(caller: Caller, id: JobId, *, attempt: int | None = None) -> Call[None]:
    """Keep a job that is leased: its TTR begins again.

    Raises `NotFound` for a job that is gone, `ClientError` (``Not leased``, or ``Lease expired`` for an `attempt` that
    does not hold it any more), `ConnectionLost`, `ServerError`.

    Example::

        client.touch(job.id, attempt=job.attempt)
    """
    return Call(caller, c.Touch(_id(id), _attempt(attempt)), _nothing)


def progress(
    caller: Caller, id: JobId, progress: str | bytes, *, attempt: int | None = None, touch: bool = False
) -> Call[None]:
    """Tell how far the work on a leased job is: text or bytes of at most 4096, whatever the codec; the last one counts.

    `inspect_job` shows it. With `touch` it keeps the job, too. Raises what `touch` raises.

    Example::

        client.progress(job.id, "7 of 10 pages", attempt=job.attempt)
    """
    data = _body(PROGRESS_SIZE, BYTES.encode(progress))
    return Call(caller, c.Progress(_id(id), data, _attempt(attempt), touch), _nothing)


def ping(caller: Caller) -> Call[None]:
    """Ask the server for a sign of life. Raises `ConnectionLost`, `ServerError`, and `ClientError` for an old server.

    Example::

        client.ping()
    """
    return Call(caller, c.Ping(), _nothing)


def release(caller: Caller, id: JobId, *, delay: Seconds = 0, attempt: int | None = None) -> Call[None]:
    """Give a leased job back to its queue, ready again after `delay` seconds. The attempt stays counted.

    Raises what `touch` raises. Without an `attempt` it is never sent twice.

    Example::

        client.release(job.id, delay=30, attempt=job.attempt)
    """
    return Call(caller, c.Release(_id(id), _ms(DELAY, delay), _attempt(attempt)), _nothing)


def delete(caller: Caller, id: JobId) -> Call[None]:
    """Remove a job in whatever state it is, its result with it; or end a recurring one.

    Raises `NotFound`, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        client.delete(job_id)
    """
    return Call(caller, c.Delete(_id(id)), _nothing)


def configure_queue(
    caller: Caller,
    name: str,
    *,
    max_len: int | None = None,
    max_leased: int | None = None,
    lease_rate: float | None = None,
    lease_burst: int | None = None,
    ttr: Seconds | None = None,
    max_attempts: int | None = None,
    returned: Literal["front", "back"] | None = None,
) -> Call[None]:
    """Set options of a queue; those not given stay as they are. 0 stands for no limit, or for what each job says.

    max_len       jobs that may wait, ready and scheduled, before `add` gets ``Queue full``
    max_leased    jobs that may be leased at the same time, over all workers
    lease_rate    leases per second, to a thousandth; 0.001 is the smallest
    lease_burst   leases at once after a while without any
    ttr           seconds that a lease lasts, whatever its job says
    max_attempts  leases allowed for each job, beside its own limit
    returned      where a job goes whose TTR ended: to the ``"front"``, its old place, or to the ``"back"``

    Raises `ConnectionLost`, `ServerError`, and `ClientError` for values out of range.

    Example::

        client.configure_queue("mail", max_leased=10, lease_rate=2.5)
    """
    rate = None if lease_rate is None else _lease_rate(lease_rate)
    if returned not in (None, "front", "back"):
        raise InvalidValue(f"Invalid returned: {returned!r} is not 'front' or 'back'")
    command = c.ConfigureQueue(
        _name(name),
        None if max_len is None else _whole(MAX_LEN, max_len),
        None if max_leased is None else _whole(MAX_LEASED, max_leased),
        rate,
        None if lease_burst is None else _whole(LEASE_BURST, lease_burst),
        None if ttr is None else _ms(QUEUE_TTR, ttr),
        None if max_attempts is None else _whole(MAX_ATTEMPTS, max_attempts),
        None if returned is None else returned == "back",
    )
    return Call(caller, command, _nothing)


def pause(caller: Caller, name: str) -> Call[None]:
    """Let leases of a queue wait, until `resume`; adding goes on.

    Raises `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        client.pause("mail")
    """
    return Call(caller, c.PauseQueue(_name(name)), _nothing)


def resume(caller: Caller, name: str) -> Call[None]:
    """End what `pause` began. Raises `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        client.resume("mail")
    """
    return Call(caller, c.ResumeQueue(_name(name)), _nothing)


def retry(caller: Caller, id: JobId) -> Call[None]:
    """Put a job that has failed back into its queue, as if it had not been tried.

    Raises `NotFound`, `ClientError` (``Not failed``), `ConnectionLost`, `ServerError`.

    Example::

        client.retry(job_id)
    """
    return Call(caller, c.Retry(_id(id)), _nothing)


def clear(
    caller: Caller, name: str, *, state: Literal["ready", "scheduled", "failed", "completed", "all"] = "all"
) -> Call[int]:
    """Delete the jobs of a queue that are in `state`, and return how many there were.

    Raises `NotFound` for a queue never used, `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        print(client.clear("resize", state="failed"), "deleted")
    """
    if state not in c.CLEAR_STATES:
        raise InvalidValue(f"Invalid State: {state!r} is not one of {', '.join(c.CLEAR_STATES)}")
    return Call(caller, c.Clear(_name(name), state), lambda reply: reply.deleted)


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
    return _listing(caller, "ready", name, cursor, limit)


def inspect_scheduled_jobs(
    caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest
) -> Call[list[JobInfo]]:
    """The jobs of a queue that wait for their time; arguments and errors are those of `inspect_jobs`.

    Example::

        waiting = client.inspect_scheduled_jobs("remind")
    """
    return _listing(caller, "scheduled", name, cursor, limit)


def inspect_leased_jobs(
    caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest
) -> Call[list[JobInfo]]:
    """The leased jobs of a queue, the lease that began first first; arguments and errors are those of `inspect_jobs`.

    Example::

        found = client.inspect_leased_jobs("resize", limit=10)
    """
    return _listing(caller, "leased", name, cursor, limit)


def inspect_failed_jobs(
    caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest
) -> Call[list[JobInfo]]:
    """The failed jobs of a queue, the newest failure first; arguments and errors are those of `inspect_jobs`.

    Example::

        found = client.inspect_failed_jobs("resize", limit=10)
    """
    return _listing(caller, "failed", name, cursor, limit)


def inspect_completed_jobs(
    caller: Caller, name: str, *, cursor: int = 0, limit: int = LIMIT.highest
) -> Call[list[JobInfo]]:
    """The completed jobs of a queue, the newest completion first; arguments and errors are those of `inspect_jobs`.

    Example::

        found = client.inspect_completed_jobs("resize", limit=10)
    """
    return _listing(caller, "completed", name, cursor, limit)


def inspect_recurring(caller: Caller, *, cursor: int = 0, limit: int = LIMIT.highest) -> Call[list[RecurringInfo]]:
    """The recurring jobs by id, at most `limit` (1 to 100) after the first `cursor`.

    Raises `ConnectionLost`, `ServerError`, `ClientError`.

    Example::

        for each in client.inspect_recurring():
            print(each.name, each.rule, each.next)
    """
    command = c.InspectRecurring(_whole(CURSOR, cursor), _whole(LIMIT, limit))

    def read(reply: r.RecurringJobs) -> list[RecurringInfo]:
        return [RecurringInfo.of(info, _shown_payload(caller, info.payload)) for info in reply.jobs]

    return Call(caller, command, read)


def _listing(caller: Caller, state: str, name: str, cursor: int, limit: int) -> Call[list[JobInfo]]:
    command = c.InspectJobs(_name(name), state, _whole(CURSOR, cursor), _whole(LIMIT, limit))
    return Call(caller, command, lambda reply: _job_infos(caller, reply))


def _job_infos(caller: Caller, reply: r.Jobs) -> list[JobInfo]:
    return [JobInfo.of(info, _shown_payload(caller, info.payload)) for info in reply.jobs]


def _shown_payload(caller: Caller, data: bytes) -> Any:
    """Decoded, or as it is: one job that failed because of its payload must not hide the others of the list."""
    try:
        return caller._codec.decode(data)
    except InvalidValue:
        return data

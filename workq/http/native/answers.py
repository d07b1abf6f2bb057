"""Replies of the engine as answers."""

from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from workq import replies as r
from workq.http import web
from workq.http.application import HttpError
from workq.http.native import structs as s
from workq.protocol.text import format_id

R = TypeVar("R", bound=r.Reply)

RAW: Final = "application/octet-stream"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# In the order of the numbers of `JobInfo.state`.
_STATES: Final[tuple[s.JobState, ...]] = ("new", "completed", "failed", "pending", "leased")
_STATUS: Final = dict.fromkeys(
    (r.DUPLICATE_JOB, r.DUPLICATE_RESULT, r.LEASE_EXPIRED, r.NOT_LEASED, r.NOT_FAILED, r.QUEUE_FULL), 409
)

_encode: Final = msgspec.json.Encoder().encode


def json(value: object, status: int = 200) -> web.Response:
    """`value` as JSON."""
    return web.Response(status=status, body=_encode(value), content_type="application/json")


def done() -> web.Response:
    """Nothing needs to be said."""
    return web.Response(status=204)


def expect(kind: type[R], reply: r.Reply, what: str) -> R:
    """`reply`, which should be a `kind`; raise `HttpError` for one that says no. `what` is, or is not, there."""
    if isinstance(reply, kind):
        return reply
    if isinstance(reply, r.NotFound):
        raise HttpError(404, f"There is no {what}")
    if isinstance(reply, r.Refused):
        raise HttpError(_STATUS.get(reply, 400), reply.text)
    raise TypeError(f"{reply!r} is no answer to {what}")


def wants_raw(request: web.Request) -> bool:
    """Whether the client asked for the bytes as they are."""
    return request.headers.get("Accept") == RAW


def id_text(job_id: bytes) -> str:
    """The canonical text of a job id."""
    return format_id(job_id).decode()


def moment(time_ms: int) -> datetime:
    """The UTC time of Unix milliseconds."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def text_or_bytes(data: bytes | None) -> tuple[str | UnsetType, bytes | UnsetType]:
    """`data` as the two fields in which it may be: one is set, or none without data."""
    if data is None:
        return UNSET, UNSET
    try:
        return data.decode(), UNSET
    except UnicodeDecodeError:
        return UNSET, data


def leased_job(reply: r.LeasedJob) -> s.LeasedJob:
    """A job for a worker."""
    return s.LeasedJob(
        id_text(reply.job_id), reply.name.decode(), reply.ttr_ms, reply.attempt, *text_or_bytes(reply.payload)
    )


def raw_leased_job(reply: r.LeasedJob) -> web.Response:
    """The payload alone, and in headers what goes with it."""
    headers = {
        "Workq-Id": id_text(reply.job_id),
        "Workq-Queue": reply.name.decode(),
        "Workq-Ttr-Ms": str(reply.ttr_ms),
        "Workq-Attempt": str(reply.attempt),
    }
    return web.Response(body=reply.payload, content_type=RAW, headers=headers)


def job_result(request: web.Request, reply: r.JobResult) -> web.Response:
    """The outcome of a job, as JSON or raw."""
    if wants_raw(request):
        headers = {"Workq-Id": id_text(reply.job_id), "Workq-Success": "true" if reply.success else "false"}
        return web.Response(body=reply.result, content_type=RAW, headers=headers)
    return json(outcome(reply))


def outcome(reply: r.JobResult) -> s.JobResult:
    """How a job ended."""
    return s.JobResult(id_text(reply.job_id), reply.success, *text_or_bytes(reply.result))


def job(info: r.JobInfo) -> s.Job:
    """A job as it stands."""
    return s.Job(
        id_text(info.job_id),
        info.name.decode(),
        _STATES[info.state],
        info.ttr_ms,
        info.ttl_ms,
        info.priority,
        info.max_attempts,
        info.attempts,
        info.max_fails,
        info.fails,
        moment(info.created_ms),
        moment(info.scheduled_ms) if info.scheduled_ms else None,
        *text_or_bytes(info.payload),
        *text_or_bytes(info.result),
        *text_or_bytes(info.progress or None),
    )


def recurring_job(info: r.RecurringInfo) -> s.RecurringJob:
    """A recurring job as it stands."""
    return s.RecurringJob(
        id_text(info.job_id),
        info.name.decode(),
        info.rule,
        "skip" if info.skips else "allow",
        info.ttr_ms,
        info.ttl_ms,
        info.priority,
        info.max_attempts,
        info.max_fails,
        info.occurrences,
        info.skipped,
        moment(info.next_ms) if info.next_ms else None,
        moment(info.last_ms) if info.last_ms else None,
        id_text(info.last_id) if info.last_ms else None,
        *text_or_bytes(info.payload),
    )


def queue(info: r.QueueInfo) -> s.Queue:
    """Figures of a queue."""
    options = info.options
    totals = info.totals
    return s.Queue(
        info.name.decode(),
        info.ready_len,
        info.scheduled_len,
        info.leased_len,
        info.failed_len,
        info.completed_len,
        info.leasers,
        info.oldest_ready_ms,
        options.paused,
        s.OptionsOfQueue(
            options.max_len,
            options.max_leased,
            options.lease_rate,
            options.lease_burst,
            options.ttr_ms,
            options.max_attempts,
            "back" if options.to_back else "front",
        ),
        s.Totals(
            totals.added,
            totals.leased,
            totals.completed,
            totals.failed,
            totals.returned,
            totals.expired,
            totals.deleted,
        ),
        s.LastMinute(totals.added_per_minute, totals.leased_per_minute, totals.finished_per_minute),
    )


def next_cursor(cursor: int, limit: int, count: int) -> int | None:
    """Where the next page begins, after `count` at `cursor`; None after the last."""
    return cursor + count if count == limit else None

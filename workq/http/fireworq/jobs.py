"""A job of the engine as Fireworq has it, and the other way round."""

from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec
from msgspec.json import decode, encode

from workq.archive import ArchivedJob, Fate
from workq.dispatch.target import PushResult, PushTarget
from workq.engine.job import COMPLETED, Job
from workq.http.application import HttpError
from workq.http.fireworq.definitions import DOOR
from workq.http.fireworq.structs import Ended, Failure, Kept, Pushed, PushRequest, Result, ShownJob
from workq.http.names import NumberedJobs, queue_name
from workq.http.nesting import DEEPEST, is_too_deep
from workq.replies import JobInfo
from workq.values import COUNT, DELAY, PAYLOAD_SIZE, TTL, JobSpec, RetryPolicy

# How long a lease of the dispatcher lasts; it is kept up for as long as the web worker takes.
_TTR_MS: Final = 60_000
_LEASED: Final = 4  # as `inspect job` numbers the states
_EMPTY: Final = msgspec.Raw(b'""')


def body_of(payload: msgspec.Raw) -> bytes:
    """What the web worker gets: the text of a string, nothing for nothing, else the JSON as it was written.

    Raises `HttpError` for what is too long, or nested too deeply.
    """
    raw = bytes(payload).strip()
    body = b"" if raw == b"null" else raw
    is_text = raw.startswith(b'"')
    if is_text:
        body = decode(raw, type=str).encode()
    if len(body) > PAYLOAD_SIZE.highest:
        raise HttpError(413, f"Invalid payload: it has {len(body)} bytes, at most {PAYLOAD_SIZE.highest} are allowed")
    if not is_text and is_too_deep(raw):
        raise HttpError(400, f"Invalid payload: it is nested too deeply: {DEEPEST} levels are allowed")
    return body


def compact(payload: msgspec.Raw) -> msgspec.Raw:
    """`payload` without white space, its keys and numbers as they were written."""
    return msgspec.Raw(msgspec.json.format(bytes(payload), indent=-1))


def shown_payload(body: bytes) -> msgspec.Raw:
    """A payload as inspection shows it: the JSON that was sent, or the text as a JSON string."""
    try:
        if is_too_deep(body):  # the text of a string that happens to look like this
            raise RecursionError
        decode(body)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(encode(body.decode("utf-8", "replace")))
    return compact(msgspec.Raw(body))


def target_of(request: PushRequest, queue: str, number: int, category: str, user_agent: str, alive: bool) -> PushTarget:
    """Where and how the dispatcher is to send the job. Raises `HttpError` for a job without a URL."""
    if not request.url:
        raise HttpError(400, "Missing field: url")
    kept = Kept(queue, number, category, request.timeout or 0, request.retry_delay or 0)
    timeout_ms = min((request.timeout or 0) * 1_000, DELAY.highest)
    return PushTarget(
        request.url,
        "json-status",
        timeout_ms=timeout_ms,
        user_agent=user_agent,
        keep_alive=alive,
        door=msgspec.Raw(encode(kept)),
    )


def spec_of(request: PushRequest, queue: str) -> JobSpec:
    """What the engine is told about retries."""
    return _spec(queue, request.max_retries or 0, request.retry_delay or 0)


@lru_cache(4_096)  # jobs with the same words share one
def _spec(queue: str, max_retries: int, retry_delay: int) -> JobSpec:
    retry = RetryPolicy(min(retry_delay * 1_000, DELAY.highest)) if retry_delay else None
    max_fails = min(max_retries + 1, COUNT.highest)
    return JobSpec(queue_name(DOOR, queue), _TTR_MS, TTL.highest, 0, 0, max_fails, retry)


def pushed(request: PushRequest, target: PushTarget, number: int, queue: str, category: str) -> Pushed:
    """The answer to a push."""
    return Pushed(
        number,
        queue,
        category,
        target.url,
        compact(request.payload),
        request.run_after or 0,
        request.timeout or 0,
        request.retry_delay or 0,
        request.max_retries or 0,
    )


def shown_job(job: JobInfo) -> ShownJob:
    """A job as inspection shows it. Raises `InvalidValue` for one that this door did not make."""
    target, kept = read_meta(job.meta)
    return ShownJob(
        kept.number,
        kept.category,
        target.url,
        shown_payload(job.payload) if job.payload else _EMPTY,
        "grabbed" if job.state == _LEASED else "claimed",
        shown_time(job.created_ms),
        shown_time(next_try_ms(job)),
        kept.timeout,
        job.fails,
        job.max_fails - 1,
        kept.retry_delay,
    )


def next_try_ms(job: JobInfo) -> int:
    """When a job may be sent, or might have been."""
    return job.scheduled_ms or job.created_ms


def number_of(job: JobInfo) -> int | None:
    """The number of a job; None for a job that this door did not make."""
    return NumberedJobs(job.name).number(job.job_id)


def archived(job: Job, now_ms: int) -> ArchivedJob | Fate:
    """What becomes of a job that has just finished: failures go into the failure log, successes are forgotten."""
    if job.state == COMPLETED:
        return Fate.FORGET
    target, kept = read_meta(job.meta)
    result = PushResult.from_result(job.result or b"")
    body = job.payload
    ended = Ended(kept.number, shown_payload(body) if body else _EMPTY, _told(job, result), max(job.fails, 1))
    return ArchivedJob(
        door=DOOR,
        queue=kept.queue,
        number=None,
        job_id=job.job_id,
        name=kept.category,
        created_ms=job.created_ms,
        started_ms=0 if result is None else result.started_ms,
        finished_ms=now_ms if result is None else result.finished_ms,
        url=target.url,
        data=encode(ended),
    )


def failure(entry: ArchivedJob) -> Failure:
    """An entry of the failure log as the API shows it."""
    ended = decode(entry.data, type=Ended)
    assert entry.number is not None
    return Failure(
        entry.number,
        ended.job_id,
        entry.name,
        entry.url,
        ended.payload,
        ended.result,
        ended.fail_count,
        shown_time(entry.finished_ms),
        shown_time(entry.created_ms),
    )


def shown_time(time_ms: int) -> str:
    """RFC 3339 with the server's offset from UTC, milliseconds without zeros at their end."""
    moment = datetime.fromtimestamp(time_ms // 1_000).astimezone()
    fraction = f".{time_ms % 1_000:03d}".rstrip("0").rstrip(".")
    offset = moment.strftime("%z")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{'Z' if offset == '+0000' else f'{offset[:3]}:{offset[3:5]}'}"


def read_meta(meta: bytes) -> tuple[PushTarget, Kept]:
    """What the door keeps with a job. Raises `InvalidValue` or `msgspec.DecodeError` for one that it did not make."""
    target = PushTarget.from_meta(meta)
    return target, decode(target.door, type=Kept)


def _told(job: Job, result: PushResult | None) -> Result:
    """The outcome in Fireworq's words."""
    if result is None:  # finished by somebody else than the dispatcher
        return Result("failure", 0, (job.result or b"").decode("utf-8", "replace"))
    code = result.status_code or 0
    if result.error_kind == "no-url":
        return Result("internal-failure", 0, f"Cannot create http request: {result.error}")
    if result.error_kind in ("connection", "timeout", "canceled"):
        return Result("internal-failure", 0, f"Request failed: {result.error}")
    if result.error_kind == "body":
        return Result("failure", code, f"Cannot read the response body: {result.error}")
    return Result(result.outcome, code, result.error)

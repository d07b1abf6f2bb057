"""The job object: what a client pushes, what goes into a job of the engine, and what a client is told of it."""

from http import HTTPStatus
from typing import Final, Literal, TypeAlias

import msgspec

from workq.dispatch import PushResult, PushTarget
from workq.http.application import HttpError
from workq.http.hq.ids import shown_time
from workq.http.nesting import DEEPEST, is_too_deep
from workq.values import DAY_MS, PAYLOAD_SIZE, Range
from workq.version import VERSION

USER_AGENT: Final = f"HQ/{VERSION}"
DEFAULT_NAME: Final = "default"
# A timeout that nobody means; what is longer counts as this. HQ took any 64-bit number.
_LONGEST_TIMEOUT_S: Final = 365 * DAY_MS // 1000
# Of the headers that a client gives, these have never had an effect.
_WITHOUT_EFFECT: Final = frozenset(("host", "user-agent"))
_TIMEOUTS: Final = Range("timeout", -(2**63), 2**63 - 1, "s")
_NULL: Final = msgspec.Raw(b"null")


class Push(msgspec.Struct):
    """The body of a push, as a client writes it. Unknown keys are ignored, null is like absent."""

    url: str | None = None
    name: str | None = None
    comment: str | None = None
    payload: msgspec.Raw = _NULL
    headers: dict[str, str] | None = None
    timeout: int | None = None


class Restart(msgspec.Struct):
    """The body of a restart."""

    copy: bool | None = None


class Given(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client gave that the dispatcher has no use for, or not in this form: kept in `PushTarget.door`."""

    name: str = DEFAULT_NAME
    comment: str = ""
    headers: dict[str, str] | None = None
    timeout_s: int = 0


class HqJob(msgspec.Struct, rename="camel"):
    """A job as clients see it: its keys in the order in which they come."""

    canceled: bool
    comment: str
    created_at: str
    err: str
    failure: bool
    finished_at: str | None
    headers: dict[str, str] | None
    id: str
    name: str
    output: str
    payload: msgspec.Raw
    running: bool
    started_at: str | None
    status: str
    status_code: int | None
    success: bool
    timeout: int
    url: str
    waiting: bool


# The states in which a job is, or has ended, apart from the stop that was asked for.
State: TypeAlias = Literal["waiting", "running", "finished"]

_decode_given: Final = msgspec.json.Decoder(Given).decode
_encode: Final = msgspec.json.Encoder().encode


def given_of(push: Push) -> Given:
    """What a push says apart from its URL and payload. Raises `InvalidValue`."""
    timeout_s = _TIMEOUTS.check(push.timeout or 0)
    return Given(push.name or DEFAULT_NAME, push.comment or "", push.headers, timeout_s)


def payload_of(push: Push) -> bytes:
    """The body of the request to the web worker: the payload to the byte, nothing for null. Raises `HttpError`."""
    payload = bytes(push.payload)
    if len(payload) > PAYLOAD_SIZE.highest:
        raise HttpError(413, f"The payload has {len(payload)} bytes, at most {PAYLOAD_SIZE.highest} are allowed")
    if is_too_deep(payload):
        raise HttpError(400, f"The payload is nested too deeply: {DEEPEST} levels are allowed")
    return b"" if payload == b"null" else payload


def target_of(number: int, url: str, given: Given) -> PushTarget:
    """What the dispatcher has to know to send the job `number`."""
    headers = [("X-Hq-Job-Id", str(number))]
    if given.headers:
        headers += [item for item in given.headers.items() if item[0].lower() not in _WITHOUT_EFFECT]
    return PushTarget(
        url=url,
        verdict="200",
        headers=tuple(headers),
        timeout_ms=min(max(given.timeout_s, 0), _LONGEST_TIMEOUT_S) * 1000,
        user_agent=USER_AGENT,
        door=msgspec.Raw(_encode(given)),
    )


def given_in(target: PushTarget) -> Given:
    """What was given to `target_of`."""
    return _decode_given(target.door)


def flags_of(result: PushResult) -> tuple[bool, bool, bool]:
    """Success, failure and canceled of a job that ended with `result`."""
    success = result.outcome == "success"
    canceled = result.error_kind == "canceled"
    # One that was stopped before its turn came is no failure: nothing was tried.
    return success, not success and not (canceled and result.started_ms == 0), canceled


def status_of(state: State, success: bool, failure: bool, canceled: bool) -> str:
    """The status in a word."""
    if state != "finished":
        return "canceling" if canceled else state
    if failure:
        return "failure"
    if success:
        return "success"
    return "canceled" if canceled else "unknown"


def pushed_object(number: int, created_ms: int, url: str, given: Given, payload: bytes) -> HqJob:
    """The job as the answers to push and restart tell it: not begun, and as if it did not wait either."""
    job = job_object(number, created_ms, url, given, payload, "waiting")
    job.waiting, job.status = False, "unfinished"
    return job


def job_object(
    number: int,
    created_ms: int,
    url: str,
    given: Given,
    payload: bytes,
    state: State,
    result: PushResult | None = None,
    *,
    started_ms: int = 0,
    canceling: bool = False,
) -> HqJob:
    """The job as it is: `result` for one that has finished, `started_ms` and `canceling` for one that is running."""
    success, failure, canceled = False, False, canceling
    finished_at: str | None = None
    err, output, status_code = "", "", None
    if result is not None:
        success, failure, canceled = flags_of(result)
        started_ms, finished_at = result.started_ms, shown_time(result.finished_ms)
        err, output, status_code = _err(result) if failure else "", result.output, result.status_code
    return HqJob(
        canceled=canceled,
        comment=given.comment,
        created_at=shown_time(created_ms),
        err=err,
        failure=failure,
        finished_at=finished_at,
        headers=given.headers,
        id=str(number),
        name=given.name,
        output=output,
        payload=msgspec.Raw(msgspec.json.format(payload, indent=-1)) if payload else _NULL,
        running=state == "running",
        started_at=shown_time(started_ms) if started_ms else None,
        status=status_of(state, success, failure, canceled),
        status_code=status_code,
        success=success,
        timeout=given.timeout_s,
        url=url,
        waiting=state == "waiting",
    )


def _err(result: PushResult) -> str:
    """Why it failed, in HQ's words."""
    kind, error = result.error_kind, result.error
    if kind == "status" and result.status_code is not None:
        return _reason_phrase(result.status_code)
    if kind == "no-url":
        return f"failed to create new request: {error}"
    if kind == "body":
        return f"failed to read http response body: {error}"
    if kind == "timeout":
        return f"failed to do http request: {error} (Client.Timeout exceeded while awaiting headers)"
    if kind == "canceled":
        return f"failed to do http request: {error}: context canceled"
    return f"failed to do http request: {error}" if kind == "connection" else error


def _reason_phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

"""How the answer of a web worker is judged."""

from http import HTTPStatus
from typing import Final

import msgspec

from workq.dispatch.answer import OUTPUT_LIMIT
from workq.dispatch.target import ErrorKind, Outcome, Verdict
from workq.halves import decode_halves

# What an error quotes of an answer that it cannot read.
_QUOTED: Final = 500


class Judgement(msgspec.Struct, frozen=True):
    """What an answer means; `error` is the web worker's message where the verdict is by its words."""

    outcome: Outcome
    error_kind: ErrorKind | None = None
    error: str = ""


SUCCESS: Final = Judgement("success")


class _Words(msgspec.Struct):
    """What a web worker says under json-status; None is like absent."""

    status: str | None = None
    message: str | None = None


_decode_words: Final = msgspec.json.Decoder(_Words).decode


def judge(verdict: Verdict, status_code: int, body: bytes, cut: bool = False) -> Judgement:
    """What an answer means that has come as a whole; `cut` says whether `body` is only its beginning."""
    if verdict == "json-status":
        return _judge_words(body, cut)
    if status_code == 200 or (verdict == "2xx" and 200 <= status_code < 300):
        return SUCCESS
    return Judgement("failure", "status", f"{status_code} {phrase(status_code)}".rstrip())


def phrase(status_code: int) -> str:
    """The reason phrase of a status, "" for one that is unknown."""
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return ""


def _judge_words(body: bytes, cut: bool) -> Judgement:
    try:
        words = _read_words(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = str(error)
        if cut:
            reason = f"it has more than {OUTPUT_LIMIT} bytes, of which no more are looked at"
        elif isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        return Judgement("failure", "answer", f"Cannot parse body as JSON: {reason}: {_quoted(body)}")
    status, message = words.status or "", words.message or ""
    if status == "success":
        return Judgement("success", None, message)
    if status == "failure":
        return Judgement("failure", "answer", message)
    if status == "permanent-failure":
        return Judgement("permanent-failure", "answer", message)
    return Judgement("failure", "answer", f"Invalid result status: {status!r}: {_quoted(body)}")


def _read_words(body: bytes) -> _Words:
    """The words of an answer; what is no UTF-8 is replaced.

    Raises `msgspec.DecodeError`, `ValueError`, `RecursionError`.
    """
    try:
        return decode_halves(_decode_words, body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace").encode()
        if text == body:
            raise
        return decode_halves(_decode_words, text)


def _quoted(body: bytes) -> str:
    text = body[: 4 * _QUOTED].decode("utf-8", "replace")
    return text if len(body) <= _QUOTED else text[:_QUOTED] + "..."

"""What a pushed job carries, and what becomes of it: the agreement between the doors and the dispatcher.

A pushed job is an ordinary job: its payload is the body of the request, as it is; its meta is a `PushTarget`; retries
are those of its `JobSpec`. When it has finished its result is a `PushResult`. Both are JSON.
"""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from workq.values import META_SIZE, RESULT_SIZE, InvalidValue

# How an answer is judged:
#   200          success is exactly this status
#   2xx          success is any of these
#   json-status  the status counts for nothing; success is a body {"status": "success"}, other words are "failure" and
#                "permanent-failure" (which is not retried), each with a "message" if the web worker likes
Verdict: TypeAlias = Literal["200", "2xx", "json-status"]

Outcome: TypeAlias = Literal["success", "failure", "permanent-failure"]

# Why a push was no success, for doors that have words of their own for it:
#   no-url      the job carries no URL that a request could be sent to, or meta that is no `PushTarget`
#   connection  there was no answer: refused, unknown host, address denied, TLS, closed, not HTTP, too many redirects
#   timeout     the time was over before the head of the answer came
#   canceled    somebody stopped it while it was being sent
#   body        the answer's body broke off, or the time was over while it came
#   status      the answer has a status that is no success
#   answer      under json-status: the web worker said so, or said something else than it should
ErrorKind: TypeAlias = Literal["no-url", "connection", "timeout", "canceled", "body", "status", "answer"]

# What a result of ours can say; anybody can finish a job, with anything. A day before the year 10000, so that doors can
# show it in every time zone.
_Time: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999 - 86_400_000)]
_StatusCode: TypeAlias = Annotated[int, msgspec.Meta(ge=100, le=999)]

# How many jobs of a queue are sent at a time at most: each takes a connection.
MOST_SENDING: Final = 1_000

# In bytes, room in a result that is worth an output.
_LEAST_ROOM: Final = 4_096


class PushTarget(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where and how to send a job.

    url           http or https; checked when the job is sent
    verdict       how the answer is judged
    headers       sent beside ours, in this order, names as often as they come; those that say how the request is framed
                  (Host, Content-Length, Transfer-Encoding, Connection) are left out
    timeout_ms    for the whole exchange, from connecting to the last byte; 0 for no limit
    content_type  of the payload
    user_agent    who we say we are; "" for workq/VERSION
    keep_alive    whether the connection may be used again
    door          what the door wants to have back with the job, as JSON
    """

    url: str
    verdict: Verdict = "2xx"
    headers: tuple[tuple[str, str], ...] = ()
    timeout_ms: int = 0
    content_type: str = "application/json"
    user_agent: str = ""
    keep_alive: bool = True
    door: msgspec.Raw = msgspec.Raw(b"null")

    def to_meta(self) -> bytes:
        """As the meta of a job. Raises `InvalidValue` when it is too long."""
        meta = _encode(self)
        META_SIZE.check(len(meta))
        return meta

    @staticmethod
    def from_meta(meta: bytes) -> "PushTarget":
        """Read the meta of a job. Raises `InvalidValue` for what is none."""
        try:
            return _decode_target(meta)
        except (msgspec.DecodeError, ValueError) as error:
            raise InvalidValue(f"Invalid push target: {error}") from None


class PushResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a job, at its last attempt.

    outcome      permanent-failure is one that was not to be retried
    started_ms   when the last request began; 0 when none ever did
    finished_ms  when the answer was judged
    status_code  of the answer; None when there was none
    error_kind   None for success
    error        what went wrong, in neutral words; under json-status, the "message" of the web worker, success or not
    output       the body of the answer as text, up to a limit
    output_cut   whether there was more
    """

    outcome: Outcome
    started_ms: _Time
    finished_ms: _Time
    status_code: _StatusCode | None = None
    error_kind: ErrorKind | None = None
    error: str = ""
    output: str = ""
    output_cut: bool = False

    def to_result(self) -> bytes:
        """As the result of a job; an output that is too long for one is cut, and so is a message in `error` then."""
        result = _encode(self)
        if len(result) <= RESULT_SIZE.highest:
            return result
        shorter = self
        # An output for which there is hardly room beside the message would be cut a thousand times, and hardly be left.
        bare = msgspec.structs.replace(self, output="", output_cut=True)
        without = _encode(bare)
        if RESULT_SIZE.highest - len(without) < _LEAST_ROOM:
            shorter, result = bare, without
        while len(result) > RESULT_SIZE.highest and shorter.output:
            room, taken = RESULT_SIZE.highest - len(without), len(result) - len(without)
            shorter = msgspec.structs.replace(shorter, output=_cut(shorter.output, room, taken), output_cut=True)
            result = _encode(shorter)
        while len(result) > RESULT_SIZE.highest:
            shorter = msgspec.structs.replace(shorter, error=_cut(shorter.error, RESULT_SIZE.highest, len(result)))
            result = _encode(shorter)
        return result

    @staticmethod
    def from_result(result: bytes) -> "PushResult | None":
        """Read the result of a job; None for what the dispatcher did not write.

        That is so for a job that lost its last attempt without a word (b""), or was finished by somebody else.
        """
        try:
            return _decode_result(result)
        except (msgspec.DecodeError, ValueError):
            return None


class PushedQueue(msgspec.Struct):
    """What is kept about a pushed queue: how many of its jobs are sent at a time."""

    concurrency: int


def _cut(text: str, room: int, taken: int) -> str:
    """The beginning of `text`, which has `taken` so many bytes, for a smaller `room`; it may be too long still."""
    return text[: len(text) * room // (taken + _LEAST_ROOM // 4)]


_encode: Final = msgspec.json.Encoder().encode
_decode_target: Final = msgspec.json.Decoder(PushTarget).decode
_decode_result: Final = msgspec.json.Decoder(PushResult).decode

"""The bodies of requests and answers: JSON."""

from typing import Final, TypeVar

import msgspec

from workq.halves import decode_halves
from workq.http.application import HttpError
from workq.http.web import Request, Response

T = TypeVar("T")

_encode: Final = msgspec.json.Encoder().encode


def read_json(request: Request, decoder: msgspec.json.Decoder[T | None]) -> T | None:
    """The JSON of the body, whatever its Content-Type says. Raises `HttpError`."""
    try:
        return decode_halves(decoder.decode, request.body)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise HttpError(400, f"Invalid JSON: {error}") from None


def json_answer(value: object) -> Response:
    """`value` as an answer."""
    return Response(body=_encode(value), content_type="application/json")

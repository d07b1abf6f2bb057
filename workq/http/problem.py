"""Errors of our own API: `application/problem+json` (RFC 9457), one shape everywhere."""

from http import HTTPStatus
from typing import Final

import msgspec

from workq.http import web

CONTENT_TYPE: Final = "application/problem+json"
_encode: Final = msgspec.json.Encoder().encode


class Problem(msgspec.Struct):
    """What is wrong: the status and its name, and in `detail` the value, and what is allowed."""

    status: int
    title: str
    detail: str
    request_id: str


def problem(request: web.Request, status: int, text: str) -> web.Response:
    """The error as an answer."""
    body = _encode(Problem(status, HTTPStatus(status).phrase, text, request.id))
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE)

"""The access log: a line for each request, as text or as JSON."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from workq.background_log import open_line_log
from workq.http import web

_encode: Final = msgspec.json.Encoder().encode


class _Line(msgspec.Struct):
    time: str
    request_id: str
    remote: str | None
    method: str
    path: str  # with the query, as it was sent
    status: int
    bytes: int  # of the answer, with its head
    duration_ms: float


class AccessLog:
    """Writes a line about each request to `logger`, as JSON or as text."""

    def __init__(self, logger: logging.Logger, *, as_json: bool) -> None:
        self._logger = logger
        self._as_json = as_json

    def write(self, request: web.Request, status: int, size: int, seconds: float) -> None:
        """`request` was answered with `status` and so many bytes."""
        line = _Line(
            datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            request.id,
            request.remote,
            request.method,
            request.target,
            status,
            size,
            round(seconds * 1000, 3),
        )
        if self._as_json:
            self._logger.info("%s", _encode(line).decode())
        else:
            self._logger.info(
                "%s %s %s %s %s %d %d %.3f ms",
                line.time,
                line.request_id,
                line.remote,
                line.method,
                line.path,
                line.status,
                line.bytes,
                line.duration_ms,
            )


def open_access_log(form: Literal["off", "text", "json"], file: Path | None) -> AccessLog | None:
    """The access log in `form`, in `file` or on standard output. Raises `OSError` if it cannot be written."""
    return None if form == "off" else AccessLog(open_line_log("access log", file), as_json=form == "json")

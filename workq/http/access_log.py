"""The access log: a line for each request, as text or as JSON."""

import logging
import sys
import time
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final, Literal

import attrs
import msgspec
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web import BaseRequest, StreamResponse

from workq.http.application import BEGAN_S, REQUEST_ID

_encode: Final = msgspec.json.Encoder().encode


@attrs.frozen
class AccessLog:
    """Where lines go, and who writes them."""

    logger: logging.Logger
    writer: type[AbstractAccessLogger]


class _Line(msgspec.Struct):
    time: str
    request_id: str
    remote: str | None
    method: str
    path: str  # with the query, as it was sent
    status: int
    bytes: int  # of the answer, with its head
    duration_ms: float


def _line(request: BaseRequest, response: StreamResponse) -> _Line:
    now_s = time.perf_counter()  # aiohttp's own measure is that of its loop, and so coarse
    return _Line(
        datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        request.get(REQUEST_ID, "-"),
        request.remote,
        request.method,
        request.raw_path,
        response.status,
        response.body_length,
        round((now_s - request.get(BEGAN_S, now_s)) * 1000, 3),
    )


class _JsonWriter(AbstractAccessLogger):
    def log(self, request: BaseRequest, response: StreamResponse, duration_s: float) -> None:
        self.logger.info("%s", _encode(_line(request, response)).decode())


class _TextWriter(AbstractAccessLogger):
    def log(self, request: BaseRequest, response: StreamResponse, duration_s: float) -> None:
        line = _line(request, response)
        self.logger.info(
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
    """The access log in `form`, in `file` or on standard output. Raises `OSError` if it cannot be written.

    A file that is renamed or removed is begun anew, so programs that rotate logs need tell nobody.
    """
    if form == "off":
        return None
    handler = logging.StreamHandler(sys.stdout) if file is None else WatchedFileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("workq.access", logging.INFO)
    logger.addHandler(handler)
    return AccessLog(logger, _JsonWriter if form == "json" else _TextWriter)

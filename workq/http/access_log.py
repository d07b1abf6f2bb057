"""The access log: a line for each request, as text or as JSON."""

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Final, Literal, TextIO

import msgspec

from workq.background_log import BackgroundHandler
from workq.http import web

log = logging.getLogger("workq.http")

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


class _Complaint(logging.Handler):
    """Tells once that the access log cannot be written, and once that it can be again.

    where  it is
    """

    where: str
    _problem = ""  # with the line that is being written
    _is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        self._problem = ""
        try:
            super().emit(record)
        except OSError:  # the file is to be begun anew
            self.handleError(record)
        if self._problem and not self._is_failing:
            log.error("cannot write the access log %s: %s", self.where, self._problem)
        elif self._is_failing and not self._problem:
            log.info("the access log %s can be written again", self.where)
        self._is_failing = self._problem != ""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        self._problem = (error.strerror if isinstance(error, OSError) else None) or repr(error)


class _Output(_Complaint, logging.StreamHandler[TextIO]):
    where = "on standard output"


class _File(_Complaint, WatchedFileHandler):
    def __init__(self, file: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.where = str(file)


def open_access_log(form: Literal["off", "text", "json"], file: Path | None) -> AccessLog | None:
    """The access log in `form`, in `file` or on standard output. Raises `OSError` if it cannot be written.

    A file that is renamed or removed is begun anew, so programs that rotate logs need tell nobody. A thread does the
    writing.
    """
    if form == "off":
        return None
    handler = _Output(sys.stdout) if file is None else _File(file)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("workq.access", logging.INFO)
    logger.addHandler(BackgroundHandler(handler, "access log"))
    return AccessLog(logger, as_json=form == "json")

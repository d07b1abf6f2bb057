"""Lines of logs that a thread writes: a reader who is slow, or does not read at all, holds up nobody.

A pipe to a log driver or a terminal takes some 64 KiB, and then a write waits for its reader, for ever if need be.
"""

import logging
import sys
import time
from contextlib import suppress
from logging.handlers import QueueHandler, WatchedFileHandler
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Final, TextIO

# Records that wait to be written. A busy server writes so many in about a second, and they are some MiB at most.
MOST_WAITING: Final = 4_096
# For how long the end of the process waits for what reads its logs.
FINISH_SECONDS: Final = 1.0

log = logging.getLogger("workq")

_all: Final[list["BackgroundHandler"]] = []


class BackgroundHandler(QueueHandler):
    """Has a thread give records to `target`. While too many wait, others are dropped, and it is told how many.

    name  what `target` writes: "log", "access log"
    """

    def __init__(self, target: logging.Handler, name: str) -> None:
        self._records: Queue[logging.LogRecord | None] = Queue(MOST_WAITING)
        super().__init__(self._records)
        self._target = target
        self._name = name
        self._dropped = 0
        self._is_over = False
        self._writer = Thread(target=self._write, name=f"workq-{name.replace(' ', '-')}", daemon=True)
        self._writer.start()
        _all.append(self)

    def enqueue(self, record: logging.LogRecord) -> None:
        """Take `record`, if there is room. (`Handler.handle` holds the lock.)"""
        if self._dropped or self._records.full():  # once full, until all is written: then one report tells of them
            self._dropped += 1
        else:
            self._records.put_nowait(record)

    def finish(self, timeout_s: float) -> bool:
        """Write what waits; whether that was done by then. Nothing that is logged later will be written."""
        give_up = time.monotonic() + timeout_s
        self._is_over = True
        with suppress(Full):
            self._records.put(None, timeout=timeout_s)  # wakes the thread
        self._writer.join(max(0.0, give_up - time.monotonic()))
        return not self._writer.is_alive()

    def _write(self) -> None:
        while not self._is_over or not self._records.empty():
            record = self._records.get()
            if record is not None:
                self._target.handle(record)
            if self._records.empty():
                self._report_dropped()

    def _report_dropped(self) -> None:
        if not self._dropped:
            return
        self.acquire()
        dropped, self._dropped = self._dropped, 0
        self.release()
        log.warning("%d lines of the %s were dropped, because it was not read", dropped, self._name)


class _Complaint(logging.Handler):
    """Tells once that its lines cannot be written, and once that they can be again.

    what  "the access log FILE"
    """

    what: str
    _problem = ""  # with the line that is being written
    _is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        self._problem = ""
        try:
            super().emit(record)
        except OSError:  # the file is to be begun anew
            self.handleError(record)
        if self._problem and not self._is_failing:
            log.error("cannot write %s: %s", self.what, self._problem)
        elif self._is_failing and not self._problem:
            log.info("%s can be written again", self.what)
        self._is_failing = self._problem != ""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        self._problem = (error.strerror if isinstance(error, OSError) else None) or repr(error)


class _Output(_Complaint, logging.StreamHandler[TextIO]):
    pass


class _File(_Complaint, WatchedFileHandler):
    pass


def open_line_log(name: str, file: Path | None) -> logging.Logger:
    """What writes the messages it is given, and nothing else, to `file` or to standard output.

    A file that is renamed or removed is begun anew, so programs that rotate logs need tell nobody.

    name  what it is called in reports: "access log"

    Raises `OSError` if it cannot be written.
    """
    handler = _Output(sys.stdout) if file is None else _File(file, encoding="utf-8")
    handler.what = f"the {name} {'on standard output' if file is None else file}"
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger(name, logging.INFO)
    logger.addHandler(BackgroundHandler(handler, name))
    return logger


def finish_all() -> bool:
    """Write what waits in all logs; whether that was done in `FINISH_SECONDS`."""
    give_up = time.monotonic() + FINISH_SECONDS
    # The first one last: it is told what the others have dropped.
    finished = [handler.finish(max(0.0, give_up - time.monotonic())) for handler in reversed(_all)]
    return all(finished)

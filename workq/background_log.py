"""Lines of logs that a thread writes: a reader who is slow, or does not read at all, holds up nobody.

A pipe to a log driver or a terminal takes some 64 KiB, and then a write waits for its reader, for ever if need be.
"""

import logging
import time
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Thread
from typing import Final

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


def finish_all() -> bool:
    """Write what waits in all logs; whether that was done in `FINISH_SECONDS`."""
    give_up = time.monotonic() + FINISH_SECONDS
    # The first one last: it is told what the others have dropped.
    finished = [handler.finish(max(0.0, give_up - time.monotonic())) for handler in reversed(_all)]
    return all(finished)

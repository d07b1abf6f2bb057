"""Logs that a thread writes: nobody waits for their readers, and what could not be written is counted."""

import logging
import threading
from collections.abc import Iterator

import pytest

from workq import background_log
from workq.background_log import MOST_WAITING, BackgroundHandler, finish_all

PATIENCE_S = 10.0


class Target(logging.Handler):
    """Keeps lines, while it may."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.has_begun.set()
        assert self.may_go_on.wait(PATIENCE_S)
        self.lines.append(record.getMessage())


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def logger(target: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger that writes to `target`, as that of the server does."""
    monkeypatch.setattr(background_log, "_all", [])
    monkeypatch.setattr(background_log, "FINISH_SECONDS", PATIENCE_S)
    logger = logging.Logger("workq", logging.INFO)
    monkeypatch.setattr(background_log, "log", logger)
    handler = BackgroundHandler(target, "log")
    logger.addHandler(handler)
    yield logger
    target.may_go_on.set()
    assert handler.finish(PATIENCE_S)


def test_all_that_waits_is_written_at_the_end_in_order(logger: logging.Logger, target: Target) -> None:
    for number in range(100):
        logger.info("line %d", number)
    target.may_go_on.set()
    assert finish_all()
    assert target.lines == [f"line {number}" for number in range(100)]


def test_what_is_too_much_is_dropped_and_counted(logger: logging.Logger, target: Target) -> None:
    logger.info("line %d", 0)
    assert target.has_begun.wait(PATIENCE_S)
    for number in range(1, MOST_WAITING + 8):
        logger.info("line %d", number)
    target.may_go_on.set()
    assert finish_all()
    assert target.lines[: MOST_WAITING + 1] == [f"line {number}" for number in range(MOST_WAITING + 1)]
    assert target.lines[MOST_WAITING + 1 :] == ["7 lines of the log were dropped, because it was not read"]


def test_a_reader_that_never_reads_is_not_waited_for(
    logger: logging.Logger, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_log, "FINISH_SECONDS", 0.01)
    for number in range(2 * MOST_WAITING):
        logger.info("line %d", number)
    assert not finish_all()


def test_what_other_logs_have_dropped_is_told(logger: logging.Logger, target: Target) -> None:
    slow = Target()
    access = logging.Logger("access", logging.INFO)
    access.addHandler(BackgroundHandler(slow, "access log"))
    access.info("line")
    assert slow.has_begun.wait(PATIENCE_S)
    for _ in range(MOST_WAITING + 3):
        access.info("line")
    slow.may_go_on.set()
    target.may_go_on.set()
    assert finish_all()
    assert target.lines == ["3 lines of the access log were dropped, because it was not read"]

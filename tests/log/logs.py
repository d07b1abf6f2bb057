"""Logs with known contents, made without a server."""

from pathlib import Path
from random import Random

from tests.engine.replay import one_by_one
from tests.log.disks import QuickFiles
from tests.log.states import START_MS, Snapshot, Story, snapshot
from workq.engine import Engine
from workq.engine.state import State
from workq.log import FileLog
from workq.log.filelog import open_files
from workq.log.files import Files
from workq.log.records import FRAME, Decoder, encode

SEGMENT_SIZE = 2048


def quietly(done: int, total: int) -> None:
    """No progress report."""


def opened(where: Path | Files, state: State) -> FileLog:
    """The log in a directory or in `Files`, opened for use; `state` is brought to where it ends."""
    files = where if isinstance(where, Files) else QuickFiles(where)
    return open_files(files, SEGMENT_SIZE, state, quietly)


def reopened(where: Path | Files) -> State:
    """The state after the log in a directory or in `Files` was opened for use, and closed in good order."""
    state = State(START_MS)
    opened(where, state).close()
    return state


def written(directory: Path, random: Random, turns: int) -> tuple[FileLog, list[Snapshot]]:
    """A log with a story of `turns` batches, each synced, still open; and the states after each event."""
    engine = Engine(START_MS)
    log = opened(directory, engine.state)
    told = State(START_MS)
    decoder = Decoder()
    snapshots = [snapshot(told)]
    story = Story(engine, random)
    for _ in range(turns):
        for _ in range(random.randrange(1, 4)):
            story.step()
        for event in one_by_one(engine.events):
            decoder.decode(encode([event])[FRAME.size :]).apply(told)
            snapshots.append(snapshot(told))
        if engine.events:
            log.append(encode(engine.events), encode([engine.counters()]))
            log.sync()
            engine.events.clear()
    return log, snapshots

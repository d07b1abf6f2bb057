"""What a crash leaves is read back as it was up to some moment, and not before the last acknowledgement.

A story of commands runs through the real group commit onto files that remember what was durable. Then power is cut
after every so many file operations, and what any disk may hold then is opened.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.engine.replay import one_by_one
from tests.log.disks import Kernel, MemoryFiles, Note, RecordingFiles, cut_power, kill_process, segment_files
from tests.log.logs import SEGMENT_SIZE, quietly, reopened
from tests.log.states import START_MS, Snapshot, Story, snapshot
from workq.commit import GroupCommit, Holder, SyncPolicy
from workq.engine import Engine
from workq.engine.events import Counters, Event
from workq.engine.state import State
from workq.log.filelog import open_files
from workq.log.records import FRAME, Decoder, encode
from workq.log.replay import replay
from workq.replies import Unavailable

# More on request.
STORIES = int(os.environ.get("WORKQ_TEST_STORIES", 1))
SEED = int(os.environ.get("WORKQ_TEST_SEED", 0)) or random.SystemRandom().getrandbits(32)


class Waiting(Holder):
    """Stands for the clients of a turn: notes among the file operations when they are answered."""

    def __init__(self, files: RecordingFiles, events: int) -> None:
        self._files = files
        self._events = events

    def hold(self) -> None:
        pass

    def release(self, lost: Unavailable | None) -> None:
        if lost is None:
            self._files.operations.append(Note(self._events))


class Told:
    """A story that was told to a log: the file operations with a `Note` for each acknowledgement, and the events."""

    def __init__(self, files: RecordingFiles, policy: SyncPolicy, rng: Random) -> None:
        self.files = files
        self.events: list[Event] = []
        self.engine = Engine(START_MS)
        self._base = State(START_MS)
        replay(files, self._base, quietly)
        self._log = open_files(files, SEGMENT_SIZE, self.engine.state, quietly)
        self._policy = policy
        self._rng = rng

    async def tell(self, turns: int, trouble: frozenset[str] = frozenset()) -> None:
        """Run commands; now and then one of the file operations named in `trouble` fails for a while."""
        rng = self._rng
        commit = GroupCommit(self.engine, self._log, self._policy, 0.002, asyncio.get_running_loop())
        story = Story(self.engine, rng)
        for _ in range(turns):
            if trouble and rng.random() < 0.05:
                self.files.broken = {rng.choice(sorted(trouble))}
            elif rng.random() < 0.3:
                self.files.broken = set()
            self.engine.held = commit.is_broken or commit.admit_steps() == 0
            for _ in range(rng.randrange(1, 6)):
                if self.engine.held or commit.admit(300) is not None:
                    break
                story.step()
            if self.engine.events:
                self.events += one_by_one(self.engine.events)
                commit.hold(Waiting(self.files, len(self.events)))
            commit.end_turn()
            await asyncio.sleep(rng.choice((0, 0, 0.0005)))
        self.files.broken = set()
        while commit.is_broken:
            await asyncio.sleep(0.001)
        await commit.close()

    def snapshots(self) -> list[Snapshot]:
        """The states that the story went through, one per event."""
        decoder = Decoder()
        snapshots = [snapshot(self._base)]
        for event in self.events:
            decoder.decode(encode([event])[FRAME.size :]).apply(self._base)
            snapshots.append(snapshot(self._base))
        assert snapshots[-1] == snapshot(self.engine.state)
        return snapshots


def acknowledged(operations: list[object]) -> int:
    """How many events clients were told of by then."""
    return max([note.value for note in operations if isinstance(note, Note)], default=0)


def moments(files: RecordingFiles, rng: Random, count: int) -> Iterator[list[object]]:
    """What had been done to `files` at some moments: the last ones, and others."""
    numbers = range(files.settled, len(files.operations) + 1)
    for number in sorted({*numbers[-8:], *rng.sample(numbers, min(count, len(numbers)))}):
        yield files.operations[:number]


class Starts:
    """Starts after crashes. A third of them finds the same files as one before, and so would do the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[str, bytes], ...], tuple[Snapshot, dict[str, bytes]]] = {}

    def start(self, contents: dict[str, bytes]) -> tuple[Snapshot, dict[str, bytes]]:
        """The state after a start with files of these `contents`, and what is in the files after it."""
        key = tuple(sorted(contents.items()))
        if key not in self._known:
            files = MemoryFiles(contents)
            self._known[key] = snapshot(reopened(files)), files.contents
        return self._known[key]


@pytest.fixture
def rng() -> Random:
    """Dice. What a failed test was seeded with is printed."""
    print(f"to repeat: WORKQ_TEST_SEED={SEED}")
    return Random(SEED)


TROUBLES = ({"sync"}, {"write"}, {"allocate"}, {"create"}, {"remove"}, {"sync_directory"})


@pytest.mark.parametrize(
    "trouble", [set(), *TROUBLES, set.union(*TROUBLES)], ids=lambda trouble: "+".join(sorted(trouble)) or "none"
)
@pytest.mark.parametrize(
    ("policy", "by_kernel"),
    [("always", True), ("always", False), ("interval", False), ("os", False)],
    ids=["always", "always-by-thread", "interval", "os"],
)
async def test_crash(policy: SyncPolicy, by_kernel: bool, trouble: set[str], rng: Random, tmp_path: Path) -> None:
    for story in range(STORIES):
        home = tmp_path / f"story-{story}"
        home.mkdir()
        for _ in range(2):
            files = RecordingFiles(home)
            files.kernel = Kernel(files) if by_kernel else None
            told = Told(files, policy, rng)
            await told.tell(150, frozenset(trouble))
            snapshots = told.snapshots()
            assert snapshot(reopened(home)) == snapshots[-1]
            starts = Starts()
            for past in moments(told.files, rng, 30):
                first = acknowledged(past)
                survived, _ = starts.start(kill_process(past, rng))
                assert survived in snapshots[first:]
                survived, left = starts.start(cut_power(past, rng))
                assert survived in snapshots[first if policy == "always" else 0 :]
                assert starts.start(left)[0] == survived
            for name in segment_files(home):
                (home / name).unlink()
            for name, content in left.items():  # the next life begins with what a crash left
                (home / name).write_bytes(content)


def test_a_start_after_a_failed_sync_does_not_build_on_sand(rng: Random, tmp_path: Path) -> None:
    """What a failed sync has lost may still be in the system's memory when the server is started again."""
    home = tmp_path / "home"
    home.mkdir()
    files = RecordingFiles(home)
    batches = [encode([Counters(number, number)]) for number in range(1, 4)]

    log = open_files(files, SEGMENT_SIZE, State(START_MS), quietly)
    log.append(batches[0], b"")
    log.sync()
    log.append(batches[1], b"")
    files.broken = {"sync"}
    with pytest.raises(OSError, match="Input/output error"):
        log.sync()
    log.abandon()  # killed before it could write its state afresh
    files.broken = set()

    log = open_files(files, SEGMENT_SIZE, State(START_MS), quietly)
    log.append(batches[2], b"")
    log.sync()
    acknowledged_operations = list(files.operations)
    log.abandon()
    for _ in range(50):
        assert reopened(MemoryFiles(cut_power(acknowledged_operations, rng))).evicted_jobs == 3

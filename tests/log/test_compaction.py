"""The disk follows what lives, not what has happened; and nothing that lives is lost on the way."""

import asyncio
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.log.disks import QuickFiles, segment_files
from tests.log.logs import opened, quietly, reopened
from tests.log.states import START_MS, snapshot
from workq import commands as c
from workq.commit import GroupCommit, SyncPolicy
from workq.engine import Engine
from workq.engine.events import Carried
from workq.engine.job import LEASED, READY
from workq.log.compaction import Compaction
from workq.log.errors import Damage
from workq.log.filelog import open_files
from workq.log.records import encode, trimmed
from workq.replies import Reply
from workq.values import JobSpec

IDS = [bytes([number]) * 16 for number in range(1, 7)]
NAMES = (b"mail", b"thumbs")


def unheard(reply: Reply) -> None:
    """Nobody waits."""


specs = st.builds(
    JobSpec,
    st.sampled_from(NAMES),
    st.sampled_from((10, 100)),
    st.sampled_from((60, 10_000)),
    st.sampled_from((0, 3)),
    st.integers(0, 2),
    st.integers(0, 2),
)
ids = st.sampled_from(IDS)
blobs = st.binary(max_size=300)
# What may happen: a command, time that passes, a step of compaction, a restart.
happenings = st.one_of(
    st.builds(c.Add, ids, specs, blobs, st.sampled_from((b"", b"m"))),
    st.builds(c.Schedule, ids, specs, st.integers(START_MS - 50, START_MS + 300), blobs),
    st.builds(c.Lease, st.sampled_from(((b"mail",), (b"thumbs", b"mail"))), st.sampled_from((0, 50))),
    st.builds(c.Complete, ids, blobs),
    st.builds(c.Fail, ids, blobs),
    st.builds(c.Delete, ids),
    st.builds(c.PutDocument, st.sampled_from(NAMES), blobs),
    st.integers(1, 120),
    st.floats(1, 5000),
    st.none(),
)


class Life:
    """An engine with a log, to which things happen one at a time, each in a batch of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now_ms = START_MS
        self._open()

    def _open(self) -> None:
        self.engine = Engine(self.now_ms)
        self.log = opened(self.directory, self.engine.state)
        self._compaction = Compaction(self.log, self.engine)

    def happen(self, what: c.Command | int | float | None) -> None:
        match what:
            case c.Command():
                self.engine.execute(what, self.now_ms, unheard)
                self._commit()
            case int():
                self.now_ms += what
                self.engine.tick(self.now_ms)
                self._commit()
            case float():
                self.compact(int(what))
            case None:
                self.restart()

    def compact(self, budget: int) -> None:
        """A step of compaction, whether it is worth while or not, if there is something to compact."""
        if not self.log.ends:
            return
        finished = self._compaction.step(budget, lambda size: True)
        self._commit(finished)
        if finished:
            self.log.trim(finished)
            self._compaction.trimmed()

    def restart(self) -> None:
        before = snapshot(self.engine.state)
        self._compaction.stop()
        self.log.close()
        self._open()
        assert snapshot(self.engine.state) == before

    def _commit(self, finished: int = 0) -> None:
        events = self.engine.events
        tail = b""
        if finished:
            events.append(self.engine.counters())
            tail = trimmed(finished)
        if events:
            self.log.append(encode(events) + tail, encode([self.engine.counters()]))
            self.log.sync()
            events.clear()


@given(st.lists(happenings, max_size=120))
@settings(max_examples=150, deadline=None)
def test_whatever_happens_replay_gives_the_same_state(story: list[c.Command | int | float | None]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        life = Life(Path(directory))
        for what in story:
            life.happen(what)
        life.restart()
        for _ in range(3):  # all that was written before is written again
            for _ in list(life.log.ends):
                life.compact(10**6)
            life.restart()
        life.log.close()


async def steady_load(directory: Path, policy: SyncPolicy, segment_size: int) -> list[int]:
    """Add, lease, complete and delete for a while beside jobs that wait; return what is beyond the bound, per turn."""
    engine = Engine(START_MS)
    log = open_files(QuickFiles(directory), segment_size, engine.state, quietly)
    commit = GroupCommit(engine, log, policy, 0.01, asyncio.get_running_loop())
    random = Random(9)
    spec = JobSpec(b"mail", 60_000, 10**9)
    beyond = []
    for _ in range(200):
        engine.execute(c.Add(random.randbytes(16), JobSpec(b"later", 60_000, 10**9), bytes(100)), START_MS, unheard)
    live_bytes = len(encode([Carried(job) for job in engine.state.jobs.values()]))
    for _ in range(1500):
        batch = [random.randbytes(16) for _ in range(8)]
        for job_id in batch:
            engine.execute(c.Add(job_id, spec, bytes(100)), START_MS, unheard)
        for _ in batch:
            engine.execute(c.Lease((b"mail",), 0), START_MS, unheard)
        for job_id in batch:
            engine.execute(c.Complete(job_id, bytes(20)), START_MS, unheard)
            engine.execute(c.Delete(job_id), START_MS, unheard)
        assert commit.admit(len(batch) * 1000) is None
        commit.end_turn()
        await commit.drain()
        disk = sum([(directory / name).stat().st_size for name in segment_files(directory)])
        beyond.append(disk - 3 * live_bytes - 2 * segment_size)
    await commit.close()
    return beyond


@pytest.mark.parametrize("policy", ["always", "interval", "os"])
async def test_disk_use_stays_within_three_times_the_live_data_and_two_segments(
    policy: SyncPolicy, tmp_path: Path
) -> None:
    assert max(await steady_load(tmp_path, policy, 65_536)) <= 0
    assert int(segment_files(tmp_path)[-1][:10]) > 30  # so many were written
    assert len(reopened(tmp_path).jobs) == 200


def test_damage_found_on_the_way_is_told(tmp_path: Path) -> None:
    life = Life(tmp_path)
    spec = JobSpec(b"mail", 60_000, 10**9)
    for number in range(1, 60):
        life.happen(c.Add(bytes([number]) * 16, spec, bytes(50)))
    with (tmp_path / "0000000001.seg").open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    with pytest.raises(Damage, match=r"0000000001\.seg is damaged at offset "):
        life.compact(10**6)
    life.log.abandon()


def test_without_room_nothing_is_carried(tmp_path: Path) -> None:
    engine = Engine(START_MS)
    log = opened(tmp_path, engine.state)
    spec = JobSpec(b"mail", 60_000, 10**9)
    for number in range(1, 60):
        engine.execute(c.Add(bytes([number]) * 16, spec, bytes(50)), START_MS, unheard)
        log.append(encode(engine.events), encode([engine.counters()]))
        engine.events.clear()
    compaction = Compaction(log, engine)
    asked: list[int] = []

    def admit(size: int) -> bool:
        asked.append(size)
        return len(asked) % 2 == 0

    carried = 0
    while not (finished := compaction.step(10**6, admit)):
        carried += len(engine.events)
        engine.events.clear()
    carried += len(engine.events)
    assert finished == 1
    assert carried == len(asked) // 2
    log.abandon()


def test_jobs_that_were_written_anew_are_still_the_oldest(tmp_path: Path) -> None:
    """In `oldest-ready-age`, and in the list of the leased ones."""
    engine = Engine(START_MS)
    log = opened(tmp_path, engine.state)
    spec = JobSpec(b"mail", 60_000, 600_000)
    for number in range(1, 5):
        engine.execute(c.Add(bytes([number]) * 16, spec, b"x"), START_MS + number, unheard)
    for number in (1, 2):
        engine.execute(c.Lease((b"mail",), 0), START_MS + 10 + number, unheard)
    for number in (1, 3):
        engine.carry(engine.state.jobs[bytes([number]) * 16])
    log.append(encode(engine.events), encode([engine.counters()]))
    log.close()
    queue = reopened(tmp_path).queues[b"mail"]
    assert [job.job_id[0] for job in queue.lists[LEASED]] == [1, 2]
    assert [job.job_id[0] for job in queue.lists[READY]] == [3, 4]

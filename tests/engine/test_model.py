"""The engine does, for every client, what the plain rules of `model.py` say."""

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.invariants import check_engine
from tests.engine.life import Life
from tests.engine.model import Model
from tests.engine.replay import replayed
from tests.engine.snapshot import snapshot
from tests.engine.steps import IDS, NAMES, Step, histories, looks, option_steps, starts, steps
from workq import commands as c
from workq.engine import NEVER_MS, Engine
from workq.replies import Reply


class Twins(Life):
    """An engine and a model that live through the same history and are compared at every turn."""

    def __init__(self, now_ms: int, seed: int) -> None:
        super().__init__(Engine(now_ms, seed), now_ms)
        self.model = Model(now_ms)

    def live(self, step: Step) -> None:
        super().live(step)
        self.compare()

    def execute(self, command: c.Command) -> Reply | None:
        answer = super().execute(command)
        self._tell()
        expected = self.model.execute(self.clients, command)
        assert answer == expected
        if expected is not None:
            self.model.replies[self.clients] = expected
        if self.engine.next_ms() <= self.now_ms:
            self.tick(self.now_ms)
        return answer

    def hang_up(self, client: int) -> None:
        super().hang_up(client)
        self.model.cancel(client)

    def tick(self, now_ms: int) -> None:
        super().tick(now_ms)
        self._tell()
        self.model.tick(now_ms)
        self.compare()

    def _tell(self) -> None:
        """Let the model know what the engine told whom since the last comparison."""
        self.model.told = {client: reply for _, client, reply in self.replies}

    def compare(self) -> None:
        check_engine(self.engine, self.now_ms)
        assert {client: reply for _, client, reply in self.replies} == self.model.replies
        self.replies.clear()
        self.model.replies.clear()
        assert list(self.waiting) == [waiter.client for waiter in self.model.waiters]
        assert self.engine.state.evicted_jobs == self.model.evicted_jobs
        next_ms = self.model.next_ms()
        assert self.engine.next_ms() <= (NEVER_MS if next_ms is None else next_ms)

    def compare_inspection(self) -> None:
        self.execute(c.InspectQueues(0, 100))
        self.execute(c.InspectRecurring(0, 100))
        for name in NAMES:
            self.execute(c.InspectJobs(name, "ready", 0, 100))
            self.execute(c.InspectJobs(name, "scheduled", 0, 100))
            self.execute(c.InspectJobs(name, "leased", 0, 100))
            self.execute(c.InspectJobs(name, "failed", 0, 100))
            self.execute(c.InspectJobs(name, "completed", 0, 100))
        for job_id in IDS:
            self.execute(c.InspectJob(job_id))
        assert not self.engine.events
        self.compare()


@settings(max_examples=300)
@given(histories(st.one_of(steps, steps, steps, looks)), starts, st.integers(0, 3))
def test_the_engine_follows_the_model(history: list[Step], now_ms: int, seed: int) -> None:
    twins = Twins(now_ms, seed)
    for step in history:
        twins.live(step)
    twins.compare_inspection()


@settings(max_examples=200)
@given(histories(option_steps), starts)
def test_the_engine_follows_the_model_in_the_options_of_queues(history: list[Step], now_ms: int) -> None:
    twins = Twins(now_ms, 0)
    for step in history:
        twins.live(step)
    twins.compare_inspection()


class Overdue(Life):
    """A life with so much to do that one tick never does more than a piece of it, and commands come in between."""

    def tick(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.engine.tick(now_ms)
        check_engine(self.engine, self.now_ms)

    def sleep(self, end_ms: int) -> None:
        self.tick(end_ms)


@settings(max_examples=100)
@given(histories(steps), starts)
def test_work_left_for_the_next_tick_is_no_loose_end(history: list[Step], now_ms: int) -> None:
    life = Overdue(Engine(now_ms), now_ms)
    with patch("workq.engine.engine.TICK_STEPS", 1):
        for step in history:
            life.live(step)
            check_engine(life.engine, life.now_ms)
    assert snapshot(replayed(life.events, now_ms)) == snapshot(life.engine.state)


@settings(max_examples=50)
@given(histories(steps, longest=40), starts)
def test_in_the_end_everybody_is_answered(history: list[Step], now_ms: int) -> None:
    """When time goes on and nobody comes, all waits end, and so do the jobs whose TTL is not endless."""
    twins = Twins(now_ms, 0)
    for step in history:
        twins.live(step)
    for job_id in list(twins.engine.state.recurring):
        twins.live(c.Delete(job_id))
    twins.sleep(now_ms + 10**11)
    assert not twins.waiting
    assert all(job.spec.ttl_ms > 10**11 for job in twins.engine.state.jobs.values())

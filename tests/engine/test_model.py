"""The engine does, for every client, what the plain rules of `model.py` say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.invariants import check_engine
from tests.engine.model import Model
from tests.engine.steps import IDS, NAMES, HangUp, Sleep, Stall, Step, at, histories, looks, starts, steps
from workq import commands as c
from workq.engine import NEVER_MS, Engine, Waiter
from workq.replies import LeasedJob, Reply


class Twins:
    """An engine and a model that live through the same history."""

    def __init__(self, now_ms: int, seed: int) -> None:
        self.now_ms = now_ms
        self.engine = Engine(now_ms, seed)
        self.model = Model(now_ms)
        self.waiting: dict[int, Waiter] = {}
        self.replies: dict[int, Reply] = {}
        self.clients = 0

    def live(self, step: Step) -> None:
        if isinstance(step, Stall):
            self.tick(self.now_ms + step.ms)
        elif isinstance(step, Sleep):
            self.sleep(self.now_ms + step.ms)
        elif isinstance(step, HangUp):
            self.hang_up(step.which)
        else:
            self.execute(at(step, self.now_ms))
        self.compare()

    def execute(self, command: c.Command) -> None:
        self.clients += 1
        client = self.clients

        def on_reply(reply: Reply) -> None:
            del self.waiting[client]
            self.replies[client] = reply

        answer = self.engine.execute(command, self.now_ms, on_reply)
        if isinstance(answer, Waiter):
            self.waiting[client] = answer
        expected = self.model.execute(client, command, answer.name if isinstance(answer, LeasedJob) else None)
        assert (answer if isinstance(answer, Reply) else None) == expected

    def hang_up(self, which: int) -> None:
        if self.waiting:
            client = list(self.waiting)[which % len(self.waiting)]
            self.engine.cancel(self.waiting.pop(client))
            self.model.cancel(client)

    def tick(self, now_ms: int) -> None:
        self.now_ms = now_ms
        while self.engine.next_ms() <= now_ms:
            self.engine.tick(now_ms)
        self.model.tick(now_ms)

    def sleep(self, end_ms: int) -> None:
        while (next_ms := self.engine.next_ms()) <= end_ms:
            self.tick(max(self.now_ms, next_ms))
            self.compare()
        self.tick(end_ms)

    def compare(self) -> None:
        check_engine(self.engine)
        assert self.replies == self.model.replies
        self.replies.clear()
        self.model.replies.clear()
        assert set(self.waiting) == {waiter.client for waiter in self.model.waiters}
        assert self.engine.state.evicted_jobs == self.model.evicted_jobs
        expected_ms = self.model.next_ms()
        assert self.engine.next_ms() <= (NEVER_MS if expected_ms is None else expected_ms)

    def compare_inspection(self) -> None:
        looks: list[c.Command] = [c.InspectQueues(0, 100)]
        looks += [look(name, 0, 100) for name in NAMES for look in (c.InspectJobs, c.InspectScheduledJobs)]
        looks += [c.InspectJob(job_id) for job_id in IDS]
        for look in looks:
            self.execute(look)


@settings(max_examples=300, deadline=None)
@given(histories(st.one_of(steps, steps, steps, looks)), starts, st.integers(0, 3))
def test_the_engine_follows_the_model(history: list[Step], now_ms: int, seed: int) -> None:
    twins = Twins(now_ms, seed)
    for step in history:
        twins.live(step)
    twins.compare_inspection()


@settings(max_examples=20, deadline=None)
@given(histories(steps, longest=40), starts)
def test_in_the_end_everybody_is_answered(history: list[Step], now_ms: int) -> None:
    """When time goes on and nobody comes, all waits end, and all lives of jobs but the endless ones."""
    twins = Twins(now_ms, 0)
    for step in history:
        twins.live(step)
    twins.sleep(now_ms + 10**11)
    assert not twins.waiting
    assert all(job.spec.ttl_ms > 10**11 for job in twins.engine.state.jobs.values())

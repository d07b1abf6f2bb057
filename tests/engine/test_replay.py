"""What the log relies on: the engine is deterministic, and its events alone bring its state back."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.life import Life
from tests.engine.replay import replayed
from tests.engine.snapshot import snapshot
from tests.engine.steps import Step, histories, starts, steps
from workq import commands as c
from workq.engine import Engine
from workq.engine.events import Event
from workq.engine.job import Job

# A lease on one queue: the dice of a restarted engine fall differently.
plain_steps = steps.filter(lambda step: not isinstance(step, c.Lease) or len(set(step.names)) == 1)


def lived(history: list[Step], now_ms: int, seed: int = 0) -> Life:
    life = Life(Engine(now_ms, seed), now_ms)
    for step in history:
        life.live(step)
    return life


def facts(event: Event) -> tuple[type[Event], tuple[object, ...]]:
    """What `event` says, without the identity of a job that it holds."""
    values = [getattr(event, name) for name in event.__match_args__]
    return type(event), tuple([value.seq if isinstance(value, Job) else value for value in values])


def carry_all(life: Life) -> None:
    """Begin the log anew: the counters, and every job and document that it keeps as it is now."""
    life.events.append(life.engine.counters())
    for job in life.engine.state.jobs.values():
        if not job.spec.foreground:
            life.engine.carry(job)
    for area, documents in enumerate(life.engine.state.documents):
        for key in documents:
            life.engine.carry_document(area, key)
    life.events += life.engine.events
    life.engine.events.clear()


@settings(max_examples=100)
@given(histories(steps), starts, st.integers(0, 3))
def test_the_same_history_gives_the_same_events_and_replies(history: list[Step], now_ms: int, seed: int) -> None:
    first, second = lived(history, now_ms, seed), lived(history, now_ms, seed)
    assert [facts(event) for event in first.events] == [facts(event) for event in second.events]
    assert first.replies == second.replies
    assert snapshot(first.engine.state) == snapshot(second.engine.state)


@settings(max_examples=200)
@given(histories(steps), starts)
def test_replayed_events_bring_the_state_back(history: list[Step], now_ms: int) -> None:
    life = lived(history, now_ms)
    assert snapshot(replayed(life.events, now_ms)) == snapshot(life.engine.state)


@settings(max_examples=100)
@given(histories(steps), histories(steps), starts)
def test_what_was_carried_makes_older_events_superfluous(before: list[Step], after: list[Step], now_ms: int) -> None:
    life = lived(before, now_ms)
    older = len(life.events)
    carry_all(life)
    for step in after:
        life.live(step)
    expected = snapshot(life.engine.state)
    assert snapshot(replayed(life.events[older:], now_ms)) == expected
    assert snapshot(replayed(life.events, now_ms)) == expected, "and changes nothing where they are still there"


@settings(max_examples=100)
@given(histories(plain_steps), histories(plain_steps), starts)
def test_after_a_restart_the_engine_goes_on_as_if_there_was_none(
    before: list[Step], after: list[Step], now_ms: int
) -> None:
    life = lived(before, now_ms)
    life.everybody_leaves()  # a restart ends all connections, and foreground jobs with them
    for job in list(life.engine.state.jobs.values()):
        if job.spec.foreground:
            life.live(c.Delete(job.job_id))
    restarted = Engine(life.now_ms)
    restarted.state = replayed([*life.events, life.engine.counters()], life.now_ms)
    for name in life.engine.state.queues:  # names of queues without jobs are all that is lost
        restarted.state.queue(name)
    second_life = Life(restarted, life.now_ms)
    life.replies.clear()
    life.clients = 0
    for step in after:
        life.live(step)
        second_life.live(step)
    assert life.replies == second_life.replies
    assert snapshot(life.engine.state) == snapshot(second_life.engine.state)

"""The table of the life of a job, and that nothing but the table happens."""

from collections.abc import Callable

import pytest

from tests.engine.driver import Driver, job_id
from workq import commands as c
from workq.engine.job import (
    COMPLETED,
    FAILED,
    GONE,
    LEASED,
    READY,
    SCHEDULED,
    STATE_NAMES,
    TRANSITIONS,
    Job,
)
from workq.engine.state import ImpossibleMove, State
from workq.values import JobSpec, RetryPolicy

STATES = range(len(STATE_NAMES))
POSSIBLE = [(state, to) for state in STATES for to in sorted(TRANSITIONS[state])]
IMPOSSIBLE = [(state, to) for state in STATES for to in STATES if to not in TRANSITIONS[state]]


def named(move: tuple[int, int]) -> str:
    return f"{STATE_NAMES[move[0]]}-{STATE_NAMES[move[1]]}"


# How the state a move begins in is reached, with job 1.
BEGINNINGS: dict[int, Callable[[Driver], object]] = {
    SCHEDULED: lambda driver: driver.schedule(1, in_ms=10),
    READY: lambda driver: driver.add(1, ttr_ms=10),
    LEASED: lambda driver: (driver.add(1, ttr_ms=10), driver.lease()),
    COMPLETED: lambda driver: (driver.add(1), driver.complete(1)),
    FAILED: lambda driver: (driver.add(1), driver.fail(1)),
}
# What makes the move.
CAUSES: dict[tuple[int, int], Callable[[Driver], object]] = {
    (SCHEDULED, READY): lambda driver: driver.wait(10),
    (READY, LEASED): lambda driver: driver.lease(),
    (LEASED, READY): lambda driver: driver.wait(10),
    (FAILED, READY): lambda driver: driver.do(c.Retry(job_id(1))),
    (READY, SCHEDULED): lambda driver: driver.fail(1),
    (LEASED, SCHEDULED): lambda driver: driver.release(1, delay_ms=10),
    **{(state, COMPLETED): lambda driver: driver.complete(1) for state in (SCHEDULED, READY, LEASED)},
    **{(state, FAILED): lambda driver: driver.fail(1) for state in (SCHEDULED, READY, LEASED)},
    **{(state, GONE): lambda driver: driver.delete(1) for state in (SCHEDULED, READY, LEASED, COMPLETED, FAILED)},
}


def job_in(state: State, number: int) -> Job:
    """A job of `state` that is in the state `number`."""
    job = Job(job_id(1), JobSpec(b"q", 1000, 1000), b"", 5, 0, 1)
    state.insert(job, number, 10)
    return job


def test_every_state_has_a_row() -> None:
    assert list(TRANSITIONS) == list(STATES)


def test_every_move_of_the_table_has_a_cause() -> None:
    assert sorted(CAUSES) == POSSIBLE


# What it takes besides, in a job that differs from the one above.
OTHER_BEGINNINGS: dict[tuple[int, int], Callable[[Driver], object]] = {
    (READY, SCHEDULED): lambda driver: driver.add(1, max_fails=2, retry=RetryPolicy(10)),
}


@pytest.mark.parametrize("move", POSSIBLE, ids=named)
def test_the_engine_makes_the_moves_of_the_table(move: tuple[int, int]) -> None:
    state, to = move
    driver = Driver()
    OTHER_BEGINNINGS.get(move, BEGINNINGS[state])(driver)
    job = driver.engine.state.jobs[job_id(1)]
    assert job.state == state
    CAUSES[move](driver)
    assert job.state == to
    assert (job_id(1) in driver.engine.state.jobs) == (to != GONE)


@pytest.mark.parametrize("move", [move for move in IMPOSSIBLE if move[0] != GONE], ids=named)
def test_a_move_that_the_table_lacks_is_impossible(move: tuple[int, int]) -> None:
    state, to = move
    store = State(5)
    job = job_in(store, state)
    with pytest.raises(ImpossibleMove, match=f"{STATE_NAMES[state]}> cannot become {STATE_NAMES[to]}"):
        store.move(job, to)
    assert job.state == state, "and changes nothing"


@pytest.mark.parametrize("to", STATES, ids=STATE_NAMES)
def test_there_is_no_way_back_from_gone(to: int) -> None:
    store = State(5)
    job = job_in(store, READY)
    store.move(job, GONE)
    with pytest.raises(ImpossibleMove):
        store.move(job, to)

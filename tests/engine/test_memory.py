"""The engine forgets what is gone, and leaves nothing to the cyclic garbage collector: the server switches it off."""

import gc

import pytest
from hypothesis import given, settings

from tests.engine.driver import START_MS, Driver
from tests.engine.life import Life
from tests.engine.steps import Step, histories, steps
from workq import commands as c
from workq.engine import Engine
from workq.engine.job import Job


def our_garbage() -> list[object]:
    """What only the collector can free, of what this project makes."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = [thing for thing in gc.garbage if type(thing).__module__.startswith("workq.")]
    gc.garbage.clear()
    return found


@pytest.mark.usefixtures("no_collector")
def test_the_search_for_garbage_finds_some() -> None:
    driver = Driver()
    driver.add(1)  # its queue and it refer to each other
    del driver
    assert our_garbage()


@pytest.mark.usefixtures("no_collector")
def test_when_all_is_over_there_is_no_garbage() -> None:
    @settings(max_examples=30)
    @given(histories(steps))
    def check(history: list[Step]) -> None:
        gc.collect()  # what hypothesis left
        life = Life(Engine(START_MS), START_MS)
        for step in history:
            life.live(step)
        life.everybody_leaves()
        for job_id in list(life.engine.state.jobs):
            life.live(c.Delete(job_id))
        life.tick(life.now_ms + 10**9)
        life.events.clear()
        assert not our_garbage()

    check()


def alive(kind: type) -> int:
    gc.collect()
    return len([thing for thing in gc.get_objects() if isinstance(thing, kind)])


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["delete", "complete", "complete in reverse", "expire", "delete leased"])
def test_jobs_that_are_gone_take_no_room(end: str) -> None:
    """Whichever way ten thousand jobs go, what is left of them is a few, not a part of them."""
    before = alive(Job)
    driver = Driver()
    driver.add(10_001, ttl_ms=10**9)
    for number in range(10_000):
        driver.add(number, ttl_ms=1000, priority=number % 3)
        if end == "delete leased":
            driver.delete(driver.leased() or 0)
    if end == "delete":
        for number in range(10_000):
            driver.delete(number)
    elif end.startswith("complete"):
        numbers = range(10_000) if end == "complete" else reversed(range(10_000))
        for number in numbers:
            driver.complete(number)
    driver.engine.events.clear()
    driver.wait(10**6)
    driver.engine.events.clear()
    assert alive(Job) - before < 500


def test_waits_that_are_over_leave_nothing() -> None:
    driver = Driver()
    driver.add(1)
    calls = [driver.lease(b"a", b"b", wait_ms=1000) for _ in range(1000)]
    calls += [driver.result(1, wait_ms=1000) for _ in range(1000)]
    for call in calls[::2]:
        driver.cancel(call)
    driver.wait(1000)
    engine = driver.engine
    assert not engine._watchers.by_job
    assert not len(engine._waits)
    assert not [queue for queue in engine.state.queues.values() if queue.leasers]

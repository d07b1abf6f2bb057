"""What the engine's work costs, counted in the lines of it that run: `python -m tests.engine.cost` prints it as JSON.

It runs in a process of its own, because only sources have lines.
"""

import json
import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

from tests.engine.sources import PACKAGE, import_sources

if __name__ == "__main__":
    import_sources()

from tests.engine.driver import Driver

ENGINE_DIRECTORY = str(PACKAGE / "engine")
FEW, MANY = 100, 800


def lines_run(life: Callable[[Driver, int], None], jobs: int) -> int:
    """How many lines of the engine run during `life`, each turn of a comprehension counting as one."""
    count = 0

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(ENGINE_DIRECTORY) else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        life(Driver(), jobs)
    finally:
        sys.settrace(before)
    return count


def shuffled(jobs: int) -> list[int]:
    numbers = list(range(jobs))
    Random(jobs).shuffle(numbers)
    return numbers


def lease_all(driver: Driver, jobs: int) -> None:
    for _ in range(jobs):
        assert driver.leased() is not None


def add_all(driver: Driver, jobs: int) -> None:
    for number in range(jobs):
        driver.add(number)


def first_in_first_out(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    lease_all(driver, jobs)
    for number in shuffled(jobs):
        driver.complete(number)


def every_lease_times_out_twice(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    for _ in range(2):
        lease_all(driver, jobs)
        driver.wait(1000)
    lease_all(driver, jobs)


def deleted_from_behind(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    for number in reversed(range(jobs)):
        driver.delete(number)


def completed_at_random_between_leases(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    for number in shuffled(jobs)[: jobs // 2]:
        driver.complete(number)
    lease_all(driver, jobs // 2)


def returned_and_deleted_at_random(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    lease_all(driver, jobs)
    driver.wait(1000)
    for number in shuffled(jobs):
        driver.delete(number)


def scheduled_for_one_moment(driver: Driver, jobs: int) -> None:
    for number in shuffled(jobs):
        driver.schedule(number, in_ms=70_000)
    driver.wait(70_000)
    lease_all(driver, jobs)


def each_with_its_own_priority(driver: Driver, jobs: int) -> None:
    for number in shuffled(jobs):
        driver.add(number, priority=number)
    lease_all(driver, jobs)


def each_with_its_own_priority_and_never_leased(driver: Driver, jobs: int) -> None:
    for number in shuffled(jobs):
        driver.add(number, priority=number)
    for number in shuffled(jobs):
        driver.complete(number)


def all_expire(driver: Driver, jobs: int) -> None:
    for number in range(jobs):
        driver.add(number, ttl_ms=1 + number % 1000 * 100)
    driver.wait(100_000)
    assert not driver.engine.state.jobs


def one_job_fails_again_and_again(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    driver.add(jobs, priority=1, ttr_ms=1)
    for _ in range(jobs):
        assert driver.leased() == jobs
        driver.wait(1)


def leases_wait_and_are_served(driver: Driver, jobs: int) -> None:
    calls = [driver.lease(b"q", b"r", wait_ms=1000) for _ in range(jobs)]
    add_all(driver, jobs)
    assert all(call.reply for call in calls)


def bulk_leases_take_all(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    for _ in range(jobs // 10):
        assert driver.lease(count=10).reply
    assert driver.leased() is None


def one_bulk_lease_takes_all_from_as_many_queues(driver: Driver, jobs: int) -> None:
    names = [b"q%d" % number for number in range(jobs // 2)]
    for number in range(jobs):
        driver.add(number, name=names[number // 2])
    assert driver.lease(*names, count=jobs).reply
    assert driver.leased(*names) is None


def bulk_leases_wait_for_one_moment(driver: Driver, jobs: int) -> None:
    calls = [driver.lease(b"q", b"r", wait_ms=100_000, count=2) for _ in range(jobs // 2)]
    for number in shuffled(jobs):
        driver.schedule(number, in_ms=70_000)
    driver.wait(70_000)
    assert all(call.reply for call in calls)


def the_results_of_all_are_awaited(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    calls = [driver.results(*range(first, first + 10), wait_ms=1000) for first in range(0, jobs, 10)]
    for number in shuffled(jobs):
        driver.complete(number)
    assert all(call.reply for call in calls)


def every_lease_is_touched_and_released(driver: Driver, jobs: int) -> None:
    add_all(driver, jobs)
    lease_all(driver, jobs)
    for number in shuffled(jobs):
        driver.touch(number)
    for number in shuffled(jobs):
        driver.release(number, delay_ms=10)
    driver.wait(10)
    lease_all(driver, jobs)


def leases_wait_and_hang_up(driver: Driver, jobs: int) -> None:
    calls = [driver.lease(b"q", b"r", wait_ms=1000) for _ in range(jobs)]
    for number in shuffled(jobs):
        driver.cancel(calls[number])


def leases_wait_and_time_out(driver: Driver, jobs: int) -> None:
    for number in range(jobs):
        driver.lease(wait_ms=1 + number)
    driver.wait(jobs)


def all_wait_for_one_result(driver: Driver, jobs: int) -> None:
    driver.add(1)
    calls = [driver.result(1, wait_ms=1000) for _ in range(jobs)]
    for call in calls[::2]:
        driver.cancel(call)
    driver.complete(1)


def runs_come_and_go(driver: Driver, jobs: int) -> None:
    calls = [driver.run(number, wait_ms=1000) for number in range(jobs)]
    lease_all(driver, jobs // 2)
    for call in reversed(calls):
        driver.cancel(call)


LIVES = [
    first_in_first_out,
    every_lease_times_out_twice,
    deleted_from_behind,
    completed_at_random_between_leases,
    returned_and_deleted_at_random,
    scheduled_for_one_moment,
    each_with_its_own_priority,
    each_with_its_own_priority_and_never_leased,
    all_expire,
    one_job_fails_again_and_again,
    leases_wait_and_are_served,
    bulk_leases_take_all,
    one_bulk_lease_takes_all_from_as_many_queues,
    bulk_leases_wait_for_one_moment,
    the_results_of_all_are_awaited,
    every_lease_is_touched_and_released,
    leases_wait_and_hang_up,
    leases_wait_and_time_out,
    all_wait_for_one_result,
    runs_come_and_go,
]


if __name__ == "__main__":
    counted = {life.__name__: [lines_run(life, jobs) for jobs in (FEW, MANY)] for life in LIVES}
    print(json.dumps(counted))

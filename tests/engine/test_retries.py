"""Another try after a `fail`: when, in which order, and that a `fail` can be the last all the same."""

import pytest

from tests.engine.driver import Driver, job_id
from workq import commands as c
from workq.engine.events import FailedOnce
from workq.replies import OK, JobResult, Jobs
from workq.values import JobSpec, RetryPolicy

NEW, COMPLETED, FAILED, PENDING, LEASED = range(5)  # as `inspect job` numbers them


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_after_a_fail_the_job_waits_as_its_policy_says(driver: Driver) -> None:
    policy = RetryPolicy(1000, 2_000, 3000)
    driver.add(1, max_fails=6, retry=policy)
    for fails in range(1, 6):
        assert driver.leased() == 1
        assert driver.fail(1) == OK
        wait_ms = policy.wait_ms(fails, job_id(1))
        assert min(1000 * 2 ** (fails - 1), 3000) <= wait_ms
        assert driver.inspect(1).state == PENDING
        assert driver.inspect(1).scheduled_ms == driver.now_ms + wait_ms
        driver.wait(wait_ms - 1)
        assert driver.leased() is None
        driver.wait(1)
    assert driver.leased() == 1
    assert driver.fail(1, b"over") == OK
    assert driver.result(1).reply == JobResult(job_id(1), False, b"over")


def test_the_log_holds_the_moment_and_not_the_policy(driver: Driver) -> None:
    """A replay in a version that counts otherwise must come to the same."""
    policy = RetryPolicy(1000)
    driver.add(1, max_fails=2, retry=policy)
    driver.leased()
    driver.fail(1)
    assert driver.engine.events[2:] == [FailedOnce(job_id(1), driver.now_ms + policy.wait_ms(1, job_id(1)))]


def test_a_lease_that_times_out_returns_at_once(driver: Driver) -> None:
    driver.add(1, ttr_ms=10, max_fails=2, retry=RetryPolicy(1000))
    assert driver.leased() == 1
    driver.wait(10)
    assert driver.leased() == 1


def test_it_wakes_who_waits_when_the_time_has_come(driver: Driver) -> None:
    driver.add(1, max_fails=2, retry=RetryPolicy(100))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    call = driver.lease(wait_ms=1000)
    driver.wait(99)
    assert call.reply is None
    driver.wait(10)
    assert call.reply is not None


def test_the_job_comes_back_to_its_old_place(driver: Driver) -> None:
    driver.add(1, max_fails=2, retry=RetryPolicy(100))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    driver.add(2)
    driver.wait(110)
    assert driver.leased() == 1
    assert driver.leased() == 2


def test_a_job_that_was_scheduled_keeps_its_time_and_its_place(driver: Driver) -> None:
    spec = JobSpec(b"q", 1000, 60_000, max_fails=2, retry=RetryPolicy(100))
    run_at_ms = driver.now_ms + 50
    driver.do(c.Schedule(job_id(1), spec, run_at_ms, b""))
    driver.do(c.Schedule(job_id(2), spec, run_at_ms + 10, b""))
    driver.wait(60)
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    driver.wait(110)
    assert driver.inspect(1).scheduled_ms == run_at_ms
    assert driver.leased() == 1


def test_those_that_wait_are_listed_by_the_moment_when_they_are_ready(driver: Driver) -> None:
    driver.add(1, max_fails=2, retry=RetryPolicy(5000))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    driver.schedule(2, in_ms=1000)
    driver.schedule(3, in_ms=9000)
    driver.schedule(4, in_ms=9000, priority=1)
    reply = driver.do(c.InspectJobs(b"q", "scheduled", 0, 10))
    assert isinstance(reply, Jobs)
    assert [int.from_bytes(job.job_id, "big") for job in reply.jobs] == [4, 2, 1, 3]


def test_a_fail_of_a_job_that_waits_is_counted_and_changes_no_time(driver: Driver) -> None:
    """A worker that is late does not hold up the next one."""
    driver.add(1, max_fails=3, retry=RetryPolicy(100, 10_000))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    due_ms = driver.inspect(1).scheduled_ms
    assert driver.fail(1) == OK
    assert driver.inspect(1).fails == 2
    assert driver.inspect(1).scheduled_ms == due_ms


def test_the_ttl_ends_it_all_the_same(driver: Driver) -> None:
    driver.add(1, ttl_ms=50, max_fails=2, retry=RetryPolicy(100))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    driver.wait(50)
    assert job_id(1) not in driver.engine.state.jobs


@pytest.mark.parametrize("finish", ["complete", "fail", "delete"])
def test_a_job_that_waits_can_be_finished_and_deleted(driver: Driver, finish: str) -> None:
    driver.add(1, max_fails=2, retry=RetryPolicy(100))
    assert driver.leased() == 1
    assert driver.fail(1) == OK
    assert getattr(driver, finish)(1) == OK
    driver.wait(200)
    assert driver.leased() is None


def test_a_fail_can_be_final_whatever_is_left(driver: Driver) -> None:
    driver.add(1, max_fails=9, retry=RetryPolicy(100))
    call = driver.result(1, wait_ms=1000)
    assert driver.leased() == 1
    assert driver.fail(1, b"bad payload", final=True) == OK
    assert call.reply == JobResult(job_id(1), False, b"bad payload")
    assert driver.inspect(1).state == FAILED
    assert driver.inspect(1).fails == 1


class TestDelay:
    """`add` with a delay is like `schedule`, counted from now."""

    def test_the_job_is_ready_when_the_delay_is_over(self, driver: Driver) -> None:
        driver.add(1, delay_ms=100)
        assert driver.inspect(1).scheduled_ms == driver.now_ms + 100
        call = driver.lease(wait_ms=1000)
        driver.wait(99)
        assert call.reply is None
        driver.wait(1)
        assert call.reply is not None

    def test_the_ttl_begins_with_its_time(self, driver: Driver) -> None:
        driver.add(1, delay_ms=100, ttl_ms=50)
        driver.wait(149)
        assert driver.inspect(1).state == NEW
        driver.wait(1)
        assert job_id(1) not in driver.engine.state.jobs

    def test_it_stands_behind_those_that_were_never_scheduled(self, driver: Driver) -> None:
        driver.add(1, delay_ms=100)
        driver.wait(100)
        driver.add(2)
        assert [driver.leased(), driver.leased()] == [2, 1]

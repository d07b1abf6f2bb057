"""Leases and how they end: the TTR, `complete`, `fail`, and the limits on attempts and fails."""

import pytest

from tests.engine.driver import Driver, job_id, number_of
from workq import commands as c
from workq.engine.events import Leased, Returned
from workq.replies import DUPLICATE_RESULT, NOT_FOUND, OK, JobResult, LeasedJob
from workq.values import JobSpec

NEW, COMPLETED, FAILED, PENDING, LEASED = range(5)  # as `inspect job` numbers them


@pytest.fixture
def driver() -> Driver:
    return Driver()


class TestTTR:
    def test_the_lease_shows_what_the_worker_needs(self, driver: Driver) -> None:
        driver.do(c.Add(job_id(1), JobSpec(b"q", 250, 60_000), b"\0\r\n"))
        assert driver.lease().reply == LeasedJob(job_id(1), b"q", 250, b"\0\r\n")
        assert driver.inspect(1).state == LEASED
        assert driver.inspect(1).attempts == 1

    def test_a_leased_job_is_given_to_nobody_else(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1000)
        assert driver.leased() == 1
        driver.wait(999)
        assert driver.leased() is None

    def test_the_end_of_the_ttr_returns_the_job(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1000)
        assert driver.leased() == 1
        driver.wait(1000)
        assert driver.inspect(1).state == PENDING
        assert driver.leased() == 1
        assert driver.inspect(1).attempts == 2

    def test_each_lease_has_its_whole_ttr(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1000, max_fails=2)
        assert driver.leased() == 1
        driver.wait(900)
        driver.fail(1)
        assert driver.leased() == 1
        driver.wait(999)
        assert driver.inspect(1).state == LEASED
        driver.wait(1)
        assert driver.inspect(1).state == PENDING

    def test_attempts_have_no_limit_by_default(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1)
        for _ in range(300):
            assert driver.leased() == 1
            driver.wait(1)
        assert driver.inspect(1).attempts == 300
        assert driver.inspect(1).state == PENDING


class TestMaxAttempts:
    @pytest.mark.parametrize("limit", [1, 2, 255])
    def test_the_last_ttr_fails_the_job_with_an_empty_result(self, driver: Driver, limit: int) -> None:
        driver.add(1, ttr_ms=10, max_attempts=limit)
        for attempt in range(1, limit + 1):
            assert driver.leased() == 1
            driver.wait(10)
            assert driver.inspect(1).state == (FAILED if attempt == limit else PENDING)
        assert driver.leased() is None
        assert driver.result(1).reply == JobResult(job_id(1), False, b"")
        assert driver.inspect(1).fails == 0

    def test_those_who_wait_for_the_result_are_told_at_once(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10, max_attempts=1)
        calls = [driver.result(1, wait_ms=1000) for _ in range(3)]
        assert driver.leased() == 1
        driver.wait(10)
        assert [call.reply for call in calls] == [JobResult(job_id(1), False, b"")] * 3

    def test_a_late_worker_finds_it_failed(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10, max_attempts=1)
        assert driver.leased() == 1
        driver.wait(10)
        assert driver.complete(1) == DUPLICATE_RESULT

    def test_a_late_worker_may_still_finish_a_job_that_was_returned(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10, max_attempts=2)
        assert driver.leased() == 1
        driver.wait(10)
        assert driver.complete(1, b"late") == OK
        assert driver.leased() is None
        assert driver.result(1).reply == JobResult(job_id(1), True, b"late")


class TestFail:
    """`-max-fails=N`: fails 1 to N-1 return the job, the Nth is final; so is one with the attempts used up."""

    @pytest.mark.parametrize("max_fails", [0, 1])
    def test_without_max_fails_the_first_is_final(self, driver: Driver, max_fails: int) -> None:
        driver.add(1, max_fails=max_fails)
        assert driver.leased() == 1
        assert driver.fail(1, b"why") == OK
        assert driver.result(1).reply == JobResult(job_id(1), False, b"why")
        assert driver.inspect(1).state == FAILED
        assert driver.inspect(1).fails == 1

    @pytest.mark.parametrize("max_fails", [2, 3, 255])
    def test_with_max_fails_the_last_is_final(self, driver: Driver, max_fails: int) -> None:
        driver.add(1, max_fails=max_fails)
        for fails in range(1, max_fails):
            assert driver.leased() == 1
            assert driver.fail(1, b"not yet") == OK
            assert driver.inspect(1).state == PENDING
            assert driver.inspect(1).fails == fails
            assert driver.result(1).reply != JobResult(job_id(1), False, b"not yet")
        assert driver.leased() == 1
        assert driver.fail(1, b"why") == OK
        assert driver.result(1).reply == JobResult(job_id(1), False, b"why")
        assert driver.inspect(1).fails == max_fails

    @pytest.mark.parametrize(
        ("max_attempts", "max_fails", "leases_until_failed"),
        [
            (0, 0, 1),
            (0, 1, 1),
            (0, 3, 3),
            (1, 0, 1),
            (1, 3, 1),
            (2, 3, 2),
            (3, 3, 3),
            (4, 3, 3),
            (3, 1, 1),
            (255, 2, 2),
        ],
    )
    def test_whichever_limit_is_reached_first(
        self, driver: Driver, max_attempts: int, max_fails: int, leases_until_failed: int
    ) -> None:
        driver.add(1, max_attempts=max_attempts, max_fails=max_fails)
        leases = 0
        while driver.inspect(1).state != FAILED:
            assert driver.leased() == 1
            leases += 1
            assert driver.fail(1) == OK
        assert leases == leases_until_failed

    def test_lost_leases_use_up_attempts_but_are_no_fails(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10, max_attempts=3, max_fails=2)
        for _ in range(2):
            assert driver.leased() == 1
            driver.wait(10)
        assert driver.inspect(1).fails == 0
        assert driver.leased() == 1
        assert driver.fail(1, b"third and last") == OK
        assert driver.result(1).reply == JobResult(job_id(1), False, b"third and last")

    def test_a_fail_that_is_not_final_tells_nobody(self, driver: Driver) -> None:
        driver.add(1, max_fails=2)
        call = driver.result(1, wait_ms=1000)
        assert driver.leased() == 1
        driver.fail(1, b"one")
        assert call.reply is None
        assert driver.leased() == 1
        driver.fail(1, b"two")
        assert call.reply == JobResult(job_id(1), False, b"two")

    def test_a_fail_stops_the_ttr(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1000, max_fails=2)
        assert driver.leased() == 1
        driver.fail(1)
        driver.engine.events.clear()
        driver.wait(5000)
        assert driver.engine.events == []

    def test_it_needs_no_lease(self, driver: Driver) -> None:
        driver.add(1, max_fails=2)
        assert driver.fail(1) == OK
        assert driver.inspect(1).state == PENDING
        assert driver.leased() == 1

    def test_a_scheduled_job_waits_on_for_its_time(self, driver: Driver) -> None:
        spec = JobSpec(b"q", 1000, 60_000, max_fails=2)
        driver.do(c.Schedule(job_id(1), spec, driver.now_ms + 100, b""))
        assert driver.fail(1) == OK
        assert driver.leased() is None
        driver.wait(100)
        assert driver.leased() == 1
        assert driver.fail(1) == OK
        assert driver.inspect(1).state == FAILED


class TestFinishing:
    """`complete` and `fail` work on every job that has no result yet, leased or not."""

    @pytest.mark.parametrize("finish", ["complete", "fail"])
    @pytest.mark.parametrize("state", ["ready", "scheduled", "leased", "returned"])
    def test_in_every_state(self, driver: Driver, finish: str, state: str) -> None:
        if state == "scheduled":
            driver.schedule(1, in_ms=100)
        else:
            driver.add(1)
        if state in ("leased", "returned"):
            assert driver.leased() == 1
        if state == "returned":
            driver.wait(1000)
        assert getattr(driver, finish)(1, b"x") == OK
        assert driver.result(1).reply == JobResult(job_id(1), finish == "complete", b"x")
        driver.wait(5000)
        assert driver.leased() is None

    @pytest.mark.parametrize("first", ["complete", "fail"])
    @pytest.mark.parametrize("second", ["complete", "fail"])
    def test_only_once(self, driver: Driver, first: str, second: str) -> None:
        driver.add(1)
        assert getattr(driver, first)(1, b"first") == OK
        assert getattr(driver, second)(1, b"second") == DUPLICATE_RESULT
        assert driver.result(1).reply == JobResult(job_id(1), first == "complete", b"first")

    def test_an_unknown_job_is_not_found(self, driver: Driver) -> None:
        assert [driver.complete(1), driver.fail(1), driver.delete(1)] == [NOT_FOUND] * 3

    def test_the_ttr_of_a_finished_job_is_stopped(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10, max_attempts=1)
        assert driver.leased() == 1
        driver.complete(1, b"in time")
        driver.wait(1000)
        assert driver.result(1).reply == JobResult(job_id(1), True, b"in time")


def test_a_lease_is_told_to_the_log_as_a_fact(driver: Driver) -> None:
    """This job, at this time; not that somebody asked."""
    driver.add(1, ttr_ms=10)
    start_ms = driver.now_ms
    driver.leased()
    driver.wait(25)
    waiting = driver.lease(wait_ms=5)
    assert number_of(waiting.reply) == 1
    assert driver.engine.events[1:] == [
        Leased(job_id(1), start_ms),
        Returned(job_id(1)),
        Leased(job_id(1), start_ms + 25),
    ]

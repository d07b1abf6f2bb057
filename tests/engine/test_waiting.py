"""`result` and `run`: who waits for what, and what ends the wait."""

import pytest

from tests.engine.driver import HOUR_MS, Driver, job_id
from workq import commands as c
from workq.engine import NEVER_MS
from workq.replies import DUPLICATE_JOB, NOT_FOUND, OK, TIMED_OUT, JobResult


@pytest.fixture
def driver() -> Driver:
    return Driver()


def exists(driver: Driver, number: int) -> bool:
    return driver.do(c.InspectJob(job_id(number))) != NOT_FOUND


class TestResult:
    def test_of_a_finished_job_it_is_there_at_once_any_number_of_times(self, driver: Driver) -> None:
        driver.add(1)
        driver.complete(1, b"\0\r\n")
        for wait_ms in (0, 1000, 0):
            assert driver.result(1, wait_ms).reply == JobResult(job_id(1), True, b"\0\r\n")

    def test_of_no_job_it_is_not_found(self, driver: Driver) -> None:
        assert driver.result(1, wait_ms=1000).reply == NOT_FOUND

    def test_wait_timeout_0_only_looks(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.result(1, wait_ms=0).reply == TIMED_OUT

    def test_all_who_wait_are_told_at_once(self, driver: Driver) -> None:
        driver.add(1)
        calls = [driver.result(1, wait_ms) for wait_ms in (1000, 2000, 3000)]
        driver.wait(999)
        driver.complete(1, b"done")
        assert [call.reply for call in calls] == [JobResult(job_id(1), True, b"done")] * 3

    def test_each_waits_for_as_long_as_it_said(self, driver: Driver) -> None:
        driver.add(1)
        short, long = driver.result(1, 10), driver.result(1, 20)
        driver.wait(9)
        assert short.reply is None
        driver.wait(1)
        assert [short.reply, long.reply] == [TIMED_OUT, None]
        driver.wait(10)
        assert long.reply == TIMED_OUT
        assert exists(driver, 1)

    def test_a_client_that_went_away_is_forgotten(self, driver: Driver) -> None:
        driver.add(1)
        gone, stays = driver.result(1, 1000), driver.result(1, 1000)
        driver.cancel(gone)
        driver.complete(1)
        assert gone.reply is None
        assert stays.reply is not None

    def test_cancelling_twice_or_after_the_reply_does_nothing(self, driver: Driver) -> None:
        driver.add(1)
        call = driver.result(1, 1000)
        driver.cancel(call)
        driver.cancel(call)
        call = driver.result(1, 1000)
        driver.complete(1)
        driver.cancel(call)
        assert driver.result(1).reply == call.reply


class TestRun:
    def test_it_is_answered_with_the_result(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=1000)
        assert driver.leased() == 1
        assert call.reply is None
        assert driver.complete(1, b"pong") == OK
        assert call.reply == JobResult(job_id(1), True, b"pong")

    def test_a_fail_is_final(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=1000)
        assert driver.leased() == 1
        assert driver.fail(1, b"no") == OK
        assert call.reply == JobResult(job_id(1), False, b"no")

    def test_it_goes_to_a_worker_that_waits(self, driver: Driver) -> None:
        worker = driver.lease(wait_ms=1000)
        call = driver.run(1, wait_ms=0)
        assert worker.reply is not None
        driver.complete(1, b"quick")
        assert call.reply == JobResult(job_id(1), True, b"quick")

    @pytest.mark.parametrize("end", ["complete", "fail", "time", "delete", "hang-up"])
    def test_after_any_outcome_the_job_is_gone(self, driver: Driver, end: str) -> None:
        call = driver.run(1, wait_ms=100)
        if end == "complete":
            driver.complete(1)
        elif end == "fail":
            driver.fail(1)
        elif end == "time":
            driver.wait(100)
        elif end == "delete":
            driver.delete(1)
        else:
            driver.cancel(call)
        assert (call.reply is None) == (end == "hang-up")
        assert driver.leased() is None
        assert [driver.result(1).reply, driver.complete(1), driver.fail(1), driver.delete(1)] == [NOT_FOUND] * 4
        assert driver.engine.state.evicted_jobs == 0
        driver.wait(HOUR_MS)
        assert driver.engine.next_ms() == NEVER_MS

    def test_nothing_of_it_is_told_to_the_log(self, driver: Driver) -> None:
        driver.run(1, wait_ms=1000, ttr_ms=10)
        driver.leased()
        driver.wait(10)
        driver.leased()
        driver.complete(1)
        driver.run(2, wait_ms=10)
        driver.wait(10)
        assert driver.engine.events == []

    def test_without_a_worker_it_ends_at_its_time(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=100)
        driver.wait(99)
        assert call.reply is None
        driver.wait(1)
        assert call.reply == TIMED_OUT

    def test_wait_timeout_0_without_a_worker(self, driver: Driver) -> None:
        assert driver.run(1, wait_ms=0).reply == TIMED_OUT
        assert not exists(driver, 1)

    def test_with_a_worker_at_work_it_waits_on_for_the_result(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=100, ttr_ms=1000)
        driver.wait(50)
        assert driver.leased() == 1
        driver.wait(999)
        assert call.reply is None
        driver.complete(1, b"late")
        assert call.reply == JobResult(job_id(1), True, b"late")

    def test_with_a_worker_at_work_it_waits_no_longer_than_the_ttr(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=100, ttr_ms=1000)
        driver.wait(50)
        assert driver.leased() == 1
        driver.wait(1000)
        assert call.reply == TIMED_OUT
        assert driver.complete(1) == NOT_FOUND

    def test_an_overdue_run_whose_client_leaves(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=10, ttr_ms=100)
        assert driver.leased() == 1
        driver.wait(50)
        driver.cancel(call)
        driver.wait(50)
        assert not exists(driver, 1)
        assert call.reply is None

    def test_a_ttr_that_ends_within_the_wait_returns_the_job(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=100, ttr_ms=30)
        assert driver.leased() == 1
        driver.wait(30)
        assert driver.leased() == 1
        driver.wait(30)
        driver.complete(1, b"second try")
        assert call.reply == JobResult(job_id(1), True, b"second try")

    def test_a_job_that_nobody_waits_for_is_dropped_unless_it_is_leased(self, driver: Driver) -> None:
        driver.cancel(driver.run(1, wait_ms=1000))
        assert not exists(driver, 1)
        call = driver.run(2, wait_ms=1000, ttr_ms=100)
        assert driver.leased() == 2
        driver.cancel(call)
        assert exists(driver, 2)
        driver.wait(100)
        assert not exists(driver, 2)

    def test_a_worker_may_finish_it_after_its_client_left(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=1000)
        assert driver.leased() == 1
        driver.cancel(call)
        assert driver.complete(1) == OK
        assert not exists(driver, 1)

    def test_its_id_is_taken_meanwhile(self, driver: Driver) -> None:
        driver.run(1, wait_ms=1000)
        assert driver.run(1, wait_ms=1000).reply == DUPLICATE_JOB
        assert driver.add(1) == DUPLICATE_JOB

    def test_it_is_shown_without_a_ttl(self, driver: Driver) -> None:
        driver.run(1, wait_ms=1000)
        assert driver.inspect(1).ttl_ms == 0


class TestResultOfARun:
    """Others may wait for the result of a foreground job, too."""

    def test_all_are_told_at_once(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=1000)
        others = [driver.result(1, 1000) for _ in range(2)]
        driver.complete(1, b"x")
        assert [call.reply for call in (run, *others)] == [JobResult(job_id(1), True, b"x")] * 3

    def test_the_end_of_the_run_ends_their_wait(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=10)
        other = driver.result(1, 1000)
        driver.wait(10)
        assert (run.reply, other.reply) == (TIMED_OUT, NOT_FOUND)

    def test_they_do_not_keep_the_job_alive(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=1000)
        other = driver.result(1, 1000)
        driver.cancel(run)
        assert other.reply == NOT_FOUND

    def test_the_end_of_the_last_lease_ends_their_wait(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=10, ttr_ms=100)
        other = driver.result(1, 1000)
        assert driver.leased() == 1
        driver.wait(100)
        assert (run.reply, other.reply) == (TIMED_OUT, TIMED_OUT)

"""`retry`, `clear`, and the listings of leased and finished jobs."""

import pytest

from tests.engine.driver import Driver, job_id
from workq import commands as c
from workq.engine.engine import CLEARED_AT_ONCE, TICK_STEPS
from workq.engine.events import Carried
from workq.engine.job import Job
from workq.engine.state import State
from workq.replies import NOT_FOUND, OK, Cleared, Jobs, QueueInfo, Queues


@pytest.fixture
def driver() -> Driver:
    return Driver()


def listed(driver: Driver, command: c.Command) -> list[int]:
    reply = driver.do(command)
    assert isinstance(reply, Jobs)
    return [int.from_bytes(job.job_id, "big") for job in reply.jobs]


class TestClear:
    def test_few_jobs_are_deleted_at_once(self, driver: Driver) -> None:
        for number in range(1, CLEARED_AT_ONCE + 1):
            driver.add(number)
        assert driver.do(c.Clear(b"q")) == Cleared(b"q", CLEARED_AT_ONCE)

    def test_many_are_deleted_in_steps_and_later_ones_stay(self, driver: Driver) -> None:
        for number in range(3 * TICK_STEPS):
            driver.add(number)
        call = driver.start(c.Clear(b"q", "ready"))
        driver.add(10_000)
        driver.engine.tick(driver.now_ms)
        assert call.reply is None
        assert len(driver.engine.state.jobs) == 3 * TICK_STEPS + 1 - CLEARED_AT_ONCE - TICK_STEPS
        driver.add(10_001, priority=1)
        driver.wait(0)
        assert call.reply == Cleared(b"q", 3 * TICK_STEPS)
        assert len(driver.engine.state.jobs) == 2

    def test_a_client_that_goes_away_ends_it(self, driver: Driver) -> None:
        for number in range(100):
            driver.add(number)
        call = driver.start(c.Clear(b"q"))
        driver.cancel(call)
        driver.wait(0)
        assert len(driver.engine.state.jobs) == 100 - CLEARED_AT_ONCE

    def test_while_time_stands_still_nothing_is_deleted(self, driver: Driver) -> None:
        for number in range(100):
            driver.add(number)
        call = driver.start(c.Clear(b"q"))
        driver.engine.held = True
        driver.wait(1000)
        assert call.reply is None
        driver.engine.held = False
        driver.wait(0)
        assert call.reply == Cleared(b"q", 100)

    def test_jobs_are_leased_and_finished_meanwhile(self, driver: Driver) -> None:
        for number in range(1, 101):
            driver.add(number)
        for number in range(1, 41):
            assert driver.leased() == number
        call = driver.start(c.Clear(b"q"))
        held = [job.job_id for job in driver.engine.state.queue(b"q").lists[2]]
        assert driver.complete(int.from_bytes(held[0], "big")) == OK
        driver.fail(int.from_bytes(held[1], "big"))
        driver.wait(0)
        assert call.reply == Cleared(b"q", 100)
        assert driver.do(c.Complete(held[2], b"")) == NOT_FOUND

    def test_it_frees_leases_for_those_who_wait(self, driver: Driver) -> None:
        driver.do(c.ConfigureQueue(b"q", max_leased=1))
        driver.add(1)
        driver.leased()
        call = driver.lease(wait_ms=1000)
        driver.do(c.Clear(b"q"))
        driver.add(2)
        driver.wait(0)
        assert call.reply is not None


class TestListings:
    def test_finished_jobs_come_newest_first_also_after_a_log_gave_them_back(self, driver: Driver) -> None:
        for number in range(1, 6):
            driver.add(number)
        for number in (3, 1, 5, 2):
            driver.wait(1)
            driver.complete(number)
        assert listed(driver, c.InspectJobs(b"q", "completed", 0, 10)) == [2, 5, 1, 3]
        assert listed(driver, c.InspectJobs(b"q", "completed", 1, 2)) == [5, 1]
        assert listed(driver, c.InspectJobs(b"q", "failed", 0, 10)) == []

        state = State(driver.now_ms)
        carried: list[Job] = list(driver.engine.state.jobs.values())
        for job in carried:  # in no order
            Carried(job.copy()).apply(state)
        state.queue(b"q").put_in_order()  # at the start, when nobody has to wait for it
        assert state.queue(b"q").lists[3].is_sorted
        newest = state.queue(b"q").lists[3].newest(0, 10)
        assert [job.job_id for job in newest] == [job_id(number) for number in (2, 5, 1, 3)]
        assert state.queue(b"q").counts == driver.engine.state.queue(b"q").counts

    def test_leased_jobs_come_by_their_lease(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2, priority=1)
        driver.add(3)
        for _ in range(3):
            driver.leased()
        assert listed(driver, c.InspectJobs(b"q", "leased", 0, 10)) == [2, 1, 3]
        driver.fail(1)
        assert listed(driver, c.InspectJobs(b"q", "leased", 1, 1)) == [3]
        assert listed(driver, c.InspectJobs(b"q", "failed", 0, 1)) == [1]


class TestRetry:
    def test_a_job_is_as_new_but_keeps_its_ttl(self, driver: Driver) -> None:
        driver.add(1, ttl_ms=1000, max_attempts=1)
        driver.leased()
        driver.fail(1)
        driver.wait(900)
        assert driver.do(c.Retry(job_id(1))) == OK
        info = driver.inspect(1)
        assert (info.attempts, info.fails, info.state) == (0, 0, 0)
        assert driver.leased() == 1
        driver.wait(100)
        assert driver.do(c.InspectJob(job_id(1))) == NOT_FOUND


class TestFigures:
    def info(self, driver: Driver) -> QueueInfo:
        reply = driver.do(c.InspectQueue(b"q"))
        assert isinstance(reply, Queues)
        return reply.queues[0]

    def test_the_last_minute_passes(self, driver: Driver) -> None:
        driver.add(1)
        driver.leased()
        driver.wait(40_000)
        driver.add(2)
        totals = self.info(driver).totals
        assert (totals.added, totals.added_per_minute, totals.leased_per_minute) == (2, 2, 1)
        driver.wait(25_000)
        totals = self.info(driver).totals
        assert (totals.added, totals.added_per_minute, totals.leased_per_minute) == (2, 1, 0)
        driver.wait(3_000_000)
        totals = self.info(driver).totals
        assert (totals.added, totals.added_per_minute) == (2, 0)

    def test_the_oldest_ready_job_is_the_one_that_has_been_ready_longest(self, driver: Driver) -> None:
        driver.add(1)
        driver.schedule(2, in_ms=100)
        driver.wait(50)
        driver.add(3, priority=5)
        driver.wait(70)
        assert self.info(driver).oldest_ready_ms == 120
        driver.delete(1)
        assert self.info(driver).oldest_ready_ms == 70
        driver.delete(3)
        assert self.info(driver).oldest_ready_ms == 20
        driver.delete(2)
        assert self.info(driver).oldest_ready_ms == 0

    def test_those_who_wait_are_counted(self, driver: Driver) -> None:
        for _ in range(3):
            driver.lease(wait_ms=1000)
        assert self.info(driver).leasers == 3

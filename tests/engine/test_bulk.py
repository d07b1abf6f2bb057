"""Several at a time: a lease of many jobs, the results of many jobs."""

import pytest

from tests.engine.driver import Call, Driver, job_id
from workq import commands as c
from workq.replies import NOT_FOUND, TIMED_OUT, JobResult, JobResults, LeasedJob, LeasedJobs, Reply
from workq.values import BULK_BYTES, MIB, JobSpec


@pytest.fixture
def driver() -> Driver:
    return Driver()


def numbers(reply: Reply | None) -> list[int]:
    """Which jobs were leased, or have a result."""
    if isinstance(reply, JobResults):
        return [int.from_bytes(result.job_id, "big") for result in reply.results]
    assert isinstance(reply, LeasedJobs)
    return [int.from_bytes(job.job_id, "big") for job in reply.jobs]


class TestLease:
    def test_it_takes_what_is_ready_in_order(self, driver: Driver) -> None:
        for number in range(1, 6):
            driver.add(number, priority=number == 4)
        assert numbers(driver.lease(count=3).reply) == [4, 1, 2]
        assert numbers(driver.lease(count=3).reply) == [3, 5]
        assert driver.lease(count=3).reply == TIMED_OUT

    def test_of_one_job_it_is_still_a_list(self, driver: Driver) -> None:
        driver.add(1)
        leased = LeasedJob(job_id(1), b"q", 1000, b"payload", attempt=1)
        assert driver.lease(count=2, fenced=True).reply == LeasedJobs([leased])

    def test_each_job_has_a_lease_of_its_own(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10)
        driver.add(2, ttr_ms=20)
        assert numbers(driver.lease(count=2).reply) == [1, 2]
        driver.wait(10)
        assert numbers(driver.lease(count=2).reply) == [1]
        driver.wait(10)
        assert numbers(driver.lease(count=2).reply) == [1, 2]

    def test_from_several_queues_it_takes_all_that_is_ready(self, driver: Driver) -> None:
        for number in range(1, 10):
            driver.add(number, name=b"abc"[number % 3 : number % 3 + 1])
        assert sorted(numbers(driver.lease(b"a", b"b", b"c", count=100).reply)) == list(range(1, 10))

    def test_the_queue_is_drawn_for_each_job(self, driver: Driver) -> None:
        for number in range(1, 41):
            driver.add(number, name=b"a" if number <= 20 else b"b")
        drawn = numbers(driver.lease(b"a", b"b", count=20).reply)
        assert {number <= 20 for number in drawn} == {True, False}

    def test_a_lease_that_waits_is_answered_with_the_first(self, driver: Driver) -> None:
        call = driver.lease(wait_ms=1000, count=5)
        driver.add(1)
        assert numbers(call.reply) == [1]

    def test_jobs_that_become_ready_together_are_leased_together(self, driver: Driver) -> None:
        call = driver.lease(wait_ms=1000, count=3)
        single = driver.lease(wait_ms=1000)
        for number in range(1, 6):
            driver.schedule(number, in_ms=100, priority=number)
        driver.wait(100)
        assert numbers(call.reply) == [5, 4, 3]
        assert isinstance(single.reply, LeasedJob)
        assert driver.leased() == 1

    def test_those_who_wait_longer_come_first(self, driver: Driver) -> None:
        single, bulk = driver.lease(wait_ms=1000), driver.lease(wait_ms=1000, count=2)
        for number in (1, 2, 3):
            driver.schedule(number, in_ms=100)
        driver.wait(100)
        assert isinstance(single.reply, LeasedJob)
        assert single.reply.job_id == job_id(1)
        assert numbers(bulk.reply) == [2, 3]

    def test_payloads_together_have_a_limit(self, driver: Driver) -> None:
        most = BULK_BYTES // MIB
        for number in range(1, 2 * most + 2):
            driver.do(c.Add(job_id(number), JobSpec(b"q", 1000, 60_000), bytes(MIB)))
        assert numbers(driver.lease(count=100).reply) == list(range(1, most + 1))
        assert len(numbers(driver.lease(count=100).reply)) == most
        assert len(numbers(driver.lease(count=100).reply)) == 1


class TestResults:
    def ended(self, call: Call) -> list[tuple[int, bytes]]:
        assert isinstance(call.reply, JobResults)
        return [(int.from_bytes(result.job_id, "big"), result.result) for result in call.reply.results]

    def test_those_that_there_are_come_in_the_order_asked_for(self, driver: Driver) -> None:
        for number in (1, 2, 3):
            driver.add(number)
        driver.complete(1, b"one")
        driver.fail(3, b"three")
        assert self.ended(driver.results(3, 2, 1, 3)) == [(3, b"three"), (1, b"one")]

    def test_the_wait_ends_when_all_have_ended(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.complete(2, b"two")
        assert call.reply is None
        driver.complete(1, b"one")
        assert self.ended(call) == [(1, b"one"), (2, b"two")]

    def test_or_in_time_with_those_that_there_are(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.complete(2, b"two")
        driver.wait(999)
        assert call.reply is None
        driver.wait(1)
        assert self.ended(call) == [(2, b"two")]

    def test_or_in_time_with_none(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.wait(1000)
        assert call.reply == TIMED_OUT
        assert driver.results(1, 2).reply == TIMED_OUT

    def test_jobs_that_do_not_exist_are_left_out(self, driver: Driver) -> None:
        assert driver.results(1, 2, wait_ms=1000).reply == NOT_FOUND
        driver.add(1)
        driver.complete(1, b"one")
        assert self.ended(driver.results(1, 2, wait_ms=1000)) == [(1, b"one")]

    def test_jobs_that_go_away_are_left_out(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2, ttl_ms=10)
        call = driver.results(1, 2, wait_ms=1000)
        driver.wait(10)
        assert call.reply is None
        driver.delete(1)
        assert call.reply == NOT_FOUND

    def test_a_result_that_was_there_counts_even_if_its_job_is_gone(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.complete(1, b"one")
        driver.delete(1)
        driver.complete(2, b"two")
        assert self.ended(call) == [(1, b"one"), (2, b"two")]

    def test_a_run_is_among_them(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=1000)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.complete(1, b"one")
        driver.complete(2, b"two")
        assert run.reply == JobResult(job_id(1), True, b"one")
        assert self.ended(call) == [(1, b"one"), (2, b"two")]

    def test_a_client_that_went_away_is_forgotten(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        call = driver.results(1, 2, wait_ms=1000)
        driver.complete(1)
        driver.cancel(call)
        driver.complete(2)
        assert call.reply is None
        assert driver.engine.waiting() == (0, 0)

    def test_results_together_have_a_limit(self, driver: Driver) -> None:
        most = BULK_BYTES // MIB
        for number in range(1, most + 2):
            driver.add(number)
            driver.complete(number, bytes(MIB))
        assert numbers(driver.results(*range(1, most + 2)).reply) == list(range(1, most + 1))
        assert numbers(driver.results(most + 1, 1).reply) == [most + 1, 1]

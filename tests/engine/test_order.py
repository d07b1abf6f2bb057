"""Which job a lease gets, and which lease gets a job."""

from collections import Counter

import pytest

from tests.engine.driver import Call, Driver, number_of
from workq import commands as c
from workq.replies import TIMED_OUT, Jobs, LeasedJob
from workq.values import JobSpec


@pytest.fixture
def driver() -> Driver:
    return Driver()


def leased_in_order(driver: Driver) -> list[int]:
    """Lease from `q` until nothing is ready; the jobs in their order, which `inspect jobs` must have announced."""
    listed = driver.do(c.InspectJobs(b"q", "ready", 0, 100))
    assert isinstance(listed, Jobs)
    numbers = []
    while (number := driver.leased()) is not None:
        numbers.append(number)
    assert [int.from_bytes(job.job_id, "big") for job in listed.jobs] == numbers
    return numbers


class TestOrderOfJobs:
    def test_first_in_first_out(self, driver: Driver) -> None:
        for number in (3, 1, 2):
            driver.add(number)
        assert leased_in_order(driver) == [3, 1, 2]

    def test_higher_priority_goes_first(self, driver: Driver) -> None:
        for number, priority in enumerate([0, -(2**31), 5, 2**31 - 1, 5], start=1):
            driver.add(number, priority=priority)
        assert leased_in_order(driver) == [4, 3, 5, 1, 2]

    def test_a_late_job_of_higher_priority_overtakes(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        assert driver.leased() == 1
        driver.add(3, priority=1)
        assert leased_in_order(driver) == [3, 2]

    def test_scheduled_jobs_come_after_those_never_scheduled_and_by_their_time(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=20)
        driver.schedule(2, in_ms=10)
        driver.schedule(3, in_ms=10)
        driver.wait(50)
        driver.add(4)
        assert leased_in_order(driver) == [4, 2, 3, 1]

    def test_priority_counts_before_time(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=10)
        driver.schedule(2, in_ms=20, priority=1)
        driver.add(3)
        driver.wait(50)
        assert leased_in_order(driver) == [2, 3, 1]

    def test_a_scheduled_job_is_not_leased_before_its_time(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=10)
        driver.wait(9)
        assert driver.leased() is None
        driver.wait(1)
        assert driver.leased() == 1

    def test_a_time_in_the_past_is_ready_at_once(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=-1000)
        assert driver.leased() == 1

    def test_times_before_1970_keep_the_order_of_times(self, driver: Driver) -> None:
        for number, in_ms in enumerate([-1, -5, 5], start=1):
            driver.schedule(number, in_ms=in_ms - driver.now_ms, ttl_ms=2**63)
        driver.add(4)
        driver.add(5)
        assert driver.leased() == 4
        driver.wait(1000)
        assert driver.leased() == 4, "back at its place, before the scheduled ones"
        assert leased_in_order(driver) == [5, 2, 1, 3]

    def test_a_job_returns_to_its_old_place_after_its_ttr(self, driver: Driver) -> None:
        for number in (1, 2, 3, 4):
            driver.add(number)
        assert [driver.leased(), driver.leased()] == [1, 2]
        driver.add(5)
        driver.wait(1000)
        assert leased_in_order(driver) == [1, 2, 3, 4, 5]

    def test_a_job_returns_to_its_old_place_after_a_fail(self, driver: Driver) -> None:
        for number in (1, 2, 3):
            driver.add(number, max_fails=2)
        assert [driver.leased(), driver.leased()] == [1, 2]
        driver.fail(2)
        driver.fail(1)
        assert leased_in_order(driver) == [1, 2, 3]

    def test_a_scheduled_job_returns_to_its_old_place(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=10)
        driver.schedule(2, in_ms=20)
        driver.wait(20)
        assert driver.leased() == 1
        driver.wait(1000)
        assert leased_in_order(driver) == [1, 2]

    def test_pages_of_jobs_go_on_where_the_last_one_ended(self, driver: Driver) -> None:
        for number in range(1, 8):
            driver.add(number, priority=-(number % 3))
        driver.complete(4)
        everything = [3, 6, 1, 7, 2, 5]
        for cursor in range(8):
            for limit in range(1, 8):
                page = driver.do(c.InspectJobs(b"q", "ready", cursor, limit))
                assert isinstance(page, Jobs)
                assert [job.job_id[-1] for job in page.jobs] == everything[cursor : cursor + limit]


class TestOrderOfLeasers:
    def test_who_waits_longest_is_served_first(self, driver: Driver) -> None:
        calls = [driver.lease(wait_ms=1000) for _ in range(3)]
        assert [number_of(call.reply) for call in calls] == [None, None, None]
        driver.add(1)
        driver.add(2)
        assert [number_of(call.reply) for call in calls] == [1, 2, None]

    def test_it_counts_since_when_one_waits_not_for_how_many_queues(self, driver: Driver) -> None:
        first = driver.lease(b"a", b"b", wait_ms=1000)
        second = driver.lease(b"b", wait_ms=1000)
        third = driver.lease(b"b", b"a", wait_ms=1000)
        driver.add(1, b"b")
        driver.add(2, b"a")
        assert [number_of(call.reply) for call in (first, second, third)] == [1, None, 2]

    def test_a_client_that_went_away_gets_nothing(self, driver: Driver) -> None:
        gone = driver.lease(b"a", b"b", wait_ms=1000)
        stays = driver.lease(b"b", wait_ms=1000)
        driver.cancel(gone)
        driver.add(1, b"a")
        driver.add(2, b"b")
        assert gone.reply is None
        assert number_of(stays.reply) == 2
        assert driver.leased(b"a") == 1

    def test_a_waiting_lease_is_served_once(self, driver: Driver) -> None:
        call = driver.lease(b"a", b"b", b"a", wait_ms=1000)
        driver.add(1, b"a")
        driver.add(2, b"b")
        assert number_of(call.reply) == 1
        assert driver.leased(b"a", b"b") == 2

    @pytest.mark.parametrize("how", ["add", "run", "schedule", "ttr", "fail"])
    def test_every_way_a_job_becomes_ready_wakes_a_lease(self, driver: Driver, how: str) -> None:
        if how in ("ttr", "fail"):
            driver.add(1, max_fails=2)
            assert driver.leased() == 1
        call = driver.lease(wait_ms=2000)
        if how == "add":
            driver.add(1)
        elif how == "run":
            driver.run(1, wait_ms=1000)
        elif how == "schedule":
            driver.schedule(1, in_ms=10)
            driver.wait(10)
        elif how == "ttr":
            driver.wait(1000)
        else:
            driver.fail(1)
        assert number_of(call.reply) == 1

    def test_a_wait_ends_at_its_time_and_not_before(self, driver: Driver) -> None:
        call = driver.lease(b"a", b"b", wait_ms=500)
        driver.wait(499)
        assert call.reply is None
        driver.wait(1)
        assert call.reply == TIMED_OUT
        driver.add(1, b"a")
        assert driver.leased(b"a") == 1

    def test_a_job_due_in_the_last_millisecond_of_a_wait_reaches_it(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=500)
        call = driver.lease(wait_ms=500)
        driver.wait(500)
        assert number_of(call.reply) == 1

    def test_wait_timeout_0_takes_a_ready_job(self, driver: Driver) -> None:
        assert driver.lease(wait_ms=0).reply == TIMED_OUT
        driver.add(1)
        assert number_of(driver.lease(wait_ms=0).reply) == 1

    def test_wait_timeout_0_on_several_queues(self, driver: Driver) -> None:
        assert driver.lease(b"a", b"b", wait_ms=0).reply == TIMED_OUT
        driver.add(1, b"b")
        assert number_of(driver.lease(b"a", b"b", wait_ms=0).reply) == 1


class TestSeveralQueues:
    def picks(self, driver: Driver, *names: bytes) -> Counter[bytes]:
        """How often each queue was leased from in 3000 leases, with jobs in `a`, `b` and `c` at all times."""
        for number, name in enumerate([b"a", b"b", b"c"]):
            driver.add(number, name)
        counts: Counter[bytes] = Counter()
        for _ in range(3000):
            reply = driver.lease(*names).reply
            assert isinstance(reply, LeasedJob)
            counts[reply.name] += 1
            driver.do(c.Delete(reply.job_id))
            driver.do(c.Add(reply.job_id, JobSpec(reply.name, 1000, 1000), b""))
        return counts

    @pytest.mark.parametrize("seed", range(5))
    def test_each_queue_with_jobs_is_picked_alike(self, seed: int) -> None:
        counts = self.picks(Driver(seed), b"a", b"b", b"c")
        assert all(850 < counts[name] < 1150 for name in (b"a", b"b", b"c")), counts  # 5.8 standard deviations

    @pytest.mark.parametrize("seed", range(5))
    def test_a_name_said_twice_counts_once(self, seed: int) -> None:
        counts = self.picks(Driver(seed), b"a", b"a", b"a", b"b")
        assert 1340 < counts[b"a"] < 1660, counts

    def test_queues_without_jobs_are_passed_over(self, driver: Driver) -> None:
        for number in range(1, 20):
            driver.add(number, b"c")
        assert [driver.leased(b"a", b"b", b"c") for _ in range(1, 20)] == list(range(1, 20))

    def test_the_priority_of_another_queue_does_not_matter(self) -> None:
        first: Counter[int | None] = Counter()
        for seed in range(200):
            driver = Driver(seed)
            driver.add(1, b"a", priority=9)
            driver.add(2, b"b")
            first[driver.leased(b"a", b"b")] += 1
        assert 50 < first[1] < 150, first


def test_a_burst_leaves_nobody_asleep_beside_a_ready_job(driver: Driver) -> None:
    calls: list[Call] = [driver.lease(b"a", b"b", wait_ms=1000) for _ in range(50)]
    for number in range(1, 51):
        driver.add(number, b"ab"[number % 2 :][:1])
    assert [number_of(call.reply) for call in calls] == list(range(1, 51))

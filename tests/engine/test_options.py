"""Options of queues: limits, pace, pause, and what holds for leases."""

import pytest

from tests.engine.driver import HOUR_MS, Driver, job_id, number_of
from workq import commands as c
from workq.engine import NEVER_MS
from workq.engine.bucket import TokenBucket
from workq.engine.documents import QUEUES
from workq.engine.engine import WEEDED_AT_ONCE
from workq.replies import OK, QUEUE_FULL, JobResult, LeasedJob, LeasedJobs
from workq.values import InvalidValue, JobSpec


@pytest.fixture
def driver() -> Driver:
    return Driver()


def configure(driver: Driver, name: bytes = b"q", **options: int) -> None:
    assert driver.do(c.ConfigureQueue(name, **options)) == OK


class TestOptions:
    def test_those_not_given_stay(self, driver: Driver) -> None:
        configure(driver, max_len=1, max_leased=2)
        configure(driver, max_leased=3, lease_rate=4)
        options = driver.engine.state.queue(b"q").options
        assert options is not None
        assert (options.max_len, options.max_leased, options.lease_rate) == (1, 3, 4)

    def test_what_changes_nothing_is_no_event(self, driver: Driver) -> None:
        configure(driver, max_len=1)
        driver.do(c.PauseQueue(b"q"))
        driver.engine.events.clear()
        configure(driver)
        configure(driver, max_len=1)
        driver.do(c.PauseQueue(b"q"))
        driver.do(c.ResumeQueue(b"r"))
        assert driver.engine.events == []

    def test_out_of_range_they_are_refused(self) -> None:
        with pytest.raises(InvalidValue, match="Invalid Lease Rate: '4294967296' is not a whole number from 0 to"):
            Driver().do(c.ConfigureQueue(b"q", lease_rate=2**32))

    def test_they_are_a_document_that_goes_with_the_last_of_them(self, driver: Driver) -> None:
        configure(driver, max_len=1)
        assert driver.engine.state.documents[QUEUES] == {b"q": b'{"max_len":1}'}
        configure(driver, max_len=0)
        assert driver.engine.state.documents[QUEUES] == {}


class TestMaxLen:
    def test_jobs_that_come_back_find_room(self, driver: Driver) -> None:
        configure(driver, max_len=1)
        driver.add(1, max_fails=2)
        assert driver.leased() == 1
        driver.add(2)
        driver.fail(1)
        assert driver.add(3) == QUEUE_FULL
        assert driver.leased() == 1

    def test_a_full_queue_takes_no_scheduled_and_no_foreground_job(self, driver: Driver) -> None:
        configure(driver, max_len=1)
        driver.schedule(1, in_ms=1000)
        assert driver.schedule(2, in_ms=1000) == QUEUE_FULL
        assert driver.run(2, wait_ms=1000).reply == QUEUE_FULL


class TestMaxLeased:
    @pytest.mark.parametrize("end", ["complete", "fail", "delete", "expire", "time out", "exhaust"])
    def test_a_blocked_leaser_wakes_when_a_lease_ends(self, driver: Driver, end: str) -> None:
        configure(driver, max_leased=1)
        driver.add(1, ttr_ms=100, ttl_ms=50 if end == "expire" else 10_000, max_attempts=int(end == "exhaust"))
        driver.add(2)
        assert driver.leased() == 1
        call = driver.lease(wait_ms=1000)
        if end in ("expire", "time out", "exhaust"):
            driver.wait(100)
        else:
            getattr(driver, end)(1)
            driver.wait(0)
        assert number_of(call.reply) == (1 if end == "time out" else 2)

    def test_a_run_that_ends_frees_its_lease(self, driver: Driver) -> None:
        configure(driver, max_leased=1)
        run = driver.run(1, wait_ms=1000)
        driver.add(2)
        assert driver.leased() == 1
        call = driver.lease(wait_ms=1000)
        driver.complete(1)
        driver.wait(0)
        assert isinstance(run.reply, JobResult)
        assert number_of(call.reply) == 2

    def test_when_it_is_raised_leasers_wake_in_their_order(self, driver: Driver) -> None:
        configure(driver, max_leased=1)
        for number in range(1, 5):
            driver.add(number)
        calls = [driver.lease(wait_ms=1000) for _ in range(4)]
        configure(driver, max_leased=3)
        driver.wait(0)
        assert [number_of(call.reply) for call in calls] == [1, 2, 3, None]

    def test_nobody_overtakes_those_who_are_about_to_wake(self, driver: Driver) -> None:
        driver.do(c.PauseQueue(b"q"))
        driver.add(1)
        driver.add(2)
        first = driver.lease(wait_ms=1000)
        driver.do(c.ResumeQueue(b"q"))
        second = driver.lease(wait_ms=1000)
        assert driver.leased() is None
        driver.wait(0)
        assert [number_of(call.reply) for call in (first, second)] == [1, 2]


class TestLeaseRate:
    def test_leases_are_paced(self, driver: Driver) -> None:
        configure(driver, lease_rate=10_000, lease_burst=1)  # ten a second
        for number in range(4):
            driver.add(number, ttr_ms=HOUR_MS)
        start_ms = driver.now_ms
        calls = [driver.lease(wait_ms=1000) for _ in range(4)]
        served = []
        for _ in range(299):
            if sum(call.reply is not None for call in calls) > len(served):
                served.append(driver.now_ms - start_ms)
            driver.wait(1)
        assert served == [0, 100, 200]
        assert number_of(calls[2].reply) == 2
        assert calls[3].reply is None
        driver.wait(1)
        assert number_of(calls[3].reply) == 3

    def test_after_a_while_a_burst_goes_at_once(self, driver: Driver) -> None:
        configure(driver, lease_rate=1000, lease_burst=3)
        for number in range(9):
            driver.add(number, ttr_ms=HOUR_MS)
        assert [driver.leased() for _ in range(4)] == [0, 1, 2, None]
        driver.wait(2000)
        assert [driver.leased() for _ in range(3)] == [3, 4, None]
        driver.wait(1_000_000)
        assert [driver.leased() for _ in range(4)] == [5, 6, 7, None]

    def test_a_raised_rate_wakes_leasers_sooner(self, driver: Driver) -> None:
        configure(driver, lease_rate=1)
        driver.add(1, ttr_ms=HOUR_MS)
        driver.add(2, ttr_ms=HOUR_MS)
        assert driver.leased() == 1
        call = driver.lease(wait_ms=86_400_000)
        driver.wait(10_000)
        configure(driver, lease_rate=1000)
        driver.wait(989)
        assert call.reply is None  # one hundredth of a token was there
        driver.wait(1)
        assert number_of(call.reply) == 2

    def test_only_somebody_who_waits_for_a_job_that_is_there_sets_a_timer(self, driver: Driver) -> None:
        configure(driver, lease_rate=1)
        for number in range(10):
            driver.add(number, ttl_ms=2**62)
        driver.leased()
        driver.complete(0)
        driver.wait(1000)  # a timer that was cancelled is still woken for, once
        assert driver.engine.next_ms() == NEVER_MS
        call = driver.lease(wait_ms=86_400_000)
        assert driver.engine.next_ms() <= driver.now_ms + 1_000_000
        driver.cancel(call)
        driver.wait(86_400_000)
        assert driver.engine.next_ms() == NEVER_MS
        driver.lease(b"q", wait_ms=86_400_000)
        driver.do(c.PauseQueue(b"q"))
        assert not len(driver.engine._wakes)

    def test_time_that_stands_still_hands_out_nothing(self, driver: Driver) -> None:
        """The log cannot be written: no lease may begin by itself."""
        configure(driver, lease_rate=1000)
        driver.add(1, ttr_ms=HOUR_MS)
        driver.add(2, ttr_ms=HOUR_MS)
        driver.leased()
        call = driver.lease(wait_ms=86_400_000)
        driver.engine.held = True
        driver.wait(5000)
        assert call.reply is None
        driver.engine.held = False
        driver.wait(0)
        assert number_of(call.reply) == 2


class TestBulk:
    def test_a_lease_of_many_gets_as_many_as_the_options_allow(self, driver: Driver) -> None:
        configure(driver, max_leased=3)
        for number in range(9):
            driver.add(number)
        reply = driver.do(c.Lease((b"q",), 0, count=5))
        assert isinstance(reply, LeasedJobs)
        assert len(reply.jobs) == 3

    def test_one_that_waited_gets_all_that_is_freed(self, driver: Driver) -> None:
        driver.do(c.PauseQueue(b"q"))
        for number in range(9):
            driver.add(number)
        first, second = [driver.start(c.Lease((b"q",), 1000, count=5)) for _ in range(2)]
        driver.do(c.ResumeQueue(b"q"))
        driver.wait(0)
        counts = [len(call.reply.jobs) for call in (first, second) if isinstance(call.reply, LeasedJobs)]
        assert counts == [5, 4]

    def test_of_one_job_it_is_still_a_list(self, driver: Driver) -> None:
        """Also when there is room for the step of one job only."""
        driver.do(c.PauseQueue(b"q"))
        driver.add(1)
        driver.add(2)
        call = driver.start(c.Lease((b"q",), 1000, count=5))
        driver.do(c.ResumeQueue(b"q"))
        driver.engine.tick(driver.now_ms, 1)
        assert isinstance(call.reply, LeasedJobs)
        assert len(call.reply.jobs) == 1


class TestSeveralQueues:
    def test_a_lease_draws_from_those_that_may_hand_out_a_job(self, driver: Driver) -> None:
        configure(driver, b"a", max_leased=1)
        configure(driver, b"b", lease_rate=1)
        for number, name in enumerate((b"a", b"a", b"b", b"b", b"c", b"d", b"d")):
            driver.add(number, name)
        driver.do(c.PauseQueue(b"c"))
        assert sorted([driver.leased(b"a", b"b", b"c", b"d") for _ in range(4)], key=str) == [0, 2, 5, 6]
        assert driver.leased(b"a", b"b", b"c", b"d") is None

    def test_whoever_waits_for_several_gets_the_one_that_is_freed(self, driver: Driver) -> None:
        driver.do(c.PauseQueue(b"a"))
        driver.do(c.PauseQueue(b"b"))
        driver.add(1, b"a")
        driver.add(2, b"b")
        call = driver.lease(b"a", b"b", wait_ms=1000)
        driver.do(c.ResumeQueue(b"b"))
        driver.wait(0)
        assert number_of(call.reply) == 2


class TestLeases:
    def test_the_ttr_of_the_queue_goes_before_that_of_its_jobs(self, driver: Driver) -> None:
        configure(driver, ttr_ms=500)
        driver.add(1, ttr_ms=1000)
        reply = driver.lease().reply
        assert isinstance(reply, LeasedJob)
        assert reply.ttr_ms == 500
        assert driver.inspect(1).ttr_ms == 1000
        driver.wait(499)
        assert driver.leased() is None
        driver.wait(1)
        assert driver.leased() == 1

    def test_a_change_of_the_ttr_counts_from_the_beginning_of_each_lease(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=1000)
        driver.leased()
        driver.wait(300)
        configure(driver, ttr_ms=400)
        driver.wait(99)
        assert driver.leased() is None
        configure(driver, ttr_ms=0)
        driver.wait(600)
        assert driver.leased() is None
        driver.wait(1)
        assert driver.leased() == 1

    @pytest.mark.parametrize(("own", "queue"), [(0, 2), (2, 0), (2, 5), (5, 2)])
    def test_the_lower_limit_of_attempts_counts(self, driver: Driver, own: int, queue: int) -> None:
        configure(driver, max_attempts=queue)
        driver.add(1, ttr_ms=10, max_attempts=own)
        for _ in range(2):
            assert driver.leased() == 1
            driver.wait(10)
        assert driver.result(1).reply == JobResult(job_id(1), False, b"")

    def used_up(self, driver: Driver, *numbers: int, attempts: int = 2) -> None:
        """Jobs that have made so many attempts and are ready."""
        for number in numbers:
            driver.add(number)
        for _ in range(attempts):
            for number in numbers:
                assert driver.leased() == number
            for number in numbers:
                driver.release(number)

    @pytest.mark.parametrize("limit", [1, 2])
    def test_a_job_that_has_made_as_many_when_the_limit_is_set_is_not_leased_again(
        self, driver: Driver, limit: int
    ) -> None:
        self.used_up(driver, 1)
        driver.add(2)
        told = driver.result(1, wait_ms=1000)
        configure(driver, max_attempts=limit)
        assert driver.inspect(1).state == 3, "it fails when it would be leased, and may be spared until then"
        assert driver.leased() == 2
        assert told.reply == JobResult(job_id(1), False, b"")
        assert driver.leased() is None

    def test_a_limit_that_is_lifted_again_in_time_did_nothing(self, driver: Driver) -> None:
        self.used_up(driver, 1)
        configure(driver, max_attempts=1)
        configure(driver, max_attempts=3)
        assert driver.leased() == 1

    def test_a_job_that_is_leased_then_ends_with_its_attempt(self, driver: Driver) -> None:
        self.used_up(driver, 1)
        assert driver.leased() == 1
        configure(driver, max_attempts=1)
        assert driver.touch(1) == OK
        driver.release(1)
        assert driver.inspect(1).state == 2

    def test_while_leases_wait_such_jobs_wait_too(self, driver: Driver) -> None:
        self.used_up(driver, 1)
        configure(driver, max_attempts=1)
        driver.do(c.PauseQueue(b"q"))
        assert driver.leased() is None
        assert driver.inspect(1).state == 3
        call = driver.lease(wait_ms=1000)
        driver.do(c.ResumeQueue(b"q"))
        driver.wait(0)
        assert driver.inspect(1).state == 2
        driver.add(2)
        driver.wait(0)
        assert number_of(call.reply) == 2

    def test_a_run_that_was_tried_too_often_has_failed(self, driver: Driver) -> None:
        run = driver.run(1, wait_ms=10_000)
        assert driver.leased() == 1
        driver.release(1)
        configure(driver, max_attempts=1)
        assert driver.leased() is None
        assert run.reply == JobResult(job_id(1), False, b"")
        assert driver.engine.state.jobs.get(job_id(1)) is None

    def test_a_bulk_lease_takes_what_stands_before_such_a_job(self, driver: Driver) -> None:
        self.used_up(driver, 2)
        driver.add(1, priority=1)
        driver.add(3)
        configure(driver, max_attempts=1)
        assert isinstance(reply := driver.lease(count=10).reply, LeasedJobs)
        assert [number_of(job) for job in reply.jobs] == [1]
        assert driver.leased() == 3
        assert driver.inspect(2).state == 2

    def test_several_queues_are_looked_through(self, driver: Driver) -> None:
        self.used_up(driver, 1)
        driver.add(2, name=b"r")
        configure(driver, max_attempts=1)
        assert driver.leased(b"q", b"r") == 2
        assert driver.inspect(1).state == 2

    @pytest.mark.parametrize("wait_ms", [0, 1000])
    def test_many_of_them_fail_in_steps_and_whoever_waits_gets_the_job_behind(
        self, driver: Driver, wait_ms: int
    ) -> None:
        several = range(1, 3 * WEEDED_AT_ONCE)
        self.used_up(driver, *several, attempts=1)
        driver.add(100)
        configure(driver, max_attempts=1)
        call = driver.lease(wait_ms=wait_ms)
        assert call.reply is None
        assert [driver.inspect(number).state for number in several].count(2) == WEEDED_AT_ONCE
        driver.wait(0)
        assert number_of(call.reply) == 100
        assert [driver.inspect(number).state for number in several].count(2) == len(several)

    def test_a_job_that_times_out_may_go_to_the_back(self, driver: Driver) -> None:
        configure(driver, to_back=True)
        for number in (1, 2, 3):
            driver.add(number, ttr_ms=10)
        driver.do(c.Schedule(job_id(4), JobSpec(b"q", 10, 60_000), driver.now_ms - 1, b""))
        assert driver.leased() == 1
        driver.wait(10)
        driver.add(5, ttr_ms=10)
        order = [driver.leased() for _ in range(5)]
        assert order == [2, 3, 1, 5, 4]
        driver.wait(10)
        assert [driver.leased() for _ in range(5)] == order, "those that left together come back together"


class TestTokenBucket:
    def test_it_loses_no_fraction(self) -> None:
        bucket = TokenBucket(3, 2)  # one in 333 333.3 ms
        bucket.take(0)
        bucket.take(0)
        taken = []
        now_ms = 0
        while len(taken) < 3:
            now_ms = bucket.ready_ms(now_ms)
            bucket.take(now_ms)
            taken.append(now_ms)
        assert taken == [333_334, 666_667, 1_000_000]

    @pytest.mark.parametrize(
        ("rate", "burst", "tokens"), [(1, 0, 1), (999, 0, 1), (5000, 0, 5), (5000, 2, 2), (1, 9, 9)]
    )
    def test_it_begins_full(self, rate: int, burst: int, tokens: int) -> None:
        bucket = TokenBucket(rate, burst)
        taken = 0
        while bucket.ready_ms(0) == 0:
            bucket.take(0)
            taken += 1
        assert taken == tokens

    def test_the_fastest_rate_is_exact(self) -> None:
        bucket = TokenBucket(2**32 - 1, 2**32 - 1)
        bucket.take(0)
        assert bucket.ready_ms(86_400_000_000_000) == 86_400_000_000_000

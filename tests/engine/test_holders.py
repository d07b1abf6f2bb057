"""The worker that holds a job: it may keep it (`touch`), give it back (`release`), and nobody else passes for it."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.driver import START_MS, Driver, job_id
from tests.engine.life import Life
from tests.engine.replay import replayed
from tests.engine.steps import Sleep, Step, histories
from workq import commands as c
from workq.engine import Engine
from workq.engine.events import Leased, Released, Touched
from workq.replies import DUPLICATE_RESULT, LEASE_EXPIRED, NOT_FOUND, NOT_LEASED, OK, TIMED_OUT, JobResult, LeasedJob
from workq.values import JobSpec

NEW, COMPLETED, FAILED, PENDING, LEASED = range(5)  # as `inspect job` numbers them
STATES = ("ready", "scheduled", "returned", "waiting", "completed", "failed")


@pytest.fixture
def driver() -> Driver:
    return Driver()


def bring(driver: Driver, state: str) -> None:
    """Bring job 1 into a state in which nobody holds it."""
    if state == "scheduled":
        driver.schedule(1, in_ms=1000)
        return
    driver.add(1, ttr_ms=10)
    if state in ("returned", "waiting"):
        assert driver.leased() == 1
    if state == "returned":
        driver.wait(10)
    elif state == "waiting":
        driver.release(1, delay_ms=1000)
    elif state == "completed":
        driver.complete(1)
    elif state == "failed":
        driver.fail(1)


class TestTouch:
    def test_the_ttr_begins_again(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=100)
        assert driver.leased() == 1
        for _ in range(5):
            driver.wait(99)
            assert driver.touch(1) == OK
        driver.wait(99)
        assert driver.inspect(1).state == LEASED
        assert driver.inspect(1).attempts == 1
        driver.wait(1)
        assert driver.inspect(1).state == PENDING

    def test_it_never_makes_a_lease_shorter(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=100)
        assert driver.leased() == 1
        assert driver.touch(1) == OK
        driver.wait(99)
        assert driver.inspect(1).state == LEASED

    def test_the_ttl_goes_on(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=100, ttl_ms=150)
        assert driver.leased() == 1
        driver.wait(90)
        assert driver.touch(1) == OK
        driver.wait(60)
        assert driver.touch(1) == NOT_FOUND

    @pytest.mark.parametrize("state", STATES)
    def test_only_a_leased_job_can_be_touched(self, driver: Driver, state: str) -> None:
        bring(driver, state)
        before = driver.inspect(1)
        assert driver.touch(1) == NOT_LEASED
        assert driver.inspect(1) == before

    def test_a_run_goes_on_as_long_as_its_worker_says(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=50, ttr_ms=100)
        assert driver.leased() == 1
        for _ in range(3):
            driver.wait(90)
            assert driver.touch(1) == OK
        assert call.reply is None
        assert driver.complete(1, b"x") == OK
        assert call.reply == JobResult(job_id(1), True, b"x")

    def test_it_is_told_to_the_log_as_a_time(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        driver.wait(7)
        driver.touch(1)
        assert driver.engine.events[2:] == [Touched(job_id(1), driver.now_ms)]


class TestRelease:
    def test_the_job_has_its_old_place_and_its_attempt_counts(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        assert driver.leased() == 1
        assert driver.release(1) == OK
        assert driver.inspect(1).state == PENDING
        assert driver.inspect(1).attempts == 1
        assert driver.inspect(1).fails == 0
        assert driver.leased() == 1
        assert driver.leased() == 2

    def test_it_wakes_who_waits(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        call = driver.lease(wait_ms=1000, fenced=True)
        assert driver.release(1) == OK
        assert call.reply == LeasedJob(job_id(1), b"q", 1000, b"payload", attempt=2)

    def test_with_a_delay_the_job_waits(self, driver: Driver) -> None:
        driver.add(1)
        driver.add(2)
        assert driver.leased() == 1
        assert driver.release(1, delay_ms=500) == OK
        assert driver.inspect(1).scheduled_ms == driver.now_ms + 500
        assert driver.leased() == 2
        driver.wait(499)
        assert driver.leased() is None
        driver.wait(1)
        assert driver.inspect(1).scheduled_ms == 0
        driver.add(3)
        assert driver.leased() == 1, "in its old place"

    def test_a_delay_does_not_make_the_ttl_longer(self, driver: Driver) -> None:
        driver.add(1, ttl_ms=100)
        assert driver.leased() == 1
        assert driver.release(1, delay_ms=500) == OK
        driver.wait(100)
        assert driver.release(1) == NOT_FOUND

    @pytest.mark.parametrize("delay_ms", [0, 500])
    def test_after_the_last_attempt_the_job_has_failed(self, driver: Driver, delay_ms: int) -> None:
        """As when the TTR of the last attempt ends: there is none left to give it back for."""
        driver.add(1, max_attempts=1)
        call = driver.result(1, wait_ms=1000)
        assert driver.leased() == 1
        assert driver.release(1, delay_ms) == OK
        assert call.reply == JobResult(job_id(1), False, b"")
        assert driver.inspect(1).state == FAILED

    @pytest.mark.parametrize("state", STATES)
    def test_only_a_leased_job_can_be_released(self, driver: Driver, state: str) -> None:
        bring(driver, state)
        before = driver.inspect(1)
        assert driver.release(1) == NOT_LEASED
        assert driver.inspect(1) == before

    def test_a_run_waits_for_another_worker(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=1000)
        assert driver.leased() == 1
        assert driver.release(1, delay_ms=10) == OK
        driver.wait(10)
        assert driver.leased() == 1
        assert driver.complete(1, b"x") == OK
        assert call.reply == JobResult(job_id(1), True, b"x")

    def test_a_run_whose_time_is_over_ends(self, driver: Driver) -> None:
        call = driver.run(1, wait_ms=10)
        assert driver.leased() == 1
        driver.wait(20)
        assert driver.release(1, delay_ms=5) == OK
        assert call.reply == TIMED_OUT
        assert driver.touch(1) == NOT_FOUND

    def test_it_is_told_to_the_log_with_the_moment_when_the_job_is_ready(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        driver.release(1, delay_ms=70)
        assert driver.engine.events[2:] == [Released(job_id(1), driver.now_ms + 70)]


class TestProgress:
    def test_the_last_one_is_shown(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        assert driver.inspect(1).progress == b""
        for progress in (b"10 %", b"\0\r\n", b"99 %"):
            assert driver.progress(1, progress) == OK
            assert driver.inspect(1).progress == progress
        driver.complete(1)
        assert driver.inspect(1).progress == b"99 %"

    def test_an_empty_one_takes_it_away(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        stored_bytes = driver.engine.state.stored_bytes
        assert driver.progress(1, b"10 %") == OK
        assert driver.engine.state.stored_bytes == stored_bytes + 4
        assert driver.progress(1, b"") == OK
        assert driver.engine.state.jobs[job_id(1)].extra is None
        assert driver.engine.state.stored_bytes == stored_bytes

    def test_it_outlasts_the_lease_until_the_next_worker_tells(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10)
        assert driver.leased() == 1
        assert driver.progress(1, b"10 %") == OK
        driver.wait(10)
        assert driver.inspect(1).progress == b"10 %"

    @pytest.mark.parametrize("touches", [False, True])
    def test_it_touches_if_it_says_so(self, driver: Driver, touches: bool) -> None:
        driver.add(1, ttr_ms=100)
        assert driver.leased() == 1
        driver.wait(90)
        assert driver.progress(1, b"x", touches=touches) == OK
        driver.wait(90)
        assert driver.inspect(1).state == (LEASED if touches else PENDING)

    @pytest.mark.parametrize("state", STATES)
    def test_only_of_a_leased_job(self, driver: Driver, state: str) -> None:
        bring(driver, state)
        assert driver.progress(1, b"x") == NOT_LEASED
        assert driver.inspect(1).progress == b""

    def test_of_a_run(self, driver: Driver) -> None:
        driver.run(1, wait_ms=1000)
        assert driver.leased() == 1
        assert driver.progress(1, b"x") == OK
        assert driver.inspect(1).progress == b"x"
        assert driver.engine.state.stored_bytes == 0


class TestFencing:
    def test_a_lease_tells_the_attempt_if_it_is_asked(self, driver: Driver) -> None:
        driver.add(1)
        for attempt in (1, 2, 3):
            fenced = attempt != 2
            expected = LeasedJob(job_id(1), b"q", 1000, b"payload", attempt=attempt if fenced else 0)
            assert driver.lease(fenced=fenced).reply == expected
            driver.wait(1000)

    def test_the_holder_may_do_all(self, driver: Driver) -> None:
        driver.add(1, max_fails=2)
        assert driver.leased() == 1
        assert driver.touch(1, attempt=1) == OK
        assert driver.release(1, attempt=1) == OK
        assert driver.leased() == 1
        assert driver.fail(1, attempt=2) == OK
        assert driver.leased() == 1
        assert driver.complete(1, attempt=3) == OK

    def race(self, driver: Driver) -> None:
        """Worker 1 is too late, and worker 2 has taken over."""
        driver.add(1, ttr_ms=10, max_fails=5)
        assert driver.leased() == 1
        driver.wait(10)
        assert driver.leased() == 1
        driver.engine.events.clear()

    def late(self) -> list[c.Command]:
        one = job_id(1)
        return [
            c.Complete(one, b"late", 1),
            c.Fail(one, b"late", 1),
            c.Fail(one, b"late", 1, True),
            c.Touch(one, 1),
            c.Release(one, 0, 1),
            c.Release(one, 9, 1),
            c.Progress(one, b"late", 1),
            c.Progress(one, b"late", 1, True),
        ]

    def test_a_late_worker_cannot_disturb_the_one_that_took_over(self, driver: Driver) -> None:
        self.race(driver)
        for command in self.late():
            assert driver.do(command) == LEASE_EXPIRED
        assert driver.engine.events == []
        assert driver.complete(1, b"in time", attempt=2) == OK
        assert driver.result(1).reply == JobResult(job_id(1), True, b"in time")

    def test_a_late_worker_is_told_so_when_the_other_is_done(self, driver: Driver) -> None:
        self.race(driver)
        assert driver.complete(1, b"in time", attempt=2) == OK
        for command in self.late():
            assert driver.do(command) == LEASE_EXPIRED

    def test_a_late_worker_is_told_so_when_nobody_took_over_yet(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10)
        assert driver.leased() == 1
        driver.wait(10)
        for command in self.late():
            assert driver.do(command) == LEASE_EXPIRED
        assert driver.leased() == 1

    def test_who_repeats_himself_learns_that_it_was_done(self, driver: Driver) -> None:
        """His connection broke before he saw the answer."""
        driver.add(1)
        assert driver.leased() == 1
        assert driver.complete(1, attempt=1) == OK
        assert driver.complete(1, attempt=1) == DUPLICATE_RESULT
        assert driver.fail(1, attempt=1) == DUPLICATE_RESULT
        assert driver.touch(1, attempt=1) == LEASE_EXPIRED

    def test_an_attempt_that_was_never_made_holds_nothing(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.complete(1, attempt=1) == LEASE_EXPIRED
        assert driver.leased() == 1
        assert driver.complete(1, attempt=2) == LEASE_EXPIRED

    def test_a_retry_does_not_begin_to_count_anew(self, driver: Driver) -> None:
        """The attempts that limits look at do; a worker from before must not pass for the one that holds the job."""
        driver.add(1, ttr_ms=10, max_attempts=1)
        for attempt in (1, 2, 3):
            assert driver.lease(fenced=True).reply == LeasedJob(job_id(1), b"q", 10, b"payload", attempt=attempt)
            assert driver.inspect(1).attempts == 1
            driver.wait(10)
            assert driver.inspect(1).state == FAILED
            assert driver.do(c.Retry(job_id(1))) == OK
            assert (driver.inspect(1).attempts, driver.inspect(1).state) == (0, NEW)
        assert driver.leased() == 1
        for command in self.late():
            assert driver.do(command) == LEASE_EXPIRED
        assert driver.complete(1, attempt=4) == OK

    def test_a_retry_forgets_who_failed(self, driver: Driver) -> None:
        driver.add(1)
        assert driver.leased() == 1
        assert driver.fail(1, attempt=1) == OK
        assert driver.fail(1, attempt=1) == DUPLICATE_RESULT
        assert driver.do(c.Retry(job_id(1))) == OK
        assert driver.fail(1, attempt=1) == LEASE_EXPIRED
        assert driver.fail(1) == OK
        assert driver.do(c.Retry(job_id(1))) == OK
        assert driver.lease(fenced=True).reply == LeasedJob(job_id(1), b"q", 1000, b"payload", attempt=2)

    def test_a_progress_that_is_taken_away_leaves_the_count(self, driver: Driver) -> None:
        driver.add(1, max_attempts=1)
        assert driver.leased() == 1
        assert driver.release(1) == OK
        assert driver.do(c.Retry(job_id(1))) == OK
        assert driver.leased() == 1
        for progress in (b"10 %", b""):
            assert driver.progress(1, progress, attempt=2) == OK
        assert driver.inspect(1).attempts == 1

    def test_an_unknown_job_is_not_found(self, driver: Driver) -> None:
        assert [driver.do(command) for command in self.late()] == [NOT_FOUND] * len(self.late())

    def test_without_an_attempt_anybody_may_finish(self, driver: Driver) -> None:
        self.race(driver)
        assert driver.complete(1, b"late") == OK
        assert driver.complete(1, b"in time", attempt=2) == DUPLICATE_RESULT

    def test_the_log_knows_nothing_of_it(self, driver: Driver) -> None:
        driver.do(c.Add(job_id(1), JobSpec(b"q", 1000, 60_000), b""))
        driver.lease(fenced=True)
        assert driver.engine.events[1:] == [Leased(job_id(1), driver.now_ms)]


@dataclass(frozen=True)
class Restart:
    """The server is stopped, and another begins with its log; or, if `carried`, with a log that was compacted."""

    carried: bool


ONE = job_id(1)
# The life of one job whose TTR is 5 ms, handed from worker to worker.
one_job_steps: st.SearchStrategy[Step | Restart] = st.sampled_from(
    [
        c.Add(ONE, JobSpec(b"q", 5, 10**9, max_attempts=2, max_fails=2), b""),
        *[c.Lease((b"q",), 0, True)] * 6,
        *[c.Fail(ONE, b"", final=final) for final in (False, True)],
        c.Complete(ONE, b""),
        c.Progress(ONE, b"x", touches=True),
        c.Progress(ONE, b""),
        c.Release(ONE),
        *[c.Retry(ONE)] * 4,
        c.Delete(ONE),
        *[Sleep(1), Sleep(5)] * 2,
        Restart(False),
        Restart(True),
    ]
)


@settings(max_examples=200)
@given(histories(one_job_steps, longest=80))
def test_no_two_leases_of_a_job_have_the_same_number(history: list[Step | Restart]) -> None:
    """Whatever happens, only the worker with the last lease may pass for the holder, and only while it is."""
    life = Life(Engine(START_MS), START_MS)
    given_before: list[int] = []
    for step in history:
        if isinstance(step, Restart):
            events = [*life.events]
            if step.carried:
                events = [life.engine.counters()]
                for job in life.engine.state.jobs.values():
                    life.engine.carry(job)
                events += life.engine.events
            life.engine = Engine(life.now_ms)
            life.engine.state = replayed(events, life.now_ms)
            life.events = events
        else:
            life.live(step)
        if ONE not in life.engine.state.jobs:
            given_before = []
        for _, _, reply in life.replies:
            if isinstance(reply, LeasedJob):
                assert reply.attempt > max(given_before, default=0)
                given_before.append(reply.attempt)
        for attempt in given_before[:-1]:
            for command in (c.Complete(ONE, b"late", attempt), c.Fail(ONE, b"late", attempt), c.Touch(ONE, attempt)):
                assert life.execute(command) == LEASE_EXPIRED
        life.replies.clear()

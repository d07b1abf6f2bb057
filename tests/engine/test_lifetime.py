"""How long a job and its id live: TTL, `delete`, and when an id is free again."""

import pytest

from tests.engine.driver import HOUR_MS, Driver, job_id
from workq import commands as c
from workq.engine import NEVER_MS
from workq.replies import DUPLICATE_JOB, NOT_FOUND, OK, JobResult, Refused
from workq.values import JobSpec


@pytest.fixture
def driver() -> Driver:
    return Driver()


def exists(driver: Driver, number: int) -> bool:
    return driver.do(c.InspectJob(job_id(number))) != NOT_FOUND


class TestTTL:
    @pytest.mark.parametrize("state", ["ready", "leased", "completed", "failed"])
    def test_it_ends_a_job_in_every_state(self, driver: Driver, state: str) -> None:
        driver.add(1, ttr_ms=HOUR_MS, ttl_ms=5000)
        if state != "ready":
            assert driver.leased() == 1
        if state == "completed":
            driver.complete(1)
        if state == "failed":
            driver.fail(1)
        driver.wait(4999)
        assert exists(driver, 1)
        driver.wait(1)
        assert not exists(driver, 1)
        assert driver.leased() is None
        assert [driver.complete(1), driver.result(1).reply] == [NOT_FOUND, NOT_FOUND]
        assert driver.engine.state.evicted_jobs == (0 if state in ("completed", "failed") else 1)

    def test_of_a_scheduled_job_it_starts_at_its_time(self, driver: Driver) -> None:
        driver.schedule(1, in_ms=1000, ttl_ms=500)
        driver.wait(1499)
        assert exists(driver, 1)
        driver.wait(1)
        assert not exists(driver, 1)

    def test_of_a_job_scheduled_in_the_past_the_rest_is_left(self, driver: Driver) -> None:
        assert driver.schedule(1, in_ms=-400, ttl_ms=500) == OK
        driver.wait(99)
        assert exists(driver, 1)
        driver.wait(1)
        assert not exists(driver, 1)

    @pytest.mark.parametrize(("in_ms", "ttl_ms"), [(-500, 500), (-501, 500), (-1, 1)])
    def test_a_time_whose_ttl_is_over_is_refused(self, driver: Driver, in_ms: int, ttl_ms: int) -> None:
        reply = driver.schedule(1, in_ms=in_ms, ttl_ms=ttl_ms)
        assert isinstance(reply, Refused)
        assert reply.text.startswith("Invalid Time")
        assert not exists(driver, 1)

    @pytest.mark.parametrize("ttl_ms", [NEVER_MS - 1, NEVER_MS, 2**64 - 1])
    def test_the_longest_ones_do_not_end(self, driver: Driver, ttl_ms: int) -> None:
        driver.add(1, ttl_ms=ttl_ms)
        driver.wait(10**15)
        assert driver.leased() == 1

    def test_an_expiry_wins_over_everything_due_at_the_same_time(self, driver: Driver) -> None:
        """Nobody is handed a job whose life is over."""
        driver.schedule(1, in_ms=10, ttl_ms=1)
        driver.add(2, ttr_ms=11, ttl_ms=11)
        assert driver.leased() == 2
        waiting = driver.lease(wait_ms=1000)
        driver.engine.tick(driver.now_ms + 11)  # both times of each job have come, and nobody looked before
        assert waiting.reply is None
        assert driver.engine.state.evicted_jobs == 2

    def test_those_who_wait_for_the_result_are_told_at_once(self, driver: Driver) -> None:
        driver.add(1, ttl_ms=100)
        calls = [driver.result(1, wait_ms=1000) for _ in range(2)]
        driver.wait(100)
        assert [call.reply for call in calls] == [NOT_FOUND, NOT_FOUND]

    def test_thousands_due_at_once_do_not_stop_the_world(self, driver: Driver) -> None:
        """One tick does a bounded part, and says when it wants to go on."""
        for number in range(5000):
            driver.add(number, ttl_ms=100)
        driver.engine.events.clear()
        late_ms = driver.now_ms + 100
        driver.engine.tick(late_ms)
        assert 0 < len(driver.engine.events) < 2000
        ticks = 1
        while driver.engine.next_ms() <= late_ms:
            driver.engine.tick(late_ms)
            ticks += 1
        assert ticks < 50
        assert not driver.engine.state.jobs


class TestDelete:
    @pytest.mark.parametrize("state", ["ready", "scheduled", "leased", "completed", "failed"])
    def test_it_removes_a_job_in_every_state(self, driver: Driver, state: str) -> None:
        if state == "scheduled":
            driver.schedule(1, in_ms=100)
        else:
            driver.add(1)
        if state == "leased":
            assert driver.leased() == 1
        if state == "completed":
            driver.complete(1)
        if state == "failed":
            driver.fail(1)
        assert driver.delete(1) == OK
        assert not exists(driver, 1)
        assert driver.delete(1) == NOT_FOUND
        driver.wait(2 * HOUR_MS)
        assert driver.leased() is None
        assert driver.engine.state.evicted_jobs == 0
        assert driver.engine.next_ms() == NEVER_MS

    def test_those_who_wait_for_the_result_are_told_at_once(self, driver: Driver) -> None:
        driver.add(1)
        calls = [driver.result(1, wait_ms=1000) for _ in range(2)]
        driver.delete(1)
        assert [call.reply for call in calls] == [NOT_FOUND, NOT_FOUND]


class TestIds:
    def test_an_id_is_taken_while_its_job_exists_in_any_queue_and_state(self, driver: Driver) -> None:
        driver.add(1, b"a", ttl_ms=1000)
        spec = JobSpec(b"b", 1, 1)
        foreground = JobSpec(b"b", 1, 0, foreground=True)
        duplicates: list[c.Command] = [
            c.Add(job_id(1), spec, b""),
            c.Schedule(job_id(1), spec, driver.now_ms, b""),
            c.Run(job_id(1), foreground, 1000, b""),
        ]
        for _ in range(2):
            assert [driver.do(command) for command in duplicates] == [DUPLICATE_JOB] * 3
            driver.complete(1, b"kept")
        assert driver.result(1).reply == JobResult(job_id(1), True, b"kept")

    @pytest.mark.parametrize("end", ["delete", "expire"])
    def test_it_is_free_when_the_job_is_gone(self, driver: Driver, end: str) -> None:
        driver.add(1, ttl_ms=1000)
        assert driver.leased() == 1
        if end == "delete":
            driver.delete(1)
        else:
            driver.wait(1000)
        assert driver.add(1, b"other") == OK
        driver.wait(1000)  # nothing of the first one's timers touches the second
        assert driver.inspect(1).attempts == 0
        assert driver.leased(b"other") == 1


class TestHeld:
    """While the log cannot be written, time does nothing to jobs; waits still end."""

    def test_nothing_ends_but_waits(self, driver: Driver) -> None:
        driver.add(1, ttr_ms=10)
        assert driver.leased() == 1
        driver.schedule(2, in_ms=10, name=b"other")
        driver.add(3, ttl_ms=10, name=b"third")
        waiting = driver.lease(wait_ms=20)
        driver.engine.events.clear()
        driver.engine.held = True
        driver.wait(1000)
        assert waiting.reply is not None
        assert driver.engine.events == []
        driver.engine.held = False
        driver.wait(0)
        assert [driver.leased(b"other"), driver.leased(b"third"), driver.leased()] == [2, None, 1]

"""Recurring jobs: one ordinary job for each time, neither fewer nor more."""

import uuid

import pytest

from tests.engine.driver import HOUR_MS, START_MS, Driver, job_id
from tests.engine.replay import replayed
from tests.engine.snapshot import snapshot
from workq import commands as c
from workq.engine import Engine
from workq.engine.documents import RECURRED, RECURRING
from workq.engine.events import Added, DocumentPut, Event
from workq.engine.recurring import Position, Recurring, define, occurrence_id, unpack_position
from workq.recurrence import parse_rule
from workq.replies import DUPLICATE_JOB, NOT_FOUND, OK, JobInfo, LeasedJob, RecurringInfo, RecurringJobs, Refused, Reply
from workq.values import InvalidValue, JobSpec, RetryPolicy

SPEC = JobSpec(b"q", 1000, HOUR_MS)


@pytest.fixture
def driver() -> Driver:
    return Driver()


def recur(
    driver: Driver, number: int = 1, rule: str = "every:1000", skips: bool = False, spec: JobSpec = SPEC
) -> Reply:
    return driver.do(c.Recur(job_id(number), spec, parse_rule(rule), skips, b"payload"))


def listed(driver: Driver, cursor: int = 0, limit: int = 100) -> list[RecurringInfo]:
    reply = driver.do(c.InspectRecurring(cursor, limit))
    assert isinstance(reply, RecurringJobs)
    return reply.jobs


def leased_at(driver: Driver) -> list[int]:
    """Lease all there is; for which times, from the start, of the recurring job 1."""
    times = {occurrence_id(job_id(1), START_MS + ms): ms for ms in range(0, 100_001, 500)}
    found = []
    while isinstance(reply := driver.lease().reply, LeasedJob):
        found.append(times[reply.job_id])
    return found


def restarted(driver: Driver, events: list[Event]) -> Driver:
    """Another engine, with what the events say."""
    fresh = Driver(now_ms=driver.now_ms)
    fresh.engine = Engine(driver.now_ms)
    fresh.engine.state = replayed([*events, driver.engine.counters()], driver.now_ms)
    return fresh


def test_a_job_is_made_each_time(driver: Driver) -> None:
    assert recur(driver) == OK
    driver.wait(999)
    assert leased_at(driver) == []
    driver.wait(1)
    assert leased_at(driver) == [1000]
    driver.wait(2000)
    assert 3000 in leased_at(driver)


def test_its_jobs_are_like_those_of_an_add(driver: Driver) -> None:
    spec = JobSpec(b"q", 7, 8000, 9, 3, 4, RetryPolicy(5))
    driver.do(c.Recur(job_id(1), spec, parse_rule("every:1000"), False, b"data", b"meta"))
    driver.wait(1000)
    made = driver.engine.state.jobs[occurrence_id(job_id(1), START_MS + 1000)]
    assert (made.spec, made.payload, made.meta) == (spec, b"data", b"meta")
    assert (made.created_ms, made.scheduled_ms) == (START_MS + 1000, 0)


def test_the_id_of_a_job_is_what_every_uuid_library_says() -> None:
    name = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    expected = uuid.uuid5(uuid.UUID(name), "1893499200000")
    assert occurrence_id(uuid.UUID(name).bytes, 1_893_499_200_000) == expected.bytes


def test_whoever_waits_gets_the_job_when_it_is_made(driver: Driver) -> None:
    recur(driver)
    call = driver.lease(wait_ms=1000)
    driver.wait(1000)
    assert isinstance(call.reply, LeasedJob)
    assert call.reply.job_id == occurrence_id(job_id(1), START_MS + 1000)


def test_what_was_missed_is_made_up_for_once(driver: Driver) -> None:
    recur(driver)
    driver.now_ms += 10_700  # nobody called the engine: it was down
    driver.wait(0)
    assert leased_at(driver) == [10_000]
    driver.wait(299)
    assert leased_at(driver) == []
    driver.wait(1)
    assert leased_at(driver) == [11_000]


def test_a_restart_at_any_point_neither_skips_nor_doubles(driver: Driver) -> None:
    recur(driver)
    driver.wait(2500)
    events = list(driver.engine.events)
    for length in range(2, len(events) + 1):
        fresh = restarted(driver, events[:length])
        fresh.wait(500)
        # Whatever the log still knew, the last time that has passed has its job, and no time has two.
        times = leased_at(fresh)
        assert times.count(3000) == 1
        assert len(set(times)) == len(times)


def test_a_log_torn_between_a_job_and_the_note_of_it_does_not_double(driver: Driver) -> None:
    recur(driver)
    driver.wait(1000)
    events = list(driver.engine.events)
    assert [type(event) for event in events[-2:]] == [Added, DocumentPut]
    fresh = restarted(driver, events[:-1])
    fresh.wait(0)
    assert leased_at(fresh) == [1000]
    (info,) = listed(fresh)
    assert (info.occurrences, info.last_ms) == (1, START_MS + 1000)


def test_a_deleted_one_makes_no_more_jobs(driver: Driver) -> None:
    recur(driver)
    driver.wait(1000)
    assert driver.delete(1) == OK
    assert driver.delete(1) == NOT_FOUND
    driver.wait(5000)
    assert leased_at(driver) == [1000]
    assert listed(driver) == []
    assert recur(driver) == OK


@pytest.mark.parametrize("rule", ["every:1000", "cron:*_*_*_*_*"])
def test_ids_are_those_of_jobs_and_recurring_jobs_alike(driver: Driver, rule: str) -> None:
    driver.add(1)
    assert recur(driver, 1, rule) == DUPLICATE_JOB
    assert recur(driver, 2, rule) == OK
    assert recur(driver, 2, rule) == DUPLICATE_JOB
    assert driver.add(2) == DUPLICATE_JOB
    assert driver.schedule(2, 100) == DUPLICATE_JOB
    assert driver.run(2, 0).reply == DUPLICATE_JOB


def test_a_rule_that_never_occurs_is_refused(driver: Driver) -> None:
    reply = recur(driver, 1, "cron:0_0_*/30_2_MON#5")
    assert reply == Refused("Invalid rule: 'cron:0_0_*/30_2_MON#5' does not occur in the next 50 years")
    assert listed(driver) == []


def test_listing_shows_them_by_id(driver: Driver) -> None:
    for number in (3, 1, 2):
        recur(driver, number, "every:5000", skips=number == 2)
    driver.wait(5000)
    assert [info.job_id for info in listed(driver)] == [job_id(1), job_id(2), job_id(3)]
    assert [info.job_id for info in listed(driver, 1, 1)] == [job_id(2)]
    (info,) = listed(driver, 1, 1)
    last_id = occurrence_id(job_id(2), START_MS + 5000)
    expected = RecurringInfo(
        *(job_id(2), b"q", 1000, HOUR_MS, b"payload", 0, 0, 0, "every:5000", True),
        *(1, 0, START_MS + 10_000, START_MS + 5000, last_id),
    )
    assert info == expected


class TestSkip:
    """With `-overlap=skip`."""

    def test_the_next_waits_until_the_last_has_ended_and_is_made_once(self, driver: Driver) -> None:
        recur(driver, skips=True, spec=JobSpec(b"q", 60_000, HOUR_MS))
        driver.wait(1000)
        assert leased_at(driver) == [1000]
        driver.wait(3500)
        assert leased_at(driver) == []
        driver.do(c.Complete(occurrence_id(job_id(1), START_MS + 1000), b""))
        driver.wait(0)
        assert leased_at(driver) == [4000]
        (info,) = listed(driver)
        assert (info.occurrences, info.skipped) == (2, 2)
        driver.wait(499)
        assert leased_at(driver) == []

    @pytest.mark.parametrize("how", ["fail", "delete", "expire", "exhaust"])
    def test_every_end_of_the_last_one_counts(self, driver: Driver, how: str) -> None:
        recur(driver, skips=True, spec=JobSpec(b"q", 700, 800 if how == "expire" else HOUR_MS, 0, 1))
        driver.wait(1000)
        assert leased_at(driver) == [1000]
        if how in ("fail", "delete"):
            driver.wait(500)
        last_id = occurrence_id(job_id(1), START_MS + 1000)
        if how == "fail":
            driver.do(c.Fail(last_id, b""))
        elif how == "delete":
            driver.do(c.Delete(last_id))
        driver.wait(500 if how in ("fail", "delete") else 1000)
        assert leased_at(driver) == [2000]

    def test_one_that_ended_holds_nothing_back(self, driver: Driver) -> None:
        recur(driver, skips=True)
        for ms in (1000, 2000, 3000):
            driver.wait(1000)
            assert leased_at(driver) == [ms]
            driver.do(c.Complete(occurrence_id(job_id(1), START_MS + ms), b""))
        assert listed(driver)[0].skipped == 0

    def test_a_restart_remembers_what_waits(self, driver: Driver) -> None:
        recur(driver, skips=True, spec=JobSpec(b"q", 60_000, HOUR_MS))
        driver.wait(1000)
        leased_at(driver)
        driver.wait(1200)
        fresh = restarted(driver, driver.engine.events)
        assert snapshot(fresh.engine.state) == snapshot(driver.engine.state)
        fresh.wait(100)
        assert leased_at(fresh) == []
        fresh.do(c.Complete(occurrence_id(job_id(1), START_MS + 1000), b""))
        again = restarted(fresh, [*driver.engine.events, *fresh.engine.events])
        again.wait(0)
        assert leased_at(again) == [2000]

    def test_deleting_it_forgets_what_waits(self, driver: Driver) -> None:
        recur(driver, skips=True)
        driver.wait(2000)
        driver.delete(1)
        driver.do(c.Complete(occurrence_id(job_id(1), START_MS + 1000), b""))
        driver.wait(5000)
        assert leased_at(driver) == []


class TestBounds:
    """Many at once are done in pieces, and only when there is room in the log."""

    def test_a_tick_makes_a_bounded_number_of_jobs(self, driver: Driver) -> None:
        for number in range(1, 121):
            recur(driver, number)
        driver.now_ms += 1000
        made = []
        while driver.engine.next_ms() <= driver.now_ms:
            before = len(driver.engine.state.jobs)
            driver.engine.tick(driver.now_ms)
            made.append(len(driver.engine.state.jobs) - before)
        assert sum(made) == 120
        assert max(made) <= 50

    def test_without_room_it_waits_and_keeps_its_time(self, driver: Driver) -> None:
        recur(driver)
        driver.now_ms += 1000
        asked = []

        def refuse(size: int) -> bool:
            asked.append(size)
            return False

        while driver.engine.next_ms() <= driver.now_ms:
            driver.engine.tick(driver.now_ms, admit=refuse)
        assert asked == [len(b"payload")]
        assert leased_at(driver) == []
        driver.engine.recurring_held = False
        driver.wait(0)
        assert leased_at(driver) == [1000]

    def test_without_room_a_held_one_stays_free(self, driver: Driver) -> None:
        recur(driver, skips=True)
        driver.wait(2000)
        driver.do(c.Complete(occurrence_id(job_id(1), START_MS + 1000), b""))
        driver.engine.tick(driver.now_ms, admit=lambda size: False)
        driver.engine.recurring_held = False
        driver.wait(0)
        assert leased_at(driver) == [2000]


def test_a_full_queue_takes_no_more_and_what_it_missed_is_counted(driver: Driver) -> None:
    driver.do(c.ConfigureQueue(b"q", max_len=2))
    recur(driver, spec=JobSpec(b"q", 60_000, HOUR_MS))
    driver.wait(5000)
    assert len(driver.engine.state.jobs) == 2
    (info,) = listed(driver)
    assert (info.occurrences, info.skipped, info.last_ms) == (2, 3, START_MS + 2000)
    assert leased_at(driver) == [1000, 2000]
    driver.wait(1000)
    assert occurrence_id(job_id(1), START_MS + 6000) in driver.engine.state.jobs


class TestDocuments:
    """What the log keeps of a recurring job."""

    @pytest.mark.parametrize("retry", [None, RetryPolicy(7, 1500, 9)])
    def test_a_definition_comes_back(self, retry: RetryPolicy | None) -> None:
        spec = JobSpec(b"n" * 255, 1, 2**64 - 1, -5, 2**32 - 1, 3, retry)
        command = c.Recur(job_id(1), spec, parse_rule("cron:0_9_*_*_*@Europe/Berlin"), True, b"payload", b"meta")
        back = Recurring(job_id(1), define(command), Position(5))
        assert (back.spec, back.rule, back.skips) == (spec, command.rule, True)
        assert (back.payload, back.meta, back.size()) == (b"payload", b"meta", 11)

    def test_a_zone_that_is_not_here_stops_only_what_needs_it(self, driver: Driver) -> None:
        command = c.Recur(job_id(1), SPEC, parse_rule("cron:0_9_*_*_*@Europe/Berlin"), False, b"")
        lost = define(command).replace(b"Europe/Berlin", b"Mars/Olympus_")
        driver.engine.state.put_document(RECURRED, job_id(1), Position(START_MS + 5).pack())
        driver.engine.state.put_document(RECURRING, job_id(1), lost)
        driver.wait(HOUR_MS)
        (info,) = listed(driver)
        assert (info.rule, info.next_ms) == ("cron:0_9_*_*_*@Mars/Olympus_", 0)
        assert leased_at(driver) == []
        assert driver.delete(1) == OK

    @pytest.mark.parametrize(
        "definition", [b"x", b"\x02\0\0\0\0\0{}", b"\x02\0\0\0\0\0[]", b"\x01\0\0\0\0\0{", bytes(9)]
    )
    def test_nonsense_is_refused(self, definition: bytes) -> None:
        with pytest.raises(InvalidValue, match="Invalid recurring job 0000"):
            Recurring(job_id(1), definition, Position(1))
        with pytest.raises(InvalidValue, match="Invalid position"):
            unpack_position(definition)


def test_inspecting_one_of_its_jobs_is_as_ever(driver: Driver) -> None:
    recur(driver)
    driver.wait(1000)
    info = driver.do(c.InspectJob(occurrence_id(job_id(1), START_MS + 1000)))
    assert isinstance(getattr(info, "jobs", [None])[0], JobInfo)

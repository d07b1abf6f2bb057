"""Documents: what doors keep beside jobs."""

import pytest

from tests.engine.driver import Driver, job_id
from workq import commands as c
from workq.replies import NOT_FOUND, OK, Documents, JobIds, Jobs, LatestJobs
from workq.values import InvalidValue, JobSpec, RetryPolicy


@pytest.fixture
def driver() -> Driver:
    return Driver()


def listed(driver: Driver, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
    reply = driver.do(c.ListDocuments(prefix))
    assert isinstance(reply, Documents)
    return reply.documents


def test_documents_are_listed_by_prefix_and_key(driver: Driver) -> None:
    for key in (b"hq/b", b"fireworq/x", b"hq/a"):
        assert driver.do(c.PutDocument(key, key.upper())) == OK
    assert listed(driver, b"hq/") == [(b"hq/a", b"HQ/A"), (b"hq/b", b"HQ/B")]
    assert [key for key, _ in listed(driver)] == [b"fireworq/x", b"hq/a", b"hq/b"]


def test_a_document_is_replaced_and_removed(driver: Driver) -> None:
    driver.do(c.PutDocument(b"key", b"first"))
    driver.do(c.PutDocument(b"key", b"second"))
    assert listed(driver) == [(b"key", b"second")]
    assert driver.do(c.GetDocument(b"key")) == Documents([(b"key", b"second")])
    driver.do(c.PutDocument(b"key", b""))
    driver.do(c.PutDocument(b"key", b""))
    assert listed(driver) == []
    assert driver.do(c.GetDocument(b"key")) == NOT_FOUND


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        (b"", b"x", "Invalid document key size: '0' is not a whole number from 1 to 1024 bytes"),
        (bytes(1025), b"x", "Invalid document key size: '1025'"),
        (b"key", bytes(2**20 + 1), "Invalid document size: '1048577'"),
    ],
)
def test_keys_and_values_have_limits(key: bytes, value: bytes, text: str) -> None:
    with pytest.raises(InvalidValue, match=text):
        c.PutDocument(key, value)


def test_the_largest_document_is_taken(driver: Driver) -> None:
    assert driver.do(c.PutDocument(bytes(1024), bytes(2**20))) == OK


def test_the_jobs_of_doors_are_told_when_they_finish(driver: Driver) -> None:
    for number, meta in ((1, b"hq"), (2, b""), (3, b"hq")):
        driver.do(c.Add(job_id(number), JobSpec(b"q", 1000, 60_000), b"payload", meta))
    driver.complete(1)
    driver.complete(2)
    driver.fail(3)
    assert [job.job_id for job in driver.engine.state.finished] == [job_id(1), job_id(3)]


class TestRetryPolicy:
    def test_the_delay_grows_by_its_factor_up_to_the_longest(self) -> None:
        policy = RetryPolicy(1000, 2000, 5000)
        waits = [policy.wait_ms(fails, job_id(7)) for fails in range(1, 6)]
        for wait_ms, exact_ms in zip(waits, (1000, 2000, 4000, 5000, 5000), strict=True):
            assert exact_ms <= wait_ms <= exact_ms * 1.05

    def test_fractions_of_a_factor_count(self) -> None:
        assert RetryPolicy(100_000, 1500).wait_ms(3, job_id(1)) // 1000 in range(225, 237)

    def test_jobs_that_fail_together_come_back_apart_and_a_job_always_alike(self) -> None:
        policy = RetryPolicy(10_000)
        waits = [policy.wait_ms(1, job_id(number)) for number in range(100)]
        assert len(set(waits)) > 60
        assert waits == [policy.wait_ms(1, job_id(number)) for number in range(100)]

    def test_without_a_delay_there_is_none(self) -> None:
        assert RetryPolicy(0, 10_000).wait_ms(200, job_id(1)) == 0

    def test_the_most_fails_there_can_be_are_no_burden(self) -> None:
        assert RetryPolicy(1, 1001).wait_ms(2**32 - 1, job_id(1)) > 10**12


def test_a_job_tells_what_a_door_keeps_with_it_and_how_it_ended(driver: Driver) -> None:
    driver.do(c.Add(job_id(1), JobSpec(b"q", 1000, 60_000), b"payload", b"meta"))
    before = driver.do(c.InspectJob(job_id(1)))
    assert isinstance(before, Jobs)
    assert (before.jobs[0].meta, before.jobs[0].result) == (b"meta", None)
    driver.do(c.Complete(job_id(1), b""))
    after = driver.do(c.InspectJob(job_id(1)))
    assert isinstance(after, Jobs)
    assert (after.jobs[0].meta, after.jobs[0].result) == (b"meta", b"")


def test_the_ids_of_a_queue_are_those_of_jobs_in_any_state(driver: Driver) -> None:
    for number in range(1, 5):
        driver.do(c.Add(job_id(number), JobSpec(b"q", 1000, 60_000), b""))
    driver.do(c.Add(job_id(5), JobSpec(b"other", 1000, 60_000), b""))
    driver.do(c.Schedule(job_id(6), JobSpec(b"q", 1000, 60_000), driver.now_ms + 1000, b""))
    driver.do(c.Lease((b"q",), 0))
    driver.do(c.Complete(job_id(2), b""))
    driver.do(c.Fail(job_id(3), b""))
    driver.do(c.Delete(job_id(4)))
    reply = driver.do(c.InspectJobIds(b"q"))
    assert isinstance(reply, JobIds)
    assert sorted(reply.job_ids) == [job_id(number) for number in (1, 2, 3, 6)]
    assert driver.do(c.InspectJobIds(b"nothing")) == JobIds([])


def test_the_latest_of_a_queue_are_those_that_became_ready_or_were_leased_last(driver: Driver) -> None:
    for number in range(1, 7):
        driver.do(c.Add(job_id(number), JobSpec(b"q", 1000, 60_000), b""))
    for _ in range(3):
        driver.do(c.Lease((b"q",), 0))
    ends_ms = driver.now_ms + 1000
    driver.do(c.Release(job_id(2)))
    driver.do(c.Delete(job_id(6)))
    reply = driver.do(c.InspectLatest(b"q", 2))
    assert isinstance(reply, LatestJobs)
    assert [(job.job_id, lease_end_ms) for job, lease_end_ms in reply.jobs] == [
        (job_id(2), 0),
        (job_id(5), 0),
        (job_id(3), ends_ms),
        (job_id(1), ends_ms),
    ]
    assert driver.do(c.InspectLatest(b"nothing", 2)) == LatestJobs([])

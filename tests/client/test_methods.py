"""What every method promises: one suite for both clients, against a real server."""

import math
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import workq
from tests.client.conftest import url_of
from tests.server import ServerProcess

Connect = Callable[..., Any]


@pytest.fixture
def queue() -> str:
    """A queue that no other test uses."""
    return f"q-{uuid.uuid4()}"


def test_a_job_is_added_leased_completed_and_its_result_read(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.add(queue, b"photo.jpg", ttr=500)
    job = client.lease(queue, timeout=5)
    assert (job.id, job.name, job.payload, job.ttr, job.attempt) == (job_id, queue, b"photo.jpg", 500.0, None)
    assert 400 < job.remaining() <= 500
    client.complete(job.id, b"320x200")
    assert client.result(job_id, timeout=0) == workq.JobResult(job_id, True, b"320x200")


def test_ids_are_generated_as_uuid4(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    first, second = client.add(queue), client.add(queue)
    assert first != second
    assert uuid.UUID(first).version == uuid.UUID(second).version == 4


@pytest.mark.parametrize("kind", [str, uuid.UUID, lambda text: text.upper()])
def test_an_id_of_ones_own_may_be_text_or_a_uuid(connect: Connect, url: str, queue: str, kind: Any) -> None:
    text = str(uuid.uuid1())
    client = connect(url)
    assert client.add(queue, id=kind(text)) == text
    client.delete(kind(text))
    with pytest.raises(workq.NotFound, match=f"delete job {text}: no such job"):
        client.delete(kind(text))


def test_durations_are_seconds_or_timedeltas(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    info = client.inspect_job(client.add(queue, ttr=0.25, ttl=timedelta(hours=1)))
    assert (info.ttr, info.ttl) == (0.25, 3600.0)
    info = client.inspect_job(client.add(queue, ttr=timedelta(milliseconds=1), ttl=60.5))
    assert (info.ttr, info.ttl) == (0.001, 60.5)


def test_flags_arrive(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    info = client.inspect_job(client.add(queue, priority=-5, max_attempts=3, max_fails=2))
    assert (info.priority, info.max_attempts, info.max_fails) == (-5, 3, 2)
    assert (info.attempts, info.fails, info.state) == (0, 0, workq.JobState.NEW)


def test_a_scheduled_job_waits_for_its_time(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    at = datetime(2096, 2, 29, 12, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    job_id = client.schedule(queue, b"later", at=at, priority=1)
    (info,) = client.inspect_scheduled_jobs(queue)
    assert (info.id, info.payload, info.scheduled) == (job_id, b"later", at)
    info = client.inspect_queue(queue)
    assert (info.name, info.ready, info.scheduled, info.leased) == (queue, 0, 1, 0)
    with pytest.raises(workq.Timeout):
        client.lease(queue, timeout=0)


def test_a_job_scheduled_for_the_past_is_ready_at_once(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.schedule(queue, at=datetime.now(UTC) - timedelta(seconds=1.5))
    assert client.lease(queue, timeout=0).id == job_id


def test_a_failed_job_keeps_the_workers_words(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.add(queue)
    client.fail(client.lease(queue).id, "not an image: ä")
    outcome = client.result(job_id)
    assert (outcome.success, outcome.result, outcome.error) == (False, "not an image: ä".encode(), "not an image: ä")


def test_run_gives_the_workers_result(connect: Connect, url: str, queue: str) -> None:
    def work() -> None:
        with workq.Client(url) as worker:
            worker.complete(worker.lease(queue, timeout=10).id, b"pong")

    with ThreadPoolExecutor() as threads:
        working = threads.submit(work)
        outcome = connect(url).run(queue, b"ping", timeout=10)
        working.result(10)
    assert (outcome.success, outcome.result, outcome.error) == (True, b"pong", None)


def test_run_times_out_when_no_worker_comes(connect: Connect, url: str, queue: str) -> None:
    with pytest.raises(workq.Timeout, match=r"run job .*: no result in the time given"):
        connect(url).run(queue, timeout=0.01)


def test_lease_takes_from_any_of_several_queues(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    client.add(f"{queue}.b", b"here")
    assert client.lease(f"{queue}.a", f"{queue}.b").name == f"{queue}.b"


def test_listings_are_paged(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    ids = [client.add(queue, str(number)) for number in range(5)]
    assert [info.id for info in client.inspect_jobs(queue)] == ids
    assert [info.id for info in client.inspect_jobs(queue, cursor=1, limit=2)] == ids[1:3]
    assert (queue, 5) in [(info.name, info.ready) for info in client.inspect_queues()]
    assert len(client.inspect_queues(limit=1)) == 1


def test_a_queue_tells_all_its_figures(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    options = {"max_len": 9, "max_leased": 8, "lease_rate": 2.5, "lease_burst": 7, "ttr": 60.25, "max_attempts": 6}
    client.configure_queue(queue, **options, returned="back")
    for _ in range(3):
        client.add(queue)
    client.complete(client.lease(queue).id)
    client.fail(client.lease(queue).id)
    client.delete(client.inspect_completed_jobs(queue)[0].id)
    client.pause(queue)
    info = client.inspect_queue(queue)
    assert info.oldest_ready_age >= 0
    assert info == workq.QueueInfo(
        queue,
        1,
        0,
        0,
        failed=1,
        oldest_ready_age=info.oldest_ready_age,
        paused=True,
        **options,
        returned="back",
        total_added=3,
        total_leased=2,
        total_completed=1,
        total_failed=1,
        total_deleted=1,
        added_per_minute=3,
        leased_per_minute=2,
        finished_per_minute=2,
    )


def test_the_server_tells_its_figures(connect: Connect, url: str) -> None:
    info = connect(url).inspect_server()
    assert info.active_clients >= 1
    assert info.evicted_jobs == 0
    assert abs(datetime.now(UTC) - info.started) < timedelta(minutes=5)


def test_payloads_may_hold_anything(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    for payload in (b"", b"\r\n+OK\r\n", bytes(range(256)) * 4096, bytearray(b"ab"), memoryview(b"cd"), "text ä"):
        job_id = client.add(queue, payload)
        expected = payload.encode() if isinstance(payload, str) else bytes(payload)
        assert client.inspect_job(job_id).payload == expected
        assert client.lease(queue, timeout=0).payload == expected


def test_the_json_codec_serves_payloads_and_results(connect: Connect, url: str, queue: str) -> None:
    client = connect(url, codec="json")
    job_id = client.add(queue, {"width": 320, "name": "ä"})
    job = client.lease(queue)
    assert job.payload == {"width": 320, "name": "ä"}
    client.complete(job.id, [1, None])
    assert client.result(job_id).result == [1, None]


def test_a_result_that_cannot_be_decoded_is_named_among_others(connect: Connect, url: str, queue: str) -> None:
    raw, client = connect(url), connect(url, codec="json")
    good, bad = client.add(queue), client.add(queue)
    for job_id, result in ((good, b"1"), (bad, b"{")):
        assert raw.lease(queue).id == job_id
        raw.complete(job_id, result)
    with pytest.raises(workq.ClientError, match=f"result of job {bad}: 1 bytes cannot be decoded as json") as caught:
        client.results([good, bad])
    assert caught.value.job_id == bad


def test_a_pair_of_functions_is_a_codec(connect: Connect, url: str, queue: str) -> None:
    client = connect(url, codec=(lambda number: str(number).encode(), int))
    client.add(queue, 42)
    assert client.lease(queue).payload == 42


def test_a_job_may_be_added_for_later_and_wait_longer_after_each_fail(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.add(queue, delay=timedelta(hours=1))
    (waiting,) = client.inspect_scheduled_jobs(queue)
    assert waiting.id == job_id
    retries = {"max_fails": 3, "retry_delay": 600, "retry_backoff": 2.5, "retry_max_delay": 5000}
    for retried in (client.add(queue, **retries), client.schedule(queue, at=datetime.now(UTC), **retries)):
        assert client.lease(queue, timeout=5).id == retried
        client.fail(retried)
        found = {info.id: info for info in client.inspect_scheduled_jobs(queue)}[retried]
        assert found.fails == 1
        assert 600 - 60 < (found.scheduled - datetime.now(UTC)).total_seconds() < 600 * 1.05 + 1


def test_a_fenced_lease_can_be_kept_given_back_and_lost(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.add(queue, max_fails=5)
    job = client.lease(queue, fenced=True)
    assert (job.id, job.attempt) == (job_id, 1)
    client.touch(job_id, attempt=1)
    client.touch(job_id)
    client.ping()
    client.progress(job_id, "half", attempt=1)
    client.progress(job_id, b"done \xff", touch=True)
    assert client.inspect_job(job_id).progress == b"done \xff"
    with pytest.raises(workq.ClientError, match="Lease expired"):
        client.progress(job_id, "late", attempt=2)
    client.release(job_id, attempt=1)
    with pytest.raises(workq.ClientError, match="Not leased"):
        client.touch(job_id)
    assert client.lease(queue, fenced=True).attempt == 2
    for late in (client.touch, client.release, client.complete, client.fail):
        with pytest.raises(workq.ClientError, match="Lease expired"):
            late(job_id, attempt=1)
    client.release(job_id, delay=3600, attempt=2)
    assert [info.id for info in client.inspect_scheduled_jobs(queue)] == [job_id]
    client.fail(job_id, "for good", final=True)
    assert client.result(job_id).error == "for good"


def test_many_jobs_are_leased_and_awaited_at_a_time(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    ids = [client.add(queue, str(number)) for number in range(5)]
    first = client.lease_many(queue, count=3, fenced=True)
    assert [(job.id, job.attempt) for job in first] == [(job_id, 1) for job_id in ids[:3]]
    assert [(job.payload, job.attempt) for job in client.lease_many(queue, count=1000)] == [(b"3", None), (b"4", None)]
    with pytest.raises(workq.Timeout, match="no result in the time given"):
        client.results(ids, timeout=0)
    client.complete(ids[3], b"three")
    client.fail(ids[1], b"one")
    outcomes = client.results([*ids, uuid.uuid4()], timeout=0)
    assert [(each.id, each.success, each.result) for each in outcomes] == [
        (ids[1], False, b"one"),
        (ids[3], True, b"three"),
    ]
    assert client.results([ids[3]], timeout=0)[0].result == b"three"
    with pytest.raises(workq.NotFound, match="results of 2 jobs: no such jobs"):
        client.results([uuid.uuid4(), uuid.uuid4()], timeout=0)
    client.add(queue, b"last")
    assert [job.payload for job in client.lease_many(queue, count=1)] == [b"last"]
    with pytest.raises(workq.Timeout):
        client.lease_many(queue, count=2, timeout=0)


def test_jobs_recur_until_that_is_deleted(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    weekly = client.recur(queue, b"daily", cron="0  9 * * MON-FRI", zone="Europe/Berlin", overlap="skip", max_fails=3)
    poll = client.recur(queue, b"now", every=0.1, ttr=5)
    job = client.lease(queue, timeout=10)
    assert (job.payload, job.ttr) == (b"now", 5)
    found = {info.id: info for info in client.inspect_recurring()}
    assert (found[weekly].rule, found[weekly].overlap) == ("cron:0_9_*_*_MON-FRI@Europe/Berlin", "skip")
    assert (found[weekly].last, found[weekly].occurrences, found[weekly].max_fails) == (None, 0, 3)
    assert found[weekly].next > datetime.now(UTC)
    assert found[poll].occurrences >= 1
    assert uuid.UUID(found[poll].last_id).version == 5
    client.delete(weekly)
    client.delete(poll)
    assert not {weekly, poll} & {info.id for info in client.inspect_recurring()}


def test_a_queue_has_options_and_can_be_paused(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    client.configure_queue(queue, max_len=2, max_leased=1, lease_rate=1000, ttr=30, max_attempts=5, returned="back")
    client.add(queue)
    client.add(queue)
    with pytest.raises(workq.ClientError, match=r"add job .*: Queue full"):
        client.add(queue)
    client.pause(queue)
    with pytest.raises(workq.Timeout):
        client.lease(queue, timeout=0)
    client.resume(queue)
    job = client.lease(queue, timeout=10)
    assert job.ttr == 30
    with pytest.raises(workq.Timeout):
        client.lease(queue, timeout=0)  # one may be leased
    client.configure_queue(queue, max_leased=0)
    assert client.lease(queue, timeout=10).id != job.id


def test_finished_jobs_are_listed_tried_again_and_cleared(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    ids = [client.add(queue) for _ in range(4)]
    for job_id in ids[:3]:
        assert client.lease(queue).id == job_id
    client.complete(ids[0])
    client.fail(ids[1], "no")
    assert [info.id for info in client.inspect_completed_jobs(queue)] == [ids[0]]
    assert [info.id for info in client.inspect_failed_jobs(queue)] == [ids[1]]
    assert [info.id for info in client.inspect_leased_jobs(queue)] == [ids[2]]
    client.retry(ids[1])
    with pytest.raises(workq.ClientError, match="Not failed"):
        client.retry(ids[1])
    assert client.inspect_failed_jobs(queue) == []
    assert client.clear(queue, state="ready") == 2
    assert client.clear(queue) == 2
    with pytest.raises(workq.NotFound, match=rf"clear {queue}\.not: no such queue"):
        client.clear(f"{queue}.not")


REFUSED: list[tuple[Callable[[Any], object], str]] = [
    (lambda client: client.add("two words"), "add: Invalid Name: 'two words', 1 to 255 of"),
    (lambda client: client.add("q", ttr=0), "add: Invalid TTR: '0' is not a whole number from 1 to 86400000 ms"),
    (lambda client: client.add("q", ttr=float("nan")), "add: Invalid TTR: 'nan s' is not"),
    (lambda client: client.add("q", ttl=10**400), "add: Invalid TTL: 'inf s' is not"),
    (lambda client: client.add("q", ttl=-1), "add: Invalid TTL: '-1000' is not"),
    (lambda client: client.add("q", priority=2**31), "add: Invalid Priority: '2147483648' is not"),
    (lambda client: client.add("q", max_attempts=256), "add: Invalid Max Attempts: '256' is not"),
    (lambda client: client.add("q", max_fails=-1), "add: Invalid Max Fails: '-1' is not"),
    (lambda client: client.add("q", id="x"), "add job x: Invalid ID: 'x' is not a UUID"),
    (
        lambda client: client.add("q", id=uuid.UUID(int=0)),
        f"add job {uuid.UUID(int=0)}: Invalid ID: the nil UUID is not allowed",
    ),
    (lambda client: client.add("q", {"a": 1}), "add: a value of type dict cannot be encoded as bytes: bytes, str"),
    (
        lambda client: client.schedule("q", at=datetime(2030, 1, 1)),
        "schedule: Invalid Time: datetime.datetime(2030, 1, 1, 0, 0) is not a datetime with a time zone",
    ),
    (
        lambda client: client.schedule("q", at=datetime.fromisoformat("0001-01-01T00:00:00+12:00")),
        "schedule: Invalid Time: 0001-01-01 00:00:00+12:00 is not in the years 1 to 9999 of UTC",
    ),
    (lambda client: client.schedule("q", at="soon"), "schedule: Invalid Time: 'soon' is not a datetime with"),
    (lambda client: client.add(b"q"), "add: Invalid Name: b'q' is not a str"),
    (lambda client: client.add("q", ttr="30"), "add: Invalid TTR: '30' is neither a number of seconds nor a timedelta"),
    (lambda client: client.add("q", priority=1.5), "add: Invalid Priority: '1.5' is not a whole number from"),
    (lambda client: client.delete(7), "delete job 7: Invalid ID: 7 is neither a str nor a UUID"),
    (lambda client: client.fail(uuid.UUID(int=1), 7), f"fail job {uuid.UUID(int=1)}: a value of type int cannot be"),
    (lambda client: client.run("q", timeout=90_000), "run: Invalid wait timeout: '90000000' is not"),
    (lambda client: client.lease(timeout=1), "lease: Invalid Name: at least one queue is needed"),
    (lambda client: client.result("y"), "result job y: Invalid ID: 'y' is not a UUID"),
    (lambda client: client.inspect_job("y"), "inspect job y: Invalid ID: 'y' is not a UUID"),
    (lambda client: client.inspect_jobs("q", limit=101), "inspect jobs: Invalid limit: '101' is not"),
    (lambda client: client.add("q", delay=-1), "add: Invalid delay: '-1000' is not a whole number from 0 to"),
    (lambda client: client.add("q", retry_delay=-1), "add: Invalid retry delay: '-1000' is not"),
    (lambda client: client.add("q", retry_backoff=11), "add: Invalid retry backoff: 11 is not a number from 1 to 10"),
    (
        lambda client: client.add("q", retry_backoff=2),
        "add: Invalid retry backoff: 2 is nothing without a retry delay",
    ),
    (
        lambda client: client.recur("q", every=1, retry_max_delay=5),
        "recur: Invalid retry max delay: 5 s is nothing without a retry delay",
    ),
    (
        lambda client: client.complete(uuid.UUID(int=1), attempt=0),
        f"complete job {uuid.UUID(int=1)}: Invalid attempt: '0'",
    ),
    (
        lambda client: client.progress(uuid.UUID(int=1), bytes(4097)),
        f"progress job {uuid.UUID(int=1)}: Invalid progress size: '4097' is not a whole number from 0 to 4096 bytes",
    ),
    (lambda client: client.configure_queue("q", max_len=-1), "configure queue: Invalid Max Len: '-1' is not"),
    (
        lambda client: client.configure_queue("q", lease_rate=1 / 3600),
        "configure queue: Invalid Lease Rate: '0.000277778' is too small; the smallest rate is 0.001 leases per second",
    ),
    (lambda client: client.configure_queue("q", lease_rate=0.0009), "configure queue: Invalid Lease Rate: '0.0009' is"),
    (lambda client: client.configure_queue("q", lease_rate=-0.0001), "configure queue: Invalid Lease Rate: '-0.0001'"),
    (
        lambda client: client.configure_queue("q", returned="up"),
        "configure queue: Invalid returned: 'up' is not 'front'",
    ),
    (lambda client: client.lease_many("q", count=1001), "lease many: Invalid count: '1001' is not"),
    (lambda client: client.lease_many(count=1), "lease many: Invalid Name: at least one queue is needed"),
    (lambda client: client.results([]), "results: Invalid ID: 0 ids are given, 1 to 1000 are allowed"),
    (lambda client: client.recur("q"), "recur: Invalid rule: either every or cron is needed"),
    (lambda client: client.recur("q", every=1, cron="* * * * *"), "recur: Invalid rule: either every or cron is"),
    (lambda client: client.recur("q", every=1, zone="Europe/Berlin"), "recur: Invalid rule: either every or cron is"),
    (lambda client: client.recur("q", every=0.01), "recur: Invalid rule: '10' is not a whole number from 100"),
    (lambda client: client.recur("q", cron="* * *"), "recur: Invalid rule: 'cron:*_*_*' has not five fields"),
    (lambda client: client.recur("q", cron="* * * * *", zone="Mars"), "recur: Invalid rule: there is no time zone"),
    (lambda client: client.recur("q", every=1, overlap="wait"), "recur: Invalid overlap: 'wait' is not 'allow' or"),
    (lambda client: client.inspect_queues(cursor=-1), "inspect queues: Invalid cursor offset: '-1' is not"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_a_value_that_is_not_allowed_is_refused_before_sending(
    connect: Connect, call: Callable[[Any], object], words: str
) -> None:
    with pytest.raises(workq.ClientError) as caught:
        call(connect("workq://127.0.0.1:1"))  # nobody listens there, and nobody needs to
    assert str(caught.value).startswith(f"workq://127.0.0.1:1: {words}")


def test_a_payload_over_the_limit_is_refused_before_sending(connect: Connect) -> None:
    job_id = str(uuid.uuid4())
    client = connect("workq://127.0.0.1:1")
    size = 2**20 + 1
    for call in (
        lambda: client.add("q", bytes(size), id=job_id),
        lambda: client.complete(job_id, bytes(size)),
        lambda: client.fail(job_id, bytes(size)),
    ):
        with pytest.raises(workq.ClientError, match=rf"job {job_id}: Invalid \w+ size: '{size}' .* 0 to 1048576 bytes"):
            call()


def test_a_payload_that_cannot_be_encoded_is_named_with_its_reason(connect: Connect) -> None:
    with pytest.raises(
        workq.ClientError, match=r"a value of type set cannot be encoded as json: .* not JSON"
    ) as caught:
        connect("workq://127.0.0.1:1", codec="json").add("q", {1})
    assert isinstance(caught.value.__cause__, TypeError)


def test_a_codec_must_give_bytes(connect: Connect) -> None:
    with pytest.raises(workq.ClientError, match=r"the codec .* gave str instead of bytes"):
        connect("workq://127.0.0.1:1", codec=(str, str)).add("q", 1)


def test_a_leased_payload_that_cannot_be_decoded_is_named_with_its_job(connect: Connect, url: str, queue: str) -> None:
    client = connect(url, codec="json")
    with workq.Client(url) as plain:
        job_id = plain.add(queue, b"{")
    with pytest.raises(workq.ClientError, match=f"lease of job {job_id}: 1 bytes cannot be decoded as json") as caught:
        client.lease(queue)
    assert caught.value.job_id == job_id


def test_errors_have_the_servers_words_its_address_and_the_job(connect: Connect, url: str, queue: str) -> None:
    client = connect(url)
    job_id = client.add(queue)
    with pytest.raises(workq.ClientError) as caught:
        client.add(queue, id=job_id)
    error = caught.value
    assert (error.server, error.action, error.job_id) == (url, "add", job_id)
    assert error.text.startswith("Duplicate job")
    assert str(error).startswith(f"{url}: add job {job_id}: Duplicate job")

    client.complete(job_id)
    with pytest.raises(workq.ClientError, match=f"{url}: complete job {job_id}: Duplicate result"):
        client.complete(job_id)
    with pytest.raises(workq.NotFound, match=f"{url}: inspect queue {queue}.not: no such queue"):
        client.inspect_queue(f"{queue}.not")
    with pytest.raises(workq.Timeout, match=rf"{url}: lease from {queue}, b: no job within 0\.01 s"):
        client.lease(queue, "b", timeout=0.01)


def test_text_that_cannot_be_sent_is_refused(connect: Connect) -> None:
    client = connect()
    for broken in ("\udcff", "\ud800"):
        with pytest.raises(workq.ClientError, match=r"add: Invalid Name: '.*', 1 to 255 of"):
            client.add(broken)
        with pytest.raises(workq.ClientError, match=r"delete job .*: Invalid ID: '.*' is not a UUID"):
            client.delete(broken)


def test_a_timeout_may_be_without_end(connect: Connect, url: str) -> None:
    connect(url, connect_timeout=math.inf, reply_timeout=math.inf, retry_for=math.inf).ping()


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:9922", "http://127.0.0.1", "workq://", "workq://h:0", "workq://h:65536", "workq://h/q"),
        *("unix:", "workq://a..b", f"workq://{'a' * 64}:1", "workq://\udcff:1"),
    ],
)
def test_an_address_of_another_form_is_refused(connect: Connect, url: str) -> None:
    with pytest.raises(workq.ClientError, match=r"Invalid server address: .*; allowed are workq://host:port, "):
        connect(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("workq://localhost", "workq://localhost:9922"),
        ("workq://[::1]", "workq://[::1]:9922"),
        ("workq://10.0.0.1:1234/", "workq://10.0.0.1:1234"),
        ("unix:/run/workq.sock", "unix:/run/workq.sock"),
        (None, "workq://127.0.0.1:9922"),
    ],
)
def test_addresses_are_shown_in_full(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, url: str | None, shown: str
) -> None:
    monkeypatch.delenv("WORKQ_SERVER", raising=False)
    assert connect(url).url == shown


def test_the_environment_names_the_server(connect: Connect, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WORKQ_SERVER", url)
    assert connect().inspect_server().active_clients >= 1


def test_a_codec_we_do_not_know_is_refused(connect: Connect) -> None:
    with pytest.raises(workq.ClientError, match="Invalid codec: 'xml'; allowed are 'bytes', 'json' and a pair"):
        connect(codec="xml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pool_size": 0}, "Invalid pool_size: 0; at least 1 connection is needed"),
        ({"connect_timeout": 0}, "Invalid connect_timeout: 0 s; it must be above 0"),
        ({"reply_timeout": float("nan")}, "Invalid reply_timeout: nan s; it must be above 0"),
        ({"retry_for": timedelta(seconds=-1)}, "Invalid retry_for: -1 s; it must not be below 0"),
    ],
)
def test_settings_that_could_not_work_are_refused(connect: Connect, options: dict[str, Any], words: str) -> None:
    with pytest.raises(workq.ClientError, match=words):
        connect(**options)


def test_ipv6_and_unix_sockets_work(connect: Connect, tmp_path: Path) -> None:
    with ServerProcess("--listen", "[::1]:0", "--unix", str(tmp_path / "socket")) as server:
        job_id = connect(url_of(server)).add("q", b"over IPv6")
        assert connect(f"unix:{tmp_path / 'socket'}").inspect_job(job_id).payload == b"over IPv6"


@pytest.mark.parametrize("farewell", ["close", "quit"])
def test_a_closed_client_says_so(connect: Connect, url: str, farewell: str) -> None:
    client = connect(url)
    client.inspect_server()
    getattr(client, farewell)()
    getattr(client, farewell)()
    with pytest.raises(workq.ClientError, match="the client is closed"):
        client.inspect_server()


def test_a_payload_that_cannot_be_decoded_does_not_cost_the_other_jobs_of_a_lease(
    connect: Connect, url: str, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, client = connect(url), connect(url, codec="json")
    first, broken, last = [plain.add(queue, payload) for payload in (b"1", b"{", b"3")]
    assert [job.id for job in client.lease_many(queue, count=10, timeout=0)] == [first, last]
    assert f"lease of job {broken}: 1 bytes cannot be decoded as json" in caplog.text
    plain.release(broken)
    with pytest.raises(workq.ClientError, match="cannot be decoded as json") as caught:
        client.lease_many(queue, count=10, timeout=0)
    assert caught.value.job_id == broken


def test_a_payload_that_cannot_be_decoded_hides_no_job_of_a_list(connect: Connect, url: str, queue: str) -> None:
    plain, client = connect(url), connect(url, codec="json")
    for payload in (b"1", b"{", b"3"):
        plain.add(queue, payload)
    assert [info.payload for info in client.inspect_jobs(queue)] == [1, b"{", 3]
    recurring = plain.recur(queue, b"{", every=3600)
    assert b"{" in [info.payload for info in client.inspect_recurring() if info.id == recurring]
    plain.delete(recurring)

"""Events survive the way into bytes and back; what a command appends stays within the bounds that room is taken for."""

from random import Random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.replay import one_by_one
from tests.log.states import START_MS, Story
from workq import commands as c
from workq.commands import ConfigureQueue, Lease, PauseQueue, Recur
from workq.engine import Engine
from workq.engine.documents import DOORS
from workq.engine.events import (
    Added,
    Carried,
    Completed,
    Counters,
    Deleted,
    DocumentPut,
    Due,
    Event,
    Exhausted,
    Expired,
    Failed,
    FailedOnce,
    Leased,
    Progressed,
    Released,
    Retried,
    Returned,
    SentToBack,
    Touched,
)
from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Extra, Job
from workq.log.records import (
    BATCH,
    BATCH_BYTES,
    COMMAND_BYTES,
    COMPLETE,
    DELETED,
    DOCUMENT_OVERHEAD,
    FRAME,
    JOB_OVERHEAD,
    LENGTH,
    MAX_BODY,
    RETRY_BYTES,
    STEP_BYTES,
    TYPE_NAMES,
    BadRecord,
    Decoder,
    base,
    document,
    encode,
    split,
)
from workq.recurrence import parse_rule
from workq.replies import OK
from workq.values import (
    COUNT,
    DELAY,
    MAX_PROGRESS,
    META_SIZE,
    MIB,
    NAME_LENGTH,
    PRIORITY,
    RETRY_BACKOFF,
    TTL,
    TTR,
    JobSpec,
    RetryPolicy,
)

ids = st.binary(min_size=16, max_size=16)
times = st.integers(-(2**62), 2**62)
blobs = st.binary(max_size=200)
specs = st.builds(
    JobSpec,
    st.from_regex(rb"[A-Za-z0-9_.\-]{1,255}", fullmatch=True),
    st.integers(TTR.lowest, TTR.highest),
    st.integers(TTL.lowest, TTL.highest),
    st.integers(PRIORITY.lowest, PRIORITY.highest),
    st.integers(0, COUNT.highest),
    st.integers(0, COUNT.highest),
    st.none()
    | st.builds(
        RetryPolicy,
        st.integers(0, DELAY.highest),
        st.integers(RETRY_BACKOFF.lowest, RETRY_BACKOFF.highest),
        st.integers(0, DELAY.highest),
    ),
)
jobs = st.builds(Job, ids, specs, blobs, times, times, st.integers(0, 2**63), blobs)


@st.composite
def lived(draw: st.DrawFn) -> Job:
    """A job in the midst of its life."""
    job = draw(jobs)
    job.state = draw(st.sampled_from((SCHEDULED, READY, LEASED, COMPLETED, FAILED)))
    job.attempts = draw(st.integers(0, 2**32 - 1))
    job.deadline_ms = draw(times)
    if job.state in (COMPLETED, FAILED):
        job.result = draw(blobs)
    job.extra = draw(
        st.none() | st.builds(Extra, blobs, blobs, st.integers(0, job.attempts), st.integers(0, 2**32 - 1), times)
    )
    job.place = draw(st.integers(0, 2**63))
    if job.extra is not None and job.extra.is_empty():
        job.extra = None
    return job


events = st.one_of(
    st.builds(Added, jobs),
    st.builds(Carried, lived()),
    st.builds(Leased, ids, times),
    st.builds(Completed, ids, blobs, times),
    st.builds(Failed, ids, blobs, times),
    st.builds(Progressed, ids, blobs),
    *[st.builds(event, ids, times) for event in (Exhausted, FailedOnce, Touched, Released)],
    st.builds(SentToBack, ids, st.integers(0, 2**63)),
    st.builds(Counters, st.integers(0, 2**63), st.integers(0, 2**63)),
    st.builds(DocumentPut, st.just(DOORS), st.binary(min_size=1, max_size=1024), blobs),
    *[st.builds(event, ids) for event in (Due, Returned, Deleted, Expired, Retried)],
)


JOB_FIELDS = (
    *("job_id", "spec", "payload", "created_ms", "scheduled_ms", "seq"),
    *("place", "state", "attempts", "spent", "fails", "deadline_ms", "result", "meta", "progress"),
)


def told(event: Event) -> object:
    """All that an event says."""
    if not isinstance(event, Added | Carried):
        return event
    return type(event), event.job_id, [getattr(event.job, name) for name in JOB_FIELDS]


@given(events)
def test_an_event_comes_back_from_its_bytes(event: Event) -> None:
    assert told(Decoder().decode(encode([event])[FRAME.size :])) == told(event)


def frames(data: bytes) -> list[bytes]:
    """The bodies of the frames, one after the other, that `data` consists of."""
    found = []
    while data:
        length, crc = FRAME.unpack_from(data)
        body, data = data[FRAME.size : FRAME.size + length], data[FRAME.size + length :]
        assert len(body) == length
        assert crc32(body) == crc
        found.append(body)
    return found


@given(st.lists(events, max_size=40))
def test_records_stand_one_after_the_other_alone_or_in_batches(some: list[Event]) -> None:
    found: list[bytes] = []
    for body in frames(encode(some)):
        if body[0] == BATCH:
            bodies = split(body)
            assert bodies is not None
            assert len(bodies) > 1
            assert len(body) <= 1 + BATCH_BYTES
            found += bodies
        else:
            found.append(body)
    assert found == [encode([event])[FRAME.size :] for event in some]


def test_what_is_small_shares_a_batch_and_what_is_large_does_not() -> None:
    large = Completed(bytes(16), bytes(BATCH_BYTES), 0)
    small = Deleted(bytes(16))
    kinds = [body[0] for body in frames(encode([small, small, large, small, large, large, small, small]))]
    assert kinds == [BATCH, COMPLETE, DELETED, COMPLETE, COMPLETE, BATCH]
    assert [len(split(body) or ()) for body in frames(encode([small] * 1000))] == [195] * 5 + [25]


def test_a_batch_that_is_no_row_of_records_is_refused() -> None:
    good = encode([Deleted(bytes(16)), Leased(bytes(16), 1)])[FRAME.size :]
    ends = [length for length in range(1, len(good) + 1) if split(good[:length]) is not None]
    assert ends == [1, 1 + LENGTH.size + 17, len(good)]
    assert split(good + bytes(LENGTH.size)) is None  # a record of no bytes


@given(lived())
def test_a_carried_job_takes_the_space_that_compaction_counts(job: Job) -> None:
    without_retry = RETRY_BYTES if job.spec.retry is None else 0
    assert len(encode([Carried(job)])) == JOB_OVERHEAD - without_retry + job.size()


@given(st.binary(min_size=1, max_size=1024), blobs)
def test_a_document_takes_the_space_that_compaction_counts(key: bytes, value: bytes) -> None:
    record = encode([DocumentPut(DOORS, key, value)])
    assert len(record) == DOCUMENT_OVERHEAD + len(key) + len(value)
    assert document(record[FRAME.size :]) == (DOORS, key, value)
    assert document(encode([Deleted(bytes(16))])[FRAME.size :]) is None


@given(jobs)
def test_whole_jobs_are_told_from_other_records(job: Job) -> None:
    assert base(encode([Added(job)])[FRAME.size :]) == (job.job_id, job.seq)
    assert base(encode([Carried(job)])[FRAME.size :]) == (job.job_id, job.seq)
    assert base(encode([Deleted(job.job_id)])[FRAME.size :]) is None


def test_jobs_with_the_same_spec_share_it() -> None:
    decoder = Decoder()
    spec = JobSpec(b"mail", 1000, 60_000)
    decoded = [decoder.decode(encode([Added(Job(bytes([n]) * 16, spec, b"", 0, 0, n))])[8:]) for n in (1, 2)]
    first, second = [event.job.spec for event in decoded if isinstance(event, Added)]
    assert first == spec
    assert first is second


def test_the_largest_job_fits_into_a_record() -> None:
    job = Job(bytes(16), JobSpec(b"x" * 255, 1, 1, retry=RetryPolicy(1)), bytes(MIB), 0, 0, 1)
    job.state = COMPLETED
    job.result = bytes(MIB)
    job.extra = Extra(bytes(META_SIZE.highest), bytes(MAX_PROGRESS))
    assert len(encode([Carried(job)])) - FRAME.size == MAX_BODY


@pytest.mark.parametrize("kind", [0, BATCH, max(TYPE_NAMES) + 1, 255])
def test_an_unknown_type_is_refused(kind: int) -> None:
    with pytest.raises(BadRecord, match=f"no record of type {kind}"):
        Decoder().decode(bytes([kind]) + bytes(16))


def test_a_body_that_is_too_short_is_refused() -> None:
    body = encode([Leased(bytes(16), 5)])[FRAME.size :]
    for length in range(1, len(body)):
        with pytest.raises(BadRecord):
            Decoder().decode(body[:length])


def test_values_out_of_range_are_refused() -> None:
    body = bytearray(encode([Added(Job(bytes(16), JobSpec(b"mail", 1, 1), b"", 0, 0, 1))])[FRAME.size :])
    body[47:51] = bytes(4)  # the TTR
    with pytest.raises(BadRecord, match="Invalid TTR: '0'"):
        Decoder().decode(bytes(body))


def test_more_attempts_before_a_retry_than_ever_are_refused() -> None:
    job = Job(bytes(16), JobSpec(b"mail", 1, 1), b"", 0, 0, 1, b"meta")
    job.state = READY
    job.extra = Extra(spent=1)
    with pytest.raises(BadRecord, match="0 attempts, 1 of them before a retry"):
        Decoder().decode(encode([Carried(job)])[FRAME.size :])


def test_a_lease_of_many_appends_no_more_than_is_taken_for_it() -> None:
    engine = Engine(START_MS)
    spec = JobSpec(b"mail", 1000, 60_000)
    for number in range(1, 1001):
        engine.execute(c.Add(number.to_bytes(16, "big"), spec, b""), START_MS, lambda reply: None)
    engine.events.clear()
    command = c.Lease((b"mail",), 0, count=1000)
    engine.execute(command, START_MS, lambda reply: None)
    assert len(one_by_one(engine.events)) == 1000
    assert len(encode(engine.events)) <= command.log_bytes()


def test_the_longest_options_of_a_queue_fit_into_the_bound_of_a_command() -> None:
    engine = Engine(START_MS)
    most = 2**32 - 1
    configure = ConfigureQueue(b"x" * NAME_LENGTH, most, most, most, most, TTR.highest, most, True)
    for command in (configure, PauseQueue(b"x" * NAME_LENGTH)):
        engine.events.clear()
        engine.execute(command, START_MS, lambda reply: None)
        assert 400 < len(encode(engine.events)) <= COMMAND_BYTES


def test_commands_and_time_append_no_more_than_is_taken_for_them() -> None:
    random = Random(4)
    engine = Engine(START_MS)
    story = Story(engine, random)
    recurred = 0
    for _ in range(3000):
        command = story.command()
        engine.tick(story.now_ms)
        engine.events.clear()
        engine.execute(command, story.now_ms, lambda reply: None)
        assert len(encode(engine.events)) <= COMMAND_BYTES + command.log_bytes()
        engine.events.clear()
        story.now_ms += random.choice((0, 1, 40))
        admitted = [2 * len(engine.state.jobs) * STEP_BYTES]

        def admit(size: int, admitted: list[int] = admitted) -> bool:
            admitted.append(COMMAND_BYTES + size)
            return True

        engine.tick(story.now_ms, admit=admit)
        assert len(encode(engine.events)) <= sum(admitted)
        recurred += len(admitted) - 1
        engine.events.clear()
    assert recurred > 50


def test_the_longest_recurring_job_is_within_bounds() -> None:
    fields = "_".join([",".join(["1"] * 24)] * 5)
    rule = parse_rule(f"cron:{fields}@Etc/GMT+5")
    spec = JobSpec(b"x" * 255, TTR.highest, TTL.highest, PRIORITY.lowest, 255, 255, RetryPolicy(DELAY.highest, 9999, 1))
    command = Recur(bytes([255]) * 16, spec, rule, True, b"payload", b"meta")
    engine = Engine(START_MS)
    assert engine.execute(command, START_MS, lambda reply: None) == OK
    assert len(encode(engine.events)) <= COMMAND_BYTES + command.log_bytes()
    engine.events.clear()
    due_ms = rule.after(START_MS)
    assert due_ms is not None
    engine.execute(Lease((spec.name,), TTR.highest), due_ms, lambda reply: None)
    engine.tick(due_ms)
    assert len(engine.events) == 3
    assert len(encode(engine.events)) <= COMMAND_BYTES + len(b"payloadmeta")

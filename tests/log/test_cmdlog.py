"""A command log of the Go server is read: jobs, schedules, attempts, deadlines, results."""

import fcntl
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.log.logs import reopened
from workq.engine.job import COMPLETED, FAILED, LEASED, READY, SCHEDULED, Job
from workq.log.cmdlog import Imported, _crc32c, read_cmdlog
from workq.log.errors import DirectoryInUse, LogError
from workq.log.tool import workq_log
from workq.values import JobSpec

HEADER = bytes.fromhex("7771777100000001")
# As the old server wrote them: an add, its lease, its completion, at one moment in June 2016.
GENUINE = [
    bytes.fromhex(text)
    for text in (
        "010000000ecef19f5600000001ffff410161a444a0612841c08078cc757d3bd2d80470696e67e807e0d40313030004706f6e67"
        "01000000000000000000000000ffff010000000ecef19f5600000005ffffa6533faa",
        "010000000ecef19f5600000001ffff110761a444a0612841c08078cc757d3bd2d8a9d15a93",
        "010000000ecef19f5600000001ffff140361a444a0612841c08078cc757d3bd2d8026f6b1e1dde10",
    )
]
GENUINE_MS = 1465886806000
JOB_ID = bytes.fromhex("61a444a0612841c08078cc757d3bd2d8")

START_S = 1_700_000_000
START_MS = START_S * 1000
ADD, SCHEDULE, COMPLETE, FAIL, DELETE, EXPIRE, START_ATTEMPT, TIMEOUT_ATTEMPT = range(1, 9)


def uvarint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def go_time(milliseconds: int | None) -> bytes:
    if milliseconds is None:
        return b"\1" + bytes(12) + b"\xff\xff"
    seconds, rest = divmod(milliseconds, 1000)
    return b"\1" + (seconds + 62_135_596_800).to_bytes(8, "big") + (rest * 1_000_000).to_bytes(4, "big") + b"\xff\xff"


def record(at_ms: int, payload: bytes) -> bytes:
    begin = go_time(at_ms) + uvarint(len(payload)) + payload
    return begin + _crc32c(begin).to_bytes(4, "big")


def add(job_id: bytes, at_ms: int = START_MS, scheduled_ms: int | None = None, max_attempts: int = 0) -> bytes:
    kind = ADD if scheduled_ms is None else SCHEDULE
    spec = uvarint(4) + b"mail" + uvarint(5000) + uvarint(60_000) + uvarint(9) + uvarint(max_attempts) + uvarint(0)
    return record(at_ms, bytes([kind]) + job_id + spec + uvarint(2) + b"hi" + go_time(scheduled_ms) + go_time(at_ms))


def change(kind: int, job_id: bytes, at_ms: int, result: bytes | None = None) -> bytes:
    tail = b"" if result is None else uvarint(len(result)) + result
    return record(at_ms, bytes([kind]) + job_id + tail)


A, B, C = [bytes([number]) * 16 for number in (1, 2, 3)]


def imported(directory: Path, *records: bytes, now_ms: int = START_MS + 10) -> Imported:
    (directory / "000000001.log").write_bytes(HEADER + b"".join(records))
    return read_cmdlog(directory, now_ms)


def only(found: Imported) -> Job:
    (job,) = found.jobs
    return job


class TestGenuineRecords:
    def test_added(self, tmp_path: Path) -> None:
        job = only(imported(tmp_path, GENUINE[0], now_ms=GENUINE_MS))
        assert job.job_id == JOB_ID
        assert job.spec == JobSpec(b"ping", 1000, 60_000, -10, 3, 0)
        assert (job.payload, job.state, job.created_ms, job.scheduled_ms) == (b"pong", READY, GENUINE_MS, 0)

    def test_leased(self, tmp_path: Path) -> None:
        # Its time is four nanoseconds before that of the creation.
        job = only(imported(tmp_path, *GENUINE[:2], now_ms=GENUINE_MS))
        assert (job.state, job.attempts, job.deadline_ms) == (LEASED, 1, GENUINE_MS + 1000)

    def test_completed(self, tmp_path: Path) -> None:
        job = only(imported(tmp_path, *GENUINE, now_ms=GENUINE_MS))
        assert (job.state, job.attempts, job.result) == (COMPLETED, 1, b"ok")

    def test_long_over(self, tmp_path: Path) -> None:
        found = imported(tmp_path, *GENUINE, now_ms=GENUINE_MS + 60_000)
        assert (found.jobs, found.expired, found.lost) == ([], 1, [])


class TestJobs:
    def test_scheduled(self, tmp_path: Path) -> None:
        job = only(imported(tmp_path, add(A, scheduled_ms=START_MS + 9000)))
        assert (job.state, job.scheduled_ms, job.deadline_ms) == (SCHEDULED, START_MS + 9000, START_MS + 9000)

    def test_failed(self, tmp_path: Path) -> None:
        job = only(imported(tmp_path, add(A), change(FAIL, A, START_MS + 1, b"no")))
        assert (job.state, job.fails, job.result) == (FAILED, 1, b"no")

    def test_what_has_ended_says_when(self, tmp_path: Path) -> None:
        """By that the console orders it."""
        attempt = [change(START_ATTEMPT, C, START_MS + 1), change(TIMEOUT_ATTEMPT, C, START_MS + 5001)]
        adds = [add(A), add(B, scheduled_ms=START_MS + 2), add(C, max_attempts=1)]
        ends = [change(COMPLETE, A, START_MS + 7, b""), change(FAIL, B, START_MS + 8, b"no")]
        found = imported(tmp_path, *adds, *ends, *attempt)
        assert [job.deadline_ms for job in found.jobs] == [START_MS + 7, START_MS + 8, START_MS + 5001]

    def test_back_in_its_queue_after_an_attempt(self, tmp_path: Path) -> None:
        attempt = [change(START_ATTEMPT, A, START_MS + 1), change(TIMEOUT_ATTEMPT, A, START_MS + 5001)]
        job = only(imported(tmp_path, add(A), *attempt))
        assert (job.state, job.attempts) == (READY, 1)

    def test_out_of_attempts(self, tmp_path: Path) -> None:
        attempt = [change(START_ATTEMPT, A, START_MS + 1), change(TIMEOUT_ATTEMPT, A, START_MS + 5001)]
        job = only(imported(tmp_path, add(A, max_attempts=1), *attempt))
        assert (job.state, job.attempts, job.result) == (FAILED, 1, b"")

    @pytest.mark.parametrize("kind", [DELETE, EXPIRE])
    def test_gone(self, tmp_path: Path, kind: int) -> None:
        assert imported(tmp_path, add(A), change(kind, A, START_MS + 1)).jobs == []

    def test_in_the_order_of_their_creation(self, tmp_path: Path) -> None:
        found = imported(tmp_path, add(B, START_MS + 2), add(C, START_MS + 1), add(A, START_MS + 2))
        assert [job.job_id for job in found.jobs] == [C, A, B]
        assert [job.seq for job in found.jobs] == [1, 2, 3]

    def test_foreground_jobs_leave_nothing(self, tmp_path: Path) -> None:
        run = [change(START_ATTEMPT, A, START_MS), change(COMPLETE, A, START_MS, b""), change(EXPIRE, A, START_MS)]
        assert imported(tmp_path, *run, add(A, START_MS + 1)).jobs[0].attempts == 0


class TestRecordsInTheWrongOrder:
    def test_a_lease_before_its_add(self, tmp_path: Path) -> None:
        job = only(imported(tmp_path, change(START_ATTEMPT, A, START_MS + 1), add(A)))
        assert (job.state, job.attempts) == (LEASED, 1)

    def test_a_completion_before_its_lease(self, tmp_path: Path) -> None:
        early = change(COMPLETE, A, START_MS + 1, b"ok")
        job = only(imported(tmp_path, add(A), early, change(START_ATTEMPT, A, START_MS + 1)))
        assert (job.state, job.attempts, job.result) == (COMPLETED, 1, b"ok")

    def test_the_delete_of_an_earlier_job_behind_the_add_of_the_next(self, tmp_path: Path) -> None:
        assert only(imported(tmp_path, add(A), add(A, START_MS + 9), change(DELETE, A, START_MS + 8))).job_id == A

    def test_the_next_lease_before_the_end_of_the_last(self, tmp_path: Path) -> None:
        leases = [change(START_ATTEMPT, A, START_MS + 1), change(START_ATTEMPT, A, START_MS + 5002)]
        job = only(imported(tmp_path, add(A), *leases, change(TIMEOUT_ATTEMPT, A, START_MS + 5002)))
        assert (job.state, job.attempts, job.deadline_ms) == (LEASED, 2, START_MS + 10_002)


class TestAClockThatWasPutBack:
    """An hour, after the job was added."""

    def test_a_completed_job_is_not_done_again(self, tmp_path: Path) -> None:
        later = [change(START_ATTEMPT, A, START_MS - 3_600_000), change(COMPLETE, A, START_MS - 3_599_000, b"ok")]
        job = only(imported(tmp_path, add(A), *later))
        assert (job.state, job.attempts, job.result) == (COMPLETED, 1, b"ok")

    def test_a_deleted_job_does_not_come_back(self, tmp_path: Path) -> None:
        assert imported(tmp_path, add(A), change(DELETE, A, START_MS - 3_600_000)).jobs == []


class TestBadFiles:
    def test_a_torn_end(self, tmp_path: Path) -> None:
        whole = add(A) + add(B)
        for length in range(len(add(A)), len(whole)):
            found = imported(tmp_path, whole[:length])
            assert [job.job_id for job in found.jobs] == [A]
            assert sum([lost.size for lost in found.lost]) == length - len(add(A))

    def test_zeros_at_the_end(self, tmp_path: Path) -> None:
        found = imported(tmp_path, add(A), bytes(1000))
        assert only(found).job_id == A
        assert [tuple(lost) for lost in found.lost] == [("000000001.log", 8 + len(add(A)), 1000)]

    def test_half_a_record_in_the_middle(self, tmp_path: Path) -> None:
        found = imported(tmp_path, add(A), add(B)[:40], add(C))
        assert [job.job_id for job in found.jobs] == [A, C]
        assert [tuple(lost) for lost in found.lost] == [("000000001.log", 8 + len(add(A)), 40)]

    def test_several_segments_and_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "000000004.log").write_bytes(HEADER + add(B))
        (tmp_path / "000000005.log").write_bytes(HEADER[:3])
        (tmp_path / "000000003.log.rw").write_bytes(HEADER + add(C))
        assert [job.job_id for job in imported(tmp_path, add(A)).jobs] == [A, B]

    def test_a_header_of_zeros_or_a_damaged_one(self, tmp_path: Path) -> None:
        (tmp_path / "000000002.log").write_bytes(bytes(100))
        (tmp_path / "000000003.log").write_bytes(b"wqwQ" + HEADER[4:] + add(B))
        found = imported(tmp_path, add(A))
        assert [job.job_id for job in found.jobs] == [A, B]
        assert [tuple(lost) for lost in found.lost] == [("000000002.log", 0, 100), ("000000003.log", 0, 8)]

    def test_something_else_under_that_name(self, tmp_path: Path) -> None:
        (tmp_path / "000000001.log").write_bytes(b"GET / HTTP/1.1")
        with pytest.raises(LogError, match=r"000000001\.log does not begin like a command log"):
            read_cmdlog(tmp_path, START_MS)

    def test_no_log(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="holds no command log"):
            read_cmdlog(tmp_path, START_MS)

    def test_the_old_server_still_runs(self, tmp_path: Path) -> None:
        with (tmp_path / "append.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(DirectoryInUse, match="stop the old server first"):
                imported(tmp_path, add(A))


def test_import_makes_a_log_that_a_server_can_use(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    now_ms = time.time_ns() // 1_000_000
    records = [add(A, now_ms), add(B, now_ms), change(START_ATTEMPT, B, now_ms + 1), add(C, now_ms - 70_000)]
    (old / "000000001.log").write_bytes(HEADER + b"".join(records) + b"torn")
    result = CliRunner().invoke(workq_log, ["import", str(old), str(new)])
    assert result.exit_code == 0, result.output
    assert result.stdout == "imported; jobs: 2, left behind because their TTL is over: 1\n"
    assert result.stderr.startswith("lost: 000000001.log: 4 bytes from offset ")
    state = reopened(new)
    assert sorted(state.jobs) == [A, B]
    assert (state.jobs[B].state, state.jobs[B].deadline_ms) == (LEASED, now_ms + 5001)
    assert state.next_seq > max([job.seq for job in state.jobs.values()])
    assert CliRunner().invoke(workq_log, ["import", str(old), str(new)]).exit_code == 1

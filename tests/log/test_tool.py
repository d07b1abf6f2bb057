"""`workq-log` at work on good, torn and damaged logs."""

import errno
import json
import os
import shutil
import uuid
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result

from tests.log.disks import segment_files
from tests.log.logs import opened, reopened, written
from tests.log.states import START_MS, Snapshot, snapshot
from workq.engine.documents import QUEUES, RECURRED, RECURRING
from workq.engine.events import Added, Completed, DocumentPut, Leased
from workq.engine.job import Job
from workq.engine.recurring import Position
from workq.engine.state import State
from workq.log.files import Files
from workq.log.records import BATCH_BYTES, encode
from workq.log.tool import workq_log
from workq.values import JobSpec

JOB_ID = bytes.fromhex("61a444a0612841c08078cc757d3bd2d8")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(workq_log, [str(arg) for arg in args])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory for a log."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def final(home: Path) -> Snapshot:
    """The state in the log in `home`, which has several segments."""
    log, snapshots = written(home, Random(6), 100)
    log.close()
    assert len(segment_files(home)) > 3
    return snapshots[-1]


def change_byte(path: Path, offset: int) -> None:
    with path.open("r+b", buffering=0) as file:
        (byte,) = os.pread(file.fileno(), 1, offset)
        os.pwrite(file.fileno(), bytes([byte ^ 0x55]), offset)


class TestCheck:
    def test_a_good_log(self, home: Path, final: Snapshot) -> None:
        result = run("check", home)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"good; jobs: {len(final[0])}, segments: {len(segment_files(home))}, bytes: ")

    def test_a_torn_end_is_told_and_left_as_it_is(self, home: Path, final: Snapshot) -> None:
        last = home / segment_files(home)[-1]
        size = last.stat().st_size
        with last.open("ab") as file:
            file.write(b"half a rec")
        for _ in range(2):
            result = run("check", home)
            assert result.exit_code == 0
            assert f"the last 10 bytes, {last.name} from offset {size} on, are not whole" in result.stdout

    def test_an_empty_end_is_told(self, home: Path, final: Snapshot) -> None:
        last = home / segment_files(home)[-1]
        os.truncate(last, 0)
        result = run("check", home)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"the end of the log, {last.name}, is empty; a server will remove it\ngood; ")

    def test_damage(self, home: Path, final: Snapshot) -> None:
        change_byte(home / "0000000002.seg", 500)
        result = run("check", home)
        assert result.exit_code == 1
        assert result.stderr.startswith(f"workq-log: {home}/0000000002.seg is damaged at offset ")
        assert result.stderr.endswith(f"; workq-log repair {home} keeps what can be read\n")
        assert result.stderr.count("\n") == 1

    def test_a_segment_that_is_removed_meanwhile_is_no_damage(
        self, home: Path, final: Snapshot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vanishing = segment_files(home)[:3]

        def open_file(files: Files, name: str, write: bool = False) -> int:
            if vanishing and name == vanishing[0]:
                del vanishing[0]
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            return opens(files, name, write)

        opens = Files.open
        monkeypatch.setattr(Files, "open", open_file)
        result = run("check", home)
        assert result.exit_code == 0, result.output
        vanishing += ["0000000001.seg"] * 100
        result = run("check", home)
        assert result.stderr == f"workq-log: {home} changes too quickly; try again when the server is less busy\n"

    def test_no_log(self, home: Path) -> None:
        result = run("check", home)
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: there is no log in {home}\n"

    def test_no_directory(self, home: Path) -> None:
        result = run("check", home / "nothing")
        assert result.exit_code == 2
        assert "does not exist" in result.stderr


class TestRepair:
    def test_it_keeps_all_but_the_record_that_is_damaged(self, home: Path) -> None:
        log = opened(home, State(START_MS))
        spec = JobSpec(b"mail", 1000, 60_000)
        jobs = [Job(bytes([number]) * 16, spec, b"payload", START_MS, 0, number) for number in range(1, 10)]
        for job in jobs:
            log.append(encode([Added(job)]), b"")
        log.close()
        segment = home / "0000000001.seg"
        change_byte(segment, segment.read_bytes().index(bytes([5]) * 16))
        assert run("check", home).exit_code == 1

        result = run("repair", home)
        assert result.exit_code == 0
        lost, summary = result.stdout.splitlines()
        assert lost == "lost: 0000000001.seg: 91 bytes from offset 445 on"
        assert summary == "repaired; records: 10, jobs: 8, losses: 1"
        assert sorted(reopened(home).jobs) == [job.job_id for job in jobs if job.job_id != bytes([5]) * 16]
        assert run("check", home).exit_code == 0

    def test_with_a_damaged_batch_only_its_own_records_are_lost(self, home: Path) -> None:
        log = opened(home, State(START_MS))
        spec = JobSpec(b"mail", 1000, 60_000)
        jobs = [Job(bytes([number]) * 16, spec, b"payload", START_MS, 0, number) for number in range(1, 200)]
        log.append(encode([Added(job) for job in jobs]), b"")
        log.close()
        segment = home / "0000000001.seg"
        change_byte(segment, segment.read_bytes().index(bytes([100]) * 16))
        result = run("repair", home)
        assert result.exit_code == 0
        assert "losses: 1" in result.stdout
        kept = {job_id[0] for job_id in reopened(home).jobs}
        lost = sorted({job.job_id[0] for job in jobs} - kept)
        assert 100 in lost
        assert lost == list(range(lost[0], lost[-1] + 1))
        assert len(lost) * len(encode([Added(jobs[0])])) <= 2 * BATCH_BYTES

    def test_what_hangs_on_a_lost_record_is_told(self, home: Path) -> None:
        log = opened(home, State(START_MS))
        spec = JobSpec(b"mail", 1000, 60_000)
        job = Job(JOB_ID, spec, b"", START_MS, 0, 1)
        for event in (Added(job), Leased(JOB_ID, START_MS), Completed(JOB_ID, b"done", START_MS)):
            log.append(encode([event]), b"")
        log.close()
        change_byte(home / "0000000001.seg", 100)
        result = run("repair", home)
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1:] == [
            f"lost: 0000000001.seg, offset 165: leased, but job {uuid.UUID(bytes=JOB_ID)} is lost",
            f"lost: 0000000001.seg, offset 198: completed, but job {uuid.UUID(bytes=JOB_ID)} is lost",
            "repaired; records: 4, jobs: 0, losses: 3",
        ]

    def test_a_lease_whose_end_is_lost_is_no_obstacle_to_the_next(self, home: Path) -> None:
        log = opened(home, State(START_MS))
        spec = JobSpec(b"mail", 1000, 60_000)
        twice = [Leased(JOB_ID, START_MS), Leased(JOB_ID, START_MS + 2000)]
        log.append(encode([Added(Job(JOB_ID, spec, b"", START_MS, 0, 1)), *twice]), b"")
        log.close()
        assert run("check", home).exit_code == 1
        assert run("repair", home).exit_code == 0
        job = reopened(home).jobs[JOB_ID]
        assert (job.attempts, job.deadline_ms) == (2, START_MS + 3000)

    def test_documents_that_make_no_sense_are_left_out(self, home: Path) -> None:
        """As those of a later version that knows more options and rules."""
        log = opened(home, State(START_MS))
        options = b'{"max_len":5}'
        log.append(encode([DocumentPut(QUEUES, b"mail", options)]), b"")
        log.append(encode([DocumentPut(QUEUES, b"mail", b'{"max_len":5,"colour":1}')]), b"")
        log.append(encode([DocumentPut(RECURRED, JOB_ID, Position(START_MS).pack())]), b"")
        log.append(encode([DocumentPut(RECURRING, JOB_ID, b"tomorrow")]), b"")
        log.close()
        assert run("check", home).exit_code == 1
        result = run("repair", home)
        assert result.exit_code == 0, result.output
        assert "losses: 2" in result.stdout
        documents = reopened(home).documents
        assert documents[QUEUES] == {b"mail": options}
        assert not documents[RECURRING]

    def test_a_copy_of_a_segment_brings_back_nothing(self, home: Path, final: Snapshot) -> None:
        names = segment_files(home)
        copy = f"{len(names) + 1:010}.seg"
        shutil.copy(home / names[0], home / copy)
        result = run("repair", home)
        assert result.stdout.startswith(f"lost: {copy}: a copy of {names[0]}, left out\n")
        assert snapshot(reopened(home)) == final

    def test_segments_whose_names_were_changed_are_read_in_their_places(self, home: Path, final: Snapshot) -> None:
        names = segment_files(home)
        (home / names[1]).rename(home / "swapping")
        (home / names[2]).rename(home / names[1])
        (home / "swapping").rename(home / names[2])
        (home / names[3]).rename(home / "0000000999.seg")
        assert "losses: 0" in run("repair", home).stdout
        assert snapshot(reopened(home)) == final

    def test_segments_of_another_log_are_left_out(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        """Whatever they say of how the log stands."""
        other = tmp_path / "other"
        other.mkdir()
        log, _ = written(other, Random(7), 400)
        log.close()
        newest = segment_files(other)[-1]
        assert newest not in segment_files(home)
        shutil.copy(other / newest, home / newest)
        result = run("repair", home)
        assert result.stdout.splitlines()[0] == f"lost: {newest}: it belongs to another log, left out"
        assert "losses: 1" in result.stdout
        assert snapshot(reopened(home)) == final
        assert (home / f"{newest}.damaged").read_bytes() == (other / newest).read_bytes()

    def test_many_missing_segments_are_one_loss(self, home: Path, final: Snapshot) -> None:
        (home / "9800000000.seg").write_bytes(b"notes")
        missing = f"{len(segment_files(home)):010}.seg to 9799999999.seg are missing"
        assert run("repair", home).stdout.splitlines()[0] == f"lost: {missing}"
        assert snapshot(reopened(home)) == final

    def test_a_name_behind_which_no_segment_can_have_one(self, home: Path, final: Snapshot) -> None:
        (home / "9999999999.seg").write_bytes(b"notes")
        result = run("repair", home)
        assert result.exit_code == 1
        assert result.stderr.endswith(
            "/9999999999.seg leaves no names for new segments; give it a lower number first\n"
        )
        (home / "9999999999.seg").unlink()
        assert snapshot(reopened(home)) == final

    def test_a_good_log_loses_nothing(self, home: Path, final: Snapshot) -> None:
        assert "losses: 0" in run("repair", home).stdout
        assert snapshot(reopened(home)) == final

    def test_the_damaged_files_stay(self, home: Path, final: Snapshot) -> None:
        names = segment_files(home)
        change_byte(home / names[1], 500)
        damaged = {name: (home / name).read_bytes() for name in names}
        assert run("repair", home).exit_code == 0
        assert {name: (home / f"{name}.damaged").read_bytes() for name in names} == damaged
        assert run("repair", home).exit_code == 0

    def test_random_damage_never_stops_it(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        random = Random(8)
        for round_number in range(40):
            broken = tmp_path / str(round_number)
            shutil.copytree(home, broken)
            for _ in range(random.randrange(1, 6)):
                path = broken / random.choice(segment_files(broken))
                size = path.stat().st_size
                match random.randrange(4):
                    case 0:
                        os.truncate(path, random.randrange(size))
                    case 1:
                        with path.open("r+b") as file:
                            file.seek(random.randrange(size))
                            file.write(random.choice((bytes(200), random.randbytes(200))))
                    case 2 if len(segment_files(broken)) > 1:
                        path.unlink()
                    case _:
                        change_byte(path, random.randrange(size))
            result = run("repair", broken)
            assert result.exit_code == 0, result.output
            assert run("check", broken).exit_code == 0
            reopened(broken)

    def test_not_while_a_server_uses_it(self, home: Path, final: Snapshot) -> None:
        log = opened(home, State(START_MS))
        result = run("repair", home)
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: {home} is in use by a running server\n"
        log.close()

    def test_a_directory_without_a_log_is_left_as_it_is(self, home: Path) -> None:
        result = run("repair", home)
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: there is no log in {home}\n"
        assert os.listdir(home) == []


class TestDump:
    def test_a_line_for_each_record(self, home: Path) -> None:
        log = opened(home, State(START_MS))
        job = Job(JOB_ID, JobSpec(b"mail", 1000, 60_000, -5, 3, 2), b"caf\xc3\xa9", START_MS, 0, 1)
        log.append(encode([Added(job), Leased(JOB_ID, START_MS), Completed(JOB_ID, b"\xff", START_MS + 7)]), b"")
        log.close()
        result = run("dump", home)
        assert result.exit_code == 0
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert lines[1:] == [
            {
                "segment": 1,
                "offset": 81,
                "type": "added",
                "job_id": "61a444a0-6128-41c0-8078-cc757d3bd2d8",
                "seq": 1,
                "name": "mail",
                "ttr_ms": 1000,
                "ttl_ms": 60000,
                "priority": -5,
                "max_attempts": 3,
                "max_fails": 2,
                "created_ms": START_MS,
                "scheduled_ms": 0,
                "payload": "café",
            },
            {
                "segment": 1,
                "offset": 81,
                "type": "leased",
                "job_id": "61a444a0-6128-41c0-8078-cc757d3bd2d8",
                "at_ms": START_MS,
            },
            {
                "segment": 1,
                "offset": 81,
                "type": "completed",
                "job_id": "61a444a0-6128-41c0-8078-cc757d3bd2d8",
                "result_base64": "/w==",
                "at_ms": START_MS + 7,
            },
            {"segment": 1, "offset": 234, "type": "synced", "durable_segment": 1, "durable_offset": 234},
        ]

    def test_every_type_can_be_shown(self, home: Path, final: Snapshot) -> None:
        run("repair", home)
        result = run("dump", home)
        assert result.exit_code == 0
        assert {json.loads(line)["type"] for line in result.stdout.splitlines()} >= {"carried", "counters", "synced"}

    def test_what_is_no_record_is_told_and_the_rest_shown(self, home: Path, final: Snapshot) -> None:
        change_byte(home / "0000000002.seg", 500)
        result = run("dump", home)
        assert result.exit_code == 1
        assert "0000000002.seg: " in result.stderr
        shown = {json.loads(line)["segment"] for line in result.stdout.splitlines()}
        assert shown == set(range(1, len(segment_files(home)) + 1))


class TestCopy:
    def test_of_a_log_in_use(self, tmp_path: Path, home: Path) -> None:
        log, snapshots = written(home, Random(6), 100)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 0, result.output
        log.abandon()
        assert snapshot(reopened(tmp_path / "copy")) == snapshots[-1]

    def test_never_over_something(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        result = run("copy", home, tmp_path)
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: {tmp_path} exists already\n"

    def test_only_a_log(self, tmp_path: Path, home: Path) -> None:
        """A backup of the wrong directory is none."""
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: there is no log in {home}\n"
        assert os.listdir(tmp_path) == ["home"]

    def test_only_to_a_directory_that_exists(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        copy = tmp_path / "nothing" / "copy"
        result = run("copy", home, copy)
        assert result.exit_code == 1
        assert result.stderr == f"workq-log: cannot make {copy}: the directory above it does not exist\n"

    def test_damage_is_not_copied(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        change_byte(home / "0000000002.seg", 500)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert "0000000002.seg is damaged" in result.stderr
        assert os.listdir(tmp_path) == ["home"]

    def test_damage_in_the_newest_segment_is_not_copied(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        """It is no end: what stands behind it says that it was durable."""
        newest = segment_files(home)[-1]
        change_byte(home / newest, 60)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert f"{newest} is damaged at offset 48" in result.stderr
        assert os.listdir(tmp_path) == ["home"]

    @pytest.mark.parametrize("index", [0, 2])
    def test_a_log_with_a_missing_segment_is_not_copied(
        self, tmp_path: Path, home: Path, final: Snapshot, index: int
    ) -> None:
        missing = segment_files(home)[index]
        (home / missing).unlink()
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert f"{missing} is damaged at offset 0: the file is missing" in result.stderr
        assert os.listdir(tmp_path) == ["home"]

    def test_a_segment_that_was_longer_is_not_copied(self, tmp_path: Path, home: Path, final: Snapshot) -> None:
        offsets = [json.loads(line) for line in run("dump", home).stdout.splitlines()]
        end = [record["offset"] for record in offsets if record["segment"] == 2][-1]
        os.truncate(home / "0000000002.seg", end)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert f"0000000002.seg is damaged at offset {end}: the file is too short" in result.stderr

    @pytest.mark.parametrize("number", [1, 2])
    def test_a_damaged_header_is_not_copied(self, tmp_path: Path, home: Path, final: Snapshot, number: int) -> None:
        change_byte(home / f"{number:010}.seg", 10)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 1
        assert f"{number:010}.seg is damaged at offset 0" in result.stderr

    def test_a_torn_end_is_left_out(self, tmp_path: Path, home: Path) -> None:
        log, snapshots = written(home, Random(6), 100)
        size = log.files.size(segment_files(home)[-1])
        log.abandon()
        with (home / segment_files(home)[-1]).open("ab") as file:
            file.write(b"torn" * 5)
        result = run("copy", home, tmp_path / "copy")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "copy" / segment_files(home)[-1]).stat().st_size <= size
        assert snapshot(reopened(tmp_path / "copy")) == snapshots[-1]


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("check", "repair", "dump", "copy", "import"):
        assert command in result.stdout

"""`workq-server --data-dir` as an operator sees it: start, stop, downtime, a full disk, a directory that is not his."""

import os
import resource
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.server import PATIENCE_S, Dialogue, ServerProcess, run_server
from workq.commands import Add, Lease, Recur
from workq.engine import Engine
from workq.engine.events import DocumentPut
from workq.log import open_log
from workq.log.records import encode
from workq.recurrence import parse_rule
from workq.server import clocks, main
from workq.server.clocks import ClockWatch
from workq.values import JobSpec

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
NOBODY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

# For root, to whom permissions mean nothing otherwise.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def start_that_fails(*flags: str, under: tuple[str, ...] = ()) -> str:
    """Start a server that ends by itself with status 1; return the line it says last."""
    ended = run_server("--port", "0", *flags, under=under)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the server, or the clock, does by itself."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def new_id() -> str:
    return str(uuid.uuid4())


def add(dialogue: Dialogue, job_id: str, ttr_ms: int = 60_000, ttl_ms: int = 600_000, payload: bytes = b"hi") -> bytes:
    return dialogue.ask(f"add {job_id} mail {ttr_ms} {ttl_ms} {len(payload)}\r\n".encode() + payload + b"\r\n")


def lease(dialogue: Dialogue, wait_ms: int = 0) -> str:
    dialogue.send(b"lease mail %d\r\n" % wait_ms)
    dialogue.expect(b"+OK 1")
    job_id = dialogue.line().split(b" ")[0].decode()
    dialogue.line()
    return job_id


class TestStart:
    def test_without_a_directory_it_says_that_jobs_end_with_it(self) -> None:
        with ServerProcess() as server:
            assert "jobs are kept in memory only" in server.log()

    def test_with_one_it_says_how_many_jobs_there_are(self, tmp_path: Path) -> None:
        home = tmp_path / "new"
        with ServerProcess(f"--data-dir={home}") as server, server.connect() as dialogue:
            assert "in memory only" not in server.log()
            assert f"0 jobs are in {home}" in server.log()
            assert add(dialogue, new_id()) == b"+OK"
        with ServerProcess(f"--data-dir={home}") as server:
            assert f"1 jobs are in {home}" in server.log()
        assert home.stat().st_mode & 0o777 == 0o700

    def test_a_directory_in_use(self, tmp_path: Path) -> None:
        with ServerProcess(f"--data-dir={tmp_path}"):
            error = start_that_fails(f"--data-dir={tmp_path}")
        assert error == f"workq-server: {tmp_path} is in use by a running server"

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        error = start_that_fails(f"--data-dir={tmp_path / 'file'}")
        assert error.startswith(f"workq-server: cannot use the data directory {tmp_path / 'file'}: ")

    def test_a_directory_that_cannot_be_written_to(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        error = start_that_fails(f"--data-dir={tmp_path}", under=UNPRIVILEGED)
        assert error == f"workq-server: cannot use the data directory {tmp_path}: Permission denied"

    @pytest.mark.parametrize("name", ["0000000001.seg", "lock"])
    def test_a_file_that_may_not_be_read(self, tmp_path: Path, name: str) -> None:
        with ServerProcess(f"--data-dir={tmp_path}") as server:
            server.signal(signal.SIGTERM)
            server.wait()
        (tmp_path / name).chmod(0)
        error = start_that_fails(f"--data-dir={tmp_path}", under=UNPRIVILEGED)
        assert error == f"workq-server: cannot use {tmp_path / name}: Permission denied"

    def test_damage(self, tmp_path: Path) -> None:
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            for _ in range(5):
                assert add(dialogue, new_id()) == b"+OK"
            server.signal(signal.SIGTERM)
            server.wait()
        with (tmp_path / "0000000001.seg").open("r+b") as file:
            file.seek(200)
            file.write(b"???")
        error = start_that_fails(f"--data-dir={tmp_path}")
        assert error.startswith(f"workq-server: {tmp_path}/0000000001.seg is damaged at offset ")
        assert f"workq-log check {tmp_path}" in error

    def test_a_torn_end_is_told_with_its_size(self, tmp_path: Path) -> None:
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            assert add(dialogue, new_id()) == b"+OK"
            server.signal(signal.SIGTERM)
            server.wait()
        with (tmp_path / "0000000001.seg").open("ab") as file:
            file.write(b"\x30\0\0\0 half a record")
        with ServerProcess(f"--data-dir={tmp_path}") as server:
            (warning,) = [line for line in server.log().splitlines() if "WARNING" in line]
            assert "the last 18 bytes of the log were not written to their end" in warning

    def test_jobs_of_the_future_are_told(self, tmp_path: Path) -> None:
        engine = Engine(START_MS)
        log = open_log(tmp_path, 65_536, engine.state, lambda done, total: None)
        future_ms = (int(time.time()) + 3600) * 1000
        engine.execute(Add(uuid.uuid4().bytes, JobSpec(b"mail", 1000, 60_000), b""), future_ms, lambda reply: None)
        log.append(encode(engine.events), b"")
        log.close()
        with ServerProcess("--data-dir", str(tmp_path)) as server:
            shown = datetime.fromtimestamp(future_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert "WARNING the clock may be wrong: it is " in server.log()
            assert f"and the log has jobs of {shown}; " in server.log()

    def test_a_rule_whose_time_zone_is_not_here(self, tmp_path: Path) -> None:
        engine = Engine(START_MS)
        log = open_log(tmp_path, 65_536, engine.state, lambda done, total: None)
        spec = JobSpec(b"mail", 1000, 60_000)
        rule = parse_rule("cron:0_9_*_*_*@Europe/Berlin")
        engine.execute(Recur(uuid.UUID(NOBODY).bytes, spec, rule, False, b""), START_MS, lambda reply: None)
        event = engine.events[1]
        assert isinstance(event, DocumentPut)
        event.value = event.value.replace(b"Europe/Berlin", b"Mars/Olympus_")
        log.append(encode(engine.events), b"")
        log.close()
        with ServerProcess("--data-dir", str(tmp_path)) as server, server.connect() as dialogue:
            words = (
                f"{NOBODY} does nothing until this server knows its rule: Invalid rule: there is no time zone 'Mars/"
            )
            assert words in server.log()
            assert dialogue.ask(f"delete {NOBODY}\r\n".encode()) == b"+OK"

    def test_a_long_start_says_how_far_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        log = open_log(tmp_path, 2**20, Engine(0).state, lambda done, total: None)
        log.append(encode([Engine(0).counters()]) * 40_000, b"")
        log.close()
        seconds = iter(range(1000))
        monkeypatch.setattr(main.time, "monotonic", lambda: 2.0 * next(seconds))
        caplog.set_level("INFO")
        main._open_log(tmp_path, 2**20, Engine(0)).abandon()
        assert f"reading {tmp_path}: 0 of 1 MB" in caplog.messages


def test_a_wall_clock_that_is_put_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watch = ClockWatch(lambda: START_MS)
    for ahead_ms in (0, 4_000, -4_000, 3_600_000, 3_601_000, -9_500, -9_600, 1_000, 0):
        monkeypatch.setattr(clocks.time, "time_ns", lambda ahead_ms=ahead_ms: (START_MS + ahead_ms) * 1_000_000)
        watch.look()
    rest = "the server's time, which goes on; a restart takes it over"
    assert caplog.messages == [
        f"the wall clock was put: it is 3600.0 s ahead of {rest}",
        f"the wall clock was put: it is 9.5 s behind {rest}",
        "the wall clock shows the server's time again",
    ]


class TestDowntime:
    def test_all_that_happened_is_still_the_case(self, tmp_path: Path) -> None:
        jobs = [new_id() for _ in range(5)]
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            for job_id in jobs:
                assert add(dialogue, job_id) == b"+OK"
            assert [lease(dialogue) for _ in range(3)] == jobs[:3]
            assert dialogue.ask(f"complete {jobs[0]} 4\r\ndone\r\n".encode()) == b"+OK"
            assert dialogue.ask(f"fail {jobs[1]} 3\r\nbad\r\n".encode()) == b"+OK"
            assert dialogue.ask(f"delete {jobs[3]}\r\n".encode()) == b"+OK"
            server.kill()
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            dialogue.send(f"result {jobs[0]} 0\r\nresult {jobs[1]} 0\r\n".encode())
            dialogue.expect(b"+OK 1", f"{jobs[0]} 1 4".encode(), b"done")
            dialogue.expect(b"+OK 1", f"{jobs[1]} 0 3".encode(), b"bad")
            assert dialogue.ask(f"inspect job {jobs[3]}\r\n".encode()) == b"-NOT-FOUND"
            # A worker that held a lease completes its job as if nothing had happened.
            assert dialogue.ask(f"complete {jobs[2]} 2\r\nok\r\n".encode()) == b"+OK"
            assert lease(dialogue) == jobs[4]

    def test_what_fell_due_meanwhile_happens_at_the_start(self, tmp_path: Path) -> None:
        leased, ending, scheduled = new_id(), new_id(), new_id()
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            assert add(dialogue, leased, ttr_ms=400) == b"+OK"
            assert lease(dialogue) == leased
            assert add(dialogue, ending, ttl_ms=400) == b"+OK"
            due = time.time() + 0.4
            at = datetime.fromtimestamp(due, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            command = f"schedule {scheduled} mail 1000 60000 {at} 2\r\nhi\r\n"
            assert dialogue.ask(command.encode()) == b"+OK"
            server.kill()
        until(lambda: time.time() > due + 0.1)
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            assert dialogue.inspect(f"job {leased}")["state"] == "3"
            assert dialogue.ask(f"inspect job {ending}\r\n".encode()) == b"-NOT-FOUND"
            assert dialogue.inspect("server")["evicted-jobs"] == "1"
            queue = dialogue.inspect("queue mail")
            assert (queue["ready-len"], queue["scheduled-len"]) == ("2", "0")

    def test_a_recurring_job_goes_on_without_doubles(self, tmp_path: Path) -> None:
        flags = ("--data-dir", str(tmp_path))
        leased = []
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            assert dialogue.ask(f"recur {NOBODY} mail 60000 600000 every:100 2\r\nhi\r\n".encode()) == b"+OK"
            leased += [lease(dialogue, 60_000) for _ in range(3)]
            began = time.time()
        until(lambda: time.time() > began + 0.35)
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            leased += [lease(dialogue, 60_000) for _ in range(3)]
        assert len(set(leased)) == 6
        possible = {str(uuid.uuid5(uuid.UUID(NOBODY), str(round(began * 1000) + ms))) for ms in range(-9_000, 20_000)}
        assert set(leased) <= possible

    def test_a_lease_goes_on_with_what_is_left_of_it(self, tmp_path: Path) -> None:
        engine = Engine(START_MS)
        log = open_log(tmp_path, 65_536, engine.state, lambda done, total: None)
        ends_ms = time.time_ns() // 1_000_000 + 1_500
        for command in (Add(uuid.uuid4().bytes, JobSpec(b"mail", HOUR_MS, 2 * HOUR_MS), b"hi"), Lease((b"mail",), 0)):
            engine.execute(command, ends_ms - HOUR_MS, lambda reply: None)
        log.append(encode(engine.events), b"")
        log.close()
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            lease(dialogue, 60_000)  # not begun anew: it comes back by its old time, not one whole TTR after the start
            assert time.time_ns() // 1_000_000 >= ends_ms

    def test_foreground_jobs_are_gone_with_their_clients(self, tmp_path: Path) -> None:
        job_id = new_id()
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as waiting, server.connect() as other:
            waiting.send(f"run {job_id} mail 1000 60000 2\r\nhi\r\n".encode())
            until(lambda: other.ask(f"result {job_id} 0\r\n".encode()) == b"-TIMEOUT")
            assert lease(other) == job_id
            server.kill()
        with ServerProcess(f"--data-dir={tmp_path}") as server, server.connect() as dialogue:
            assert dialogue.ask(f"inspect job {job_id}\r\n".encode()) == b"-NOT-FOUND"

    @pytest.mark.parametrize("policy", ["always", "interval", "os"])
    def test_a_stop_in_good_order_leaves_all_of_it_on_disk(self, tmp_path: Path, policy: str) -> None:
        with ServerProcess(f"--data-dir={tmp_path}", f"--log-sync={policy}") as server, server.connect() as dialogue:
            for _ in range(20):
                assert add(dialogue, new_id()) == b"+OK"
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        size = (tmp_path / "0000000001.seg").stat().st_size
        assert size < 4000  # the room that was taken is given back
        with ServerProcess(f"--data-dir={tmp_path}") as server:
            assert "20 jobs are in" in server.log()
            assert "WARNING" not in server.log()


def fill(dialogue: Dialogue, ttl_ms: int = 600_000, at_once: int = 1) -> list[str]:
    """Add jobs until the server refuses; return the ids of those that it took.

    With a short TTL they have to come many `at_once`, or the first have ended before the disk is full.
    """
    taken: list[str] = []
    refused: list[tuple[str, bytes]] = []
    while not refused:
        ids = [new_id() for _ in range(at_once)]
        adds = [f"add {job_id} mail 60000 {ttl_ms} 2000\r\n".encode() + bytes(2000) + b"\r\n" for job_id in ids]
        dialogue.send(b"".join(adds))
        replies = [(job_id, dialogue.line()) for job_id in ids]
        taken += [job_id for job_id, reply in replies if reply == b"+OK"]
        refused = [(job_id, reply) for job_id, reply in replies if reply != b"+OK"]
    for job_id, reply in refused:
        assert reply.startswith(b"-SERVER-ERROR Nothing was changed: the command log cannot grow: "), reply
        assert dialogue.ask(f"inspect job {job_id}\r\n".encode()) == b"-NOT-FOUND"
    return taken


def takes_again(dialogue: Dialogue) -> str:
    """Wait until the server takes a job; return its id."""
    job_id = new_id()
    until(lambda: add(dialogue, job_id) == b"+OK")
    return job_id


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A file system with room for 1 MiB."""
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("only root can mount a small file system; the limit on file sizes is tested all the same")
        yield tmp_path
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)

    def test_it_goes_on_when_there_is_room_again(self, small_disk: Path) -> None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(400_000))
        flags = (f"--data-dir={small_disk / 'data'}", "--log-segment-size=65536")
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            taken = fill(dialogue)
            assert len(taken) > 50
            assert dialogue.inspect("queue mail")["ready-len"] == str(len(taken))
            assert dialogue.ask(f"delete {taken[0]}\r\n".encode()).startswith(b"-SERVER-ERROR ")
            server.kill()
        with ServerProcess(*flags) as server, server.connect() as dialogue:  # and starts on a full disk
            assert dialogue.inspect("queue mail")["ready-len"] == str(len(taken))
            taken += fill(dialogue)
            ballast.unlink()
            taken.append(takes_again(dialogue))
            server.kill()
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            for job_id in taken:
                assert dialogue.inspect(f"job {job_id}")["state"] == "0"

    def test_it_makes_room_itself_when_jobs_end(self, small_disk: Path) -> None:
        flags = (f"--data-dir={small_disk / 'data'}", "--log-segment-size=262144")
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            assert len(fill(dialogue, ttl_ms=1500, at_once=50)) > 100
            last = takes_again(dialogue)
            assert dialogue.inspect(f"job {last}")["state"] == "0"

    def test_one_that_is_smaller_than_the_log_may_become_is_told(self, small_disk: Path) -> None:
        with ServerProcess(f"--data-dir={small_disk / 'data'}", "--log-segment-size=1MiB") as server:
            assert " has 1024 KiB in all, less than two segments of the log: " in server.log()
            assert " start with --log-segment-size=131072, or less\n" in server.log()
        with ServerProcess(f"--data-dir={small_disk / 'data'}", "--log-segment-size=131072") as server:
            assert "segments of the log" not in server.log()

    def test_a_limit_on_the_size_of_files(self, tmp_path: Path) -> None:
        flags = (f"--data-dir={tmp_path}", "--log-segment-size=1MiB")
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            assert add(dialogue, new_id()) == b"+OK"
            unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (500_000, unlimited[1]))
            taken = fill(dialogue)
            assert len(taken) > 10
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
            taken.append(takes_again(dialogue))
            server.kill()
        with ServerProcess(*flags) as server, server.connect() as dialogue:
            assert dialogue.inspect("queue mail")["ready-len"] == str(len(taken) + 1)


class TestReadOnlyDirectory:
    @pytest.mark.skipif(bool(UNPRIVILEGED) and shutil.which("setpriv") is None, reason="root may write everywhere")
    def test_made_so_under_a_running_server(self, tmp_path: Path) -> None:
        flags = (f"--data-dir={tmp_path}", "--log-segment-size=65536")
        with ServerProcess(*flags, under=UNPRIVILEGED) as server, server.connect() as dialogue:
            tmp_path.chmod(0o500)
            for _ in range(60):  # more than a segment holds: no new one can be begun, so this one grows
                assert add(dialogue, new_id(), payload=bytes(2000)) == b"+OK"
            until(lambda: "cannot begin a new segment, so 0000000001.seg grows: Permission denied" in server.log())
            tmp_path.chmod(0o700)
            assert add(dialogue, new_id()) == b"+OK"
            until(lambda: (tmp_path / "0000000002.seg").exists())
            server.kill()
        with ServerProcess(*flags) as server:
            assert "61 jobs are in" in server.log()

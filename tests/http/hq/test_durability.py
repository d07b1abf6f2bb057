"""What is left of jobs after a crash, a restart, and as time goes by; and the settings."""

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.durable import durable
from tests.http.client import until
from tests.http.hq.door import NOWHERE, Hq, configured, error_of
from tests.log.disks import Kernel, MemoryFiles, RecordingFiles
from tests.server import ServerProcess, reserved_port, run_server
from tests.webworker import WebWorker, answer
from workq.archive import Archive
from workq.broker import Broker, Clock
from workq.commands import PutDocument
from workq.dispatch.addresses import AddressRules
from workq.dispatch.dispatcher import Dispatcher
from workq.dispatch.sender import Sender
from workq.engine import Engine
from workq.engine.job import FAILED
from workq.gateway import Gateway
from workq.http.hq.ids import Ids
from workq.http.hq.job import Given
from workq.http.hq.listing import Listing
from workq.http.hq.store import Found, Store
from workq.log.filelog import open_files
from workq.log.files import Files

# For root, to whom permissions mean nothing otherwise.
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
HQ = ("--hq-listen", "127.0.0.1:0")


class TestCrash:
    def test_jobs_that_ran_or_waited_are_sent_again_under_their_ids(self, tmp_path: Path, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        flags = ("--data-dir", str(tmp_path))
        settings = "[hq]\ndispatchers = 1\n"
        with configured(settings, *flags) as server, Hq(server) as hq:
            done = hq.done(worker.url("/done"), name="done")
            running, waiting = [hq.push(worker.url(), name="n", payload=[1], headers={"X-A": "b"}) for _ in range(2)]
            worker.wait_for_requests(2)
            hq.wait_for(running["id"], "running")
            before = hq.list()["jobs"]
            server.kill()
        worker.behaviours["/"] = lambda request, _: answer(200, b"again")
        with configured(settings, *flags) as server, Hq(server) as hq:
            for job in (running, waiting):
                after = hq.finished(job["id"])
                assert (after["status"], after["output"]) == ("success", "again")
                assert {key: after[key] for key in ("name", "payload", "headers", "createdAt")} == {
                    key: job[key] for key in ("name", "payload", "headers", "createdAt")
                }
            assert hq.job(done["id"]) == done == before[0]
            assert [job["id"] for job in hq.list()["jobs"]] == [done["id"], running["id"], waiting["id"]]
            assert int(hq.push(NOWHERE)["id"]) > int(waiting["id"])
        _, before_the_crash, *after_it = [request.values("X-Hq-Job-Id") for request in worker.requests]
        assert before_the_crash == [running["id"]]
        assert sorted(after_it) == [[running["id"]], [waiting["id"]]]

    def test_a_restart_in_place_survives(self, tmp_path: Path, worker: WebWorker) -> None:
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server, Hq(server) as hq:
            first = hq.done(worker.url("/x"))
            worker.behaviours["/x"] = worker.hang
            assert hq.post(f"/job/{first['id']}/restart").status == 200
            worker.wait_for_requests(2)
            server.kill()
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server, Hq(server) as hq:
            hq.wait_for(first["id"], "running")
            stats = hq.get("/stats").json
            assert (stats["numStoredJobs"], stats["numJobsInLastMinute"]) == (1, 1)
            server.kill()
        worker.behaviours["/x"] = lambda request, _: answer(404)
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server, Hq(server) as hq:
            assert hq.finished(first["id"])["statusCode"] == 404
            assert hq.list()["count"] == 1
            assert hq.get("/stats").json["numStoredJobs"] == 1


class TestArchiveThatCannotBeUsed:
    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        """An archive that was closed in good order."""
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server:
            server.signal(signal.SIGTERM)
            server.wait()
        return tmp_path / "archive.sqlite"

    def reason(self, archive: Path, under: tuple[str, ...] = ()) -> str:
        ended = run_server("--port", "0", *HQ, "--data-dir", str(archive.parent), under=under)
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        return ended.stderr.splitlines()[-1]

    def test_damage_that_is_noticed_when_it_is_read(self, archive: Path) -> None:
        hint = "doc/archive.md says how to mend it, and how to start without it"
        with archive.open("r+b") as file:
            file.seek(4096)  # the first page tells of the tables
            file.write(b"\xff" * (archive.stat().st_size - 4096))
        error = f"workq-server: cannot use the archive {archive}: database disk image is malformed; {hint}"
        assert self.reason(archive) == error

    def test_a_table_that_is_gone(self, archive: Path) -> None:
        with contextlib.closing(sqlite3.connect(archive)) as database, database:
            database.execute("DROP TABLE jobs")
        assert f"cannot use the archive {archive}: no such table: jobs; " in self.reason(archive)

    def test_a_file_that_may_not_be_read(self, archive: Path) -> None:
        archive.chmod(0)
        error = f"workq-server: cannot use the archive: {archive}: Permission denied"
        assert self.reason(archive, UNPRIVILEGED) == error


class TestOrderlyRestart:
    def test_all_is_there_afterwards(self, tmp_path: Path, worker: WebWorker) -> None:
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server, Hq(server) as hq:
            made = [hq.done(worker.url(), name=str(number)) for number in range(3)]
            hq.delete(f"/job/{made[1]['id']}")
            before = hq.list()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert "Traceback" not in server.log()
        with ServerProcess(*HQ, "--data-dir", str(tmp_path)) as server, Hq(server) as hq:
            assert hq.list() == before
            assert hq.get("/stats").json["numStoredJobs"] == 2


class TestLifetime:
    def test_finished_jobs_go_28_days_after_they_were_pushed(self, tmp_path: Path, worker: WebWorker) -> None:
        flags = (*HQ, "--data-dir", str(tmp_path))
        with ServerProcess(*flags) as server, Hq(server) as hq:
            old, young = [hq.done(worker.url())["id"] for _ in range(2)]
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "archive.sqlite")) as archive, archive:
            archive.execute("UPDATE jobs SET created_ms = created_ms - ? WHERE number = ?", (28 * 86_400_000, int(old)))
        with ServerProcess(*flags) as server, Hq(server) as hq:
            until(lambda: hq.get(f"/job/{old}").status == 422)
            assert [job["id"] for job in hq.list()["jobs"]] == [young]


class TestFullDisk:
    @pytest.mark.parametrize("killed", [False, True])
    def test_finished_jobs_stay_in_the_engine_while_the_archive_cannot_be_written(
        self, tmp_path: Path, worker: WebWorker, killed: bool
    ) -> None:
        worker.behaviours["/big"] = lambda request, _: answer(200, b"x" * 50_000)
        flags = (*HQ, "--data-dir", str(tmp_path), "--log-segment-size=1MiB")
        names = [*[str(number) for number in range(30)], *["late"] * 3]
        with ServerProcess(*flags) as server, Hq(server) as hq, server.connect() as tcp:
            for name in names[:30]:
                hq.done(worker.url("/big"), name=name)
            assert hq.list()["count"] == 30  # and now all of them are in the archive
            room = (tmp_path / "archive.sqlite-wal").stat().st_size
            assert room > 1_048_576, "the command log must have room for its segments"
            unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (room, unlimited[1]))
            late = [hq.done(worker.url("/big"), name=name) for name in names[30:]]
            assert [job["status"] for job in late] == ["success"] * 3
            trouble = f"cannot use the archive {tmp_path}/archive.sqlite: disk I/O error"
            until(lambda: f"finished jobs stay in the engine, and this is tried again: {trouble}" in server.log())
            assert tcp.inspect("queue hq")["completed-len"] == "3"
            assert [job["name"] for job in hq.list()["jobs"]] == names
            assert hq.get("/stats").json["numStoredJobs"] == 33
            assert error_of(hq.post(f"/job/{late[0]['id']}/restart"), 500) == trouble
            assert hq.job(late[0]["id"]) == late[0]
            if killed:
                server.kill()
            else:
                resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
                until(lambda: "the archive can be written again" in server.log())
                assert [job["name"] for job in hq.list()["jobs"]] == names
                assert tcp.inspect("queue hq")["completed-len"] == "0"
            assert "Traceback" not in server.log()
        with ServerProcess(*flags) as server, Hq(server) as hq:
            assert [job["name"] for job in hq.list()["jobs"]] == names
            assert [hq.job(job["id"]) for job in late] == late

    async def test_what_is_tried_again_is_remembered_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.archive.archive._RETRY_S", 0.001)
        broker = Broker(Engine(Clock().now_ms()), Clock(), asyncio.get_running_loop())
        gateway = Gateway(broker)
        archive = Archive(None, gateway)
        idle: Any = SimpleNamespace(is_pushed=lambda _: True, count_push=lambda _: None)
        store = Store(gateway, archive, idle, Ids(0, 0), 1)
        broker.on_finished = archive.on_finished
        tries = 0

        def put(_: object) -> None:
            nonlocal tries
            tries += 1
            if tries < 5:
                raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(archive._store, "put", put)
        job = await store.push(NOWHERE, Given(), b"")
        await store.stop(Found(int(job.id), "waiting", NOWHERE, Given(), b"", job))
        while archive.waiting() or not tries:
            await asyncio.sleep(0.001)
        assert (tries, len(store._archived)) == (5, 1)
        await archive.stop()


class TestStop:
    async def test_a_running_job_that_was_stopped_is_not_sent_again_after_a_crash(
        self, tmp_path: Path, worker: WebWorker
    ) -> None:
        worker.behaviours["/"] = worker.hang
        files = RecordingFiles(tmp_path)
        kernel = files.kernel = Kernel(files)
        async with durable(files) as (engine, gateway):
            archive = Archive(None, gateway)
            dispatcher = Dispatcher(gateway, lambda: Sender(AddressRules(), gateway.now_ms, gateway.run_queue))
            await dispatcher.start()
            store = Store(gateway, archive, dispatcher, Ids(0, 0), 1)
            job = await store.push(worker.url(), Given(), b"")
            await asyncio.to_thread(worker.wait_for_requests, 1)
            kernel.may_sync = False
            other = asyncio.create_task(gateway.execute(PutDocument(b"other", b"x")))
            while not kernel.started:  # the disk is slow, and what is done meanwhile waits
                await asyncio.sleep(0)
            running = await store.find(int(job.id))
            assert running is not None
            stopping = asyncio.create_task(store.stop(running))
            while not engine.state.finished and not any([each.state == FAILED for each in engine.state.jobs.values()]):
                await asyncio.sleep(0)

            def states() -> list[int]:
                state = Engine(0).state
                open_files(MemoryFiles.read_from(tmp_path), 1_048_576, state, lambda *_: None)
                return [each.state for each in state.jobs.values()]

            assert not stopping.done() or states() == [FAILED]
            kernel.may_sync = True
            kernel.sync()
            await asyncio.gather(stopping, other)
            assert states() == [FAILED]
            await dispatcher.stop(0)
            await archive.stop()


class TestClientsThatHangUp:
    async def test_a_job_is_listed_though_nobody_waited_for_its_id(self, tmp_path: Path) -> None:
        idle: Any = SimpleNamespace(is_pushed=lambda _: True, count_push=lambda _: None)
        async with durable(Files(tmp_path)) as (engine, gateway):
            archive = Archive(None, gateway)
            store = Store(gateway, archive, idle, Ids(0, 0), 1)
            pushing = asyncio.create_task(store.push(NOWHERE, Given(), b""))
            while not engine.state.jobs:
                await asyncio.sleep(0)
            pushing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pushing
            assert [job.status for job in await store.read(Listing(), None, 10)] == ["waiting"]
            assert (await store.count(), await store.count_since(0)) == (1, 1)
            await archive.stop()


class TestOtherDoors:
    def test_a_job_is_an_ordinary_job(self, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        with configured("[hq]\ndispatchers = 1\n") as server, Hq(server) as hq, server.connect() as tcp:
            running = hq.push(worker.url())["id"]
            hq.wait_for(running, "running")
            waiting = hq.push(worker.url(), payload="seen")["id"]
            figures = tcp.inspect("queue hq")
            assert (figures["ready-len"], figures["leased-len"]) == ("1", "1")
            tcp.send(b"inspect jobs hq 0 1\r\n")
            assert tcp.line() == b"+OK 1"
            job_id, count = tcp.line().decode().split(" ")
            lines = [tcp.line() for _ in range(int(count))]
            assert b'payload "seen"' in lines or b'"seen"' in b"\n".join(lines)
            assert tcp.ask(f"delete {job_id}\r\n".encode()) == b"+OK"
            assert hq.get(f"/job/{waiting}").status == 422
            assert [job["id"] for job in hq.list()["jobs"]] == [running]

    @pytest.mark.parametrize(
        ("command", "word", "status"),
        [
            ("complete", "word", "success"),
            ("fail", "word", "failure"),
            ("complete", '{"outcome":"success","started_ms":0,"finished_ms":9300000000000000000}', "success"),
        ],
    )
    def test_somebody_else_may_finish_it(self, worker: WebWorker, command: str, word: str, status: str) -> None:
        worker.behaviours["/"] = worker.hang
        with configured("[hq]\ndispatchers = 1\n") as server, Hq(server) as hq, server.connect() as tcp:
            hq.wait_for(hq.push(worker.url())["id"], "running")
            waiting = hq.push(worker.url())["id"]
            tcp.send(b"inspect jobs hq 0 1\r\n")
            tcp.line()
            job_id, count = tcp.line().decode().split(" ")
            for _ in range(int(count)):
                tcp.line()
            assert tcp.ask(f"{command} {job_id} {len(word)}\r\n{word}\r\n".encode()) == b"+OK"
            job = hq.job(waiting)
            assert (job["status"], job["startedAt"], job["statusCode"]) == (status, None, None)
            assert (job["output"], job["err"]) == ((word, "") if command == "complete" else ("", word))


class TestSettings:
    def test_what_is_given_is_used(self) -> None:
        settings = """
[hq]
server_id = 5
id_epoch = [2020, 2, 3]
queues = 100
dispatchers = 3
max_workers = 4
shutdown_timeout = 7
job_lifetime = 0
"""
        with configured(settings) as server, Hq(server) as hq:
            stats = hq.get("/stats").json
            assert (stats["serverId"], stats["queues"], stats["dispatchers"], stats["maxWorkers"]) == (5, 100, 3, 4)
            assert (stats["shutdownTimeout"], stats["jobLifetime"]) == (7, 0)
            job = hq.push(NOWHERE)
            assert int(job["id"]) >> 12 & 1023 == 5
            assert job["createdAt"].startswith("20")

    @pytest.mark.parametrize(("dispatchers", "max_workers", "at_a_time"), [(2, 0, 2), (2, 1, 2), (2, 3, 6)])
    def test_how_many_are_sent_at_a_time(
        self, worker: WebWorker, dispatchers: int, max_workers: int, at_a_time: int
    ) -> None:
        worker.behaviours["/"] = worker.hang
        settings = f"[hq]\ndispatchers = {dispatchers}\nmax_workers = {max_workers}\n"
        with configured(settings) as server, Hq(server) as hq:
            made = [hq.push(worker.url())["id"] for _ in range(at_a_time + 2)]
            worker.wait_for_requests(at_a_time)
            hq.wait_for(made[at_a_time - 1], "running")
            assert [hq.job(job_id)["status"] for job_id in made] == ["running"] * at_a_time + ["waiting"] * 2
            hq.post(f"/job/{made[0]}/stop")
            hq.wait_for(made[at_a_time], "running")
            assert hq.get("/stats").json["numRunningJobs"] == at_a_time

    def test_addr_is_where_it_listens(self) -> None:
        with (
            reserved_port() as port,
            configured(f'[hq]\naddr = "127.0.0.1:{port}"\n', listen=None) as server,
        ):
            assert server.http_addresses["hq"] == ("127.0.0.1", port)

    def test_without_a_page(self) -> None:
        with configured("[hq]\nui = false\n") as server, Hq(server) as hq:
            assert {hq.get(path).status for path in ("/ui", "/ui/", "/ui/x", "/ui/internal/stats")} == {404}

    def test_the_page_elsewhere(self) -> None:
        with configured('[hq]\nui_basename = "/a/b/"\n') as server, Hq(server) as hq:
            assert hq.get("/a/b/internal/stats").status == 200
            assert "<!doctype html>" in hq.get("/a/b").text
            assert hq.get("/ui").status == 404

    def test_what_has_no_effect_is_told(self) -> None:
        settings = '[hq]\ndata_dir = "/x"\nlog_level = "warn"\nlog_file = "/y"\naccess_log_file = "/z"\n'
        with configured(settings) as server:
            for key in ("data_dir", "log_level", "log_file", "access_log_file"):
                assert f"[hq]: {key} has no effect" in server.log()

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("server_id = 1024", "server_id: '1024' is not a whole number from 0 to 1023"),
            ("id_epoch = [2019, 13, 1]", "id_epoch: '[2019, 13, 1]' is not a date such as [2019, 1, 1]"),
            ("id_epoch = [2019, 1]", "is not a date"),
            ("id_epoch = [9000, 1, 1]", "is in the future"),
            ('log_level = "verbose"', "log_level: 'verbose' is not one of debug, info, warn, error, off"),
            ("dispatchers = 0", "dispatchers: '0' is not"),
            ('addr = "nonsense"', "addr: 'nonsense' is not"),
            ('ui_basename = "/"', "ui_basename: '/' is not a path"),
            ('ui_basename = "/{x}"', "ui_basename: '/{x}' is not a path"),
            ("workers = 5", "'workers': no such setting; did you mean max_workers?"),
        ],
    )
    def test_mistakes_stop_the_start(self, tmp_path: Path, line: str, reason: str) -> None:
        file = tmp_path / "workq.toml"
        file.write_text(f"[hq]\n{line}\n")
        ended = run_server("--port", "0", "--config", str(file))
        assert ended.returncode == 2
        assert reason in ended.stderr
        assert "Traceback" not in ended.stderr

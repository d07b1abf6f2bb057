"""`workq hq`: HQ's command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.http.hq.door import NOWHERE, Hq
from tests.server import ServerProcess
from tests.webworker import WebWorker
from workq.cli.main import workq as command
from workq.version import VERSION

Run = Callable[..., Result]


@pytest.fixture
def address(server: ServerProcess) -> str:
    host, port = server.http_addresses["hq"]
    return f"http://{host}:{port}"


@pytest.fixture
def run(address: str) -> Run:
    """Runs `workq hq` with the server of the tests."""

    def run(*args: str, stdin: bytes | str = b"", status: int = 0, where: str = address) -> Result:
        result = CliRunner().invoke(command, ["hq", *args, "--address", where], input=stdin, prog_name="workq")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


def push(run: Run, **fields: object) -> str:
    return run("push", "-", stdin=json.dumps({"url": NOWHERE, **fields})).stdout.strip()


@pytest.mark.parametrize("option", ["--version", "-v"])
def test_the_version(option: str) -> None:
    result = CliRunner().invoke(command, ["hq", option], prog_name="workq")
    assert (result.exit_code, result.output) == (0, f"workq hq, version {VERSION}\n")


class TestPush:
    def test_a_file_each(self, run: Run, hq: Hq, tmp_path: Path) -> None:
        files = []
        for name in ("one", "two"):
            files.append(tmp_path / f"{name}.json")
            files[-1].write_text(json.dumps({"url": NOWHERE, "name": name}))
        ids = run("push", *[str(file) for file in files]).stdout.split()
        assert [hq.job(job_id)["name"] for job_id in ids] == ["one", "two"]

    def test_standard_input(self, run: Run, hq: Hq) -> None:
        assert hq.job(push(run, name="piped"))["name"] == "piped"

    def test_without_a_file(self, run: Run) -> None:
        assert run("push", status=1).stderr == "error: require one JSON file at least\n"

    def test_what_the_server_refuses(self, run: Run) -> None:
        assert run("push", "-", stdin="{}", status=1).stderr == "error: 'url' is required\n"
        assert "not as it should be" in run("push", "-", stdin="{", status=1).stderr

    def test_a_file_that_is_not_there(self, run: Run) -> None:
        told = run("push", "/no/such/file", status=1).stderr
        assert told == "error: Invalid value for 'FILE...': '/no/such/file': No such file or directory\n"


class TestList:
    def test_the_table(self, run: Run, hq: Hq) -> None:
        job = hq.finished(push(run, name="table"))
        header, row = run("list", job["id"]).stdout.splitlines()
        assert header.split() == ["ID", "NAME", "CREATED", "DURATION", "STATUS"]
        assert row.split()[:2] == [job["id"], "table"]
        assert row.split()[-1] == "failure"
        assert "ago" in row or "now" in row

    def test_more_columns(self, run: Run, hq: Hq) -> None:
        job = hq.finished(push(run, comment="a\x1b[31m\ncomment"))
        for option in ("--detail", "-d"):
            header, row = run("list", job["id"], option).stdout.splitlines()
            assert header.split() == (
                ["ID", "NAME", "COMMENT", "URL", "CREATED", "STARTED", "FINISHED", "DURATION", "STATUS"]
            )
            assert NOWHERE in row
            assert "a\N{MIDDLE DOT}[31m\N{MIDDLE DOT}comment" in row

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--name", "^f-.*[02]$"), [0, 2]),
            (("-n", "^f-.*1$"), [1]),
            (("--term", "comment-of-2"), [2]),
            (("-t", "comment-of-1"), [1]),
            (("--name", "^f-", "--reverse"), [2, 1, 0]),
            (("-n", "^f-", "-r", "-l", "2"), [2, 1]),
            (("--name", "^f-", "--limit", "1"), [0]),
            (("-n", "^f-", "--status", "failure"), [0, 1, 2]),
            (("-n", "^f-", "-s", "success"), []),
        ],
    )
    def test_filters(self, run: Run, hq: Hq, options: tuple[str, ...], expected: list[int]) -> None:
        before = run("list", "--name", "^f-", "-q").stdout.split()
        for job_id in before:
            hq.delete(f"/job/{job_id}")
        ids = [push(run, name=f"f-{number}", comment=f"comment-of-{number}") for number in range(3)]
        for job_id in ids:
            hq.finished(job_id)
        assert run("list", "--quiet", *options).stdout.split() == [ids[number] for number in expected]

    def test_begin(self, run: Run) -> None:
        ids = [push(run) for _ in range(2)]
        assert run("list", "-q", "--begin", ids[1]).stdout.split() == ids[1:]
        assert run("list", "-q", "-b", ids[0], "-r", "-l", "1").stdout.split() == ids[:1]

    def test_what_does_not_parse(self, run: Run) -> None:
        assert run("list", "--name", "(", status=1).stderr.startswith("error: name: Invalid regular expression")
        assert "'x' is not a valid integer" in run("list", "--limit", "x", status=1).stderr


class TestOneJob:
    def test_info(self, run: Run, hq: Hq) -> None:
        job = hq.finished(push(run, payload={"é": 1}))
        shown = run("info", job["id"]).stdout
        assert json.loads(shown) == job
        assert '\n  "id": "' in shown

    def test_restart(self, run: Run, hq: Hq) -> None:
        job = hq.finished(push(run))
        assert run("restart", job["id"]).stdout == f"{job['id']}\n"
        hq.finished(job["id"])
        for option in ("--copy", "-c"):
            copy = run("restart", job["id"], option).stdout.strip()
            assert copy != job["id"]
            assert hq.finished(copy)["status"] == "failure"

    def test_stop(self, run: Run, hq: Hq, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        ids = [push(run, url=worker.url()) for _ in range(2)]
        assert run("stop", *ids).stdout.split() == ids
        for job_id in ids:
            assert hq.finished(job_id)["canceled"]

    def test_delete(self, run: Run, hq: Hq) -> None:
        ids = [hq.finished(push(run))["id"] for _ in range(2)]
        assert run("delete", *ids).stdout.split() == ids
        assert run("info", ids[0], status=1).stderr == f"error: The job '{ids[0]}' is not found\n"

    def test_the_first_error_ends_it(self, run: Run, hq: Hq) -> None:
        job_id = hq.finished(push(run))["id"]
        result = run("delete", "5", job_id, status=1)
        assert result.stderr == "error: The job '5' is not found\n"
        assert hq.job(job_id)["id"] == job_id
        result = run("delete", job_id, "5", status=1)
        assert result.stdout == ""  # ids are printed when all are done
        assert "is not found" in run("info", job_id, status=1).stderr

    @pytest.mark.parametrize("name", ["restart", "stop", "delete"])
    def test_without_ids(self, run: Run, name: str) -> None:
        assert run(name, status=1).stderr == "error: require one id at least\n"

    @pytest.mark.parametrize("ids", [(), ("1", "2")])
    def test_info_takes_one(self, run: Run, ids: tuple[str, ...]) -> None:
        assert run("info", *ids, status=1).stderr == "error: require just one argument as a job ID\n"

    def test_an_id_cannot_become_another_path(self, run: Run) -> None:
        assert "must be a number" in run("info", "../stats?x", status=1).stderr


class TestServer:
    def test_stats(self, run: Run) -> None:
        shown = run("stats").stdout
        assert shown.startswith('{\n  "queues": 8192,\n')
        assert json.loads(shown)["queueMax"] == 8192

    def test_below_our_own_api(self, run: Run, server: ServerProcess) -> None:
        host, port = server.http_addresses[""]
        assert json.loads(run("stats", where=f"http://{host}:{port}/hq/").stdout)["queues"] == 8192

    @pytest.mark.parametrize(
        ("where", "reason"),
        [
            ("http://127.0.0.1:1", "cannot reach http://127.0.0.1:1: "),
            ("nonsense", "unknown url type"),
            ("ftp://127.0.0.1:1", ""),
        ],
    )
    def test_nobody_is_there(self, run: Run, where: str, reason: str) -> None:
        told = run("stats", where=where, status=1).stderr
        assert told.startswith("error: ")
        assert reason in told

    def test_somebody_else_is_there(self, run: Run, server: ServerProcess) -> None:
        host, port = server.http_addresses[""]
        assert run("stats", where=f"http://{host}:{port}", status=1).stderr.startswith("error: the server answered ")
        assert "does not answer as HQ does" in run("stats", where=f"http://{host}:{port}/metrics?x=", status=1).stderr

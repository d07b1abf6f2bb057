"""The `workq` command: what it prints, what it exits with."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import workq
from tests.client.fakes import FakeServer, hang_up, say
from workq.cli.main import workq as command
from workq.cli.top import Sampler

Run = Callable[..., Result]
MISSING = "61a444a0-6128-41c0-8078-cc757d3bd2d8"


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4()}"


@pytest.fixture
def run(url: str) -> Run:
    """Runs `workq` with the server of the tests."""

    def run(*args: str, stdin: bytes | str = b"", status: int = 0) -> Result:
        result = CliRunner().invoke(command, args, input=stdin, env={"WORKQ_SERVER": url}, prog_name="workq")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def client(url: str) -> Iterator[workq.Client]:
    with workq.Client(url) as client:
        yield client


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*names, name)
        if isinstance(found, click.Group):
            yield from commands(found, *names, name)


ALL_COMMANDS = list(commands(command))


def test_the_commands_are_those_of_the_manual() -> None:
    names = [name for name, *rest in ALL_COMMANDS if not rest]
    assert names == [
        *[
            "add",
            "run",
            "schedule",
            "recur",
            "lease",
            "complete",
            "fail",
            "touch",
            "progress",
            "release",
            "result",
            "delete",
            "retry",
        ],
        *[
            "queue",
            "pause",
            "resume",
            "clear",
            "inspect",
            "ping",
            "top",
            "import",
            "drain",
            "worker",
            "hq",
            "completion",
        ],
    ]


@pytest.mark.parametrize("names", ALL_COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(run: Run, names: tuple[str, ...]) -> None:
    text = run(*names, "--help").stdout
    example = text[text.index("Example") :]
    assert re.search(rf"workq {' '.join(names)}\b", example)
    assert max(map(len, text.splitlines())) <= 80


# Those of HQ speak HTTP, and have HQ's options.
@pytest.mark.parametrize(
    "names", [names for names in ALL_COMMANDS if names not in {("inspect",), ("completion",)} and names[0] != "hq"]
)
def test_every_command_has_the_shared_options(run: Run, names: tuple[str, ...]) -> None:
    text = run(*names, "--help").stdout
    assert "--json" in text
    assert "--server URL" in text


def test_a_job_lives_its_life_in_the_shell(run: Run, queue: str) -> None:
    job_id = run("add", queue, "photo.jpg", "--ttr", "30s", "--priority", "5").stdout.strip()
    leased = run("lease", queue).stdout
    assert re.search(rf"^id +{job_id}\s*$", leased, re.M)
    assert re.search(r"^payload +photo.jpg\s*$", leased, re.M)
    assert re.search(r"^ttr +30\s*$", leased, re.M)
    assert run("complete", job_id, "320x200").output == ""
    assert run("result", job_id).stdout == "320x200"
    assert run("delete", job_id).output == ""
    assert "no such job" in run("result", job_id, status=3).stderr


def test_a_lease_is_kept_and_given_back_in_the_shell(run: Run, client: workq.Client, queue: str) -> None:
    job_id = run("add", queue, "--retry-delay", "1h", "--retry-backoff", "2", "--max-fails", "2").stdout.strip()
    assert re.search(r"^attempt +1\s*$", run("lease", queue, "--fenced").stdout, re.M)
    assert run("touch", job_id, "--attempt", "1").output == ""
    assert "Lease expired" in run("touch", job_id, "--attempt", "2", status=1).stderr
    assert run("progress", job_id, "7 of 10", "--attempt", "1", "--touch").output == ""
    assert json.loads(run("inspect", "job", job_id, "--json").stdout)["progress"] == "7 of 10"
    assert re.search(r"^progress +7 of 10\s*$", run("inspect", "job", job_id).stdout, re.M)
    assert json.loads(run("release", job_id, "--attempt", "1", "--json").stdout) == {"id": job_id}
    assert "Not leased" in run("release", job_id, status=1).stderr
    (job,) = json.loads(run("lease", queue, "--count", "5", "--fenced", "--json").stdout)
    assert (job["id"], job["attempt"]) == (job_id, 2)
    run("fail", job_id, "--attempt", "2")
    assert [each.id for each in client.inspect_scheduled_jobs(queue)] == [job_id]
    assert "Lease expired" in run("complete", job_id, "--attempt", "2", status=1).stderr
    other = run("add", queue, "--delay", "1h", "--max-fails", "9").stdout.strip()
    assert {each.id for each in client.inspect_scheduled_jobs(queue)} == {job_id, other}
    run("fail", other, "no", "--final")
    assert client.result(other).error == "no"
    run("add", queue)
    assert re.search(rf"{queue}.*\b1\b", run("lease", queue, "--count", "2", "--fenced").stdout)


def test_a_queue_is_paused_and_limited_in_the_shell(run: Run, queue: str) -> None:
    assert run("queue", queue, "--max-len", "1", "--lease-rate", "100", "--returned", "back").output == ""
    run("pause", queue)
    run("add", queue)
    assert "Queue full" in run("add", queue, status=1).stderr
    run("lease", queue, "--timeout", "0", status=4)
    run("resume", queue)
    run("lease", queue)


def test_finished_jobs_are_cared_for_in_the_shell(run: Run, queue: str) -> None:
    job_id, done = run("add", queue).stdout.strip(), run("add", queue).stdout.strip()
    run("lease", queue)
    assert job_id in run("inspect", "leased-jobs", queue).stdout
    run("fail", job_id)
    run("complete", done)
    assert [job["id"] for job in json.loads(run("inspect", "failed-jobs", queue, "--json").stdout)] == [job_id]
    assert done in run("inspect", "completed-jobs", queue).stdout
    assert run("retry", job_id).output == ""
    assert run("clear", queue, "--state", "completed").output == "1\n"
    assert json.loads(run("clear", queue, "--json").stdout) == {"name": queue, "deleted": 1}


def test_jobs_recur_in_the_shell(run: Run, client: workq.Client, queue: str) -> None:
    cron = ("--cron", "0 9 * * MON-FRI", "--zone", "Europe/Berlin", "--skip")
    weekly = run("recur", queue, "daily", *cron).stdout.strip()
    poll = json.loads(run("recur", queue, "--every", "100ms", "--json").stdout)["id"]
    assert client.lease(queue, timeout=10).name == queue
    found = {each["id"]: each for each in json.loads(run("inspect", "recurring", "--json").stdout)}
    assert found[weekly]["rule"] == "cron:0_9_*_*_MON-FRI@Europe/Berlin"
    assert (found[weekly]["overlap"], found[weekly]["last"], found[poll]["overlap"]) == ("skip", None, "allow")
    assert found[poll]["occurrences"] >= 1
    assert re.search(rf"^{weekly} +{queue} +cron:0_9", run("inspect", "recurring").stdout, re.M)
    for job_id in (weekly, poll):
        run("delete", job_id)
    for wrong in ([], ["--every", "1s", "--cron", "* * * * *"]):
        assert "give either --every or --cron" in run("recur", queue, *wrong, status=2).stderr
    assert "--zone only goes with --cron" in run("recur", queue, "--every=5m", "--zone=Mars", status=2).stderr


def test_json_is_for_scripts(run: Run, queue: str) -> None:
    job_id = json.loads(run("add", queue, "ä", "--json", "--max-fails", "2").stdout)["id"]
    assert (
        json.loads(run("--json", "lease", queue).stdout).items()
        >= {
            "id": job_id,
            "name": queue,
            "payload": "ä",
            "ttr": 60.0,
        }.items()
    )
    assert json.loads(run("inspect", "job", job_id, "--json").stdout)["state"] == "leased"
    assert json.loads(run("fail", job_id, "flaky", "--json").stdout) == {"id": job_id}
    (job,) = json.loads(run("inspect", "jobs", queue, "--json").stdout)
    assert (job["state"], job["fails"], job["scheduled"]) == ("pending", 1, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", job["created"])
    run("fail", job_id, "broken")
    assert json.loads(run("result", job_id, "--json", status=5).stdout) == {
        "id": job_id,
        "success": False,
        "result": "broken",
    }


@pytest.mark.parametrize("args", [["queue", "--max-len=5"], ["pause"], ["resume"]])
def test_json_names_the_queue_where_there_is_nothing_else_to_say(run: Run, queue: str, args: list[str]) -> None:
    assert run(*args, queue).stdout == ""
    assert json.loads(run(*args, queue, "--json").stdout) == {"name": queue}


def test_bytes_that_are_no_text_are_base64_in_json(run: Run, client: workq.Client, queue: str) -> None:
    client.add(queue, b"\xff\x00")
    job = json.loads(run("lease", queue, "--json").stdout)
    assert job["payload_base64"] == "/wA="
    assert "payload" not in job


def test_a_payload_comes_from_an_argument_a_file_or_standard_input(
    run: Run, client: workq.Client, queue: str, tmp_path: Path
) -> None:
    (tmp_path / "photo").write_bytes(b"\x00\xff")
    ids = [
        run("add", queue, "text").stdout.strip(),
        run("add", queue, f"@{tmp_path / 'photo'}").stdout.strip(),
        run("add", queue, "-", stdin=b"\r\n\xfe").stdout.strip(),
        run("add", queue).stdout.strip(),
    ]
    assert [client.inspect_job(job_id).payload for job_id in ids] == [b"text", b"\x00\xff", b"\r\n\xfe", b""]
    assert "cannot read '/no/such': No such file or directory" in run("add", queue, "@/no/such", status=2).stderr


def test_schedule_takes_a_time_or_a_delay(run: Run, client: workq.Client, queue: str) -> None:
    job_id = run("schedule", queue, "x", "--at", "2090-01-01T00:00:00+01:00").stdout.strip()
    scheduled = client.inspect_job(job_id).scheduled
    assert scheduled is not None
    assert scheduled.isoformat() == "2089-12-31T23:00:00+00:00"
    run("schedule", queue, "--in", "2h")
    assert len(client.inspect_scheduled_jobs(queue)) == 2
    for wrong in ([], ["--in", "1s", "--at", "2090-01-01"]):
        assert "give either --at or --in" in run("schedule", queue, *wrong, status=2).stderr
    assert "'soon' is not a time such as" in run("schedule", queue, "--at", "soon", status=2).stderr
    assert "--in: that would be after the year 9999" in run("schedule", queue, "--in", "3000000d", status=2).stderr


@pytest.mark.parametrize(("text", "seconds"), [("2", 2), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600)])
def test_durations_have_units(run: Run, client: workq.Client, queue: str, text: str, seconds: float) -> None:
    assert client.inspect_job(run("add", queue, "--ttr", text).stdout.strip()).ttr == seconds


@pytest.mark.parametrize("text", ["", "-1", "5x", "1 h", "1e3", "99999999999999999d"])
def test_what_is_no_duration_is_wrong_usage(run: Run, queue: str, text: str) -> None:
    assert "Invalid value for '--ttr'" in run("add", queue, f"--ttr={text}", status=2).stderr


def test_run_prints_the_result_and_tells_failure(url: str, queue: str) -> None:
    environment = {**os.environ, "WORKQ_SERVER": url}
    for answer, status, out, err in (
        ("complete", 0, b"\x00done", b""),
        ("fail", 5, b"", b"not an image"),
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "workq.cli", "run", queue, "photo.jpg", "--timeout", "20"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process, workq.Client(url) as worker:
            getattr(worker, answer)(worker.lease(queue, timeout=20).id, out or err)
            said, complained = process.communicate(timeout=20)
        assert (process.returncode, said) == (status, out)
        assert err in complained


def test_exit_statuses_tell_what_happened(run: Run, queue: str) -> None:
    run("add", queue)
    assert (
        f"lease from {queue}.none: no job within 0 s" in run("lease", f"{queue}.none", "--timeout=0", status=4).stderr
    )
    assert "no result in the time given" in run("run", queue, "--timeout", "0", status=4).stderr
    for args in (["delete", MISSING], ["inspect", "job", MISSING], ["inspect", "queue", f"{queue}.never"]):
        assert "no such" in run(*args, status=3).stderr
    run("no-such-command", status=2)
    run("add", status=2)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["add", "two words"], "Invalid Name: 'two words', 1 to 255 of"),
        (["add", "\udcff"], "Invalid Name: '"),
        (["add", "q", "--ttr", "0"], "Invalid TTR: '0' is not a whole number from 1"),
        (["add", "q", "--id", "123"], "Invalid ID: '123' is not a UUID"),
        (["add", "q", "--retry-backoff", "2"], "Invalid retry backoff: 2 is nothing without a retry delay"),
        (["complete", "x"], "Invalid ID: 'x' is not a UUID"),
        (["queue", "q", "--lease-rate", "0.000277"], "Invalid Lease Rate: '0.000277' is too small"),
        (["drain", "two words"], "Invalid Name: 'two words'"),
        (["--server", "localhost", "ping"], "Invalid server address: 'localhost'; allowed are workq://"),
        (["worker", "--server", "localhost", "tests.client.tasks:app"], "Invalid server address: 'localhost'"),
    ],
)
def test_a_value_that_no_server_is_asked_about_is_wrong_usage(run: Run, args: list[str], words: str) -> None:
    assert f"\nError: {words}" in run(*args, status=2).stderr


def test_a_wrong_server_in_the_environment_is_wrong_usage() -> None:
    result = CliRunner().invoke(command, ["ping"], env={"WORKQ_SERVER": "bogus"}, prog_name="workq")
    assert result.exit_code == 2
    assert "Error: Invalid server address: 'bogus'" in result.stderr


def test_a_server_that_is_not_there_is_one_line(run: Run) -> None:
    result = run("--server", "workq://127.0.0.1:1", "add", "q", status=1)
    assert re.fullmatch(
        r"workq: workq://127\.0\.0\.1:1: add job [-0-9a-f]+: cannot connect: Connection refused; nothing was sent\n",
        result.stderr,
    )


def test_ping_without_a_server_says_ping(run: Run) -> None:
    error = run("ping", "--server", "workq://127.0.0.1:1", status=1).stderr
    assert error == "workq: workq://127.0.0.1:1: ping: cannot connect: Connection refused; nothing was sent\n"


def test_an_http_server_is_told_apart(run: Run) -> None:
    with FakeServer(say(b"HTTP/1.0 400 Bad request\r\n\r\n")) as server:
        assert "is not a reply of a Workq server" in run("ping", "--server", server.url, status=1).stderr


def test_ping_says_how_long_it_took(run: Run, url: str) -> None:
    assert re.fullmatch(rf"{url} answered in [\d.]+ ms\n", run("ping").stdout)
    assert json.loads(run("ping", "--json").stdout)["server"] == url


def test_inspect_shows_tables(run: Run, queue: str) -> None:
    job_id = run("add", queue, "a\tb\x1b[31m" + "x" * 100).stdout.strip()
    assert re.search(rf"^{queue} +no +1( +0){{5}}$", run("inspect", "queues").stdout, re.M)
    assert re.search(r"^ready +1\s*$", run("inspect", "queue", queue).stdout, re.M)
    assert re.search(r"^active clients +\d+\s*$", run("inspect", "server").stdout, re.M)
    listing = run("inspect", "jobs", queue).stdout
    assert job_id in listing
    assert "a\N{MIDDLE DOT}b\N{MIDDLE DOT}[31mxxx" in listing  # nothing that a terminal obeys
    assert "... (108 bytes)" in listing
    assert run("inspect", "scheduled-jobs", queue).stdout.split() == ["id", "scheduled", "priority", "payload"]


def test_a_time_that_the_clocks_here_cannot_show_is_in_utc(
    run: Run, client: workq.Client, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.schedule(queue, at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert "9999-12-31 23:59 UTC" in run("inspect", "scheduled-jobs", queue).stdout
    finally:
        monkeypatch.undo()
        time.tzset()


def test_top_shows_queues_and_rates(run: Run, queue: str) -> None:
    run("add", queue)
    run("pause", queue)
    table = run("top", "--count", "1", "--interval", "0.1").stdout
    assert re.search(rf"^{queue} +yes +1 +[\d.]+( +0){{6}}\s*$", table, re.M)
    looks = [json.loads(line) for line in run("top", "--count", "2", "--interval", "0.1", "--json").stdout.splitlines()]
    assert len(looks) == 2
    (row,) = [row for row in looks[1] if row["name"] == queue]
    assert row.pop("oldest_s") > 0
    numbers = {"ready": 1, "scheduled": 0, "leased": 0, "failed": 0, "leasers": 0}
    rates = {"added_per_s": 0.0, "leased_per_s": 0.0, "finished_per_s": 0.0}
    assert row == {"name": queue, "paused": True, **numbers, **rates}


def test_top_shows_what_happened_since_the_look_before(client: workq.Client, queue: str) -> None:
    sampler = Sampler(client)
    client.add(queue)
    sampler.look()
    for _ in range(2):
        client.add(queue)
        client.fail(client.lease(queue, timeout=0).id)
    (row,) = [row for row in sampler.look() if row.name == queue]
    assert (row.ready, row.failed) == (1, 2)
    assert row.added_per_s == row.leased_per_s == row.finished_per_s > 0


def test_import_adds_a_job_per_line(run: Run, client: workq.Client, queue: str, tmp_path: Path) -> None:
    job_id = str(uuid.uuid4())
    lines: list[dict[str, Any]] = [
        {"name": queue, "payload": "text", "id": job_id, "ttr": 1.5, "ttl": 60, "priority": 9, "max_fails": 2},
        {"payload": {"width": 320}},
        {"payload_base64": "/wA="},
        {},
        {"payload": "later", "at": "2090-01-01T00:00:00Z"},
    ]
    file = tmp_path / "jobs.ndjson"
    file.write_text("\n\n".join([json.dumps(line) for line in lines]))
    assert run("import", str(file), "--name", queue).stderr == "5 jobs imported\n"
    jobs = client.inspect_jobs(queue)
    assert [job.payload for job in jobs] == [b"text", b'{"width": 320}', b"\xff\x00", b""]
    first = jobs[0]
    assert (first.id, first.ttr, first.ttl, first.priority, first.max_fails) == (job_id, 1.5, 60.0, 9, 2)
    assert len(client.inspect_scheduled_jobs(queue)) == 1


def test_import_reports_lines_that_are_refused_and_goes_on(run: Run, queue: str) -> None:
    lines = [
        "nonsense",
        "[1]",
        '{"payload": "no queue"}',
        f'{{"name": "{queue}", "colour": 1}}',
        f'{{"name": "{queue}", "ttr": 0}}',
        f'{{"name": "{queue}", "ttr": "soon"}}',
        f'{{"name": "{queue}", "payload": "a", "payload_base64": "YQ=="}}',
        f'{{"name": "{queue}", "payload_base64": "?"}}',
        f'{{"name": "{queue}", "payload_base64": 5}}',
        f'{{"name": "{queue}", "at": "tomorrow"}}',
        f'{{"name": "{queue}", "at": "2090-01-01"}}',
        f'{{"name": "{queue}", "at": 5}}',
        f'{{"name": "{queue}", "at": "0001-01-01T00:00:00+12:00"}}',
        '{"name": 5}',
        f'{{"name": "{queue}", "ttr": 1{"0" * 400}}}',
        "[" * 100_000,
        f'{{"name": "{queue}"}}',
    ]
    result = run("import", "--json", stdin="\n".join(lines), status=1)
    assert json.loads(result.stdout) == {"imported": 1, "refused": 16}
    for number, words in enumerate(
        [
            "not JSON: ",
            "a JSON object is needed, not list",
            "the key 'name' is missing",
            "unknown key 'colour'; known are name, payload",
            "Invalid TTR: '0'",
            "Invalid TTR: 'soon' is neither a number of seconds nor a timedelta",
            "payload and payload_base64 exclude each other",
            'Invalid payload_base64: "?" is not base64 such as aGVsbG8=',
            "Invalid payload_base64: 5 is not base64",
            'Invalid at: "tomorrow" is not a time with a zone such as 2030-01-01T12:00:00Z',
            'Invalid at: "2090-01-01" is not a time with a zone',
            "Invalid at: 5 is not a time",
            'Invalid at: "0001-01-01T00:00:00+12:00" is not a time with a zone such as 2030-01-01T12:00:00Z, in',
            "Invalid name: 5 is not text",
            "Invalid TTR: 'inf s' is not a whole number",
            "nested too deeply",
        ],
        start=1,
    ):
        assert re.search(rf"^workq: line {number}: .*{re.escape(words)}", result.stderr, re.M)


def test_import_tells_at_once_that_there_is_no_server(run: Run) -> None:
    error = run("import", "--server", "workq://127.0.0.1:1", "--name", "q", stdin="{}", status=1).stderr
    assert "cannot connect: Connection refused; nothing was sent" in error


def test_import_ends_when_the_server_fails(run: Run) -> None:
    figures = b"+OK 1\r\nserver 3\r\nactive-clients 1\r\nevicted-jobs 0\r\nstarted 2030-01-01T00:00:00Z\r\n"
    with FakeServer(say(figures), say(b"-SERVER-ERROR the disk is full\r\n")) as server:
        error = run("import", "--server", server.url, "--name", "q", stdin="{}", status=1).stderr
    begin = "workq: 0 jobs were imported before this:\n"
    assert re.fullmatch(rf"{begin}workq: {server.url}: add job [-0-9a-f]+: the disk is full\n", error)


def test_drain_prints_and_completes(run: Run, client: workq.Client, queue: str) -> None:
    ids = [client.add(queue, f"job {number}") for number in range(3)]
    assert run("drain", queue, "--limit", "2").stdout == "job 0\njob 1\n"
    assert [client.inspect_job(job_id).state for job_id in ids[1:]] == [
        workq.JobState.COMPLETED,
        workq.JobState.NEW,
    ]
    (line,) = run("drain", queue, "--json").stdout.splitlines()
    assert json.loads(line)["payload"] == "job 2"
    assert run("drain", queue).stdout == ""


def test_drain_gives_each_job_to_a_shell_command(run: Run, client: workq.Client, queue: str) -> None:
    good, bad = client.add(queue, b"good"), client.add(queue, b"bad")
    result = run(
        "drain", queue, "--exec", 'grep good && echo "$WORKQ_JOB_ID $WORKQ_JOB_NAME" || ! echo oops >&2', status=5
    )
    assert client.result(good).result == f"good\n{good} {queue}\n".encode()
    assert client.result(bad).error == "oops"
    assert result.stdout == f"{good} done\n{bad} failed with status 1\n"
    assert result.stderr == "oops\nworkq: 1 jobs failed\n"


def test_drain_reports_an_output_that_is_too_long(run: Run, client: workq.Client, queue: str) -> None:
    for job_id in [client.add(queue) for _ in range(2)]:
        result = run("drain", queue, "--exec", "head -c 1048577 /dev/zero", "--limit", "1", status=5)
        assert f"workq: job {job_id}: Invalid result size: '1048577' is not" in result.stderr


def test_drain_reports_what_is_done_when_the_server_is_back(run: Run) -> None:
    answered: list[bytes] = []

    def one_job(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"+OK 1\r\n%b q 60000 0\r\n\r\n" % MISSING.encode())

    def hear(connection: socket.socket) -> None:
        answered.append(connection.recv(65_536))
        connection.sendall(b"+OK\r\n")

    here = say(b"+OK 1\r\nserver 3\r\nactive-clients 1\r\nevicted-jobs 0\r\nstarted 2030-01-01T00:00:00Z\r\n")
    with FakeServer(here, one_job, hang_up, hear) as server:
        result = run("drain", "q", "--exec", "echo done", "--limit", "1", "--server", server.url)
    assert result.stdout == f"{MISSING} done\n"
    assert answered == [b"complete %b 5\r\ndone\n\r\n" % MISSING.encode()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_drain_and_its_command(
    url: str, client: workq.Client, queue: str, number: int, tmp_path: Path
) -> None:
    job_id = client.add(queue)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "workq.cli", "drain", queue, "--server", url, "--exec"]
    # It has read its standard input to the end: `drain` has started it, and waits for it.
    with subprocess.Popen([*command, f"cat; exec 3>'{pipe}'; echo runs >&3; exec sleep 60"]) as drain:
        try:
            with open(pipe) as said:
                assert said.readline() == "runs\n"
                drain.send_signal(number)
                assert drain.wait(20) != 0
                assert said.read() == ""  # nobody has the other end any more
        finally:
            drain.kill()
    assert client.inspect_job(job_id).state is workq.JobState.LEASED


def test_drain_kills_a_command_that_takes_too_long(run: Run, client: workq.Client, queue: str) -> None:
    job_id = client.add(queue, ttr=0.2, max_attempts=1)
    result = run("drain", queue, "--exec", "sleep 60 | cat", "--limit", "1", status=5)
    assert f"workq: job {job_id}: killed after its TTR of 0.2 s; it goes back to its queue" in result.stderr
    assert client.result(job_id, timeout=20).result == b""


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("tasks", "'tasks' is not of the form MODULE:WORKER, such as tasks:app"),
        ("no_such_module:app", "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"),
        ("tests.client.tasks:upper", "tests.client.tasks has no workq.Worker called upper"),
        ("tests.client.tasks:nothing", "tests.client.tasks has no workq.Worker called nothing"),
    ],
)
def test_a_worker_that_cannot_be_found_is_wrong_usage(run: Run, target: str, words: str) -> None:
    assert words in run("worker", target, status=2).stderr


def test_a_module_with_a_mistake_is_named_with_its_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_tasks.py").write_text("import workq\n\napp = workq.Wroker()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    error = run("worker", "broken_tasks:app", status=2).stderr
    assert "cannot import broken_tasks: AttributeError: module 'workq' has no attribute 'Wroker'" in error
    assert "broken_tasks.py, line 3" in error


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_helped_to_complete(run: Run, shell: str) -> None:
    assert "_WORKQ_COMPLETE" in run("completion", shell).stdout


def test_completion_offers_commands_and_options(url: str) -> None:
    def offered(words: str) -> list[str]:
        environment = {"COMP_WORDS": f"workq {words}", "COMP_CWORD": str(words.count(" ") + 1)}
        result = CliRunner().invoke(command, env={"_WORKQ_COMPLETE": "bash_complete", **environment}, prog_name="workq")
        return [line.partition(",")[2] for line in result.stdout.splitlines()]

    assert offered("sch") == ["schedule"]
    assert "scheduled-jobs" in offered("inspect ")
    assert offered("add --max-f") == ["--max-fails"]

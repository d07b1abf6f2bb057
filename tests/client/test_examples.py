"""The examples do what their first lines say, as printed there."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import workq
from tests.client.fakes import FakeServer, pass_on, say, silence, swallow_reply
from tests.server import ServerProcess

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE_S = 60

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="the example is a program for Node.js")


@pytest.fixture
def environment(server: ServerProcess, url: str, tmp_path: Path) -> dict[str, str]:
    """Where the examples find the server and, in the PATH, the commands that their first lines use."""
    assert isinstance(server.address, tuple)
    for name, command in {"python": "", "workq": "-m workq.cli"}.items():
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {command} "$@"\n')
        script.chmod(0o755)
    host, port = server.address
    return {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(EXAMPLES.parent),
        "PYTHONUNBUFFERED": "1",
        "WORKQ_SERVER": url,
        "WORKQ_HOST": host,
        "WORKQ_PORT": str(port),
    }


def printed_command(name: str, line: int = 0) -> str:
    """The command that the first lines of an example give: they are the first that are indented.

    Python and workq are taken from the PATH, for the checkout may not have been set up.
    """
    command: str = re.findall(r"^(?:#|//)? {3,4}(\S.*)$", (EXAMPLES / name).read_text(), re.M)[line]
    return re.sub(r"^(\.venv/)?bin/", "", command)


def run(command: str, environment: dict[str, str], **options: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["bash", "-c", command],
        env=environment,
        cwd=EXAMPLES.parent,
        capture_output=True,
        timeout=PATIENCE_S,
        **options,
    )  # type: ignore[call-overload,no-any-return]


def test_rpc(environment: dict[str, str]) -> None:
    done = run(printed_command("rpc.py"), environment)
    assert done.stdout.decode().splitlines() == [
        "2 + 3 + 4 = 9",
        "10 / 4 = 2.5",
        "1 / 0: ZeroDivisionError: division by zero",
    ], done.stderr


def test_gather(environment: dict[str, str]) -> None:
    done = run(printed_command("gather.py"), environment)
    assert done.stdout.decode().splitlines()[-1] == "the sum of the first 1000 squares is 332833500", done.stderr
    assert "100%" in done.stdout.decode()


def test_reminder(environment: dict[str, str]) -> None:
    done = run(printed_command("reminder.py"), environment)
    scheduled, shown = done.stdout.decode().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  scheduled [-0-9a-f]{36} in 2 s", scheduled), done.stderr
    assert re.fullmatch(r"\d\d:\d\d:\d\d  remember: water the plants", shown)


@pytest.mark.parametrize("name", ["rpc.py", "gather.py", "reminder.py"])
def test_an_example_tells_in_a_line_that_there_is_no_server(environment: dict[str, str], name: str) -> None:
    with FakeServer(say(b"HTTP/1.0 400 Bad request\r\n\r\n")) as server:
        done = run(printed_command(name), {**environment, "WORKQ_SERVER": server.url})
    last = done.stderr.decode().splitlines()[-1]
    assert re.fullmatch(rf"{name}: {server.url}: .* is not a reply of a Workq server.*", last)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)


@pytest.mark.parametrize("seconds", ["soon", "nan", "1e30", "3e11"])
def test_a_reminder_needs_a_number_of_seconds(environment: dict[str, str], seconds: str) -> None:
    done = run(f"python examples/reminder.py x {seconds}", environment)
    last = done.stderr.decode().splitlines()[-1]
    assert last == f"reminder.py: '{seconds}' is not a number of seconds such as 2"
    assert done.returncode == 1


@pytest.fixture
def thumbnail_worker(environment: dict[str, str]) -> Iterator[None]:
    command = shlex.split(printed_command("thumbnails.py"))
    assert command[0] == "python"
    command[0] = sys.executable
    with subprocess.Popen(command, env=environment, cwd=EXAMPLES.parent, stderr=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said


@pytest.mark.usefixtures("thumbnail_worker")
def test_thumbnails(environment: dict[str, str], tmp_path: Path) -> None:
    command = printed_command("thumbnails.py", 1).replace("photo.ppm", str(tmp_path / "photo.ppm"))
    command = command.replace("small.ppm", str(tmp_path / "small.ppm"))
    rows = [bytes([10, y, x]) for y in range(128) for x in range(256)]  # the first byte looks like a line end
    (tmp_path / "photo.ppm").write_bytes(b"P6\n256 128\n255\n" + b"".join(rows))
    done = run(command, environment)
    assert done.returncode == 0, done.stderr
    expected = b"".join([bytes([10, y, x]) for y in range(0, 128, 4) for x in range(0, 256, 4)])
    assert (tmp_path / "small.ppm").read_bytes() == b"P6 64 32 255\n" + expected

    (tmp_path / "photo.ppm").write_bytes(b"GIF89a")
    done = run(command, environment)
    assert done.returncode == 5
    assert b"this is not a PPM image with 8 bits a colour" in done.stderr


@needs_node
def test_the_node_client(server: ServerProcess, environment: dict[str, str]) -> None:
    assert printed_command("client.mjs") == "node examples/client.mjs [PORT [HOST]]"
    assert isinstance(server.address, tuple)
    done = run(f"node examples/client.mjs {server.address[1]} {server.address[0]}", environment)
    lines = done.stdout.decode().splitlines()
    assert lines[:4] == [
        "leased photo.jpg from node-example for 60000 ms",
        "completed: 320x200",
        "failed: 4 bytes are no image",
        "nothing to do: null",
    ], done.stderr
    assert lines[4].startswith("CLIENT-ERROR: Duplicate job")
    assert lines[5:] == ["NOT-FOUND"]


@needs_node
def test_the_node_client_tells_what_is_wrong(environment: dict[str, str]) -> None:
    done = run("node examples/client.mjs 1", environment)
    assert done.returncode == 1
    assert b"client.mjs: 127.0.0.1:1: " in done.stderr
    assert b"ECONNREFUSED" in done.stderr


@needs_node
def test_the_node_client_as_a_module(server: ServerProcess, environment: dict[str, str]) -> None:
    """Many calls at a time, and replies that come in many pieces."""
    assert isinstance(server.address, tuple)
    program = f"""
        import {{ Client }} from './examples/client.mjs';
        const client = new Client({{ port: {server.address[1]}, host: '{server.address[0]}' }});
        const payload = Buffer.alloc(1048576, 'a\\r\\n+OK\\r\\n');
        const ids = await Promise.all(Array.from({{ length: 50 }}, () => client.add('node-module', payload)));
        const jobs = await Promise.all(ids.map(() => client.lease(['node-module', 'none'], 5000)));
        await Promise.all(jobs.map((job) => client.complete(job.id, job.payload)));
        const results = await Promise.all(ids.map((id) => client.result(id, 5000)));
        console.log(JSON.stringify({{
            unique: new Set(jobs.map((job) => job.id)).size,
            intact: results.every(({{ success, result }}) => success && result.equals(payload)),
        }}));
        client.close();
    """
    done = run("node --input-type=module -", environment, input=program.encode())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"unique": 50, "intact": True}


@needs_node
def test_the_node_client_makes_no_request_of_a_name(server: ServerProcess, environment: dict[str, str]) -> None:
    assert isinstance(server.address, tuple)
    program = f"""
        import {{ Client }} from './examples/client.mjs';
        const client = new Client({{ port: {server.address[1]}, host: '{server.address[0]}' }});
        const asked = [client.add('two words', 'x'), client.delete('x\\r\\nquit'), client.add('node-name', 'y')];
        const done = await Promise.allSettled(asked);
        console.log(JSON.stringify(done.map(({{ status, reason }}) => reason?.message ?? status)));
        client.close();
    """
    done = run("node --input-type=module -", environment, input=program.encode())
    assert json.loads(done.stdout) == [
        'not a name or an id: "two words"',
        r'not a name or an id: "x\r\nquit"',
        "fulfilled",
    ]


@needs_node
def test_the_node_client_takes_nothing_unasked_for_an_answer(environment: dict[str, str]) -> None:
    def say_too_much(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"+OK\r\n+OK\r\n")
        silence(connection)

    with FakeServer(say_too_much, say(b"-SERVER-ERROR full\r\n")) as server:
        program = f"""
            import {{ Client }} from './examples/client.mjs';
            const client = new Client({{ port: {server.url.rpartition(":")[2]} }});
            await client.add('q', 'x');
            await client.add('q', 'y').catch((error) => console.log(error.message));
            client.close();
        """
        done = run("node --input-type=module -", environment, input=program.encode())
    assert done.stdout == b"SERVER-ERROR: full\n"


@needs_node
def test_the_node_client_repeats_an_add_whose_answer_was_lost(
    server: ServerProcess, environment: dict[str, str]
) -> None:
    assert isinstance(server.address, tuple)
    with FakeServer(swallow_reply(server.address), pass_on(server.address)) as proxy:
        program = f"""
            import {{ Client }} from './examples/client.mjs';
            const client = new Client({{ port: {proxy.url.rpartition(":")[2]} }});
            await client.delete(await client.add('node-repeat', 'once'));
            client.close();
        """
        done = run("node --input-type=module -", environment, input=program.encode())
        assert done.returncode == 0, done.stderr
        assert proxy.connections == 2


def bash_client(environment: dict[str, str], *words: str, status: int = 0, error: bytes = b"") -> bytes:
    done = run(f"examples/client.sh {shlex.join(words)}", environment)
    assert (done.returncode, done.stderr) == (status, error)
    return bytes(done.stdout)


def test_the_bash_client(url: str, environment: dict[str, str]) -> None:
    queue = f"q-{uuid.uuid4()}"
    job_id = bash_client(environment, "add", queue, "a photo: \u00e4").decode().strip()
    assert f"{queue} 25\nready-len 1\nscheduled-len 0\nleased-len 0\n".encode() in bash_client(
        environment, "inspect", "queue", queue
    )
    assert bash_client(environment, "lease", queue, "5") == f"{job_id}\na photo: \u00e4".encode()
    bash_client(environment, "lease", queue, "0", status=4, error=b"client.sh: timeout\n")
    assert bash_client(environment, "complete", job_id, "320x200") == b""
    assert bash_client(environment, "result", job_id, "1") == b"320x200"
    bash_client(environment, "complete", job_id, status=1, error=b"client.sh: Duplicate result\n")
    bash_client(environment, "delete", job_id)
    bash_client(environment, "delete", job_id, status=3, error=b"client.sh: not found\n")

    with workq.Client(url) as client:
        job_id = client.add(queue, bytes(range(256)) + b"\r\n+OK\r\n")
        assert (
            bash_client(environment, "lease", queue, "1")
            == job_id.encode() + b"\n" + bytes(range(256)) + b"\r\n+OK\r\n"
        )
        shown = bash_client(environment, "inspect", "job", job_id)
        assert b"payload-size 263\npayload " + bytes(range(256)) + b"\r\n+OK\r\n\nmax-attempts 0\n" in shown
        bash_client(environment, "fail", job_id, "not an image")
        assert bash_client(environment, "result", job_id, "1", status=5) == b"not an image"


def test_the_bash_client_tells_what_is_wrong(environment: dict[str, str]) -> None:
    bash_client(
        environment, "result", "x", "soon", status=2, error=b"client.sh: 'soon' is not a whole number of seconds\n"
    )
    bash_client(
        environment, "add", "two words", "x", status=2, error=b"client.sh: 'two words' is not a name or an id\n"
    )
    bash_client(environment, "delete", "x\r\nquit", status=2, error=b"client.sh: 'x\r\nquit' is not a name or an id\n")
    done = run("examples/client.sh", environment)
    assert done.returncode == 2
    assert done.stderr.startswith(b"  client.sh add NAME PAYLOAD")
    nowhere = {**environment, "WORKQ_PORT": "1"}
    bash_client(nowhere, "delete", "x", status=1, error=b"client.sh: cannot connect to 127.0.0.1:1\n")

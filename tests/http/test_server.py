"""The HTTP listeners: where they are, what they answer before an API has a say, how they stop."""

import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.client import HttpClient, until
from tests.server import PATIENCE_S, Dialogue, ServerProcess, run_server

DOORS = ("hq", "fireworq", "messages")
HTTP = ("--http", "127.0.0.1:0")
# Runs a server, the command that follows, which waits for bodies for a moment only.
HASTY = (
    "import sys, runpy, workq.http.application as application;"
    "application.BODY_SECONDS = 0.05; sys.argv = sys.argv[3:];"
    "runpy.run_module('workq.server.main', run_name='__main__', alter_sys=True)"
)


def error_of_start(*flags: str) -> str:
    """Start a server that ends by itself with status 1; return the line it says last."""
    ended = run_server("--port", "0", *flags)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


class TestListening:
    def test_each_door_is_below_our_api_and_at_the_root_of_its_own_listener(self) -> None:
        flags = [part for door in DOORS for part in (f"--{door}-listen", "127.0.0.1:0")]
        with ServerProcess(*HTTP, *flags) as server:
            assert set(server.http_addresses) == {"", *DOORS}
            for door in DOORS:
                with HttpClient(server, door) as own, HttpClient(server, prefix=f"/{door}") as mounted:
                    answers = [client.get("/there/is/nothing") for client in (own, mounted)]
                    assert {answer.status for answer in answers} == {404}
                    assert len({answer.type for answer in answers}) == 1

    def test_a_door_may_listen_without_our_api(self) -> None:
        with ServerProcess("--hq-listen", "127.0.0.1:0") as server:
            assert set(server.http_addresses) == {"hq"}

    def test_off_means_off(self) -> None:
        with ServerProcess("--http", "off") as server:
            assert server.http_addresses == {}

    def test_a_port_in_use_is_told_with_the_flag_that_moves_it(self) -> None:
        with ServerProcess(*HTTP, "--hq-listen", "127.0.0.1:0") as server:
            for door, flag in [("", "--http"), ("hq", "--hq-listen")]:
                host, port = server.http_addresses[door]
                off = () if door == "" else ("--http", "off")
                assert error_of_start(flag, f"{host}:{port}", *off) == (
                    f"workq-server: cannot listen on http://{host}:{port}: Address already in use; "
                    f"{flag} HOST:PORT takes another address, {flag} off none"
                )


def test_the_root_says_what_is_where(http: HttpClient) -> None:
    answer = http.get("/")
    assert answer.type == "text/plain; charset=utf-8"
    paths = [word.rstrip(",") for word in answer.text.split() if word.startswith("/")]
    assert {"/v1/openapi.json", "/metrics", "/readyz", "/hq"} <= set(paths)


class TestRequestIds:
    def test_one_is_made(self, http: HttpClient) -> None:
        first, second = http.get("/healthz"), http.get("/nothing")
        assert first.headers["X-Request-Id"]
        assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
        assert second.json["request_id"] == second.headers["X-Request-Id"]

    def test_one_that_is_given_is_kept(self, http: HttpClient) -> None:
        assert http.get("/healthz", X_Request_Id="from the proxy: 1").headers["X-Request-Id"] == "from the proxy: 1"

    @pytest.mark.parametrize("hostile", ["", "x" * 129, "é", "a\tb"])
    def test_one_that_could_do_harm_is_replaced(self, http: HttpClient, hostile: str) -> None:
        assert http.get("/healthz", X_Request_Id=hostile).headers["X-Request-Id"] not in ("", hostile)


class TestAccessLog:
    def test_as_json(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        with ServerProcess(*HTTP, "--access-log", "json", "--access-log-file", str(file)) as server:
            with HttpClient(server) as client:
                assert client.get("/healthz", X_Request_Id="one").status == 200
                assert client.get('/no"thing?a=%0A', X_Request_Id="two").status == 404
            server.signal(signal.SIGTERM)
            server.wait()
        one, two = [json.loads(line) for line in file.read_text().splitlines()]
        assert (one["request_id"], one["method"], one["path"], one["status"]) == ("one", "GET", "/healthz", 200)
        assert (two["request_id"], two["path"], two["status"]) == ("two", '/no"thing?a=%0A', 404)
        assert (one["remote"], one["time"][-1]) == ("127.0.0.1", "Z")
        assert one["duration_ms"] >= 0
        assert one["bytes"] > 0

    def test_as_text(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        with ServerProcess(*HTTP, "--access-log", "text", "--access-log-file", str(file)) as server:
            with HttpClient(server) as client:
                assert client.get("/healthz", X_Request_Id="one").status == 200
            server.signal(signal.SIGTERM)
            server.wait()
        words = file.read_text().split(" ")
        assert words[1:6] == ["one", "127.0.0.1", "GET", "/healthz", "200"]

    def test_a_file_that_cannot_be_written(self, tmp_path: Path) -> None:
        error = error_of_start(*HTTP, "--access-log", "text", "--access-log-file", str(tmp_path))
        assert error == f"workq-server: cannot write {tmp_path}: Is a directory"

    def test_a_file_that_nothing_is_written_to_is_told(self, tmp_path: Path) -> None:
        file = tmp_path / "access.log"
        with ServerProcess(*HTTP, "--access-log-file", str(file)) as server:
            assert f"{file}: not written, for --access-log is off" in server.log()
        assert not file.exists()

    def test_one_that_cannot_be_written_any_more_is_told_once_and_so_is_its_end(self, tmp_path: Path) -> None:
        file = tmp_path / "logs" / "access.log"
        file.parent.mkdir()
        with ServerProcess(*HTTP, "--access-log", "text", "--access-log-file", str(file)) as server:
            with HttpClient(server) as client:
                file.unlink()
                file.parent.rmdir()
                for _ in range(3):
                    assert client.get("/healthz").status == 200
                until(lambda: "cannot write" in server.log())
                file.parent.mkdir()
                assert client.get("/healthz").status == 200
            server.signal(signal.SIGTERM)
            server.wait()
        told = [line for line in server.log().splitlines() if "access log" in line]
        assert [line.split(" ", 2)[2] for line in told] == [
            f"ERROR cannot write the access log {file}: No such file or directory",
            f"INFO the access log {file} can be written again",
        ]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
    def test_a_full_disk_is_told_in_one_line(self) -> None:
        with ServerProcess(*HTTP, "--access-log", "text", "--access-log-file", "/dev/full") as server:
            with HttpClient(server) as client:
                for _ in range(3):
                    assert client.get("/healthz").status == 200
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "Traceback" not in server.log()
        assert server.log().count("cannot write the access log /dev/full: No space left on device\n") == 1


class TestBadClients:
    @pytest.mark.parametrize(
        "junk",
        [
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\na b: c\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ],
    )
    def test_who_does_not_speak_http_is_answered_400_and_closed(self, server: ServerProcess, junk: bytes) -> None:
        with Dialogue(server.http_addresses[""]) as client:
            client.send(junk)
            assert b" 400 " in client.line()
            while client.line() != b"":
                pass
        assert "Traceback" not in server.log()

    def test_a_head_that_does_not_come_is_not_waited_for(self) -> None:
        with (
            ServerProcess(*HTTP, "--http-idle-timeout", "0.1") as server,
            Dialogue(server.http_addresses[""]) as slow,
            Dialogue(server.http_addresses[""]) as silent,
        ):
            slow.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            slow.expect_end()
            silent.expect_end()


@pytest.fixture(scope="module")
def hasty() -> Iterator[ServerProcess]:
    flags = [part for door in DOORS for part in (f"--{door}-listen", "127.0.0.1:0")]
    with ServerProcess(*HTTP, *flags, under=(sys.executable, "-c", HASTY)) as server:
        yield server


class TestSlowBodies:
    @pytest.mark.parametrize(
        ("door", "path", "content_type"),
        [
            ("", "/v1/jobs", "application/json"),
            ("hq", "/job", "application/json"),
            ("hq", "/job", "application/x-www-form-urlencoded"),
            ("fireworq", "/job/foo", "application/json"),
            ("messages", "/queues/q/enqueue", "application/json"),
        ],
    )
    def test_a_body_that_does_not_come_is_answered_408(
        self, hasty: ServerProcess, door: str, path: str, content_type: str
    ) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: 100\r\n\r\n"
        with Dialogue(hasty.http_addresses[door]) as client:
            client.send(head.encode() + b"{")
            assert client.line().startswith(b"HTTP/1.1 408 ")
            while client.line() != b"":
                pass
        with HttpClient(hasty, door) as other:
            assert other.get("/there/is/nothing").status == 404


class TestStopping:
    def test_idle_connections_are_closed(self) -> None:
        with ServerProcess(*HTTP) as server, HttpClient(server) as client, socket.socket() as silent:
            silent.settimeout(PATIENCE_S)
            silent.connect(client.address)
            assert client.get("/healthz").status == 200
            server.signal(signal.SIGTERM)
            assert silent.recv(1) == b""
            assert server.wait() == 0
        assert "Traceback" not in server.log()

"""Whatever one client sends, it is told in words, nothing is left behind, and the others do not notice."""

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import PATIENCE_S, Dialogue, ServerProcess

ID = b"00000000-0000-4000-8000-000000000001"
REQUESTS = [
    b"add %b cut 5000 60000 5 -priority=1\r\nhello\r\n" % ID,
    b"schedule %b cut 5000 60000 2100-01-01T00:00:00.5Z 5\r\nhello\r\n" % ID,
    b"run %b cut 5000 60000 5\r\nhello\r\n" % ID,
    b"lease cut 60000\r\n",
    b"complete %b 4\r\nsent\r\n" % ID,
    b"fail %b 4\r\nlost\r\n" % ID,
    b"result %b 60000\r\n" % ID,
    b"delete %b\r\n" % ID,
    b"inspect server\r\n",
    b"inspect queue cut\r\n",
    b"inspect queues 0 100\r\n",
    b"inspect job %b\r\n" % ID,
    b"inspect jobs cut 0 100\r\n",
    b"inspect scheduled-jobs cut 0 100\r\n",
]


@pytest.fixture
def other(server: ServerProcess, client: Dialogue) -> Iterator[Dialogue]:
    """A client that must not notice; afterwards the server counts no client too many."""
    with server.connect() as dialogue:
        assert dialogue.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        yield dialogue
        assert dialogue.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        client.close()
        dialogue.wait_for_clients(1)


@pytest.mark.parametrize("request_bytes", REQUESTS)
def test_clients_that_leave_at_every_byte_of_a_request(
    server: ServerProcess, other: Dialogue, request_bytes: bytes
) -> None:
    whole = request_bytes.replace(b"cut", b"torn")
    for size in range(len(whole)):
        leaving = server.connect()
        leaving.send(whole[:size])
        if size % 2:
            leaving.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.close()
        assert other.ask(b"inspect queue torn\r\n") == b"-NOT-FOUND"


def test_clients_that_leave_after_a_request(server: ServerProcess, other: Dialogue) -> None:
    """Those that waited, and those that did not read their replies."""
    for request in REQUESTS:
        with server.connect() as leaving:
            leaving.send(request.replace(b" cut ", b" done "))
            leaving.has_input(server)
    other.wait_for_clients(2)
    assert other.ask(b"inspect job %b\r\n" % ID) == b"-NOT-FOUND"  # one of the requests deleted it
    assert other.inspect("queue done").items() >= {"ready-len": "0", "scheduled-len": "0", "leased-len": "0"}.items()


def test_requests_that_come_byte_by_byte(client: Dialogue, other: Dialogue) -> None:
    job_id = ID.replace(b"1", b"2")
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    requests = b"add %b slow 5000 60000 5\r\nhello\r\ndelete %b\r\ninspect queue slow\r\n" % (job_id, job_id)
    for byte in requests:
        client.send(bytes([byte]))
        assert other.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
    client.expect(b"+OK", b"+OK", b"+OK 1", b"slow 25", b"ready-len 0", b"scheduled-len 0", b"leased-len 0")


def test_a_megabyte_without_a_line_end(client: Dialogue, other: Dialogue) -> None:
    with contextlib.suppress(ConnectionError):  # the server hangs up before it has read it all
        client.send(b"x" * 1_000_000)
    client.expect(b"-CLIENT-ERROR Invalid command: its line is longer than 65536 bytes")
    client.expect_end()


def test_an_oversized_payload_is_skipped(client: Dialogue, other: Dialogue) -> None:
    for size in (1_048_577, 20_000_000):
        client.send(b"add %b big 5000 60000 %d\r\n" % (ID, size) + b"\r\n" * (size // 2) + b"x" * (size % 2) + b"\r\n")
        assert client.line().startswith(b"-CLIENT-ERROR Invalid payload size: ")
        assert client.ask(b"inspect queue big\r\n") == b"-NOT-FOUND"


def test_a_monstrous_payload(client: Dialogue, other: Dialogue) -> None:
    with contextlib.suppress(ConnectionError):
        client.send(b"add %b big 5000 60000 99999999999\r\n" % ID + b"x" * 1_000_000)
    assert client.line().startswith(b"-CLIENT-ERROR Invalid payload size: ")
    client.expect_end()


def test_http(client: Dialogue, other: Dialogue) -> None:
    """A web page may make a browser send anything in the body of a request."""
    body = b"\r\nadd %b web 5000 60000 5\r\nhello\r\n" % ID
    client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert client.line().startswith(b"-CLIENT-ERROR Unknown command: this port speaks the Workq protocol, not HTTP")
    client.expect_end()
    assert other.ask(b"inspect queue web\r\n") == b"-NOT-FOUND"


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",  # the beginning of TLS
        b"\0" * 100 + b"\n",
        bytes(range(256)) + b"\n",
        b"\r\r\n",
        "lease b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher 0\n".encode(),
    ],
)
def test_noise(client: Dialogue, other: Dialogue, noise: bytes) -> None:
    client.send(noise)
    for _ in range(noise.count(b"\n")):
        error = client.line()
        assert error.startswith(b"-CLIENT-ERROR ")
        assert error.isascii()
    assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the files of a process are counted as Linux shows them")
def test_no_file_stays_open(server: ServerProcess, client: Dialogue) -> None:
    def files() -> int:
        client.wait_for_clients(1)
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    before = files()
    for _ in range(3):
        for request in REQUESTS:
            with server.connect() as leaving:
                leaving.send(request)
        for noise in (b"x" * 70_000, b"GET / HTTP/1.1\r\n"):
            with server.connect() as leaving:
                leaving.send(noise)
                leaving.line()
                leaving.expect_end()
    give_up = time.monotonic() + PATIENCE_S
    while (after := files()) != before:  # a connection is not counted any more a moment before its file is closed
        assert time.monotonic() < give_up, f"{after} files are open, not {before}"


# -- ten thousand clients --------------------------------------------------------------------------------------------

MANY = 10_000


@pytest.fixture
def many_files() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < MANY + 500:
        pytest.skip(f"{MANY} connections need as many files, the limit is {before[1]} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_ten_thousand_idle_clients(many_files: None) -> None:
    with ServerProcess() as server, server.connect() as client, contextlib.ExitStack() as open_sockets:
        idle = [open_sockets.enter_context(socket.create_connection(server.tcp_address)) for _ in range(MANY)]
        client.wait_for_clients(MANY + 1)
        for each in idle:
            each.sendall(b"inspect queue nothing\r\n")
        for each in idle:
            each.settimeout(PATIENCE_S)
            assert each.recv(100) == b"-NOT-FOUND\r\n"
        assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        open_sockets.close()
        client.wait_for_clients(1)


def test_more_clients_than_files() -> None:
    """The server says beforehand that its limit is low. Those who are in are served, and those who come later."""
    with ServerProcess(file_limit=100) as server, server.connect() as client:
        assert "at most 100 files may be open" in server.log()
        with contextlib.ExitStack() as open_sockets:
            for _ in range(200):
                open_sockets.enter_context(socket.create_connection(server.tcp_address))
                assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        client.wait_for_clients(1)
        with server.connect() as later:
            assert later.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"

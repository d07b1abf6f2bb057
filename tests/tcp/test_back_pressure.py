"""Rude clients cost the server no memory to speak of, and the others nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import PATIENCE_S, Dialogue, ServerProcess
from workq.tcp import READ_AHEAD

ID = b"00000000-0000-4000-8000-000000000001"
MIB = 1_048_576

# What a rude client may cost: what is read ahead (1 MiB), a reply or two, what the allocator keeps.
ALLOWANCE = 16 * MIB

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux shows it")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


def memory(server: ServerProcess) -> int:
    """The resident memory of the server in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def send_until_it_stops(rude: Dialogue, data: bytes, other: Dialogue, limit: int) -> int:
    """Send `data` again and again without waiting, until no more is taken although the server had its turns.

    Returns the number of bytes sent; gives up at `limit`.
    """
    rude.socket.setblocking(False)
    sent = refused = 0
    while refused < 20 and sent < limit:
        at = sent % len(data)
        try:
            sent += rude.socket.send(data[at : at + 65_536])
            refused = 0
        except BlockingIOError:
            refused += 1
            assert other.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
    rude.socket.settimeout(PATIENCE_S)
    return sent


def test_a_client_that_does_not_read(server: ServerProcess, client: Dialogue) -> None:
    """It asks for 100 MB of replies and leaves them. When it reads at last, it gets them all."""
    size, count = MIB, 100
    assert client.ask(b"add %b big 5000 600000 %d\r\n%b\r\n" % (ID, size, b"x" * size)) == b"+OK"
    before = memory(server)
    with server.connect() as rude:
        rude.send(b"inspect job %b\r\n" % ID * count)
        for _ in range(1000):
            assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        assert memory(server) - before < ALLOWANCE
        for _ in range(count):
            rude.expect(b"+OK 1", b"%b 12" % ID)
            for _ in range(12):
                rude.line()
        assert memory(server) - before < ALLOWANCE


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"inspect queue nothing\r\n", id="lines"),
        pytest.param(b"complete %b 1000000\r\n%b\r\n" % (ID, b"x" * 1_000_000), id="payloads"),
    ],
)
def test_a_client_that_pipelines_without_end_behind_a_command_that_waits(
    server: ServerProcess, client: Dialogue, request_bytes: bytes
) -> None:
    before = memory(server)
    with server.connect() as rude:
        rude.send(b"lease mail 60000\r\n")
        sent = send_until_it_stops(rude, request_bytes, client, 200 * MIB)
        assert sent < 50 * MIB  # most of it in the buffers of the operating system
        assert memory(server) - before < ALLOWANCE
        assert client.ask(b"add %b mail 5000 60000 5\r\nhello\r\n" % ID.replace(b"1", b"2")) == b"+OK"
        rude.expect(b"+OK 1")
        rude.read(len(b"%b mail 5000 5\r\nhello\r\n" % ID))
        # The server goes on with what it has, and reads again.
        at = sent % len(request_bytes)
        rude.send(request_bytes[at:] if at else b"")
        rude.expect(*[b"-NOT-FOUND"] * -(-sent // len(request_bytes)))


def test_many_clients_that_pipeline_behind_commands_that_wait(server: ServerProcess, client: Dialogue) -> None:
    before = memory(server)
    clients = [server.connect() for _ in range(10)]
    request = b"inspect server\r\n"
    for rude in clients:
        # More than is read ahead, by less than any socket buffer holds: the end of a client comes behind all it sent.
        rude.send(b"lease mail 60000\r\n" + request * ((READ_AHEAD + 65_536) // len(request)))
        client.ask(b"inspect queue nothing\r\n")
    assert memory(server) - before < 10 * 2 * MIB + ALLOWANCE
    for rude in clients:
        rude.close()
    client.wait_for_clients(1)


def test_a_slow_reader_gets_everything_in_order(server: ServerProcess, client: Dialogue) -> None:
    """It reads a reply, others have their commands done, it reads the next, while the server has many more for it."""
    size, count = 20_000, 1000
    assert client.ask(b"add %b big 5000 600000 %d\r\n%b\r\n" % (ID, size, b"x" * size)) == b"+OK"
    with server.connect() as slow:
        slow.send(b"".join([b"bogus%d\r\ninspect job %b\r\n" % (number, ID) for number in range(count)]))
        for number in range(count):
            assert slow.line().startswith(b"-CLIENT-ERROR Unknown command: 'bogus%d'" % number)
            slow.expect(b"+OK 1", b"%b 12" % ID)
            assert [slow.line() for _ in range(12)][4] == b"payload " + b"x" * size
            assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"

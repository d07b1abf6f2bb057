"""Clients that go away while a command of theirs waits take nothing with them, however they go."""

import socket
import struct
from collections.abc import Callable
from typing import TypeAlias

import pytest

from tests.server import Dialogue, ServerProcess

ID = b"00000000-0000-4000-8000-000000000001"

Leave: TypeAlias = Callable[[Dialogue], None]


def close(client: Dialogue) -> None:
    client.close()


def stop_sending(client: Dialogue) -> None:
    client.stop_sending()
    client.expect_end()


def reset(client: Dialogue) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


LEAVES = [close, stop_sending, reset]
BEHIND = {
    "nothing behind": b"",
    "a command behind": b"add 00000000-0000-4000-8000-000000000009 behind 5000 60000 1\r\nx\r\n",
    "more than a megabyte behind": b"inspect server\r\n" * 67_000,
}

every_way = pytest.mark.parametrize("leave", LEAVES)
everything_behind = pytest.mark.parametrize("behind", [pytest.param(data, id=name) for name, data in BEHIND.items()])


def wait_and_leave(server: ServerProcess, client: Dialogue, request: bytes, leave: Leave) -> None:
    """Have another client wait, and leave, and the server notice."""
    client.wait_for_clients(1)
    with server.connect() as other:
        other.send(request)
        assert not other.has_input(server)
        leave(other)
        client.wait_for_clients(1)


@every_way
@everything_behind
def test_a_lease_takes_no_job(server: ServerProcess, client: Dialogue, leave: Leave, behind: bytes) -> None:
    wait_and_leave(server, client, b"lease mail 60000\r\n" + behind, leave)
    assert client.ask(b"add %b mail 5000 60000 5\r\nhello\r\n" % ID) == b"+OK"
    assert client.inspect("queue mail").items() >= {"ready-len": "1", "scheduled-len": "0", "leased-len": "0"}.items()
    assert client.ask(b"delete %b\r\n" % ID) == b"+OK"


@every_way
@everything_behind
def test_a_result_is_forgotten(server: ServerProcess, client: Dialogue, leave: Leave, behind: bytes) -> None:
    assert client.ask(b"add %b mail 5000 60000 5\r\nhello\r\n" % ID) == b"+OK"
    wait_and_leave(server, client, b"result %b 60000\r\n" % ID + behind, leave)
    assert client.ask(b"complete %b 4\r\nsent\r\n" % ID) == b"+OK"
    assert client.ask(b"delete %b\r\n" % ID) == b"+OK"


@every_way
@everything_behind
def test_the_job_of_a_run_is_dropped(server: ServerProcess, client: Dialogue, leave: Leave, behind: bytes) -> None:
    wait_and_leave(server, client, b"run %b mail 5000 60000 5\r\nhello\r\n" % ID + behind, leave)
    assert client.ask(b"inspect job %b\r\n" % ID) == b"-NOT-FOUND"
    assert client.ask(b"lease mail 0\r\n") == b"-TIMEOUT"


def test_the_job_of_a_run_may_still_be_completed_by_the_worker_that_holds_it(
    server: ServerProcess, client: Dialogue
) -> None:
    with server.connect() as other:
        other.send(b"run %b mail 60000 60000 5\r\nhello\r\n" % ID)
        assert client.ask(b"lease mail 60000\r\n") == b"+OK 1"
        client.expect(b"%b mail 60000 5" % ID, b"hello")
    client.wait_for_clients(1)
    assert client.ask(b"complete %b 4\r\nsent\r\n" % ID) == b"+OK"
    assert client.ask(b"result %b 0\r\n" % ID) == b"-NOT-FOUND"


def test_the_job_of_a_run_goes_to_no_second_worker(server: ServerProcess, client: Dialogue) -> None:
    with server.connect() as other:
        other.send(b"run %b mail 100 60000 5\r\nhello\r\n" % ID)
        assert client.ask(b"lease mail 60000\r\n") == b"+OK 1"
        client.expect(b"%b mail 100 5" % ID, b"hello")
    client.wait_for_clients(1)
    assert client.ask(b"lease mail 300\r\n") == b"-TIMEOUT"  # by then the TTR of 100 ms is over
    assert client.ask(b"inspect job %b\r\n" % ID) == b"-NOT-FOUND"


def test_of_many_waiting_clients_those_that_stay_get_the_jobs(server: ServerProcess, client: Dialogue) -> None:
    waiting = [server.connect() for _ in range(20)]
    for each in waiting:
        each.send(b"lease mail 60000\r\n")
        assert not each.has_input(server)
    for leaving in waiting[::2]:
        leaving.close()
    client.wait_for_clients(1 + 10)
    for number, staying in enumerate(waiting[1::2]):
        job_id = b"00000000-0000-4000-8000-1%011d" % number
        assert client.ask(b"add %b mail 5000 60000 1\r\nx\r\n" % job_id) == b"+OK"
        staying.expect(b"+OK 1", b"%b mail 5000 1" % job_id, b"x")
        staying.close()
        assert client.ask(b"delete %b\r\n" % job_id) == b"+OK"


def test_who_stops_sending_gets_all_replies(server: ServerProcess, client: Dialogue) -> None:
    client.send(
        b"add %b mail 5000 60000 5\r\nhello\r\n" % ID + b"inspect queue nothing\r\n" * 1000 + b"delete %b\r\nhalf" % ID
    )
    client.stop_sending()
    client.expect(b"+OK", *[b"-NOT-FOUND"] * 1000, b"+OK")
    client.expect_end()


def test_who_stops_sending_gets_all_replies_to_more_than_the_server_reads_ahead(
    server: ServerProcess, client: Dialogue
) -> None:
    """It goes on reading as its replies are read; the farewell stands behind it all."""
    assert client.ask(b"add %b mail 5000 600000 2000\r\n%b\r\n" % (ID, b"x" * 2000)) == b"+OK"
    request = b"inspect job %b\r\n" % ID
    client.send(request)
    reply = b"\r\n".join([client.line() for _ in range(14)]) + b"\r\n"
    client.send(request * 25_000)
    client.send(b"delete %b\r\n" % ID)
    client.stop_sending()
    for _ in range(25_000):
        assert client.read(len(reply)) == reply
    client.expect(b"+OK")
    client.expect_end()


def test_a_command_that_waits_after_the_farewell_is_dropped_with_all_behind_it(
    server: ServerProcess, client: Dialogue
) -> None:
    """The reply to what stands behind would be taken for the reply to what waits."""
    with server.connect() as other:
        other.send(b"inspect queue nothing\r\nlease mail 60000\r\nadd %b mail 5000 60000 1\r\nx\r\n" % ID)
        other.stop_sending()
        other.expect(b"-NOT-FOUND")
        other.expect_end()
    client.wait_for_clients(1)
    assert client.ask(b"inspect job %b\r\n" % ID) == b"-NOT-FOUND"


def test_who_stops_sending_has_a_queue_cleared_to_its_end(server: ServerProcess, client: Dialogue) -> None:
    """That takes many turns, but it waits for nobody."""
    adds = [b"add 00000000-0000-4000-8000-2%011d mail 5000 60000 0\r\n\r\n" % number for number in range(5000)]
    client.send(b"".join(adds))
    client.expect(*[b"+OK"] * 5000)
    with server.connect() as other:
        other.send(b"clear mail\r\nping\r\n")
        other.stop_sending()
        other.expect(b"+OK 1", b"mail 1", b"deleted 5000", b"+OK")
        other.expect_end()

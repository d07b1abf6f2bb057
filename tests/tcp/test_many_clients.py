"""Clients that do the same thing in the same moment."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.server import Dialogue, ServerProcess


def job_id(number: int) -> bytes:
    return b"00000000-0000-4000-8000-%012d" % number


@pytest.fixture
def crowd(server: ServerProcess) -> Iterator[list[Dialogue]]:
    with ExitStack() as clients:
        yield [clients.enter_context(server.connect()) for _ in range(30)]


def test_a_new_queue_is_one_queue_for_all(crowd: list[Dialogue], client: Dialogue) -> None:
    for number, each in enumerate(crowd):
        each.send(b"add %b new 60000 600000 1\r\nx\r\n" % job_id(number))
    for each in crowd:
        each.expect(b"+OK")
    assert client.inspect("queue new")["ready-len"] == "30"
    for each in crowd:
        each.send(b"lease new 0\r\n")
    leased = set()
    for each in crowd:
        each.expect(b"+OK 1")
        leased.add(each.line())
        each.expect(b"x")
    assert leased == {b"%b new 60000 1" % job_id(number) for number in range(30)}


def test_an_id_is_taken_once(crowd: list[Dialogue]) -> None:
    for number, each in enumerate(crowd):
        each.send(b"add %b queue%d 60000 600000 1\r\nx\r\n" % (job_id(100), number))
    assert sorted([each.line() for each in crowd]) == [b"+OK", *[b"-CLIENT-ERROR Duplicate job"] * 29]


def test_a_job_is_completed_once(crowd: list[Dialogue], client: Dialogue) -> None:
    assert client.ask(b"add %b once 60000 600000 1\r\nx\r\n" % job_id(200)) == b"+OK"
    for number, each in enumerate(crowd):
        each.send(b"complete %b 2\r\n%02d\r\n" % (job_id(200), number))
    replies = [each.line() for each in crowd]
    assert sorted(replies) == [b"+OK", *[b"-CLIENT-ERROR Duplicate result"] * 29]
    assert client.ask(b"result %b 0\r\n" % job_id(200)) == b"+OK 1"
    client.expect(b"%b 1 2" % job_id(200), b"%02d" % replies.index(b"+OK"))


def test_a_burst_of_jobs_leaves_nobody_asleep(server: ServerProcess, crowd: list[Dialogue], client: Dialogue) -> None:
    for each in crowd:
        each.send(b"lease a b c 60000\r\n")
    assert not client.has_input(server)  # they all wait now
    client.send(b"".join([b"add %b %c 60000 600000 1\r\nx\r\n" % (job_id(300 + n), b"abc"[n % 3]) for n in range(31)]))
    client.expect(*[b"+OK"] * 31)
    leased = set()
    for each in crowd:
        each.expect(b"+OK 1")
        leased.add(each.line().split(b" ")[0])
        each.expect(b"x")
    assert leased == {job_id(300 + number) for number in range(30)}
    assert client.ask(b"lease a b c 0\r\n") == b"+OK 1"


def test_everybody_who_waits_for_a_result_is_told(
    server: ServerProcess, crowd: list[Dialogue], client: Dialogue
) -> None:
    assert client.ask(b"add %b told 60000 600000 1\r\nx\r\n" % job_id(400)) == b"+OK"
    for each in crowd:
        each.send(b"result %b 60000\r\n" % job_id(400))
    assert not client.has_input(server)  # they all wait now
    assert client.ask(b"complete %b 4\r\ndone\r\n" % job_id(400)) == b"+OK"
    for each in crowd:
        each.expect(b"+OK 1", b"%b 1 4" % job_id(400), b"done")

"""What the clients do when the server, or what stands in its place, fails them."""

import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

import workq
from tests.client.conftest import url_of
from tests.client.fakes import FakeServer, Script, hang_up, pass_on, say, silence, swallow_reply
from tests.server import Dialogue, ServerProcess, reserved_port
from workq import commands as c
from workq.client import methods
from workq.client.call import Call
from workq.client.retry import Broken

Connect = Callable[..., Any]
ID = "61a444a0-6128-41c0-8078-cc757d3bd2d8"


def test_no_server_is_an_error_that_says_nothing_was_sent(connect: Connect) -> None:
    with reserved_port() as port:
        url = f"workq://127.0.0.1:{port}"
        with pytest.raises(workq.ConnectionLost) as caught:
            connect(url, retry_for=0).add("q", id=ID)
    assert str(caught.value) == f"{url}: add job {ID}: cannot connect: Connection refused; nothing was sent"
    assert not caught.value.outcome_unknown


def test_a_host_that_does_not_exist_is_an_error(connect: Connect) -> None:
    with pytest.raises(workq.ConnectionLost, match=r"workq://no\.such\.host\.invalid:9922: .*: cannot connect: "):
        connect("workq://no.such.host.invalid", retry_for=0).inspect_server()


def test_a_unix_socket_that_is_not_there_is_an_error(connect: Connect) -> None:
    with pytest.raises(workq.ConnectionLost, match=r"unix:/no/such: .*: cannot connect: No such file or directory"):
        connect("unix:/no/such", retry_for=0).inspect_server()


def test_a_server_that_comes_within_retry_for_is_waited_for(connect: Connect) -> None:
    with reserved_port() as port, ThreadPoolExecutor() as threads:
        client = connect(f"workq://127.0.0.1:{port}", retry_for=20)
        starting = threads.submit(ServerProcess, "--port", str(port))
        job_id = client.add("q", b"early")
        with starting.result(20):
            assert client.inspect_job(job_id).payload == b"early"


def test_a_request_cut_off_has_an_unknown_outcome_and_its_id(connect: Connect) -> None:
    with FakeServer(say(b"")) as server:
        with pytest.raises(workq.ConnectionLost) as caught:
            connect(server.url, retry_for=0).add("q", id=ID)
        error = caught.value
        assert (error.outcome_unknown, error.job_id, error.server) == (True, ID, server.url)
        assert str(error) == (
            f"{server.url}: add job {ID}: the server closed the connection; whether the server did it is unknown"
        )


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (lambda client: client.add("q", id=ID), b"+OK\r\n"),
        (lambda client: client.lease("q"), b"+OK 1\r\n%b q 1000 2\r\nab\r\n" % ID.encode()),
        (lambda client: client.result(ID), b"+OK 1\r\n%b 1 2\r\nab\r\n" % ID.encode()),
        (
            lambda client: client.inspect_queue("q"),
            b"+OK 1\r\nq 3\r\nready-len 1\r\nscheduled-len 0\r\nleased-len 0\r\n",
        ),
        (lambda client: client.delete(ID), b"-CLIENT-ERROR no\r\n"),
    ],
)
def test_a_reply_cut_at_any_byte_is_a_lost_connection(
    connect: Connect, call: Callable[[Any], object], reply: bytes
) -> None:
    for cut in range(len(reply)):
        with FakeServer(say(reply[:cut])) as server, pytest.raises(workq.ConnectionLost) as caught:
            call(connect(server.url, retry_for=0))
        assert caught.value.outcome_unknown


def test_an_add_whose_reply_is_lost_is_repeated_and_added_once(
    connect: Connect, server: ServerProcess, url: str
) -> None:
    assert isinstance(server.address, tuple)
    queue = f"q-{uuid.uuid4()}"
    with FakeServer(swallow_reply(server.address), pass_on(server.address)) as proxy:
        client = connect(proxy.url)
        job_id = client.add(queue, b"once")
        assert proxy.connections == 2
        assert [info.id for info in client.inspect_jobs(queue)] == [job_id]
        client.close()


@pytest.mark.parametrize("method", ["complete", "delete"])
def test_a_complete_or_delete_whose_reply_is_lost_is_repeated(
    connect: Connect, server: ServerProcess, url: str, method: str
) -> None:
    assert isinstance(server.address, tuple)
    with workq.Client(url) as direct:
        job_id = direct.add(f"q-{uuid.uuid4()}")
    with FakeServer(swallow_reply(server.address), pass_on(server.address)) as proxy:
        client = connect(proxy.url)
        getattr(client, method)(job_id)
        assert proxy.connections == 2
        client.close()


@pytest.mark.parametrize(
    "call",
    [lambda client: client.run("q", id=ID, timeout=5), lambda client: client.fail(ID, "no")],
    ids=["run", "fail"],
)
def test_a_run_or_fail_whose_reply_is_lost_is_not_repeated(connect: Connect, call: Callable[[Any], object]) -> None:
    with FakeServer(say(b"")) as server:
        with pytest.raises(workq.ConnectionLost) as caught:
            call(connect(server.url, retry_for=20))
        assert server.connections == 1
    assert caught.value.outcome_unknown
    assert caught.value.job_id == ID


def test_a_duplicate_answer_to_a_first_try_is_an_error(connect: Connect) -> None:
    refuse = say(b"-CLIENT-ERROR Duplicate job\r\n")
    with FakeServer(refuse) as server, pytest.raises(workq.ClientError, match="Duplicate job"):
        connect(server.url).add("q", id=ID)


def test_trying_again_ends(connect: Connect) -> None:
    for retry_for in (0.3, 10):  # longer, if the machine stood still for the whole of that time
        with FakeServer(hang_up) as server:
            with pytest.raises(workq.ConnectionLost, match=r"whether the server did it is unknown|nothing was sent"):
                connect(server.url, retry_for=retry_for).add("q")
            if server.connections > 1:
                return
    pytest.fail("it is tried once")


def test_a_lease_goes_on_when_the_server_is_restarted(connect: Connect) -> None:
    with reserved_port() as port, ServerProcess("--port", str(port)) as first, ThreadPoolExecutor() as threads:
        url = url_of(first)
        client = connect(url, retry_for=20)
        leasing = threads.submit(client.lease, "q", timeout=20)
        with first.connect() as observer:
            wait_for_a_lease(observer)
        first.kill()
        with ServerProcess("--port", str(port)), workq.Client(url) as producer:
            job_id = producer.add("q", b"after the restart")
            assert leasing.result(20).id == job_id


def test_a_wait_outlasts_several_restarts_but_no_lasting_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("workq.client.call.time", SimpleNamespace(monotonic=lambda: now))
    client = workq.Client(retry_for=5)
    hung_up = Broken("the server closed the connection", sent=True)
    for call in (methods.result(client, ID, timeout=3600), methods.lease(client, "q", timeout=3600)):
        now = 0.0
        for minute in (10, 20, 30):
            now = minute * 60.0
            now += call.pause_after(hung_up)
        assert isinstance(call.command, c.Result | c.Lease)
        assert 0 <= 1_800_000 - call.command.wait_ms < 100
        while (pause_s := pause_or_none(call, hung_up)) is not None:  # it comes back, and goes again at once
            now += pause_s + 0.01
        assert 1804 < now < 1806


def test_a_silent_server_is_no_new_outage_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("workq.client.call.time", SimpleNamespace(monotonic=lambda: now))
    call = methods.lease(workq.Client(retry_for=5), "q", timeout=60)
    now += call.patience_s
    while (pause_s := pause_or_none(call, Broken("no reply", sent=True))) is not None:
        now += pause_s + call.patience_s
    assert 90 < now < 130


def pause_or_none(call: Call[Any], broken: Broken) -> float | None:
    try:
        return call.pause_after(broken)
    except workq.ConnectionLost:
        return None


def wait_for_a_lease(observer: Dialogue) -> None:
    """A lease on a queue brings the queue into being."""
    deadline = time.monotonic() + 10
    while observer.ask(b"inspect queue q\r\n") == b"-NOT-FOUND":
        assert time.monotonic() < deadline


def test_a_client_goes_on_after_a_restart(connect: Connect) -> None:
    with reserved_port() as port, ServerProcess("--port", str(port)) as first:
        client = connect(url_of(first), retry_for=0)
        client.add("q")
        first.kill()
        with pytest.raises(workq.ConnectionLost, match="cannot connect"):
            client.add("q")
        with ServerProcess("--port", str(port)):
            client.add("q")
            assert client.lease("q", timeout=0).name == "q"


def http_server(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (http_server, "'HTTP/1.1 400 Bad Request' is not a reply of a Workq server"),
        (say(b"\x15\x03\x03\x00\x02\x02\x46"), "is not a reply of a Workq server"),
        (say(b"+OK 7\r\n"), "'+OK' was expected, not '+OK 7'"),
    ],
    ids=["http", "tls", "other reply"],
)
def test_another_protocol_on_the_port_is_an_error_at_once(connect: Connect, script: Script, words: str) -> None:
    with FakeServer(script) as server:
        with pytest.raises(workq.ServerError) as caught:
            connect(server.url).add("q", id=ID)
        assert server.connections == 1
    assert str(caught.value).startswith(f"{server.url}: add job {ID}: ")
    assert words in str(caught.value)


def test_a_server_that_cannot_do_it_is_quoted(connect: Connect) -> None:
    with FakeServer(say(b"-SERVER-ERROR the disk is full\r\n")) as server, pytest.raises(workq.ServerError) as caught:
        connect(server.url).add("q", id=ID)
    assert str(caught.value) == f"{server.url}: add job {ID}: the disk is full"


@pytest.mark.parametrize(
    "call",
    [lambda client: client.add("q", id=ID), lambda client: client.result(ID, timeout=0.05)],
    ids=["add", "result"],
)
def test_a_silent_server_is_given_up(connect: Connect, call: Callable[[Any], object]) -> None:
    with FakeServer(silence) as server:
        client = connect(server.url, retry_for=0, reply_timeout=0.05)
        with pytest.raises(workq.ConnectionLost, match=r"no reply within 0\.\d+ s; whether the server did it is unk"):
            call(client)


def test_words_that_nobody_asked_for_are_not_taken_for_an_answer() -> None:
    answered, said = threading.Event(), threading.Event()

    def chatter(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"+OK\r\n")
        answered.wait(10)
        connection.sendall(b"-SERVER-ERROR you have been idle\r\n")
        said.set()
        silence(connection)

    with FakeServer(chatter, say(b"+OK\r\n")) as server, workq.Client(server.url) as client:
        client.add("q")
        answered.set()
        assert said.wait(10)
        client.add("q")
        assert server.connections == 2


def test_errors_can_be_pickled() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(workq.ConnectionLost("gone", "workq://h:1", "add", ID, True)))
    assert (str(error), error.job_id, error.outcome_unknown) == (f"workq://h:1: add job {ID}: gone", ID, True)

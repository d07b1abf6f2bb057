"""What comes all at once is done in portions, and others have their turn between them."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_gateway import make
from workq import commands as c
from workq import replies as r
from workq.broker import Client
from workq.dispatch.http_client import Connection as WorkerConnection
from workq.dispatch.request import first_request
from workq.dispatch.target import PushTarget
from workq.gateway import job_spec
from workq.http.application import Application, plain_error
from workq.http.service import ApplicationService, RequestIds
from workq.http.web import Connection, Handler, Limits, Request, Response
from workq.run_queue import LONE_PORTION, SHARED_PORTION, RunQueue, nobody_else

MANY = 10 * SHARED_PORTION
SPEC = job_spec(b"mail", 60_000, 600_000)


def others() -> bool:
    return True


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> object:
        return self if name == "socket" else ("127.0.0.1", 1)

    def setsockopt(self, *option: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        pass


def requests(handler: Handler, run_queue: RunQueue, count: int) -> list[tuple[Connection, Transport]]:
    """Connections to a service that has `handler` answer. Each has received a request, which waits for its turn."""
    application = Application(plain_error)
    application.router.add_get("/", handler)
    limits = Limits(60.0, 60.0, 1_000)
    service = ApplicationService(application, limits, RequestIds(), None, lambda *_: None, run_queue)
    made = []
    for _ in range(count):
        transport, connection = Transport(), Connection(service, asyncio.get_running_loop())
        connection.connection_made(transport)  # type: ignore[arg-type]
        connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        made.append((connection, transport))
    return made


class TestPortions:
    async def test_a_portion_is_done_in_each_turn(self) -> None:
        queue, done = RunQueue(others), list[int]()
        for number in range(MANY):
            queue.add(lambda number=number: done.append(number))  # type: ignore[misc]
        seen = []
        while len(done) < MANY:
            await asyncio.sleep(0)
            seen.append(len(done))
        assert done == list(range(MANY))
        assert seen == [*range(SHARED_PORTION, MANY + 1, SHARED_PORTION)]

    async def test_a_turn_may_be_longer_where_nobody_else_waits(self) -> None:
        queue, done = RunQueue(nobody_else), list[int]()
        for number in range(2 * LONE_PORTION):
            queue.add(lambda number=number: done.append(number))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(done) == LONE_PORTION

    async def test_what_is_added_meanwhile_comes_behind(self) -> None:
        queue, done = RunQueue(others), list[str]()

        def first() -> None:
            done.append("first")
            queue.add(lambda: done.append("last"))

        queue.add(first)
        queue.add(lambda: done.append("second"))
        while len(done) < 3:
            await asyncio.sleep(0)
        assert done == ["first", "second", "last"]

    async def test_one_that_fails_holds_up_nobody(self) -> None:
        told = list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        queue, done = RunQueue(others), list[int]()

        def fail() -> None:
            raise RuntimeError("it fails")

        for number in range(MANY):
            queue.add(fail)
            queue.add(lambda number=number: done.append(number))  # type: ignore[misc]
        while len(done) < MANY:
            await asyncio.sleep(0)
        assert told == ["it fails"] * MANY


async def test_requests_that_come_together_are_begun_in_portions() -> None:
    begun = 0

    async def handler(request: Request) -> Response:
        nonlocal begun
        begun += 1
        return Response()

    clients = requests(handler, RunQueue(others), MANY)
    turns = before = 0
    while begun < MANY:
        await asyncio.sleep(0)
        assert begun - before <= SHARED_PORTION
        before = begun
        turns += 1
    assert turns >= MANY // SHARED_PORTION
    await asyncio.sleep(0)
    assert all([transport.written.startswith(b"HTTP/1.1 200 OK\r\n") for _, transport in clients])
    for connection, _ in clients:
        connection.connection_lost(None)


class TcpClient(Client):
    """As a TCP connection is one: `on_answer` is called when it may be answered."""

    def __init__(self, on_answer: Callable[[], None], *, on_disk: bool) -> None:
        super().__init__()
        self._on_answer = on_answer
        self._on_disk = on_disk

    def serve(self) -> None:
        pass

    def end_turn(self) -> None:
        if not self._on_disk:
            self._on_answer()

    def hold(self) -> None:
        pass

    def release(self, lost: object) -> None:
        assert lost is None
        self._on_answer()

    def shut_down(self) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("event", ["its time is over", "the server stops"])
async def test_a_request_counts_that_waits_for_its_turn(event: str) -> None:
    async def handler(request: Request) -> Response:
        return Response()

    ((connection, transport),) = requests(handler, RunQueue(others), 1)
    if event == "the server stops":
        connection.shut_down()
    else:
        connection._deadline_s = 0.0
        connection._on_timer()
    assert not transport.closed
    while not transport.written:
        await asyncio.sleep(0)
    assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.closed == (event == "the server stops")
    connection.connection_lost(None)


@pytest.mark.parametrize("on_disk", [False, True])
async def test_a_command_is_executed_between_requests_that_came_together(on_disk: bool, tmp_path: Path) -> None:
    gateway, broker = make(tmp_path if on_disk else None)
    order = list[str]()

    async def handler(request: Request) -> Response:
        await gateway.execute(c.Add(os.urandom(16), SPEC, b"x"))
        order.append("request")
        return Response()

    client = TcpClient(lambda: order.append("command"), on_disk=on_disk)
    broker.connect(client)
    gateway.run_queue._is_shared = others  # whatever the time
    clients = requests(handler, gateway.run_queue, MANY)

    def on_bytes() -> None:
        assert broker.execute(c.Add(os.urandom(16), SPEC, b"x"), lambda _: None) == r.OK
        broker.wake(client)
        if broker.changed:
            broker.wait_for_log(client)

    asyncio.get_running_loop().call_soon(on_bytes)
    while len(order) < MANY + 1:
        await asyncio.sleep(0)
    # In memory it is answered at the end of its turn; on disk there are the requests in whose batch it is.
    assert order.index("command") <= 4 * SHARED_PORTION
    for connection, _ in clients:
        connection.connection_lost(None)
    await broker.close()


async def test_turns_are_shared_with_clients_that_do_something(tmp_path: Path) -> None:
    gateway, broker = make(tmp_path)
    client = TcpClient(lambda: None, on_disk=True)
    broker.connect(client)
    is_shared = gateway.run_queue._is_shared
    assert not is_shared(), "it only stays connected"
    began_s = time.monotonic()
    broker.wake(client)
    assert is_shared()
    await asyncio.sleep(0)
    assert is_shared() or time.monotonic() - began_s >= 1, "it did something less than a second ago"
    await broker.close()


async def test_those_who_are_answered_by_a_batch_go_on_in_portions(tmp_path: Path) -> None:
    gateway, broker = make(tmp_path)
    gateway.run_queue._is_shared = others  # whatever the time
    answered = 0

    async def execute() -> None:
        nonlocal answered
        await gateway.execute(c.Add(os.urandom(16), SPEC, b"x"))
        answered += 1

    tasks = [asyncio.create_task(execute()) for _ in range(MANY)]
    before = 0
    while answered < MANY:
        await asyncio.sleep(0)
        assert answered - before <= SHARED_PORTION
        before = answered
    await asyncio.gather(*tasks)
    await broker.close()


async def test_answers_of_web_workers_that_come_together_are_read_in_portions() -> None:
    queue, read = RunQueue(others), list[int]()

    class Client:
        def on_answer(self, answer: object) -> None:
            read.append(1)

        def on_failure(self, failure: object, unheard: bool) -> None:
            raise AssertionError(failure)

    request = first_request(PushTarget("http://127.0.0.1:1/"), b"{}")
    connections = []
    for _ in range(MANY):
        connection = WorkerConnection(request.beginning.origin, None, queue)
        connection.connection_made(Transport())  # type: ignore[arg-type]
        connection.send(request, Client())
        connections.append(connection)
    for connection in connections:
        connection.data_received(b"HTTP/1.1 200 OK\r\n")
        connection.data_received(b"Content-Length: 0\r\n\r\n")
    before = 0
    while len(read) < MANY:
        await asyncio.sleep(0)
        assert len(read) - before <= SHARED_PORTION
        before = len(read)
    for connection in connections:
        connection.connection_lost(None)


async def test_an_answer_counts_that_came_before_the_connection_broke() -> None:
    queue, read = RunQueue(others), list[bytes]()

    class Client:
        def on_answer(self, answer: object) -> None:
            read.append(answer.body)  # type: ignore[attr-defined]

        def on_failure(self, failure: object, unheard: bool) -> None:
            raise AssertionError(failure)

    request = first_request(PushTarget("http://127.0.0.1:1/"), b"{}")
    connection = WorkerConnection(request.beginning.origin, None, queue)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    connection.send(request, Client())
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    connection.connection_lost(ConnectionResetError())
    assert read == [b"ok"]

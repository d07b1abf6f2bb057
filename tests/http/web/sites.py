"""A small application on the HTTP server, in the test's own process, and connections that speak bytes to it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from tests.server import PATIENCE_S
from workq.http import server as server_module
from workq.http import web
from workq.http.application import Application, plain_error
from workq.http.server import HttpServer
from workq.run_queue import RunQueue, nobody_else
from workq.settings import Address

LARGEST_BODY: Final = 10_000
Answered = tuple[str, int]


class Site:
    """What is served, and what has been seen of it.

    answered  path and status of each request; status 0 when the client hung up
    free      `/wait` and `/poll` wait for it
    waiting   how many do
    """

    def __init__(self) -> None:
        self.answered: list[Answered] = []
        self.free = asyncio.Event()
        self.waiting = 0
        self.cancelled = 0
        self.pieces_made = 0
        self.application = Application(plain_error)
        router = self.application.router
        router.add_get("/", self._hello)
        router.add_post("/echo", self._echo)
        router.add_get("/wait", self._wait)
        router.add_get("/poll", self._poll)
        router.add_get("/fails", self._fail)
        router.add_get("/injects", self._inject)
        router.add_get("/large", self._large)
        router.add_get("/pieces", self._pieces)
        router.add_get("/breaks", self._break)
        router.add_get("/closes", self._close)

    async def _hello(self, request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(body=request.body)

    async def _wait(self, request: web.Request) -> web.Response:
        self.waiting += 1
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return web.Response(text="done")

    async def _poll(self, request: web.Request) -> web.Response:
        request.waits = True
        return await self._wait(request)

    async def _fail(self, request: web.Request) -> web.Response:
        raise RuntimeError("a mistake of ours")

    async def _inject(self, request: web.Request) -> web.Response:
        return web.Response(headers={"Location": request.query["to"]})

    async def _large(self, request: web.Request) -> web.Response:
        return web.Response(body=bytes(2_000_000))

    async def _pieces(self, request: web.Request) -> web.Response:
        async def pieces() -> AsyncGenerator[bytes, None]:
            for number in range(int(request.query.get("count", "3"))):
                self.pieces_made += 1
                yield b"%d;" % number if "large" not in request.query else bytes(100_000)
                yield b""

        return web.Response(pieces=pieces())

    async def _break(self, request: web.Request) -> web.Response:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield b"so far"
            raise RuntimeError("it breaks off")

        return web.Response(pieces=pieces())

    async def _close(self, request: web.Request) -> web.Response:
        response = web.Response(text="that was all")
        response.keep_alive = False
        return response

    def on_answered(self, request: web.Request, status: int, seconds: float) -> None:
        """As the server tells it."""
        self.answered.append((request.path, status))


class Client:
    """A connection, used step by step; every step has a time limit."""

    def __init__(self, address: Address, *, small_window: bool = False) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        if small_window:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._address = (address.host, address.port)
        self._received = b""

    async def connect(self) -> None:
        await asyncio.get_running_loop().sock_connect(self.socket, self._address)

    def connect_and_send(self, data: bytes) -> None:
        """In one go, so that the bytes are there when the server, which is in this process, hears of the connection."""
        self.socket.setblocking(True)
        self.socket.connect(self._address)
        self.socket.sendall(data)
        self.socket.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, data), PATIENCE_S)

    async def answer(self, *, head_only: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by small names, and body of the next answer."""
        while b"\r\n\r\n" not in self._received:
            await self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, _, value in [line.partition(": ") for line in lines]}
        if head_only or "content-length" not in headers:
            return int(status), headers, b""
        return int(status), headers, await self.read(int(headers["content-length"]))

    async def statuses(self, count: int) -> list[int]:
        """Of the next answers."""
        return [(await self.answer())[0] for _ in range(count)]

    async def read(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._receive()
        data, self._received = self._received[:size], self._received[size:]
        return data

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                await self._receive()
        data, self._received = self._received, b""
        return data

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        data = await asyncio.wait_for(loop.sock_recv(self.socket, 65_536), PATIENCE_S)
        if not data:
            raise EOFError(f"the server closed the connection after {self._received!r}")
        self._received += data


class Served:
    """A running `Site`."""

    def __init__(self, site: Site, server: HttpServer, address: Address) -> None:
        self.site = site
        self.server = server
        self._address = address
        self._clients: list[Client] = []

    async def client(self, *, small_window: bool = False) -> Client:
        """A new connection."""
        client = Client(self._address, small_window=small_window)
        self._clients.append(client)
        await client.connect()
        return client

    def prompt_client(self, data: bytes) -> Client:
        """A new connection on which this, not much, has been sent, however short the time for it is."""
        client = Client(self._address)
        self._clients.append(client)
        client.connect_and_send(data)
        return client

    async def ask(self, *data: bytes) -> bytes:
        """All that is answered on a connection of its own, to bytes that may be sent in parts, up to its end."""
        client = await self.client()
        for part in data:
            await client.send(part)
        return await client.rest()

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()


@contextlib.asynccontextmanager
async def serving(
    idle_s: float = 60.0, body_s: float = 60.0, drain_s: float = 5.0, largest_body: int = LARGEST_BODY
) -> AsyncIterator[Served]:
    """A server with a `Site`."""
    site = Site()
    before = server_module.BODY_SECONDS, server_module.LARGEST_BODY
    server_module.BODY_SECONDS, server_module.LARGEST_BODY = body_s, largest_body  # type: ignore[misc]
    server = HttpServer(idle_s, None, site.on_answered, RunQueue(nobody_else))
    try:
        (address,) = await server.listen(site.application, Address("127.0.0.1", 0), drain_s)
    finally:
        server_module.BODY_SECONDS, server_module.LARGEST_BODY = before  # type: ignore[misc]
    served = Served(site, server, address)
    try:
        yield served
    finally:
        served.close()
        site.free.set()
        await server.stop()


async def until(condition: object) -> None:
    """Let the loop go on until `condition()` holds."""
    assert callable(condition)
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)

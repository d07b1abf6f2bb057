"""Listeners: each serves one application, on the event loop of the TCP door, and stops in good order.

Before a request reaches its application it gets an id, which its answer carries too; when it is answered the access log
gets a line.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from workq.http import web
from workq.http.access_log import AccessLog
from workq.http.application import BODY_SECONDS, LARGEST_BODY, Application
from workq.settings import Address

OnAnswered: TypeAlias = Callable[[web.Request, int, float], None]

_BACKLOG: Final = 4096
# Longer ids of requests are replaced by one of ours; so are those that could harm a log.
_LONGEST_REQUEST_ID: Final = 128

logger = logging.getLogger("workq.http")


class Door(Protocol):
    """The API of another system: mounted below our own API, and at the root of a listener of its own."""

    def application(self) -> Application:
        """A new application that serves it."""


class HttpServer:
    """All HTTP listeners of a server.

    idle_timeout_s  how long a connection may take to send the (next) head
    access_log      where a line about each request goes; None for nowhere
    on_answered     called with each request, the status of its answer (0 when the client hung up) and its seconds
    """

    def __init__(self, idle_timeout_s: float, access_log: AccessLog | None, on_answered: OnAnswered) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._access_log = access_log
        self._on_answered = on_answered
        self._ids = _RequestIds()
        self._listeners: list[tuple[asyncio.Server, _Service, float]] = []

    async def listen(self, application: Application, address: Address, drain_s: float) -> Sequence[Address]:
        """Serve `application` at `address`; return the address or, for a name that has several, all of them.

        drain_s  how long requests may take to be answered when the server stops

        Raises `OSError` where nobody can listen.
        """
        await application.start()
        loop = asyncio.get_running_loop()
        body_s = min(BODY_SECONDS, application.time_limit_s or BODY_SECONDS)
        limits = web.Limits(self._idle_timeout_s, body_s, LARGEST_BODY)
        service = _Service(application, limits, self._ids, self._access_log, self._on_answered)
        listener = await loop.create_server(
            lambda: web.Connection(service, loop), address.host, address.port, backlog=_BACKLOG, reuse_address=True
        )
        self._listeners.append((listener, service, drain_s))
        names = [each.getsockname() for each in listener.sockets]
        return [Address(name[0], name[1]) for name in names]

    async def stop(self) -> None:
        """Stop listening, close idle connections, let requests be answered for a bounded time."""
        for listener, _, _ in self._listeners:
            listener.close()
        await asyncio.gather(*[service.stop(drain_s) for _, service, drain_s in self._listeners])
        self._listeners.clear()

    def connections(self) -> int:
        """How many clients are connected."""
        return sum([len(service.connections) for _, service, _ in self._listeners])


class _RequestIds:
    """Names for requests, unique among those of all processes."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._prefix = os.urandom(4).hex()

    def new(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"


class _Service:
    """What the connections of one listener are for: see `web.Service`."""

    def __init__(
        self,
        application: Application,
        limits: web.Limits,
        ids: _RequestIds,
        access_log: AccessLog | None,
        on_answered: OnAnswered,
    ) -> None:
        self.limits = limits
        self.connections: set[web.Connection] = set()
        self._is_empty = asyncio.Event()
        self._application = application
        self._ids = ids
        self._access_log = access_log
        self._on_answered = on_answered
        self._common_headers = b""
        self._second = 0

    def connect(self, connection: web.Connection) -> None:
        self.connections.add(connection)

    def disconnect(self, connection: web.Connection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._is_empty.set()

    def common_headers(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._common_headers = f"Date: {formatdate(second, usegmt=True)}\r\nServer: workq\r\n".encode()
        return self._common_headers

    def answer(self, request: web.Request) -> Coroutine[Any, Any, web.Response]:
        given = request.headers.get("X-Request-Id")
        request.id = given if given is not None and _is_harmless(given) else self._ids.new()
        return self._application.answer(request)

    def on_answered(self, request: web.Request, response: web.Response, size: int) -> None:
        seconds = time.perf_counter() - request.began_s
        self._on_answered(request, response.status, seconds)
        if self._access_log is not None:
            self._access_log.write(request, response.status, size, seconds)

    def on_hung_up(self, request: web.Request) -> None:
        self._on_answered(request, 0, time.perf_counter() - request.began_s)

    async def stop(self, drain_s: float) -> None:
        """Close the connections: those in the middle of a request when that is answered, or when the time is over."""
        for connection in list(self.connections):
            connection.shut_down()
        if not self.connections:
            return
        self._is_empty.clear()
        try:
            await asyncio.wait_for(self._is_empty.wait(), drain_s)
        except TimeoutError:
            logger.warning("closing HTTP connections whose requests took more than %g s", drain_s)
            for connection in list(self.connections):
                connection.abort()
            await self._is_empty.wait()


def _is_harmless(request_id: str) -> bool:
    return 0 < len(request_id) <= _LONGEST_REQUEST_ID and request_id.isascii() and request_id.isprintable()

"""Listeners: each serves one application, on the event loop of the TCP door, and stops in good order."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, cast

from workq.http import web
from workq.http.access_log import AccessLog
from workq.http.application import BODY_SECONDS, LARGEST_BODY, Application
from workq.http.service import ApplicationService, OnAnswered, RequestIds
from workq.run_queue import RunQueue
from workq.settings import Address

_BACKLOG: Final = 4096


class Door(Protocol):
    """The API of another system: mounted below our own API, and at the root of a listener of its own."""

    def application(self) -> Application:
        """A new application that serves it."""


class HttpServer:
    """All HTTP listeners of a server.

    idle_timeout_s  how long a connection may take to send the (next) head
    access_log      where a line about each request goes; None for nowhere
    on_answered     called with each request, the status of its answer (0 when the client hung up) and its seconds
    run_queue       where requests wait for their turn, and who else works on that event loop does
    """

    def __init__(
        self, idle_timeout_s: float, access_log: AccessLog | None, on_answered: OnAnswered, run_queue: RunQueue
    ) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._access_log = access_log
        self._on_answered = on_answered
        self._run_queue = run_queue
        self._ids = RequestIds()
        self._listeners: list[tuple[asyncio.Server, ApplicationService, float]] = []

    async def listen(self, application: Application, address: Address, drain_s: float) -> Sequence[Address]:
        """Serve `application` at `address`; return the address or, for a name that has several, all of them.

        drain_s  how long requests may take to be answered when the server stops

        Raises `OSError` where nobody can listen.
        """
        await application.start()
        loop = asyncio.get_running_loop()
        body_s = min(BODY_SECONDS, application.time_limit_s or BODY_SECONDS)
        limits = web.Limits(self._idle_timeout_s, body_s, LARGEST_BODY)
        service = ApplicationService(
            application, limits, self._ids, self._access_log, self._on_answered, self._run_queue, address.host
        )
        listener = await loop.create_server(
            lambda: cast(asyncio.BaseProtocol, web.Connection(service, loop)),
            address.host,
            address.port,
            backlog=_BACKLOG,
            reuse_address=True,
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

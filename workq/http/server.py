"""Listeners: each serves one application, on the event loop of the TCP door, and stops in good order.

Before a request reaches its application it gets an id, which its answer carries too; when it is answered the access log
gets a line.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final, Protocol, TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from workq.http.access_log import AccessLog
from workq.http.application import BEGAN_S, REQUEST_ID, Handler
from workq.settings import Address

OnAnswered: TypeAlias = Callable[[web.Request, int, float], None]

_BACKLOG: Final = 4096
# Longer ids of requests are replaced by one of ours; so are those that could harm a log.
_LONGEST_REQUEST_ID: Final = 128
_ID_HEADER: Final = "X-Request-Id"


class Door(Protocol):
    """The API of another system: mounted below our own API, and at the root of a listener of its own."""

    def application(self) -> web.Application:
        """A new application that serves it."""


class HttpServer:
    """All HTTP listeners of a server.

    idle_timeout_s  how long a connection may take to send the (next) head
    access_log      where a line about each request goes; None for nowhere
    on_answered     called with each request, the status of its answer (0 when the client hung up) and its seconds
    """

    def __init__(self, idle_timeout_s: float, access_log: AccessLog | None, on_answered: OnAnswered) -> None:
        self._options: dict[str, Any] = {
            "keepalive_timeout": idle_timeout_s,
            "handler_cancellation": True,  # the command of a client that hung up is cancelled
            "access_log": None,
            "logger": _protocol_logger,
        }
        if access_log is not None:
            self._options |= {"access_log": access_log.logger, "access_log_class": access_log.writer}
        self._on_answered = on_answered
        self._runners: list[web.AppRunner] = []
        self._ids = count(1)
        self._id_prefix = os.urandom(4).hex()

    async def listen(self, application: web.Application, address: Address, drain_s: float) -> Sequence[Address]:
        """Serve `application` at `address`; return the address or, for a name that has several, all of them.

        drain_s  how long requests may take to be answered when the server stops

        Raises `OSError` where nobody can listen.
        """
        application.middlewares.insert(0, self._identify)
        runner = web.AppRunner(application, shutdown_timeout=drain_s, **self._options)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, address.host, address.port, backlog=_BACKLOG, reuse_address=True)
        await site.start()
        return [Address(name[0], name[1]) for name in runner.addresses]

    async def stop(self) -> None:
        """Stop listening, close idle connections, let requests be answered for a bounded time."""
        await asyncio.gather(*[runner.cleanup() for runner in self._runners])
        self._runners.clear()

    def connections(self) -> int:
        """How many clients are connected."""
        return sum([len(runner.server.connections) for runner in self._runners if runner.server is not None])

    @web.middleware
    async def _identify(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request.headers.get(_ID_HEADER)
        if request_id is None or not _is_harmless(request_id):
            request_id = f"{self._id_prefix}-{next(self._ids)}"
        request[REQUEST_ID] = request_id
        began_s = request[BEGAN_S] = time.perf_counter()
        try:
            response = await handler(request)
        except asyncio.CancelledError:
            self._on_answered(request, 0, time.perf_counter() - began_s)
            raise
        self._on_answered(request, response.status, time.perf_counter() - began_s)
        response.headers[_ID_HEADER] = request_id
        response.headers["Server"] = "workq"
        return response


def _is_harmless(request_id: str) -> bool:
    return 0 < len(request_id) <= _LONGEST_REQUEST_ID and request_id.isascii() and request_id.isprintable()


class _ProtocolLogger(logging.Logger):
    """For what aiohttp says. That somebody sent something else than HTTP is no trouble of the server's."""

    def debug(self, msg: object, *args: object, **options: Any) -> None:
        self._tell(logging.DEBUG, msg, args, options)

    def exception(self, msg: object, *args: object, **options: Any) -> None:
        self._tell(logging.ERROR, msg, args, options)

    def _tell(self, level: int, msg: object, args: tuple[object, ...], options: dict[str, Any]) -> None:
        error = options.get("exc_info")
        if isinstance(error, HttpProcessingError):
            # Its traceback leads in a circle to the connection that holds it, and nobody collects those here.
            error.__traceback__ = None
            level, msg, args, options = logging.DEBUG, f"{msg}: %s", (*args, error.message), {}
        if self.isEnabledFor(level):
            self._log(level, msg, args, **options)


_protocol_logger: Final = _ProtocolLogger("workq.http.protocol")
_protocol_logger.parent = logging.getLogger("workq.http")

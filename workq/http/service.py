"""What the connections of a listener are for: each request gets an id, its answer, and a line in the access log."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from itertools import count
from typing import Any, Final, TypeAlias

from workq.http import web
from workq.http.access_log import AccessLog
from workq.http.application import Application
from workq.run_queue import RunQueue
from workq.values import shown

OnAnswered: TypeAlias = Callable[[web.Request, int, float], None]

# Longer ids of requests are replaced by one of ours; so are those that could harm a log.
_LONGEST_REQUEST_ID: Final = 128

logger = logging.getLogger("workq.http")


class RequestIds:
    """Names for requests, unique among those of all processes."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._prefix = os.urandom(4).hex()

    def new(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"


class ApplicationService:
    """Serves an application to the connections of one listener: see `web.Service`."""

    def __init__(
        self,
        application: Application,
        limits: web.Limits,
        ids: RequestIds,
        access_log: AccessLog | None,
        on_answered: OnAnswered,
        run_queue: RunQueue,
        host: str = "",
    ) -> None:
        """`host` is where it listens, perhaps a name."""
        self.limits = limits
        self.run_queue = run_queue
        self.connections: set[web.Connection] = set()
        self._is_empty = asyncio.Event()
        self._application = application
        self._host = host.lower()
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
        if request.loopback_port:
            host = request.headers.get("Host", "")
            if _is_led_here(host, request.loopback_port, self._host):
                request.refused = (421, f"{shown(host)} is no name of this server; localhost, or an address, is")
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


def _is_led_here(host: str, port: int, own_name: str) -> bool:
    """Whether a browser asks that somebody's name led to a loopback address: for it we are a part of his site then.

    Such a name has our port behind it; that of a proxy, which passes on what it was asked for, has its own or none. A
    name without a dot cannot be had, nor can one that is an address.
    """
    name, _, given_port = host.partition(":")
    if "." not in name or (given_port or "80") != str(port):
        return False
    name = name.lower().rstrip(".")
    if name.endswith(".localhost") or name.rpartition(".")[2].isdigit():
        return False
    return name not in (own_name, socket.gethostname().lower())


def _is_harmless(request_id: str) -> bool:
    return 0 < len(request_id) <= _LONGEST_REQUEST_ID and request_id.isascii() and request_id.isprintable()

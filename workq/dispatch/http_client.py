"""Connections to web workers: made, used again, and dropped. Knows nothing of jobs.

A request is one write, and its answer is given to a `Client`, without tasks or streams between: this is done for each
job. To connect is a coroutine, for it is rare.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol, cast

import aiohappyeyeballs

from workq.dispatch.addresses import AddressDenied, AddressRules, is_literal
from workq.dispatch.answer import HEAD_LIMIT, Answer, AnswerReader, BadAnswer
from workq.dispatch.request import Origin, PushFailed, Request, one_line
from workq.dispatch.resolver import Address, CheckedResolver
from workq.run_queue import RunQueue
from workq.values import shown

# Longer than any network needs; jobs without a timeout would wait for minutes at an address where nobody answers.
CONNECT_S = 30.0
# How long to wait for an address before the next one is tried beside.
_NEXT_ADDRESS_S: Final = 0.25
# How long an idle connection is kept. Web workers close theirs after 2 s or more, and what was sent just then is lost.
_IDLE_S = 1.5
# Shorter bodies are sent in one piece with the head: to copy them costs less than another buffer.
_JOINED_SIZE: Final = 16_384


def default_tls() -> ssl.SSLContext:
    """Trusts what the system trusts. It takes a while to make."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Client(Protocol):
    """Who has sent a request. One of these is called, once, unless the connection is dropped before."""

    def on_answer(self, answer: Answer) -> None:
        """The answer has come."""

    def on_failure(self, failure: PushFailed, unheard: bool) -> None:
        """There is no answer, or not a whole one.

        unheard  whether the connection had been used before, and broke without a word: perhaps it was closed before
                 the request came there
        """


class Connection:
    """A connection to a web worker, which carries one request at a time: an `asyncio.Protocol` by its methods."""

    __slots__ = (
        "origin",
        "idle_since_s",
        "_pool",
        "_run_queue",
        "_transport",
        "_reader",
        "_client",
        "_sent",
        "_received",
    )

    def __init__(self, origin: Origin, pool: "Pool | None", run_queue: RunQueue) -> None:
        """`pool` is where it goes after an answer; without one it is closed."""
        self.origin = origin
        self.idle_since_s = 0.0
        self._pool = pool
        self._run_queue = run_queue
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._client: Client | None = None
        self._sent = 0
        # What waits for its turn; or what came before the first request: a banner, or that we are not welcome.
        self._received = b""

    def is_open(self) -> bool:
        """Whether a request can be sent, as far as known."""
        return self._transport is not None and not self._transport.is_closing()

    def status_code(self) -> int:
        """The status of the answer that is coming; 0 as long as its head is not complete."""
        return self._reader.status_code

    def send(self, request: Request, client: Client) -> None:
        """Send `request`; `client` is told what comes of it. Nothing else may be under way."""
        self._client = client
        self._sent += 1
        self._reader.begin()
        if self._transport is None:  # it broke just now
            asyncio.get_running_loop().call_soon(self._end, None)
            return
        body = request.body
        if body is None or len(body) <= _JOINED_SIZE:
            self._transport.write(request.head + body if body else request.head)
        else:
            self._transport.writelines((request.head, body))
        if self._received:
            self._run_queue.add(self._read)

    def drop(self) -> None:
        """Close it at once. No client is told any more."""
        self._client = None
        self._received = b""
        if self._transport is not None:
            self._transport.abort()

    # -- what the event loop calls ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        waits = bool(self._received)
        self._received += data
        if self._client is None:
            if self._sent or len(self._received) > HEAD_LIMIT:  # nobody has asked
                self.drop()
        elif len(self._received) > HEAD_LIMIT:
            self._read()
        elif not waits:
            self._run_queue.add(self._read)

    def eof_received(self) -> None:
        self._read()
        self._end(None)

    def pause_writing(self) -> None:
        """There is nothing to hold back: a request is written as a whole."""

    def resume_writing(self) -> None:
        """And nothing to go on with."""

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._read()
        self._end(error)
        self._reader.close()

    def _read(self) -> None:
        """Read what has come."""
        data, self._received = self._received, b""
        if not data or self._client is None:
            return
        try:
            if self._reader.feed(data):
                self._finish()
        except BadAnswer as error:
            self._fail_badly(error)

    # -- the end of a request --------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """The answer is complete."""
        client, self._client = self._client, None
        assert client is not None
        answer = self._reader.take()
        transport = self._transport
        if (
            self._pool is not None
            and self._reader.is_reusable()
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()  # else it was answered before it was sent
        ):
            self._pool.keep(self)
        else:
            self.drop()
        client.on_answer(answer)

    def _end(self, error: Exception | None) -> None:
        """The other side has closed the connection, or it broke."""
        if self._client is None:
            return
        if error is not None:
            text = reason(error)
            self._fail(f": {text}", text)
            return
        try:
            if self._reader.end():
                self._finish()
            else:
                self._fail(" closed the connection without an answer", "the connection was closed")
        except BadAnswer as bad:
            self._fail_badly(bad)

    def _fail_badly(self, error: BadAnswer) -> None:
        text = one_line(str(error))
        self._fail(f" does not answer in HTTP: {text}", text)

    def _fail(self, without_answer: str, in_body: str) -> None:
        """There will be no (whole) answer: what to say of that behind the place, and of a body that broke off."""
        client, self._client = self._client, None
        assert client is not None
        reader = self._reader
        if reader.status_code:
            failure = PushFailed("body", f"the answer's body broke off after {reader.body_size} bytes: {in_body}")
        else:
            failure = PushFailed("connection", f"{self.origin.place()}{without_answer}")
        unheard = self._sent > 1 and not reader.has_begun()
        self.drop()
        client.on_failure(failure, unheard)


class Pool:
    """Connections to wherever `rules` let them lead."""

    def __init__(
        self, rules: AddressRules, run_queue: RunQueue, make_tls: Callable[[], ssl.SSLContext] = default_tls
    ) -> None:
        """`run_queue` is where answers wait for their turn."""
        self._resolver = CheckedResolver(rules)
        self._run_queue = run_queue
        self._make_tls = make_tls
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[Origin, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection, if there is one that the other side has not closed; the one last used."""
        idle = self._idle.get(origin)
        if idle is None:
            return None
        oldest_s = asyncio.get_running_loop().time() - _IDLE_S
        while idle:
            connection = idle.pop()
            if connection.is_open() and connection.idle_since_s >= oldest_s:
                return connection
            connection.drop()
        return None

    def keep(self, connection: Connection) -> None:
        """A connection that has done its work, for the next one."""
        loop = asyncio.get_running_loop()
        connection.idle_since_s = loop.time()
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = []
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_IDLE_S, self._sweep)

    async def connect(self, origin: Origin, *, keep_alive: bool) -> Connection:
        """A new connection, for one request or, with `keep_alive`, for others after it. Raises `PushFailed`.

        The host must have been checked as far as its name goes (`AddressRules.check_host`).
        """
        place = origin.place()
        addresses = await self._addresses(origin.host)
        pool = self if keep_alive else None
        try:
            tls = await self._get_tls() if origin.scheme == "https" else None
            async with asyncio.timeout(CONNECT_S):
                return await _connect(origin, addresses, tls, lambda: Connection(origin, pool, self._run_queue))
        except ssl.SSLError as error:
            raise PushFailed("connection", f"cannot connect to {place} with TLS: {reason(error)}") from None
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                text = f"no answer within {CONNECT_S:g} s"
            else:
                text = reason(error)
            raise PushFailed("connection", f"cannot connect to {place}: {text}") from None

    def close(self) -> None:
        """Close the idle connections. The others are their clients' to drop."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for idle in self._idle.values():
            for connection in idle:
                connection.drop()
        self._idle.clear()

    async def _addresses(self, host: str) -> list[Address]:
        if is_literal(host):
            return [(socket.AF_INET6 if ":" in host else socket.AF_INET, host)]
        try:
            return await self._resolver.resolve(host)
        except AddressDenied as denied:
            raise PushFailed("connection", str(denied)) from None
        except OSError as error:
            raise PushFailed("connection", f"cannot find the host {shown(host)}: {reason(error)}") from None

    async def _get_tls(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(self._make_tls)  # it reads the certificates that the system trusts
        return self._tls

    def _sweep(self) -> None:
        """Drop connections that have been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest_s = loop.time() - _IDLE_S
        for origin, idle in list(self._idle.items()):
            kept = [each for each in idle if each.is_open() and each.idle_since_s > oldest_s]
            if len(kept) < len(idle):
                for connection in set(idle).difference(kept):
                    connection.drop()
            if kept:
                idle[:] = kept
            else:
                del self._idle[origin]
        self._sweeper = loop.call_later(_IDLE_S, self._sweep) if self._idle else None


async def _connect(
    origin: Origin, addresses: list[Address], tls: ssl.SSLContext | None, make: Callable[[], Connection]
) -> Connection:
    loop = asyncio.get_running_loop()
    places = [
        (
            family,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
            "",
            (address, origin.port, 0, 0) if family == socket.AF_INET6 else (address, origin.port),
        )
        for family, address in addresses
    ]
    connected = await aiohappyeyeballs.start_connection(places, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    # Certificates have names without the dot that ends a name.
    server_hostname = None if tls is None else origin.host.rstrip(".")
    try:
        _, connection = await loop.create_connection(
            lambda: cast(asyncio.BaseProtocol, make()), sock=connected, ssl=tls, server_hostname=server_hostname
        )
    except BaseException:
        connected.close()
        raise
    return cast(Connection, connection)


def reason(error: BaseException) -> str:
    """What an error says, without what we say ourselves."""
    error.__traceback__ = None  # its frames hold it: a circle, and nobody collects those here
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    return one_line(str(error) or type(error).__name__)

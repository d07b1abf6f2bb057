"""One HTTP client: requests in, answers out, in order, and memory bounded whatever it sends, or does not read.

Bytes are parsed by httptools (llhttp, the parser of Node.js), which refuses what could be understood in two ways. A
request is served when all of it is there. Those that a client sends ahead wait unparsed, and when there is too much of
them nothing more is read.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Protocol, cast

import attrs
import httptools

from workq.http.web.request import Headers, Request
from workq.http.web.response import Response
from workq.run_queue import RunQueue

logger = logging.getLogger("workq.http")

# A request line and headers. Proxies and browsers stop far below.
LARGEST_HEAD: Final = 65_536
# Bytes that are parsed at a time: of the requests in them only the first is served at once.
_SLICE: Final = 16_384
# Bytes a client may send ahead, behind a request that is being served.
READ_AHEAD: Final = 65_536
# Bytes a slow reader may leave unread before it is not served.
WRITE_AHEAD: Final = 262_144
# How long somebody who is refused in the middle of his request may go on sending it: if the connection was closed at
# once, he might not get to read why.
LINGER_S = 5.0
_NEVER_S: Final = float("inf")

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"  # needs to be said to clients of HTTP/1.0 only


@attrs.frozen
class Limits:
    """What a client may do.

    idle_s        how long it may take to send the (next) head, or to read what it was sent
    body_s        how long it may take to send a body, once its head has come
    largest_body  in bytes
    """

    idle_s: float
    body_s: float
    largest_body: int


class Service(Protocol):
    """What connections are for."""

    @property
    def limits(self) -> Limits:
        """Of each client."""

    @property
    def run_queue(self) -> RunQueue:
        """Where clients wait for their turn."""

    def connect(self, connection: "Connection") -> None:
        """A client is there."""

    def disconnect(self, connection: "Connection") -> None:
        """And is gone."""

    def common_headers(self) -> bytes:
        """The lines that each answer has."""

    def answer(self, request: Request) -> Coroutine[Any, Any, Response]:
        """What is to be said."""

    def on_answered(self, request: Request, response: Response, size: int) -> None:
        """`request` has been answered, with so many bytes, head included."""

    def on_hung_up(self, request: Request) -> None:
        """The client did not wait for its answer."""


class Connection:
    """A client of a service: an `asyncio.Protocol` by its methods, for a compiled class has no interpreted base."""

    __slots__ = (
        "_service",
        "_loop",
        "_limits",
        "_transport",
        "_remote",
        "_loopback_port",
        "_parser",
        "_target",
        "_fields",
        "_head_size",
        "_parsed_size",
        "_incoming",
        "_body",
        "_is_timed",
        "_continue_due",
        "_upgrades",
        "_resumes",
        "_ahead",
        "_unparsed",
        "_read_paused",
        "_refusal",
        "_ends",
        "_is_cut",
        "_lingers",
        "_at_eof",
        "_draining",
        "_current",
        "_task",
        "_writable",
        "_deadline_s",
        "_timer",
        "_timer_s",
    )

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop
        self._limits = service.limits
        self._remote = ""
        self._loopback_port = 0
        # The request that is coming in:
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)  # None when all is over
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self._head_size = 0
        self._parsed_size = 0
        self._incoming: Request | None = None  # when its head has come
        self._body: bytes | bytearray = b""
        self._is_timed = False  # whether the deadline is that of its body
        self._continue_due = False  # the client waits for a word before it sends the body
        self._upgrades = False  # see `_resume`
        self._resumes = False
        # Those that have come:
        self._ahead: deque[Request] = deque()
        self._unparsed = b""
        self._read_paused = False
        self._refusal: tuple[int, str] | None = None  # what to say behind their answers, since no request can be made
        self._ends = False  # no request comes behind them; what still comes is thrown away
        self._is_cut = False  # because one was refused before all of it was there
        self._lingers = False  # and has been told so
        self._at_eof = False  # the client sends no more
        self._draining = False  # the server stops
        # The one that is being served:
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None  # pending while the client does not read
        # One timer per connection, which looks at the deadline when it fires, so moving that costs nothing.
        self._deadline_s = _NEVER_S
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = _NEVER_S

    # -- called by the transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._remote = (self._transport.get_extra_info("peername") or ("",))[0]
        ours = self._transport.get_extra_info("sockname") or ("", 0)
        if ours[0].startswith(("127.", "::ffff:127.")) or ours[0] == "::1":
            self._loopback_port = ours[1]
        self._service.connect(self)
        self._allow(self._limits.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._service.disconnect(self)
        self._parser = None  # it holds us as we hold it
        self._drop_rest()
        self._deadline_s = _NEVER_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._give_up()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests arrived."""
        if self._ends:
            return
        if self._current is None and self._writable is None and not self._unparsed:
            self._service.run_queue.add(self._on_turn)
        self._unparsed += data
        if len(self._unparsed) > READ_AHEAD:
            self._read_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more. It gets its answers; if it waits for something, it is taken to be gone."""
        self._at_eof = True
        if self._current is None and not self._ahead and not self._unparsed:
            self._close()
        self._loop.call_soon(self._notice_hang_up)  # when a handler that is about to begin has said whether it waits
        return True  # keeps the other direction open

    def pause_writing(self) -> None:
        """The client does not read."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """The client reads again."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        self._serve()

    # -- called by the server ------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Close: at once if the client sends nothing, else when the request that it is sending has been answered."""
        self._draining = True
        if self._current is None and not self._parsed_size and not self._unparsed and not self._lingers:
            self._close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # -- called by the parser ------------------------------------------------------------------------------------
    # Nothing is raised here, it would become an error of the parser: what is wrong is remembered.

    def on_url(self, target: bytes) -> None:
        """What is asked for, or a part of it."""
        if not self._resumes:
            self._target += target
            self._head_size += len(target)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after a chunked body, too, where it says nothing to us."""
        self._head_size += len(name) + len(value) + 4
        if self._head_size > LARGEST_HEAD:
            self._refuse_head()
        elif self._incoming is None:
            name = name.lower()
            if name in self._fields:
                value = self._fields[name] + b", " + value
            self._fields[name] = value

    def on_headers_complete(self) -> None:
        """The head is complete."""
        parser = self._parser
        if self._resumes or self._ends or parser is None:
            return
        fields, self._fields = self._fields, {}
        target, self._target = self._target.decode("latin-1"), b""
        version = parser.get_http_version()
        method = parser.get_method().decode()
        if version != "1.1" and version != "1.0":
            self._refuse(505, f"HTTP/{version} is not spoken here, HTTP/1.1 is")
        elif self._head_size > LARGEST_HEAD:
            self._refuse_head()
        elif method == "CONNECT" or (target[0] not in "/*" and "://" not in target):
            self._refuse(400, f"{method} of {target[:100]}: this is no proxy")
        elif b"," in fields.get(b"host", b"," if version == "1.1" else b""):
            self._refuse(400, "There must be one header Host")
        else:
            request = self._incoming = Request(method, target, Headers(fields), self._remote)
            request.loopback_port = self._loopback_port
            request.http_1_0 = version == "1.0"
            request.keep_alive = parser.should_keep_alive()
            self._look_at(request, fields, parser)

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if self._incoming is None:
            return
        if not self._body:
            self._body = data  # as a rule that is all
        elif isinstance(self._body, bytes):
            self._body = bytearray().join((self._body, data))
        else:
            self._body += data
        if len(self._body) > self._limits.largest_body:
            self._refuse_body()

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._incoming
        if request is None or self._upgrades:
            return
        request.body = bytes(self._body)
        self._take(request)
        self._ends = not request.keep_alive

    # -- inside: requests in -------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        """Parse `data` up to the end of a request, or a bit further. What is left goes to `_unparsed`."""
        if len(data) <= _SLICE:
            self._feed(data)
            self._unparsed = b""
            return
        rest = memoryview(data)
        while rest and not self._ahead and not self._ends:
            self._feed(rest[:_SLICE])
            rest = rest[_SLICE:]
        self._unparsed = b"" if self._ends else bytes(rest)

    def _feed(self, data: bytes | memoryview) -> None:
        self._parsed_size += len(data)
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._resume(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(400, f"This is not HTTP: {error}")
        else:
            # Beyond what is counted: a header that does not end, white space, a body in tiny chunks.
            if self._incoming is None:
                if self._parsed_size > LARGEST_HEAD + 2 * _SLICE:
                    self._refuse_head()
            elif self._parsed_size > LARGEST_HEAD + 2 * (self._limits.largest_body + _SLICE):
                self._refuse_body()

    def _look_at(self, request: Request, fields: dict[bytes, bytes], parser: httptools.HttpRequestParser) -> None:
        """What in the head of a request is about the connection."""
        if b"transfer-encoding" in fields and (request.http_1_0 or fields[b"transfer-encoding"].lower() != b"chunked"):
            self._refuse(501, "Transfer-Encoding: only chunked is understood, and only in HTTP/1.1")
        elif int(fields.get(b"content-length", b"0")) > self._limits.largest_body:  # the parser has looked at it
            self._refuse_body()
        elif b"expect" in fields:
            if fields[b"expect"].lower() != b"100-continue":
                self._refuse(417, "Expect: only 100-continue is understood")
            self._continue_due = not request.http_1_0
        if b"upgrade" in fields:
            self._upgrades = parser.should_upgrade()

    def _resume(self, rest: bytes | memoryview) -> None:
        """Go on with a request whose client would like to change to another protocol, as if it had not said so.

        To the parser what comes now is not HTTP any more; so another one reads the body.
        """
        self._upgrades = False
        request = self._incoming
        if request is None:
            return
        parser = self._parser = httptools.HttpRequestParser(self)
        framing = [
            f"{name}: {value}\r\n"
            for name in ("Transfer-Encoding", "Content-Length")
            if (value := request.headers.get(name)) is not None
        ]
        self._resumes = True
        parser.feed_data(f"POST / HTTP/1.1\r\n{''.join(framing)}\r\n".encode())
        self._resumes = False
        if rest and not self._ends:
            self._feed(rest)

    def _take(self, request: Request) -> None:
        """`request` is to be served, and another one may come in."""
        self._ahead.append(request)
        self._incoming = None
        self._body = b""
        self._head_size = self._parsed_size = 0
        self._is_timed = self._continue_due = False

    def _refuse_head(self) -> None:
        long_target = not self._fields and self._incoming is None
        what = "request line" if long_target else "head"
        self._refuse(414 if long_target else 431, f"The {what} is too long: at most {LARGEST_HEAD} bytes are allowed")

    def _refuse(self, status: int, text: str) -> None:
        """Say so, behind the answers to the requests before, and end the connection."""
        if not self._ends:
            self._refusal = (status, text)
            self._ends = self._is_cut = True
            self._incoming = None
            self._body = b""

    def _refuse_body(self, status: int = 413, text: str = "") -> None:
        """Let the request be answered in the words of its API, without its body."""
        request = self._incoming
        if request is not None and not self._ends:
            text = text or f"The body is too long: at most {self._limits.largest_body} bytes are allowed"
            request.refused = (status, text)
            request.keep_alive = False
            self._take(request)
            self._ends = self._is_cut = True

    def _drop_rest(self) -> None:
        """Serve nothing more."""
        self._ends = True
        self._ahead.clear()
        self._unparsed = b""
        self._incoming = None
        self._body = b""

    # -- inside: answers out -------------------------------------------------------------------------------------

    def _on_turn(self) -> None:
        """The turn of what has come."""
        if self._parser is not None:  # else the client is gone
            self._serve()

    def _serve(self) -> None:
        """Serve requests until there are none, one has to wait, or the client does not read."""
        while self._current is None and self._writable is None:
            if self._ahead:
                self._start(self._ahead.popleft())
            elif self._unparsed:
                self._parse(self._unparsed)
            else:
                self._rest()
                return

    def _start(self, request: Request) -> None:
        # A task for each, begun in the next turn: to run a handler up to where it waits at once saved less than 10 %.
        self._current = request
        self._deadline_s = _NEVER_S
        request.began_s = time.perf_counter()
        self._task = self._loop.create_task(self._work(request))
        if self._at_eof:
            self._loop.call_soon(self._notice_hang_up)

    async def _work(self, request: Request) -> None:
        """Answer `request`."""
        try:
            response = await self._service.answer(request)
            if self._task is None:
                return  # given up, whatever the handler made of that
            if response.pieces is None:
                self._send(request, response)
            else:
                await self._send_pieces(request, response, response.pieces)
        except Exception:
            logger.exception("request %s (%s %s) failed", request.id, request.method, request.path)
            self._transport.abort()
        self._current = self._task = None
        if not self._transport.is_closing():
            self._allow(self._limits.idle_s)
            self._serve()

    def _notice_hang_up(self) -> None:
        if self._current is not None and self._current.waits:
            self._give_up()
            self._transport.abort()

    def _give_up(self) -> None:
        """Nobody waits for the answer to the request that is being served."""
        if self._task is not None and self._current is not None:
            self._task.cancel()
            # Told when the handler has ended, so that nothing of it is left when it is counted.
            self._task.add_done_callback(partial(_tell_hung_up, self._service, self._current))
            self._current = self._task = None  # whose exception leads back to us

    def _rest(self) -> None:
        """Nothing is to be served for now: end, or wait for more."""
        if self._read_paused and not self._unparsed:
            self._read_paused = False
            self._transport.resume_reading()
        if self._lingers or self._transport.is_closing():
            return
        if self._refusal is not None:
            status, text = self._refusal
            logger.debug("refused %s: %d %s", self._remote, status, text)
            response = Response(status=status, text=f"{text}\n")
            self._transport.write(response.head("", self._service.common_headers(), _CLOSE) + response.body)
        if self._is_cut:
            self._linger()
        elif self._ends or self._at_eof or (self._draining and not self._parsed_size):
            self._close()
        elif self._incoming is not None and not self._is_timed:
            self._is_timed = True
            self._allow(self._limits.body_s)
            if self._continue_due:
                self._continue_due = False
                self._transport.write(_CONTINUE)

    def _send(self, request: Request, response: Response) -> None:
        head, response = self._head(request, response)
        data = head if request.method == "HEAD" else head + response.body
        self._transport.write(data)
        self._service.on_answered(request, response, len(data))

    async def _send_pieces(self, request: Request, response: Response, pieces: AsyncGenerator[bytes, None]) -> None:
        """Send the answer while it is made, as fast as the client reads it."""
        chunked = not request.http_1_0
        response.keep_alive = response.keep_alive and chunked  # else its end is that of the connection
        async with aclosing(pieces):
            head, response = self._head(request, response, chunked)
            self._transport.write(head)
            size = len(head)
            if request.method != "HEAD" and response.pieces is not None:
                async for piece in pieces:
                    data = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                    if piece:  # an empty one would be the end
                        self._transport.write(data)
                        size += len(data)
                    if self._writable is not None:
                        self._allow(self._limits.idle_s)
                        await self._writable
                        self._deadline_s = _NEVER_S
                if chunked:
                    self._transport.write(b"0\r\n\r\n")
        self._service.on_answered(request, response, size)

    def _head(self, request: Request, response: Response, chunked: bool = False) -> tuple[bytes, Response]:
        """The head of `response`, and the response itself, which is another if it has no proper head."""
        if not (request.keep_alive and response.keep_alive) or self._draining:
            self._drop_rest()
        if self._ends and not self._ahead and self._refusal is None:
            line = _CLOSE
        else:
            line = _KEEP_ALIVE if request.http_1_0 else b""
        common = self._service.common_headers()
        try:
            return response.head(request.id, common, line, chunked), response
        except ValueError as error:
            logger.error("request %s (%s %s): %s", request.id, request.method, request.path, error)
            response = Response(status=500, text=f"The server failed; its log says more at request {request.id}\n")
            return response.head(request.id, common, line), response

    # -- inside: the end -----------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Close when the client has read what was written, which it does not have for ever."""
        self._drop_rest()
        self._transport.close()
        self._allow(self._limits.idle_s)

    def _linger(self) -> None:
        """Say that this is the end, and let the client come to its own."""
        if self._at_eof:
            self._close()
        else:
            self._lingers = True
            self._transport.write_eof()
            self._allow(LINGER_S)

    def _allow(self, seconds: float) -> None:
        """Let what is waited for now take so long."""
        now_s = self._loop.time()
        self._deadline_s = now_s + seconds
        if self._deadline_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(now_s, seconds)

    def _set_timer(self, now_s: float, seconds: float) -> None:
        self._timer_s = now_s + seconds
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _on_timer(self) -> None:
        self._serve()  # what came in time and waits for its turn has come in time
        now_s = self._loop.time()
        left_s = self._deadline_s - now_s
        if left_s > 0:
            self._set_timer(now_s, min(left_s, self._limits.idle_s))
            return
        self._timer = None
        self._timer_s = _NEVER_S
        if self._lingers or self._writable is not None or self._transport.is_closing():
            self._transport.abort()
        elif self._incoming is not None:
            self._refuse_body(408, f"The body did not come within {self._limits.body_s:g} s")
            self._serve()
        else:
            self._close()


def _tell_hung_up(service: Service, request: Request, task: asyncio.Task[None]) -> None:
    service.on_hung_up(request)

"""Whatever the bytes and their chunks: the same answers in order, no exception, bounded memory, silence after the end.

Besides, one request is served at a time.
"""

import asyncio
import atexit
import logging
from random import Random
from typing import Any, Final
from zlib import crc32

from workq.http.application import Application, plain_error
from workq.http.web import Connection, Limits, Request, Response
from workq.http.web.connection import LARGEST_HEAD
from workq.run_queue import RunQueue, nobody_else

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LARGEST_BODY: Final = 100
_loop: Final = asyncio.new_event_loop()
atexit.register(_loop.close)
# Requests that were parsed before the first of them was answered come on top of one head and one body.
_MOST_HELD: Final = LARGEST_HEAD + _LARGEST_BODY


class Transport:
    """Takes what is written; says that it is closed as soon as it is told to."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False  # or about to be: nothing may be written any more
        self.ended = False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else ("127.0.0.1", 1)

    def setsockopt(self, *option: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed, "something was written after the end"
        assert not self.ended, "something was written after the end"
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        raise AssertionError("something went wrong in the answering of a request")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Service:
    """Answers with what it was asked, and remembers it."""

    limits = Limits(60.0, 60.0, _LARGEST_BODY)

    def __init__(self) -> None:
        self.application = Application(plain_error)
        for method in ("GET", "POST"):
            self.application.router.add_route(method, "/{rest:.*}", self._echo)
        self.application.router.add_get("/wait", self._wait)
        self.run_queue = RunQueue(nobody_else)
        self.begun = self.answered = 0

    def connect(self, connection: Connection) -> None:
        pass

    def disconnect(self, connection: Connection) -> None:
        pass

    def common_headers(self) -> bytes:
        return b""

    def answer(self, request: Request) -> Any:
        assert self.begun == self.answered, "two requests are served at a time"
        assert len(request.body) <= _LARGEST_BODY
        self.begun += 1
        return self.application.answer(request)

    def on_answered(self, request: Request, response: Response, size: int) -> None:
        self.answered += 1

    def on_hung_up(self, request: Request) -> None:
        raise AssertionError("somebody hung up")

    async def _echo(self, request: Request) -> Response:
        said = repr((request.method, request.path, dict(request.query), request.match_info)).encode()
        return Response(body=said + request.body, headers={"X-A": request.headers.get("A", "none")})

    async def _wait(self, request: Request) -> Response:
        for _ in range(3):
            await asyncio.sleep(0)
        return await self._echo(request)


def check(data: bytes) -> None:
    """Raise if `data` breaks the promise."""
    whole = answers([data])
    assert answers([data[i : i + 1] for i in range(len(data))]) == whole, "byte by byte it means something else"
    assert answers(chunks(data)) == whole, "in chunks it means something else"


def answers(parts: list[bytes]) -> bytes:
    """What is answered to the bytes of `parts`, which come one after the other, and then no more."""
    logging.disable()  # what is wrong with a request
    try:
        return _loop.run_until_complete(_answers(parts))
    finally:
        logging.disable(logging.NOTSET)


async def _answers(parts: list[bytes]) -> bytes:
    transport, service = Transport(), Service()
    connection = Connection(service, asyncio.get_running_loop())
    connection.connection_made(transport)  # type: ignore[arg-type]
    for part in parts:
        if transport.closed:
            break
        connection.data_received(part)
        held = len(connection._body) + connection._head_size
        assert held <= _MOST_HELD, f"{held} bytes are held"
        if crc32(part) % 2:
            await asyncio.sleep(0)
    while not transport.closed and (connection._current or connection._ahead or connection._unparsed):
        await asyncio.sleep(0)
    if not transport.closed:
        connection.eof_received()
    assert transport.closed, "a client that sends no more, and has all answers, is not closed"
    connection.connection_lost(None)
    assert service.begun == service.answered
    return transport.written.replace(_CONTINUE, b"")


def chunks(data: bytes) -> list[bytes]:
    """`data` in pieces of all sizes, the same for the same data."""
    random = Random(crc32(data))
    parts = []
    while data:
        size = random.choice([1, 2, random.randint(1, 80), random.randint(1, 4096)])
        parts.append(data[:size])
        data = data[size:]
    return parts

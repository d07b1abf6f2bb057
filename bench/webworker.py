"""A web worker that does nothing, as fast as it can: answers each POST with 200, and GET with how many there were.

Started as `python -m bench.webworker PORT`. `--bare` answers as much as a door does, from a handler of the HTTP server
that doors stand on.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

from workq.http import web
from workq.http.application import Application, plain_error
from workq.http.server import HttpServer
from workq.run_queue import RunQueue, nobody_else
from workq.settings import Address

_ANSWER: Final = b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"status":"success"}'
_BARE_ANSWER: Final = b'{"id":"109192606348480512","status":"unfinished","padding":"' + b"x" * 300 + b'"}'


class _NoOp(asyncio.Protocol):
    """One connection."""

    count = 0  # of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, found, rest = head.partition(b"content-length:")
            whole = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
            if len(self._received) < whole:
                return
            self._received = self._received[whole:]
            if head.startswith(b"get "):
                count = str(_NoOp.count).encode()
                self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(count), count))
            else:
                _NoOp.count += 1
                self._transport.write(_ANSWER)


async def _serve(port: int) -> None:
    listener = await asyncio.get_running_loop().create_server(_NoOp, "127.0.0.1", port)
    await listener.serve_forever()


async def _bare(request: web.Request) -> web.Response:
    return web.Response(body=_BARE_ANSWER, content_type="application/json")


async def _serve_bare(port: int) -> None:
    application = Application(plain_error)
    application.router.add_post("/job", _bare)
    server = HttpServer(75.0, None, lambda request, status, seconds: None, RunQueue(nobody_else))
    await server.listen(application, Address("127.0.0.1", port), 0.0)
    await asyncio.Event().wait()


if __name__ == "__main__":
    bare = "--bare" in sys.argv
    uvloop.run((_serve_bare if bare else _serve)(int(sys.argv[-1])))

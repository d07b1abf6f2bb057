"""A web worker for tests: answers as each path is told to, behaves as badly as a test wants, and remembers requests."""

import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Self, TypeAlias

import attrs

from tests.server import PATIENCE_S


@attrs.frozen
class Request:
    """What came in. `headers` are (name, value) as they were sent, names in lower case."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key == name.lower()]


# Gets the request and the socket; what it returns is sent. The connection stays open if that is a whole answer.
Behaviour: TypeAlias = Callable[[Request, socket.socket], bytes | None]


def answer(status: int = 200, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """An answer in HTTP."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status} Phrase", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class WebWorker:
    """Listens on 127.0.0.1, on a free port unless told one. Paths without a behaviour are answered with 200.

    requests  what came in, in order
    closed    how many connections have ended
    """

    def __init__(self, behaviours: dict[str, Behaviour] | None = None, port: int = 0) -> None:
        self.behaviours = behaviours or {}
        self.requests: list[Request] = []
        self.closed = 0
        self.connections = 0
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        worker = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                worker._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 1024

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something that this worker counts has come to `condition`."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), f"it did not come to that; {self.requests}"

    def wait_for_requests(self, count: int) -> list[Request]:
        """Wait for so many requests."""
        self.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    def hang(self, request: Request, connection: socket.socket) -> None:
        """A behaviour: keep the connection open, and say nothing until the other side closes it."""
        while connection.recv(65_536):
            pass

    def _serve(self, connection: socket.socket) -> None:
        with self._changed:
            self.connections += 1
        try:
            received = b""
            while (read := _read_request(connection, received)) is not None:
                request, received = read
                with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                behaviour = self.behaviours.get(request.path.partition("?")[0])
                sent = answer() if behaviour is None else behaviour(request, connection)
                if sent is None:
                    return
                connection.sendall(sent)
                if b"content-length:" not in sent.lower():
                    return
        except OSError:
            pass  # the other side is gone
        finally:
            with self._changed:
                self.closed += 1
                self._changed.notify_all()


def _read_request(connection: socket.socket, received: bytes) -> tuple[Request, bytes] | None:
    while b"\r\n\r\n" not in received:
        data = connection.recv(65_536)
        if not data:
            return None
        received += data
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in [line.partition(":") for line in lines]]
    size = int(dict(headers).get("content-length", "0"))
    while len(rest) < size:
        data = connection.recv(65_536)
        if not data:
            return None
        rest += data
    method, path, _ = first.split(" ")
    return Request(method, path, headers, rest[:size]), rest[size:]

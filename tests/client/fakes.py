"""Servers that misbehave as a test tells them."""

import socket
import threading
from collections.abc import Callable
from typing import Self

from tests.server import PATIENCE_S, Dialogue

Script = Callable[[socket.socket], None]


class FakeServer:
    """Listens on a free port and plays one script per connection, the last one for all further connections.

    A script gets the connection; when it returns, the connection is closed. What it raises fails the test, but for the
    client's hanging up.
    """

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"workq://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._listener.close()
        if self._errors:
            raise self._errors[0]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # the test is over
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            with connection:
                connection.settimeout(PATIENCE_S)
                try:
                    script(connection)
                except ConnectionError:  # clients may hang up as they like
                    pass
                except BaseException as error:
                    self._errors.append(error)


def hang_up(_: socket.socket) -> None:
    """Accept and close."""


def say(data: bytes) -> Script:
    """Answer whatever comes first with `data`, then hang up."""

    def script(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(data)

    return script


def silence(connection: socket.socket) -> None:
    """Read and say nothing, until the client hangs up."""
    while connection.recv(65_536):
        pass


def swallow_reply(address: tuple[str, int]) -> Script:
    """Pass the first request on to a real server, wait until it was answered, and hang up without a word."""

    def script(connection: socket.socket) -> None:
        with Dialogue(address) as real:
            real.send(connection.recv(65_536))
            real.line()

    return script


def pass_on(address: tuple[str, int]) -> Script:
    """Pass everything on between the client and a real server."""

    def script(connection: socket.socket) -> None:
        with socket.create_connection(address, PATIENCE_S) as real:
            back = threading.Thread(target=_copy, args=(real, connection), daemon=True)
            back.start()
            _copy(connection, real)
            real.shutdown(socket.SHUT_RDWR)
            back.join(PATIENCE_S)

    return script


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:  # one of the two has gone
        pass

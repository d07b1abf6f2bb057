"""A plain HTTP client for tests: one connection, a request at a time, and nothing done behind the test's back."""

import http.client
import json as json_module
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import attrs

from tests.server import PATIENCE_S, ServerProcess


@attrs.frozen
class Answer:
    """What came back. `headers` are found whatever their case."""

    status: int
    headers: Any
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json_module.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.headers["Content-Type"])


class HttpClient:
    """A keep-alive connection to one of the HTTP listeners of `server`; "" is that of our own API."""

    def __init__(self, server: ServerProcess, door: str = "", prefix: str = "") -> None:
        self._server, self._door = server, door
        self.address = server.http_addresses[door]
        self.prefix = prefix
        self._connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)

    def another(self) -> "HttpClient":
        """A second connection to the same listener."""
        return HttpClient(self._server, self._door, self.prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def ask(self, method: str, path: str, *, json: object = None, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request and wait for its answer. Headers are given as `Content_Type="text/plain"`."""
        self.send(method, path, json=json, body=body, **headers)
        return self.answer()

    def send(self, method: str, path: str, *, json: object = None, body: bytes | None = None, **headers: str) -> None:
        """Only send it."""
        sent: Mapping[str, str] = {name.replace("_", "-"): value for name, value in headers.items()}
        if json is not None:
            body = json_module.dumps(json).encode()
            sent = {"Content-Type": "application/json", **sent}
        self._connection.request(method, self.prefix + path, body, dict(sent))

    def answer(self) -> Answer:
        """Wait for the answer to what was sent."""
        response = self._connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, json: object = None, *, body: bytes | None = None, **headers: str) -> Answer:
        return self.ask("POST", path, json=json, body=body, **headers)

    def put(self, path: str, json: object = None, *, body: bytes | None = None, **headers: str) -> Answer:
        return self.ask("PUT", path, json=json, body=body, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.ask("DELETE", path, **headers)


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again, until what the server does by itself has happened."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"

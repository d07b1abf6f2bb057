"""What the tests of the Fireworq door say again and again."""

import json
import socket
import threading
import uuid
from typing import Any
from urllib.parse import quote

from tests.http.client import Answer, HttpClient
from tests.server import PATIENCE_S
from tests.webworker import Behaviour, Request, WebWorker, answer


def says(status: str, message: str | None = None, code: int = 200) -> Behaviour:
    """A web worker that answers so."""
    words = {"status": status} if message is None else {"status": status, "message": message}
    body = json.dumps(words).encode()
    return lambda request, connection: answer(code, body)


def replies(body: bytes, code: int = 200) -> Behaviour:
    """A web worker that answers with this body."""
    return lambda request, connection: answer(code, body)


class Gate:
    """A web worker that answers "success" when it is let."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, request: Request, connection: socket.socket) -> bytes:
        assert self._open.wait(PATIENCE_S)
        return answer(200, b'{"status": "success"}')

    def open(self) -> None:
        self._open.set()


class Fireworq:
    """The door, and a web worker that jobs are sent to."""

    def __init__(self, http: HttpClient, worker: WebWorker) -> None:
        self.http = http
        self.worker = worker
        worker.behaviours["/ok"] = says("success")

    def queue(self, **options: object) -> str:
        """A new queue, and a category of the same name that is routed to it."""
        name = f"q-{uuid.uuid4()}"
        assert self.http.put(f"/queue/{name}", options).status == 200
        assert self.http.put(f"/routing/{name}", {"queue_name": name}).status == 200
        return name

    def push(self, category: str, path: str = "/ok", **fields: object) -> Any:
        """Push a job for the web worker; return the answer."""
        pushed = self.http.post(f"/job/{quote(category)}", {"url": self.worker.url(path), **fields})
        assert pushed.status == 200, pushed.text
        return pushed.json

    def job(self, queue: str, number: int) -> Answer:
        return self.http.get(f"/queue/{queue}/job/{number}")

    def stats(self, queue: str) -> dict[str, int]:
        stats: dict[str, int] = self.http.get(f"/queue/{queue}/stats").json
        return stats

    def wait_until_completed(self, queue: str, count: int) -> None:
        """Wait until so many jobs of the queue have ended."""
        # A long poll on nothing is how a test lets the server do other things for a moment.
        for _ in range(int(PATIENCE_S * 50)):
            if self.stats(queue)["total_completes"] >= count:
                return
            self.idle()
        raise AssertionError(self.stats(queue))

    def idle(self) -> None:
        """Let the server have a moment."""
        with socket.create_connection(self.http.address) as connection:
            connection.settimeout(0.02)
            try:
                connection.recv(1)
            except TimeoutError:
                return

    def failures(self, queue: str, query: str = "") -> Any:
        return self.http.get(f"/queue/{queue}/failed{query}").json

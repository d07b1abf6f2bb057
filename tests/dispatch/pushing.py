"""What the tests of pushes have in common."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.server import PATIENCE_S
from tests.webworker import WebWorker
from workq.dispatch import PushResult, PushTarget
from workq.dispatch.sender import Sender


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def send(sender: Sender, target: PushTarget, body: bytes) -> PushResult:
    """What comes of a push; who is cancelled meanwhile cancels it."""
    result: asyncio.Future[PushResult] = asyncio.get_running_loop().create_future()
    sending = sender.send(target, body, result.set_result)
    try:
        return await result
    finally:
        sending.cancel()


async def push(sender: Sender, worker: WebWorker, path: str = "/", body: bytes = b"{}", **target: Any) -> PushResult:
    return await send(sender, PushTarget(worker.url(path), **target), body)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are left to `serve`, each in a thread, and closed after it."""

    def handle(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE_S)
            serve(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # it is over
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def read_head(connection: socket.socket) -> bytes:
    """The head of a request, and what comes with it."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65_536)
        if not data:
            break
        received += data
    return received

"""The server runs without the cyclic garbage collector: no request may leave a cycle behind, whatever comes of it."""

import asyncio
import gc
import socket
from collections.abc import Callable

import pytest

from tests.server import PATIENCE_S
from workq.server.config import load_settings
from workq.server.main import Server
from workq.server.main import _new_loop as new_loop

COUNT = 50
How = Callable[[tuple[str, int], bytes], None]
NOBODY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    if body:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


KEPT_ALIVE = {
    "served": request("POST", "/v1/jobs", b'{"queue": "a", "payload": "x"}'),
    "a long poll": request("POST", "/v1/queues/none/lease?wait_ms=1"),
    "refused by the API": request("POST", "/v1/jobs", b'{"queue": "a b"}'),
    "not JSON": request("POST", "/v1/jobs", b"{"),
    "a wrong content type": request("POST", "/v1/jobs", b"a=b", "text/plain"),
    "not found": request("GET", f"/v1/jobs/{NOBODY}"),
    "nowhere": request("GET", "/there/is/nothing"),
    "nowhere, in a door": request("GET", "/hq/there/is/nothing"),
    "a wrong method": request("PUT", "/v1/jobs"),
    "a page from elsewhere": b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n",
    "metrics": request("GET", "/metrics"),
}
KEPT_ALIVE |= {
    "HQ: a list": request("GET", "/hq/job"),
    "HQ: not JSON": request("POST", "/hq/job", b"{"),
    "HQ: a wrong regular expression": request("GET", "/hq/job?name=("),
    "messages: made already": request("POST", "/messages/queues?name=q&max_attempts=5&visibility_timeout_seconds=30"),
    "messages: nothing there": request("GET", "/messages/queues/q/receive"),
    "messages: nested too deeply": request("POST", "/messages/queues/q/enqueue", b"[" * 10_000),
    "messages: the page": request("GET", "/messages/web"),
    "messages: what changed last": request("GET", "/messages/web/messages"),
    "messages: a bad id": request("PUT", "/messages/messages/x/complete"),
}
CLOSED = {
    "too long": request("POST", "/v1/jobs", bytes(6_400_000)),
    "Fireworq: not JSON": request("PUT", "/fireworq/queue/q", b"{"),
    "Fireworq: queues": request("GET", "/fireworq/queues"),
    "Fireworq: the console": request("GET", "/fireworq/console/queue/a"),
    "Fireworq: nowhere": request("GET", "/fireworq/"),
    "Fireworq: no such route": request("POST", "/fireworq/job/none", b'{"url": "http://127.0.0.1:1/"}'),
    "not HTTP": b"junk\r\n\r\n",
}
HUNG_UP = {
    "in a long poll": request("POST", "/v1/queues/none/lease?wait_ms=60000"),
    "in its head": b"POST /v1/jobs HT",
    "in its body": b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
    "at once": b"",
}


def answer(client: socket.socket) -> None:
    """Read an answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = client.recv(65_536)
        if not received:
            return
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    left = int(lengths[0]) - len(body) if lengths else 0
    while left > 0:
        left -= len(client.recv(left))


def keep_asking(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, PATIENCE_S) as client:
        for _ in range(5 if len(sent) > 1_000_000 else COUNT):
            client.sendall(sent)
            answer(client)


def ask_anew(address: tuple[str, int], sent: bytes) -> None:
    for _ in range(COUNT):
        with socket.create_connection(address, PATIENCE_S) as client:
            client.sendall(sent)
            while client.recv(65_536):
                pass


def hang_up(address: tuple[str, int], sent: bytes) -> None:
    for _ in range(COUNT):
        with socket.create_connection(address, PATIENCE_S) as client:
            client.sendall(sent)
    keep_asking(address, KEPT_ALIVE["served"])  # by then it has noticed


CASES = [(keep_asking, name, sent) for name, sent in KEPT_ALIVE.items()]
CASES += [(ask_anew, name, sent) for name, sent in CLOSED.items()]
CASES += [(hang_up, name, sent) for name, sent in HUNG_UP.items()]


@pytest.mark.parametrize(("how", "sent"), [(how, sent) for how, _, sent in CASES], ids=[name for _, name, _ in CASES])
def test_a_request_leaves_no_cycle(how: How, sent: bytes, no_collector: None) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(garbage_after(how, sent)) < 5


async def garbage_after(how: How, sent: bytes) -> int:
    """Let a server be asked; how many objects of unreachable cycles there are then."""
    settings = load_settings(["--port", "0", "--http", "127.0.0.1:0"], {})
    server = Server(settings, asyncio.get_running_loop())
    url = (await server.start())[-1]
    host, _, port = url.removeprefix("http://").rpartition(":")
    address = (host, int(port))
    await asyncio.to_thread(how, address, sent)  # what is made once is made now
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.to_thread(how, address, sent)
    await asyncio.sleep(0)
    garbage = gc.collect()
    await server.stop()
    return garbage

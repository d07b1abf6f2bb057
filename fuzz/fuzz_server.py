"""Whatever clients send, and however time passes: each request gets one reply, in order, and the engine stays sound.

Sound means: `check_engine` after every step, nothing left of clients that are gone, and events that bring the state
back. Besides, what is sent as a reply is what a client reads.

An input is what four clients send, with bytes in between that mean something else:

    F0 to F3   from here on the client of this number speaks; in the beginning it is 0
    F4 to FF   the client that speaks hangs up, and a new one takes its place
    E0 to EF   1, 4, 16, ... 4**15 milliseconds pass
"""

import re
from typing import Final

from tests.engine.invariants import check_engine
from tests.engine.replay import replayed
from tests.engine.snapshot import snapshot
from workq import commands as c
from workq.engine import Engine, Waiter
from workq.engine.events import Event
from workq.engine.job import LEASED
from workq.protocol import client
from workq.protocol.server import Decoder, Malformed, encode
from workq.replies import NOT_FOUND, Jobs, Refused, Reply

START_MS: Final = 1_700_000_000_000
CLIENTS: Final = 4
_CONTROL: Final = re.compile(rb"([\xe0-\xff])")
# What a client is told to expect when the answer is to no request at all.
_ANY: Final = c.Delete(b"\1" * 16)


def check(data: bytes) -> None:
    """Raise if `data` breaks the promise."""
    server = Server()
    speaker = 0
    for part in _CONTROL.split(data):
        control = part[0] if _CONTROL.fullmatch(part) else 0
        if control >= 0xF0 + CLIENTS:
            server.hang_up(speaker)
        elif control >= 0xF0:
            speaker = control - 0xF0
        elif control:
            server.sleep(4 ** (control - 0xE0))
        else:
            server.clients[speaker].decoder.feed(part)
        server.settle()
    server.end()


class Client:
    """A connection: the server's half, and what reads the replies at the other end."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.waiter: Waiter | None = None
        self.reader = client.Connection()

    def take(self, reply: Reply) -> None:
        """The reply to the request that waits."""
        assert self.waiter is not None, "a reply to nothing"
        self.waiter = None
        self.read(reply)

    def read(self, reply: Reply) -> None:
        self.reader.feed(encode(reply))
        read = self.reader.next()
        assert type(read) is type(reply)
        assert isinstance(reply, Jobs) or read == reply  # of a job's times only the seconds are sent


class Server:
    """An engine and its clients, at a time that goes on by `sleep`."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.engine = Engine(START_MS)
        self.clients = [Client() for _ in range(CLIENTS)]
        self.events: list[Event] = []

    def settle(self) -> None:
        """Serve all clients until each waits or has sent nothing more."""
        while any([self.serve(client) for client in self.clients]):
            self.check()
        self.check()

    def serve(self, client: Client) -> bool:
        """Execute what `client` sent, up to a request that waits. False if there is nothing to do."""
        busy = False
        while client.waiter is None and (request := client.decoder.next()) is not None:
            busy = True
            if isinstance(request, Malformed):
                client.reader.send(_ANY)
                client.read(Refused(request.text))
                continue
            client.reader.send(request)
            if isinstance(request, c.InspectServer):  # is not the engine's to answer
                client.read(NOT_FOUND)
                continue
            answer = self.engine.execute(request, self.now_ms, client.take)
            if isinstance(answer, Waiter):
                client.waiter = answer
            else:
                client.read(answer)
        return busy

    def sleep(self, ms: int) -> None:
        end_ms = self.now_ms + ms
        while (next_ms := self.engine.next_ms()) <= end_ms:
            self.now_ms = max(self.now_ms, next_ms)
            self.engine.tick(self.now_ms)
            self.settle()
        self.now_ms = end_ms

    def hang_up(self, number: int) -> None:
        waiter = self.clients[number].waiter
        if waiter is not None:
            self.engine.cancel(waiter)
        self.clients[number] = Client()

    def check(self) -> None:
        check_engine(self.engine, self.now_ms)
        self.events += self.engine.events
        self.engine.events.clear()
        waiting = [client.waiter for client in self.clients if client.waiter is not None]
        assert not [waiter for waiter in waiting if waiter.done], "a client waits for a reply that it has got"

    def end(self) -> None:
        """Everybody leaves: no wait is left, and of the foreground jobs only those that a worker has."""
        for number in range(CLIENTS):
            self.hang_up(number)
        self.check()
        state = self.engine.state
        assert not len(self.engine._waits)
        assert not [queue for queue in state.queues.values() if queue.leasers]
        assert all([job.state == LEASED for job in state.jobs.values() if job.spec.foreground])
        assert snapshot(replayed(self.events, START_MS)) == snapshot(state)

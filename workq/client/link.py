"""One asyncio connection that carries any number of calls at a time."""

import asyncio
import socket
from collections import deque
from typing import Final

from workq import commands as c
from workq import replies as r
from workq.client.address import Address
from workq.client.retry import Broken, reason
from workq.protocol.client import Connection, ProtocolError

# While replies are due, a look at the clock at least this often tells whether the server has fallen silent.
_LOOK_S: Final = 5.0


class Link(asyncio.Protocol):
    """A connection on which commands are pipelined: what is asked in one turn of the event loop is one write.

    Any failure ends it, and every reply still due becomes a `Broken`.
    """

    def __init__(self) -> None:
        self.is_broken = False
        self._ended = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._protocol = Connection()
        self._out: list[bytes] = []
        self._due: deque[tuple[asyncio.Future[r.Reply], float]] = deque()
        self._heard_at = 0.0  # the last reply, or the first command after none was due
        self._timer: asyncio.TimerHandle | None = None
        self._reason = "the server closed the connection"
        self._is_garbled = False

    @classmethod
    async def open(cls, address: Address, timeout_s: float) -> "Link":
        """Connect; raise `Broken` if that cannot be done within `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                if address.path:
                    _, link = await loop.create_unix_connection(cls, address.path)
                else:
                    _, link = await loop.create_connection(cls, address.host, address.port)
        except OSError as error:  # TimeoutError is one
            raise Broken(f"cannot connect: {reason(error)}", sent=False) from error
        return link

    def ask(self, command: c.Command, patience_s: float) -> asyncio.Future[r.Reply]:
        """Send `command`. The future may be cancelled; the reply is thrown away then.

        With no reply for `patience_s` seconds, once it is this command's turn, the link breaks.
        """
        if self.is_broken:
            raise Broken(self._reason, sent=False)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(self._protocol.send(command))
        reply: asyncio.Future[r.Reply] = self._loop.create_future()
        if not self._due:
            self._heard_at = self._loop.time()
            if self._timer is None:
                self._timer = self._loop.call_later(min(patience_s, _LOOK_S), self._look)
        self._due.append((reply, patience_s))
        return reply

    def abort(self, why: str) -> None:
        """Hang up at once. Doing so twice is fine."""
        if not self.is_broken:
            self.is_broken = True
            self._reason = why
            self._transport.abort()

    async def close(self, why: str) -> None:
        """Hang up and wait until that is done. Doing so twice is fine, and so is cancelling it."""
        self.abort(why)
        await asyncio.wait([self._ended])  # to await the future itself would pass a cancellation on to it

    # -- called by asyncio ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connected: socket.socket = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        protocol = self._protocol
        due = self._due
        self._heard_at = self._loop.time()
        protocol.feed(data)
        try:
            while (reply := protocol.next()) is not None:
                waiting = due.popleft()[0]
                if not waiting.done():
                    waiting.set_result(reply)
        except ProtocolError as error:
            self._is_garbled = True
            self.abort(str(error))

    def eof_received(self) -> None:
        self.abort(self._reason)  # a plain close would wait for a server that may not read any more

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            words = reason(error) if isinstance(error, OSError) else str(error)
            self._reason = f"connection lost: {words}"
        self.is_broken = True
        if self._timer is not None:
            self._timer.cancel()
        while self._due:
            waiting = self._due.popleft()[0]
            if not waiting.done():
                waiting.set_exception(Broken(self._reason, sent=True, garbled=self._is_garbled))
        self._ended.set_result(None)

    # -- inner workings ------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        out = self._out
        if not self.is_broken:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        out.clear()

    def _look(self) -> None:
        self._timer = None
        if not self._due:
            return
        patience_s = self._due[0][1]
        left_s = self._heard_at + patience_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(min(left_s, _LOOK_S), self._look)
        else:
            self.abort(f"no reply within {patience_s:g} s")


class SharedLink:
    """The way to a server for many tasks: one link at a time, opened when it is needed and there is none."""

    def __init__(self, address: Address, connect_timeout_s: float) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None

    def now(self) -> Link | None:
        """The link, if it is there."""
        link = self._link
        return None if link is None or link.is_broken else link

    async def get(self) -> Link:
        """The link; raise `Broken` if it cannot be opened. Who asks while it is being opened shares the outcome."""
        link = self.now()
        if link is not None:
            return link
        opening = self._opening
        if opening is not None and opening.done():  # by callers who were cancelled: what it came to is old news
            self._take(opening)
            return await self.get()
        if opening is None:
            opening = self._opening = asyncio.create_task(Link.open(self._address, self._connect_timeout_s))
        await asyncio.wait([opening])
        if self._opening is opening:
            self._take(opening)
        if opening.cancelled():
            raise Broken("closed before it was connected", sent=False)
        failure = opening.exception()
        if failure is not None:
            raise Broken(str(failure), sent=False) from failure
        return opening.result()

    def _take(self, opening: "asyncio.Task[Link]") -> None:
        """`opening` is done: have the link if there is one."""
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._link = opening.result()

    async def close(self) -> None:
        """Hang up, or stop connecting. Doing so twice is fine."""
        opening = self._opening
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
            self._take(opening)
        if self._link is not None:
            await self._link.close("closed by its user")

"""The TCP door: one `Connection` per client, which decodes, executes, encodes, and keeps memory bounded.

Commands of a connection are executed and answered in order. A command that waits holds back those behind it; but for a
few they stay undecoded, and when there are too many of them nothing more is read. The same happens when the client does
not read.
"""

import asyncio
import contextlib
import select
import socket
import time
from typing import Final, cast

from workq.broker import Broker, Client
from workq.commands import Command, Quit
from workq.engine import OnReply, Waiter, nobody_is_told
from workq.protocol.server import Decoder, encode
from workq.replies import Refused, Reply, Unavailable

# Bytes a client may send ahead, behind a command that waits or replies that it does not read.
READ_AHEAD: Final = 1_048_576
# Bytes of replies collected before they are sent, and bytes a slow reader may leave unread before it is not served.
WRITE_AHEAD: Final = 262_144
# How long one client's commands may be executed in a turn, in which others wait.
_LONGEST_SERVE_S: Final = 0.01


class Connection(Client):
    """One client: an `asyncio.Protocol` by its methods.

    It does not inherit from that, because a compiled class cannot have an interpreted base.
    """

    __slots__ = (
        "_broker",
        "_hangups",
        "_transport",
        "_decoder",
        "_ahead",
        "_starved",
        "_waiter",
        "_deliver",
        "_replies",
        "_replies_size",
        "_unsaved",
        "_held",
        "_write_paused",
        "_read_paused",
        "_hung_up",
        "_at_eof",
        "_draining",
    )

    def __init__(self, broker: Broker, hangups: "HangupWatch") -> None:
        super().__init__()
        self._broker = broker
        self._hangups = hangups
        self._decoder = Decoder()
        self._ahead: list[Command] = []  # decoded, held back by a command that waits or by replies
        self._starved = True  # there is nothing complete to execute
        self._waiter: Waiter | None = None  # the command that holds back the others
        self._deliver: OnReply = self._on_reply  # bound once, not for each command: a cycle, until the connection ends
        self._replies: list[bytes] = []
        self._replies_size = 0
        self._unsaved = -1  # the first of the replies that has to wait for the log
        self._held: list[tuple[list[bytes], int]] = []  # for batches that are being written: replies, and such a first
        self._write_paused = False
        self._read_paused = False
        self._hung_up = False  # the client sends no more than what it has sent
        self._at_eof = False  # and that has been read
        self._draining = False

    # -- called by the transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD)
        connected = self._transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._broker.connect(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and so is whatever it waited for."""
        self._give_up()
        self._end()
        self._hangups.forget(self)
        self._broker.disconnect(self)
        self._deliver = nobody_is_told

    def data_received(self, data: bytes) -> None:
        """Bytes of commands arrived. They are executed when the turn ends, with those of all others."""
        self._decoder.feed(data)
        if self._starved:
            self._starved = False
        else:
            self._bound_reading()
        self._broker.wake(self)

    def eof_received(self) -> bool:
        """The client sends no more. It gets the replies to what it sent; if it waits for somebody, it is gone."""
        self._at_eof = True
        self.hang_up()
        return True  # keeps the other direction open

    def pause_writing(self) -> None:
        """The client does not read."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._write_paused = False
        self._broker.wake(self)

    # -- called by the broker, the server and the hang-up watch ----------------------------------------------------

    def serve(self) -> None:
        """Execute commands until there are none, one has to wait, replies have to leave first, or it takes long."""
        until_s = 0.0
        while self._may_go_on():
            commands = self._ahead or self._decoder.take()
            if commands:
                done = self._execute(commands)
                if done < len(commands):
                    self._ahead = commands[done:]
                    continue
                if self._ahead:
                    self._ahead = []
            if self._decoder.is_done() or not (commands or self._attend()):
                self._starved = True
                break
            if commands and commands[-1].may_take_long():
                break
            if until_s == 0.0:
                until_s = time.monotonic() + _LONGEST_SERVE_S
            elif time.monotonic() > until_s:
                break
        if self._read_paused or not self._starved:
            self._bound_reading()

    def end_turn(self) -> None:
        """Send the replies of this turn. Commands that were held back go on in the next one."""
        self._send_saved()
        if not self._starved and self._may_go_on():
            self._broker.wake(self)
        if (self._at_eof or self._draining) and self._waiter is None and self._is_done():
            self._transport.close()

    def hold(self) -> None:
        """The log has begun to write what the replies so far depend on."""
        self._send_saved()
        self._held.append((self._replies, self._unsaved))
        self._replies = []
        self._replies_size = 0
        self._unsaved = -1
        if not self._starved:
            self._broker.wake(self)

    def release(self, lost: Unavailable | None) -> None:
        """The log has written what the oldest replies held depend on, or has `lost` it."""
        replies, unsaved = self._held.pop(0)
        if self._transport.is_closing():
            return
        if lost is not None:
            replies[unsaved:] = [encode(lost)] * (len(replies) - unsaved)
        self._transport.write(b"".join(replies))
        if self._replies or not self._starved or self._at_eof or self._draining:
            self._broker.wake(self)

    def shut_down(self) -> None:
        """Close: at once if the client sends nothing, else when the command that it is sending has been answered."""
        self._draining = True
        self._give_up()
        self._broker.wake(self)

    def hang_up(self) -> None:
        """The client sends no more, though what it sent has not all been read: see `eof_received`."""
        self._hung_up = True
        if self._waiter is not None and not self._waiter.is_at_work():
            self._give_up()
        self._broker.wake(self)

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # -- inside --------------------------------------------------------------------------------------------------

    def _may_go_on(self) -> bool:
        return self._waiter is None and not self._write_paused and self._replies_size < WRITE_AHEAD

    def _execute(self, commands: list[Command]) -> int:
        """Execute `commands` up to one that waits, or to the bound of replies; return how many are done with."""
        broker = self._broker
        on_reply = self._deliver
        replies = self._replies
        size = self._replies_size
        last: Reply | None = None  # commands in a row mostly have the same reply
        encoded = b""
        done = 0
        for command in commands:
            done += 1
            answer = broker.execute(command, on_reply)
            if answer is not last:
                if not isinstance(answer, Reply):
                    self._waiter = answer
                    if self._draining or (self._hung_up and not answer.is_at_work()):
                        self._give_up()
                        done = len(commands)
                    break
                last = answer
                encoded = encode(answer)
            if broker.changed and self._unsaved < 0:
                self._wait_for_log()
            replies.append(encoded)
            size += len(encoded)
            if size >= WRITE_AHEAD:
                break
        self._replies_size = size
        return done

    def _attend(self) -> bool:
        """Answer what only concerns the connection, if that comes next; whether it did."""
        aside = self._decoder.aside()
        if aside is None:
            return False
        if isinstance(aside, Quit):
            self._execute([aside])
            self._end()
        else:
            self._reply(Refused(aside.text))
            if aside.fatal:
                self._end()
        return True

    def _on_reply(self, reply: Reply) -> None:
        """The command that waited is answered; those behind it go on when the turn ends."""
        self._waiter = None
        if self._unsaved < 0 and self._broker.is_changing():
            self._wait_for_log()
        self._reply(reply)
        self._broker.wake(self)

    def _reply(self, reply: Reply) -> None:
        encoded = encode(reply)
        self._replies.append(encoded)
        self._replies_size += len(encoded)

    def _wait_for_log(self) -> None:
        """From the next reply on, nothing leaves until the log has what was done."""
        self._unsaved = len(self._replies)
        self._broker.wait_for_log(self)

    def _send_saved(self) -> None:
        """Send the replies that need not wait for the log, and do not stand behind one that must."""
        replies = self._replies
        count = self._unsaved
        if self._held or not replies or count == 0:
            return
        if count < 0:
            self._transport.write(b"".join(replies))
            replies.clear()
            self._replies_size = 0
        else:
            first = replies[:count]
            self._transport.write(b"".join(first))
            del replies[:count]
            self._replies_size -= sum(map(len, first))
            self._unsaved = 0

    def _is_done(self) -> bool:
        """Whether a client that ends has all its replies. What it half sent is waited for only while it may go on."""
        if self._replies or self._held or self._ahead:
            return False
        return self._starved if self._at_eof else self._decoder.is_done()

    def _give_up(self) -> None:
        """Drop the command that waits, and those behind it: their replies would be taken for its own."""
        if self._waiter is not None:
            self._broker.cancel(self._waiter)
            self._waiter = None
            self._end()

    def _end(self) -> None:
        """Execute nothing more. The replies so far still leave."""
        self._decoder = Decoder()
        self._ahead = []
        self._at_eof = self._starved = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _bound_reading(self) -> None:
        """Read on only while what was read ahead is within bounds."""
        too_much = not self._starved and self._decoder.buffered() > READ_AHEAD
        if too_much == self._read_paused or self._at_eof:
            return
        self._read_paused = too_much
        if too_much:
            self._transport.pause_reading()
            self._hangups.watch(self, self._transport.get_extra_info("socket").fileno())
        else:
            self._transport.resume_reading()
            self._hangups.forget(self)


class HangupWatch:
    """Notices that a client is gone although nothing is read from it (`READ_AHEAD`).

    The event loop sees the end of a connection only by reading up to it. Linux tells without reading; elsewhere such a
    client is noticed when the server next writes to it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Connection] = {}
        self._descriptors: dict[Connection, int] = {}
        self._epoll: select.epoll | None = None
        if hasattr(select, "epoll"):
            self._epoll = select.epoll()
            loop.add_reader(self._epoll.fileno(), self._notice)

    def watch(self, connection: Connection, descriptor: int) -> None:
        """Call `connection.hang_up` when the client at the socket `descriptor` hangs up."""
        if self._epoll is not None:
            self._epoll.register(descriptor, select.EPOLLRDHUP)
            self._watched[descriptor] = connection
            self._descriptors[connection] = descriptor

    def forget(self, connection: Connection) -> None:
        """Undo `watch`, if it was called, before the socket is closed or after."""
        descriptor = self._descriptors.pop(connection, None)
        if self._epoll is not None and descriptor is not None:
            del self._watched[descriptor]
            with contextlib.suppress(OSError):  # a socket that is closed is not registered any more
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Stop watching."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _notice(self) -> None:
        if self._epoll is not None:
            for descriptor, _ in self._epoll.poll(0):
                connection = self._watched[descriptor]
                self.forget(connection)
                connection.hang_up()

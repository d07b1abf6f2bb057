"""The blocking client: calls over plain sockets."""

import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from workq import commands as c
from workq import replies as r
from workq.client import methods
from workq.client.address import Address
from workq.client.call import Call, Caller, Seconds
from workq.client.codecs import CodecChoice
from workq.client.retry import Broken, reason
from workq.protocol.client import Connection, ProtocolError

P = ParamSpec("P")
T = TypeVar("T")

_READ_SIZE = 262_144


class Wire:
    """One socket and what was said over it. Any error that comes out of `ask` is the end of it."""

    def __init__(self, address: Address, connect_timeout_s: float) -> None:
        self._protocol = Connection()
        try:
            self._socket = _connect(address, connect_timeout_s)
        except OSError as error:
            raise Broken(f"cannot connect: {reason(error)}", sent=False) from error

    def ask(self, command: c.Command, patience_s: float) -> r.Reply:
        """Send `command` and return its reply; raise `Broken` if there is none for `patience_s` seconds."""
        deadline = time.monotonic() + patience_s
        try:
            self._socket.settimeout(patience_s)
            self._socket.sendall(self._protocol.send(command))
            while (reply := self._protocol.next()) is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                self._socket.settimeout(left_s)
                data = self._socket.recv(_READ_SIZE)
                if not data:
                    raise Broken("the server closed the connection", sent=True)
                self._protocol.feed(data)
            return reply
        except TimeoutError as error:
            raise Broken(f"no reply within {patience_s:g} s", sent=True) from error
        except OSError as error:
            raise Broken(f"connection lost: {reason(error)}", sent=True) from error
        except ProtocolError as error:
            raise Broken(str(error), sent=True, garbled=True) from error

    def is_stale(self) -> bool:
        """Whether the server has hung up, or said something unasked, since the last reply."""
        try:
            self._socket.setblocking(False)
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def _connect(address: Address, timeout_s: float) -> socket.socket:
    if address.path:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout_s)
            connected.connect(address.path)
        except BaseException:
            connected.close()
            raise
        return connected
    connected = socket.create_connection((address.host, address.port), timeout_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connected


def _method(
    build: Callable[Concatenate[Caller, P], Call[T]],
) -> "Callable[Concatenate[Client, P], T]":
    """The method of `Client` that performs the call `build` makes."""

    @functools.wraps(build)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = self._build(build, *args, **kwargs)
        while True:
            try:
                return call.value(self._ask(call))
            except Broken as broken:
                time.sleep(call.pause_after(broken))

    return method


class Client(Caller):
    """The blocking client: one connection, usable from several threads, which then take turns.

    url              ``workq://host:port``, ``workq://[::1]:9922`` or ``unix:/path``; when not given, the environment
                     variable WORKQ_SERVER, else ``workq://127.0.0.1:9922``
    codec            how payloads and results become bytes: ``"bytes"``, ``"json"``, or a pair (to_bytes, from_bytes)
    connect_timeout  seconds to wait for a connection
    reply_timeout    seconds without a reply after which a connection counts as dead; the time that the server may
                     hold a `lease`, `run` or `result` comes on top
    retry_for        seconds to go on trying when the server cannot be reached or the connection broke
    pool_size        connections, so many calls run at the same time; more threads wait for their turn

    It connects at the first call and again when needed; a forked process makes connections of its own. Every method
    raises some of `WorkqError`; the constructor raises `ClientError` for a URL or a codec that is not allowed. Use it
    as a context manager, or `close` it.

    Example::

        with workq.Client() as client:
            job_id = client.add("resize", b"photo.jpg")
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        codec: CodecChoice = "bytes",
        connect_timeout: Seconds = 5.0,
        reply_timeout: Seconds = 30.0,
        retry_for: Seconds = 5.0,
        pool_size: int = 1,
    ) -> None:
        super().__init__(
            url,
            codec=codec,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            retry_for=retry_for,
            pool_size=pool_size,
        )
        self._pool_size = pool_size
        self._is_closed = False
        self._start_pool()

    add = _method(methods.add)
    schedule = _method(methods.schedule)
    recur = _method(methods.recur)
    run = _method(methods.run)
    result = _method(methods.result)
    results = _method(methods.results)
    lease = _method(methods.lease)
    lease_many = _method(methods.lease_many)
    complete = _method(methods.complete)
    fail = _method(methods.fail)
    touch = _method(methods.touch)
    progress = _method(methods.progress)
    release = _method(methods.release)
    delete = _method(methods.delete)
    configure_queue = _method(methods.configure_queue)
    pause = _method(methods.pause)
    resume = _method(methods.resume)
    retry = _method(methods.retry)
    clear = _method(methods.clear)
    ping = _method(methods.ping)
    inspect_server = _method(methods.inspect_server)
    inspect_queue = _method(methods.inspect_queue)
    inspect_queues = _method(methods.inspect_queues)
    inspect_job = _method(methods.inspect_job)
    inspect_jobs = _method(methods.inspect_jobs)
    inspect_scheduled_jobs = _method(methods.inspect_scheduled_jobs)
    inspect_leased_jobs = _method(methods.inspect_leased_jobs)
    inspect_failed_jobs = _method(methods.inspect_failed_jobs)
    inspect_completed_jobs = _method(methods.inspect_completed_jobs)
    inspect_recurring = _method(methods.inspect_recurring)

    def close(self) -> None:
        """Hang up; later calls raise `ClientError`. A call of another thread ends first. Closing twice is fine."""
        self._is_closed = True
        while (wire := self._pop_idle()) is not None:
            wire.close()

    def quit(self) -> None:
        """Close as `close` does, but tell the server first, and wait until it has answered what it was asked before.

        Raises nothing: a connection that is broken needs no farewell.

        Example::

            client.quit()
        """
        self._leave_to_parent()
        self._is_closed = True
        while (wire := self._pop_idle()) is not None:
            with contextlib.suppress(Broken):
                wire.ask(c.Quit(), self._reply_timeout_s)
            wire.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_pool(self) -> None:
        self._free = threading.BoundedSemaphore(self._pool_size)
        self._idle: list[Wire] = []
        self._owner_pid = os.getpid()  # the last: another thread that finds it takes what stands above

    def _leave_to_parent(self) -> None:
        """In a process that was forked, take no connection of the parent: each would read the other's replies.

        The places of the pool, too: threads that held some of them are not there.
        """
        if self._owner_pid != os.getpid():
            while (wire := self._pop_idle()) is not None:
                wire.close()  # no more than the copy: the parent's stays open
            self._start_pool()

    def _ask(self, call: Call[T]) -> r.Reply:
        self._leave_to_parent()
        with self._free:
            if self._is_closed:
                raise call.closed()
            wire = self._take()
            try:
                reply = wire.ask(call.command, call.patience_s)
            except BaseException:  # an interrupt, too, leaves a reply on its way that nobody would take
                wire.close()
                raise
            self._idle.append(wire)
            if self._is_closed:  # meanwhile, by another thread
                self.close()
            return reply

    def _take(self) -> Wire:
        while (wire := self._pop_idle()) is not None:
            if not wire.is_stale():
                return wire
            wire.close()
        return Wire(self._address, self._connect_timeout_s)

    def _pop_idle(self) -> Wire | None:
        try:
            return self._idle.pop()
        except IndexError:  # another thread may have been faster
            return None

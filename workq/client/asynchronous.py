"""The asyncio client: calls over links."""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from workq import commands as c
from workq import replies as r
from workq.client import methods
from workq.client.call import WAITING, Call, Caller, Seconds
from workq.client.codecs import CodecChoice
from workq.client.link import Link, SharedLink
from workq.client.retry import Broken

P = ParamSpec("P")
T = TypeVar("T")

# Connections for calls that wait on the server. Many more could meet the limit of open files, on either side.
DEFAULT_POOL_SIZE: Final = 100


def _method(
    build: Callable[Concatenate[Caller, P], Call[T]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    """The method of `AsyncClient` that performs the call `build` makes."""

    @functools.wraps(build)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        call = self._build(build, *args, **kwargs)
        while True:
            try:
                return call.value(await self._ask(call))
            except Broken as broken:
                await asyncio.sleep(call.pause_after(broken))

    return method


class AsyncClient(Caller):
    """The asyncio client. Its methods are those of `Client`, to be awaited; any number may run at the same time.

    Calls that are answered at once share one connection, on which they are pipelined. `lease`, `run` and `result`,
    which the server may hold back, take a connection of their own from a pool of at most `pool_size`; more of them
    wait until one is free. Cancelling a waiting call hangs up, so the server gives the job to somebody else.

    The other arguments, and what is raised, are those of `Client`. A client belongs to one event loop. Use it as an
    async context manager, or `close` it.

    Example::

        async with workq.AsyncClient() as client:
            ids = await asyncio.gather(*[client.add("resize", name) for name in names])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        codec: CodecChoice = "bytes",
        connect_timeout: Seconds = 5.0,
        reply_timeout: Seconds = 30.0,
        retry_for: Seconds = 5.0,
        pool_size: int = DEFAULT_POOL_SIZE,
    ) -> None:
        super().__init__(
            url,
            codec=codec,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            retry_for=retry_for,
            pool_size=pool_size,
        )
        self._shared = SharedLink(self._address, self._connect_timeout_s)
        self._free = asyncio.Semaphore(pool_size)
        self._idle: list[Link] = []
        self._alone: set[Link] = set()
        self._is_closed = False

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

    async def close(self) -> None:
        """Hang up; calls under way and later ones fail. Closing twice is fine."""
        self._is_closed = True
        await self._shared.close()
        for link in list(self._alone):
            await link.close("the client was closed")

    async def quit(self) -> None:
        """Close as `close` does, but tell the server first, and wait until it has answered what it was asked before.

        Raises nothing: a connection that is broken needs no farewell.

        Example::

            client.quit()
        """
        self._is_closed = True
        link = self._shared.now()
        if link is not None:
            with contextlib.suppress(Broken):
                await link.ask(c.Quit(), self._reply_timeout_s)
        await self.close()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: Call[T]) -> r.Reply:
        if self._is_closed:
            raise call.closed()
        if isinstance(call.command, WAITING):
            return await self._ask_alone(call)
        link = self._shared.now() or await self._shared.get()
        return await link.ask(call.command, call.patience_s)

    async def _ask_alone(self, call: Call[T]) -> r.Reply:
        async with self._free:
            link = await self._take()
            try:
                reply = await link.ask(call.command, call.patience_s)
            except BaseException:  # cancelled, perhaps: the server must not lease a job to nobody
                self._alone.discard(link)
                link.abort("the call was cancelled")
                raise
            self._idle.append(link)
            return reply

    async def _take(self) -> Link:
        """A link from the pool, or a new one."""
        while self._idle:
            link = self._idle.pop()
            if not link.is_broken:
                return link
            self._alone.discard(link)
        link = await Link.open(self._address, self._connect_timeout_s)
        self._alone.add(link)
        if self._is_closed:  # while it was being opened
            link.abort("the client was closed")
        return link

"""Queues and routings: documents of the door, whose meaning the engine and the dispatcher are told.

How many jobs of a queue are sent at a time, and how often, are options of the engine's queue; that they are sent is the
dispatcher's business. The door remembers what was asked for, to show it.
"""

import asyncio
from typing import Final

from msgspec.json import decode, encode

from workq.commands import ConfigureQueue, InspectQueue, ListDocuments, PutDocument
from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway, to_the_end
from workq.http.application import HttpError
from workq.http.fireworq.structs import Queue, QueueRequest, Routing
from workq.http.names import check_length, is_too_long, queue_name
from workq.http.settings import FireworqSettings
from workq.replies import Documents, Queues
from workq.values import LEASE_BURST, LEASE_RATE, MAX_LEASED

DOOR: Final = "fireworq"
_QUEUE: Final = "fireworq/queue/"
_ROUTING: Final = "fireworq/routing/"
# What a throttled queue says its polling interval is, whatever was asked for. Nothing polls here.
_THROTTLED_POLLING_MS: Final = 100


class Definitions:
    """The queues and routings that there are. Nobody else changes their documents, so they are read once.

    The default queue is always there, but nothing is done for it before it gets a definition or a job: most servers
    never have any.
    """

    def __init__(self, gateway: Gateway, dispatcher: Dispatcher, settings: FireworqSettings) -> None:
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._settings = settings
        self._queues: dict[str, Queue] = {}
        self._kept: set[str] = set()  # the queues that have a document, and are pushed
        self._routings: dict[str, Routing] = {}
        self._changing = asyncio.Lock()  # one change of a queue at a time: each takes several commands

    async def start(self) -> None:
        """Read what there is."""
        for value in await self._documents(_QUEUE):
            queue = decode(value, type=Queue)
            self._queues[queue.name] = queue
            self._kept.add(queue.name)
            self._dispatcher.limit(queue_name(DOOR, queue.name), queue.max_workers)
        for value in await self._documents(_ROUTING):
            routing = decode(value, type=Routing)
            self._routings[routing.job_category] = routing
        default = self._settings.queue_default
        if default and default not in self._kept:
            if await self._has_jobs(default):  # from before it was deleted
                await self.put_queue(default, QueueRequest())
            else:
                self._queues[default] = self._defined(default, QueueRequest())

    # -- queues --------------------------------------------------------------------------------------------------

    def queues(self) -> list[Queue]:
        """All queues, sorted by name."""
        return [self._queues[name] for name in sorted(self._queues)]

    def queue(self, name: str) -> Queue | None:
        """The queue `name`."""
        return self._queues.get(name)

    async def put_queue(self, name: str, request: QueueRequest) -> Queue:
        """Create or replace a queue. Raises `HttpError` for a rate without a burst, or the other way round.

        Raises `InvalidValue` for a name that is too long.
        """
        check_length("queue name", name)
        queue = self._defined(name, request)
        await to_the_end(self._change_queue(name, queue))
        return queue

    async def _change_queue(self, name: str, queue: Queue) -> None:
        async with self._changing:
            is_pushed = self._dispatcher.is_pushed(queue_name(DOOR, name))
            if queue != self.queue(name) or name not in self._kept or not is_pushed:
                await self._put_queue(name, queue)

    async def _put_queue(self, name: str, queue: Queue) -> None:
        engine_name = queue_name(DOOR, name)
        rate, burst = queue.max_dispatches_per_second or 0, queue.max_burst_size or 0
        await self._gateway.execute(
            ConfigureQueue(
                engine_name,
                max_leased=min(queue.max_workers, MAX_LEASED.highest),
                lease_rate=min(max(round(rate * 1_000), 1), LEASE_RATE.highest) if rate else 0,
                lease_burst=min(burst, LEASE_BURST.highest),
            )
        )
        # The engine is not enough: a job that is deleted while it is sent still keeps a web worker busy.
        # It comes before the definition: after a crash in between the queue would take jobs that nobody sends.
        await self._dispatcher.push_queue(engine_name, queue.max_workers)
        await self._put(_QUEUE + name, encode(queue))
        self._queues[name] = queue
        self._kept.add(name)

    async def delete_queue(self, name: str) -> Queue | None:
        """Forget the definition of a queue, and send its jobs no more; they stay. Return what it was.

        The default queue is back at once, as it was in the beginning.
        """
        return await to_the_end(self._delete_queue(name))

    async def _delete_queue(self, name: str) -> Queue | None:
        async with self._changing:
            queue = self.queue(name)
            if queue is None:
                if is_too_long(name):  # there never was one
                    return None
                await self._dispatcher.unpush_queue(queue_name(DOOR, name))  # a crash may have left it pushed
                return None
            if name == self._settings.queue_default:
                if name in self._kept:
                    await self._put_queue(name, self._defined(name, QueueRequest()))
                return queue
            await self._put(_QUEUE + name, b"")
            self._queues.pop(name, None)
            self._kept.discard(name)
            await self._dispatcher.unpush_queue(queue_name(DOOR, name))
            return queue

    async def _has_jobs(self, name: str) -> bool:
        """Whether there are jobs to be sent in a queue that has no definition."""
        reply = await self._gateway.execute(InspectQueue(queue_name(DOOR, name)))
        return isinstance(reply, Queues) and any([each.ready_len + each.scheduled_len > 0 for each in reply.queues])

    def _defined(self, name: str, request: QueueRequest) -> Queue:
        settings = self._settings
        rate, burst = request.max_dispatches_per_second or 0.0, request.max_burst_size or 0
        if bool(rate) != bool(burst):
            given, missing = "max_dispatches_per_second", "max_burst_size"
            if burst:
                given, missing = missing, given
            raise HttpError(400, f"Invalid throttling: {given} needs {missing}, above 0 like itself")
        polling_ms = request.polling_interval or settings.queue_default_polling_interval
        workers = request.max_workers or settings.queue_default_max_workers
        if rate:
            return Queue(name, _THROTTLED_POLLING_MS, workers, rate, burst)
        return Queue(name, polling_ms, workers)

    # -- routings ------------------------------------------------------------------------------------------------

    def routings(self) -> list[Routing]:
        """All routings, sorted by queue."""
        return sorted(self._routings.values(), key=lambda routing: (routing.queue_name, routing.job_category))

    def routing(self, category: str) -> Routing | None:
        """The routing of a category."""
        return self._routings.get(category)

    async def put_routing(self, category: str, name: str) -> Routing:
        """Route a category to the queue `name`. Raises `HttpError` when there is no such queue.

        Raises `InvalidValue` for a category that is too long.
        """
        check_length("category", category)
        if self.queue(name) is None:
            raise HttpError(404, f"No such queue: {name}")
        routing = Routing(name, category)
        if routing != self.routing(category):
            await to_the_end(self._put_routing(category, routing))
        return routing

    async def _put_routing(self, category: str, routing: Routing) -> None:
        await self._put(_ROUTING + category, encode(routing))
        self._routings[category] = routing

    async def delete_routing(self, category: str) -> Routing | None:
        """Forget a routing. Return what it was."""
        routing = self.routing(category)
        if routing is not None:
            await to_the_end(self._delete_routing(category))
        return routing

    async def _delete_routing(self, category: str) -> None:
        await self._put(_ROUTING + category, b"")
        self._routings.pop(category, None)

    async def queue_of(self, category: str) -> Queue:
        """The queue that a job of `category` goes to, pushed from now on. Raises `HttpError` when there is none."""
        routing = self.routing(category)
        name = self._settings.queue_default if routing is None else routing.queue_name
        if not name:
            raise HttpError(500, f"No routing for category: {category}; there is no default queue either")
        queue = self.queue(name)
        if queue is None:
            raise HttpError(500, f"Undefined queue: {name}")
        if name not in self._kept:
            await self.put_queue(name, QueueRequest())
        return queue

    # -- documents -----------------------------------------------------------------------------------------------

    async def _documents(self, prefix: str) -> list[bytes]:
        reply = await self._gateway.execute(ListDocuments(prefix.encode()))
        assert isinstance(reply, Documents)
        return [value for _, value in reply.documents]

    async def _put(self, key: str, value: bytes) -> None:
        await self._gateway.execute(PutDocument(key.encode("utf-8", "surrogatepass"), value))

"""The requests of Fireworq's API, and what they are answered."""

import logging
import os
import resource
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec

from workq.archive import Archive, ArchivedJob, Fate
from workq.commands import Delete, InspectJob
from workq.dispatch.dispatcher import Dispatcher
from workq.engine.job import Job
from workq.gateway import Gateway
from workq.http.application import Application, HttpError
from workq.http.fireworq.bodies import json_answer, read_json
from workq.http.fireworq.definitions import DOOR, Definitions
from workq.http.fireworq.jobs import archived, failure, shown_job
from workq.http.fireworq.listing import State, list_failures, list_jobs, read_page
from workq.http.fireworq.pushes import Pushes
from workq.http.fireworq.queue_log import QueueLog
from workq.http.fireworq.structs import Node, ProcessStats, Queue, QueueRequest, RoutingRequest, ShownJob, Stats
from workq.http.names import NUMBER, numbered_jobs, queue_name
from workq.http.pages import Page
from workq.http.settings import FireworqSettings
from workq.http.web import Handler, Request, Response
from workq.replies import Jobs
from workq.values import shown
from workq.version import VERSION

T = TypeVar("T")

log = logging.getLogger("workq.http.fireworq")

_decode_queue: Final = msgspec.json.Decoder(QueueRequest | None)
_decode_routing: Final = msgspec.json.Decoder(RoutingRequest | None)


class FireworqDoor:
    """The API of Fireworq on our jobs."""

    def __init__(
        self,
        gateway: Gateway,
        archive: Archive,
        dispatcher: Dispatcher,
        settings: FireworqSettings,
        elsewhere: Mapping[str, str],
    ) -> None:
        """Raises `OSError` when the queue log cannot be written.

        elsewhere  of the keys of `settings`, what is said for the whole server
        """
        self._gateway = gateway
        self._archive = archive
        self._dispatcher = dispatcher
        self._settings = settings
        self._elsewhere = elsewhere
        self._definitions = Definitions(gateway, dispatcher, settings)
        self._console = Page("fireworq", "Fireworq")
        self._user_agent = settings.dispatch_user_agent or f"Fireworq/{VERSION}"
        archive.register(DOOR, self._archived, forgets_successes=True)
        queue_log: QueueLog | None = None
        if settings.queue_log:
            queue_log = QueueLog(gateway, settings)
            dispatcher.watch(queue_log)
        self._pushes = Pushes(gateway, dispatcher, self._definitions, settings, self._user_agent, queue_log)
        for key, why in settings.without_effect.items():
            log.warning("[fireworq]: %s has %s", key, why)

    async def start(self) -> None:
        """Make what has to be there; to be called before there are requests."""
        await self._definitions.start()

    def application(self) -> Application:
        """A new application that serves it, to be mounted anywhere."""
        served = Application(_error, keep_alive=self._settings.keep_alive)
        router = served.router
        for path in ("", "/", "/version"):
            router.add_route("*", path, self._version)
        router.add_route("*", "/settings", self._show_settings)
        router.add_route("*", "/stats", self._process_stats)
        router.add_route("*", "/queues", self._queues)
        router.add_route("*", "/queues/stats", self._all_stats)
        router.add_route("*", "/queue/{queue}", _by_method(self._queue, self._put_queue, self._delete_queue))
        router.add_route("*", "/queue/{queue}/node", self._node)
        router.add_route("*", "/queue/{queue}/stats", self._stats)
        for state in ("grabbed", "waiting", "deferred"):
            router.add_route("*", f"/queue/{{queue}}/{{state:{state}}}", self._list)
        router.add_route("*", "/queue/{queue}/job/{id}", _by_method(self._job, None, self._delete_job))
        router.add_route("*", "/queue/{queue}/failed", self._failures)
        router.add_route("*", "/queue/{queue}/failed/{id}", _by_method(self._failure, None, self._delete_failure))
        router.add_route("*", "/routings", self._routings)
        routing = _by_method(self._routing, self._put_routing, self._delete_routing)
        router.add_route("*", "/routing/{category:.+}", routing)
        router.add_post("/job/{category:.+}", self._pushes.handle)
        router.add_route("*", "/job/{category:.+}", _only_post)
        router.add_get("/console", self._console.handle)
        router.add_get("/console/{rest:.*}", self._console.handle)
        return served

    # -- the server ----------------------------------------------------------------------------------------------

    async def _version(self, request: Request) -> Response:
        return Response(text=f"Fireworq {VERSION}\n")

    async def _show_settings(self, request: Request) -> Response:
        return json_answer(self._settings.shown(self._user_agent, self._elsewhere))

    async def _process_stats(self, request: Request) -> Response:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return json_answer(ProcessStats(time.time_ns(), os.cpu_count() or 1, memory))

    # -- queues --------------------------------------------------------------------------------------------------

    async def _queues(self, request: Request) -> Response:
        return json_answer(self._definitions.queues())

    async def _queue(self, request: Request) -> Response:
        return json_answer(self._defined(request))

    async def _put_queue(self, request: Request) -> Response:
        asked = read_json(request, _decode_queue)
        return json_answer(await self._definitions.put_queue(request.match_info["queue"], asked or QueueRequest()))

    async def _delete_queue(self, request: Request) -> Response:
        name = request.match_info["queue"]
        return json_answer(_found(await self._definitions.delete_queue(name), f"No such queue: {name}"))

    async def _node(self, request: Request) -> Response:
        self._defined(request)
        return json_answer(Node(str(os.getpid()), socket.gethostname()))

    async def _stats(self, request: Request) -> Response:
        return json_answer(self._figures(self._defined(request)))

    async def _all_stats(self, request: Request) -> Response:
        return json_answer({queue.name: self._figures(queue) for queue in self._definitions.queues()})

    def _figures(self, queue: Queue) -> Stats:
        figures = self._dispatcher.figures(queue_name(DOOR, queue.name))
        return Stats(
            figures.pushes,
            figures.pops,
            figures.successes,
            figures.failures,
            figures.permanent_failures,
            figures.completes,
            figures.elapsed_ms,
            figures.pushes_per_second,
            figures.pops_per_second,
            0,  # what waits for a worker waits in the queue
            queue.max_workers,
            max(queue.max_workers - figures.sending, 0),
            1,
        )

    def _defined(self, request: Request) -> Queue:
        name = request.match_info["queue"]
        return _found(self._definitions.queue(name), f"No such queue: {name}")

    # -- routings ------------------------------------------------------------------------------------------------

    async def _routings(self, request: Request) -> Response:
        return json_answer(self._definitions.routings())

    async def _routing(self, request: Request) -> Response:
        category = request.match_info["category"]
        return json_answer(_found(self._definitions.routing(category), f"No such routing: {category}"))

    async def _put_routing(self, request: Request) -> Response:
        asked = read_json(request, _decode_routing) or RoutingRequest()
        if not asked.queue_name:
            raise HttpError(400, "Missing field: queue_name")
        return json_answer(await self._definitions.put_routing(request.match_info["category"], asked.queue_name))

    async def _delete_routing(self, request: Request) -> Response:
        category = request.match_info["category"]
        return json_answer(_found(await self._definitions.delete_routing(category), f"No such routing: {category}"))

    # -- jobs ----------------------------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Response:
        queue = self._defined(request)
        state: State = request.match_info["state"]  # type: ignore[assignment]
        return json_answer(
            await list_jobs(self._gateway, self._dispatcher, queue.name, state, read_page(request.query))
        )

    async def _job(self, request: Request) -> Response:
        return json_answer((await self._inspected(request))[1])

    async def _delete_job(self, request: Request) -> Response:
        job_id, job = await self._inspected(request)
        await self._gateway.execute(Delete(job_id))
        return json_answer(job)

    async def _inspected(self, request: Request) -> tuple[bytes, ShownJob]:
        """The id and the form of the job that a path names. Raises `HttpError`."""
        queue = self._defined(request)
        number = _number(request)
        job_id = numbered_jobs(DOOR, queue.name).job_id(number)
        reply = await self._gateway.execute(InspectJob(job_id))
        if not isinstance(reply, Jobs) or reply.jobs[0].result is not None:
            raise HttpError(404, f"No such job: {number}")
        return job_id, shown_job(reply.jobs[0])

    # -- the failure log -----------------------------------------------------------------------------------------

    async def _failures(self, request: Request) -> Response:
        queue = self._defined(request)
        return json_answer(await list_failures(self._archive, queue.name, read_page(request.query)))

    async def _failure(self, request: Request) -> Response:
        queue, number = self._defined(request), _number(request)
        entry = await self._archive.get(DOOR, queue.name, number)
        return json_answer(failure(_found(entry, f"No such failure: {number}")))

    async def _delete_failure(self, request: Request) -> Response:
        queue, number = self._defined(request), _number(request)
        entry = await self._archive.delete(DOOR, queue.name, number)
        return json_answer(failure(_found(entry, f"No such failure: {number}")))

    def _archived(self, job: Job) -> ArchivedJob | Fate:
        return archived(job, self._gateway.now_ms())


def _by_method(get: Handler, put: Handler | None, delete: Handler | None) -> Handler:
    """What a path does: what is neither PUT nor DELETE, or not to be done here, is like GET."""

    async def handle(request: Request) -> Response:
        if request.method == "PUT" and put is not None:
            return await put(request)
        if request.method == "DELETE" and delete is not None:
            return await delete(request)
        return await get(request)

    return handle


async def _only_post(request: Request) -> Response:
    raise HttpError(405, f"{request.method} is not allowed at {request.path}, POST is", {"Allow": "POST"})


def _number(request: Request) -> int:
    text = request.match_info["id"]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= NUMBER.highest):
        raise HttpError(400, f"Invalid id: {shown(text)} is not a whole number")
    return int(text)


def _found(value: T | None, text: str) -> T:
    if value is None:
        raise HttpError(404, text)
    return value


def _error(request: Request, status: int, text: str) -> Response:
    """An error as Fireworq words it."""
    if status == 404 and not text.startswith("No such"):  # no such path
        return Response(status=404, text="404 page not found\n")
    return Response(status=status, text=f"{status} {HTTPStatus(status).phrase}\n\n{text}\n")

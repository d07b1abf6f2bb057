"""Push delivery: which queues are pushed, and what a job says about it."""

from typing import Final

from msgspec import UNSET

from workq import commands as c
from workq import replies as r
from workq.dispatch import PushTarget
from workq.dispatch.dispatcher import Dispatcher
from workq.dispatch.request import PushFailed, first_request
from workq.gateway import Gateway
from workq.http import web
from workq.http.application import HttpError
from workq.http.native import answers
from workq.http.native import structs as s
from workq.http.native.operations import Operation, queue_name

_CONTENT_TYPE: Final = "content-type"
_USER_AGENT: Final = "user-agent"


def operations(gateway: Gateway, dispatcher: Dispatcher) -> list[Operation]:
    """The operations, on `gateway` and `dispatcher`."""
    push = _Push(gateway, dispatcher)
    path = "/v1/queues/{name}/push"
    return [
        Operation("GET", path, "Show how a queue is pushed", s.Nothing, {200: s.Pushing}, (), push.show),
        Operation("PUT", path, "Push the jobs of a queue to their URLs", s.Push, {204: None}, (), push.put),
        Operation("DELETE", path, "Push no more jobs of a queue", s.Nothing, {204: None}, (), push.delete),
    ]


class JobsWithUrls:
    """What becomes of the push options of a job."""

    def __init__(self, gateway: Gateway, dispatcher: Dispatcher) -> None:
        self._gateway = gateway
        self._dispatcher = dispatcher

    async def meta(self, given: s.NewJob) -> bytes:
        """The meta of the job, b"" for one without a URL; with one, its queue is a pushed one afterwards."""
        if given.url is UNSET:
            for name in ("headers", "timeout_ms", "verdict"):
                if getattr(given, name) is not UNSET:
                    raise HttpError(400, f"{name}: is for jobs with a url")
            return b""
        headers = {} if given.headers is UNSET else given.headers
        named = {name.lower(): value for name, value in headers.items()}
        target = PushTarget(
            given.url,
            "2xx" if given.verdict is UNSET else given.verdict,
            tuple([each for each in headers.items() if each[0].lower() not in (_CONTENT_TYPE, _USER_AGENT)]),
            s.DEFAULT_PUSH_TIMEOUT_MS if given.timeout_ms is UNSET else given.timeout_ms,
            named.get(_CONTENT_TYPE, "application/json"),
            named.get(_USER_AGENT, ""),
        )
        try:
            first_request(target, b"")
        except PushFailed as failure:
            raise HttpError(400, f"url: {failure.text}") from None
        meta = target.to_meta()
        queue = given.queue.encode()
        if not self._dispatcher.is_pushed(queue):
            await self._begin_to_push(queue)
        self._dispatcher.count_push(queue)
        return meta

    async def _begin_to_push(self, name: bytes) -> None:
        reply = await self._gateway.execute(c.InspectQueue(name))
        if isinstance(reply, r.Queues):
            queue = reply.queues[0]
            if queue.ready_len or queue.scheduled_len or queue.leased_len:
                shown = name.decode()
                hint = f"PUT /v1/queues/{shown}/push if they are to be pushed too"
                raise HttpError(409, f"The queue {shown} has jobs and is not pushed; {hint}")
        await self._dispatcher.push_queue(name, s.DEFAULT_CONCURRENCY)


class _Push:
    def __init__(self, gateway: Gateway, dispatcher: Dispatcher) -> None:
        self._gateway = gateway
        self._dispatcher = dispatcher

    async def show(self, request: web.Request, given: s.Nothing) -> web.Response:
        name = queue_name(request)
        # One that is or was pushed need have no jobs.
        if not self._dispatcher.is_pushed(name) and name not in self._dispatcher.all_figures():
            found = await self._gateway.execute(c.InspectQueue(name))
            answers.expect(r.Queues, found, f"queue {name.decode()}")
        figures = self._dispatcher.figures(name)
        return answers.json(
            s.Pushing(
                self._dispatcher.is_pushed(name),
                self._dispatcher.concurrency(name),
                figures.sending,
                figures.pops,
                figures.failures,
                figures.successes,
                figures.permanent_failures,
                figures.elapsed_ms / 1_000,
            )
        )

    async def put(self, request: web.Request, given: s.Push) -> web.Response:
        name = queue_name(request)
        concurrency = None if given.concurrency is UNSET else given.concurrency
        if concurrency is None and not self._dispatcher.is_pushed(name):
            concurrency = s.DEFAULT_CONCURRENCY
        await self._dispatcher.push_queue(name, concurrency)
        return answers.done()

    async def delete(self, request: web.Request, given: s.Nothing) -> web.Response:
        await self._dispatcher.unpush_queue(queue_name(request))
        return answers.done()

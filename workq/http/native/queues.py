"""Operations on queues."""

import msgspec
from msgspec import UNSET

from workq import commands as c
from workq import replies as r
from workq.gateway import Gateway
from workq.http import web
from workq.http.native import answers
from workq.http.native import structs as s
from workq.http.native.operations import Operation, queue_name


def operations(gateway: Gateway) -> list[Operation]:
    """The operations, on `gateway`."""
    queues = _Queues(gateway)
    return [
        Operation("GET", "/v1/queues", "List queues by name", s.Page, {200: s.Queues}, (c.InspectQueues,), queues.page),
        Operation(
            "GET", "/v1/queues/{name}", "Show a queue", s.Nothing, {200: s.Queue}, (c.InspectQueue,), queues.show
        ),
        Operation(
            "GET",
            "/v1/queues/{name}/jobs",
            "List jobs of a queue: ready ones in the order of their lease, scheduled ones by their time, leased ones "
            "from the oldest lease on, finished ones from the newest on",
            s.JobsPage,
            {200: s.Jobs},
            (c.InspectJobs,),
            queues.jobs,
        ),
        Operation(
            "DELETE",
            "/v1/queues/{name}/jobs",
            "Delete the jobs of a queue that are in a state",
            s.JobsToClear,
            {200: s.Cleared},
            (c.Clear,),
            queues.clear,
        ),
        Operation(
            "PUT",
            "/v1/queues/{name}/options",
            "Change the options of a queue that are given",
            s.QueueOptions,
            {204: None},
            (c.ConfigureQueue,),
            queues.configure,
        ),
        Operation(
            "POST",
            "/v1/queues/{name}/pause",
            "Let leases of a queue wait",
            s.Nothing,
            {204: None},
            (c.PauseQueue,),
            queues.pause,
        ),
        Operation(
            "POST",
            "/v1/queues/{name}/resume",
            "Let a paused queue hand out jobs again",
            s.Nothing,
            {204: None},
            (c.ResumeQueue,),
            queues.resume,
        ),
    ]


class _Queues:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def page(self, request: web.Request, given: s.Page) -> web.Response:
        reply = await self._gateway.execute(c.InspectQueues(given.cursor, given.limit))
        queues = [answers.queue(info) for info in answers.expect(r.Queues, reply, "queue").queues]
        return answers.json(s.Queues(queues, answers.next_cursor(given.cursor, given.limit, len(queues))))

    async def show(self, request: web.Request, given: s.Nothing) -> web.Response:
        name = queue_name(request)
        reply = await self._gateway.execute(c.InspectQueue(name))
        return answers.json(answers.queue(answers.expect(r.Queues, reply, f"queue {name.decode()}").queues[0]))

    async def jobs(self, request: web.Request, given: s.JobsPage) -> web.Response:
        name = queue_name(request)
        reply = await self._gateway.execute(c.InspectJobs(name, given.state, given.cursor, given.limit))
        jobs = [answers.job(info) for info in answers.expect(r.Jobs, reply, f"queue {name.decode()}").jobs]
        return answers.json(s.Jobs(jobs, answers.next_cursor(given.cursor, given.limit, len(jobs))))

    async def clear(self, request: web.Request, given: s.JobsToClear) -> web.Response:
        name = queue_name(request)
        reply = await self._gateway.execute(c.Clear(name, given.state))
        return answers.json(s.Cleared(answers.expect(r.Cleared, reply, f"queue {name.decode()}").deleted))

    async def configure(self, request: web.Request, given: s.QueueOptions) -> web.Response:
        options = {name: value for name, value in msgspec.structs.asdict(given).items() if value is not UNSET}
        to_back = {"to_back": options.pop("returned") == "back"} if "returned" in options else {}
        return await self._do(c.ConfigureQueue(queue_name(request), **options, **to_back))

    async def pause(self, request: web.Request, given: s.Nothing) -> web.Response:
        return await self._do(c.PauseQueue(queue_name(request)))

    async def resume(self, request: web.Request, given: s.Nothing) -> web.Response:
        return await self._do(c.ResumeQueue(queue_name(request)))

    async def _do(self, command: c.Command) -> web.Response:
        answers.expect(r.Ok, await self._gateway.execute(command), "queue")
        return web.Response(status=204)

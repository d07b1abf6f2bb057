"""Operations on the server itself."""

from workq import commands as c
from workq import replies as r
from workq.gateway import Gateway
from workq.http import web
from workq.http.native import answers
from workq.http.native import structs as s
from workq.http.native.operations import Operation
from workq.version import VERSION


def operations(gateway: Gateway) -> list[Operation]:
    """The operations, on `gateway`."""

    async def show(request: web.Request, given: s.Nothing) -> web.Response:
        reply = answers.expect(r.ServerInfo, await gateway.execute(c.InspectServer()), "server")
        started_at = answers.moment(reply.started_ms)
        return answers.json(s.Server(VERSION, started_at, reply.active_clients, reply.evicted_jobs))

    return [Operation("GET", "/v1/server", "Show the server", s.Nothing, {200: s.Server}, (c.InspectServer,), show)]

"""Our own API, under `/v1`: each command of the text protocol as JSON."""

from typing import Final

import msgspec
from aiohttp import web

from workq.commands import InspectServer
from workq.gateway import Gateway
from workq.replies import ServerInfo
from workq.version import VERSION

_encode: Final = msgspec.json.Encoder().encode


class Server(msgspec.Struct):
    """Figures of the whole server. `started_ms` is Unix time; a job is evicted when its TTL ends before it does."""

    version: str
    started_ms: int
    active_clients: int
    evicted_jobs: int


def add_routes(application: web.Application, gateway: Gateway) -> None:
    """Add the API to `application`."""
    api = _Native(gateway)
    application.router.add_get("/v1/server", api.server)


class _Native:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def server(self, request: web.Request) -> web.Response:
        reply = await self._gateway.execute(InspectServer())
        assert isinstance(reply, ServerInfo)
        return _json(Server(VERSION, reply.started_ms, reply.active_clients, reply.evicted_jobs))


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encode(value), content_type="application/json")

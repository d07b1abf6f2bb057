"""The HQ door."""

import msgspec
from aiohttp import web

from workq.gateway import Gateway
from workq.http.application import application
from workq.http.settings import HqSettings


class HqDoor:
    """The API of HQ on our jobs."""

    def __init__(self, gateway: Gateway, settings: HqSettings) -> None:
        self._gateway = gateway
        self._settings = settings

    def application(self) -> web.Application:
        """A new application that serves it, to be mounted anywhere."""
        return application(_error)


def _error(request: web.Request, status: int, text: str) -> web.Response:
    """An error as HQ words it."""
    body = msgspec.json.encode({"status": status, "error": text})
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8")

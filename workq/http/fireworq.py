"""The Fireworq door."""

from http import HTTPStatus

from aiohttp import web

from workq.gateway import Gateway
from workq.http.application import application
from workq.http.settings import FireworqSettings


class FireworqDoor:
    """The API of Fireworq on our jobs."""

    def __init__(self, gateway: Gateway, settings: FireworqSettings) -> None:
        self._gateway = gateway
        self._settings = settings

    def application(self) -> web.Application:
        """A new application that serves it, to be mounted anywhere."""
        return application(_error)


def _error(request: web.Request, status: int, text: str) -> web.Response:
    """An error as Fireworq words it."""
    return web.Response(status=status, text=f"{status} {HTTPStatus(status).phrase}\n\n{text}\n")

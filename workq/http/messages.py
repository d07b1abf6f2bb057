"""The messages door."""

from aiohttp import web

from workq.gateway import Gateway
from workq.http.application import application, plain_error
from workq.http.settings import MessagesSettings


class MessagesDoor:
    """The API of messages on our jobs."""

    def __init__(self, gateway: Gateway, settings: MessagesSettings) -> None:
        self._gateway = gateway
        self._settings = settings

    def application(self) -> web.Application:
        """A new application that serves it, to be mounted anywhere."""
        return application(plain_error)

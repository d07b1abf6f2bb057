"""Fixtures for the tests of the clients, the worker and the command."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import workq
from tests.server import ServerProcess


def url_of(server: ServerProcess) -> str:
    if isinstance(server.address, str):
        return f"unix:{server.address}"
    host, port = server.address
    return f"workq://[{host}]:{port}" if ":" in host else f"workq://{host}:{port}"


@pytest.fixture
def url(server: ServerProcess) -> str:
    """The URL of the server that the tests of a module share."""
    return url_of(server)


class Awaiting:
    """An `AsyncClient` with the face of a `Client`, so that one suite of tests serves both."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = workq.AsyncClient(*args, **options)
        self.url = self._client.url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._runner.run(asyncio.wait_for(method(*args, **options), 30))

    def __enter__(self) -> "Awaiting":
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=[workq.Client, Awaiting], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients, once of the blocking and once of the asyncio kind; closes them after the test."""
    clients = []

    def connect(*args: Any, **options: Any) -> Any:
        client = request.param(*args, **options)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.__exit__(None, None, None)

"""The client of the subcommands."""

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import click

import workq
from workq.client.call import Call, Caller

P = ParamSpec("P")
T = TypeVar("T")


class CommandClient(workq.Client):
    """A client for which a value that cannot be sent is wrong usage of the command, and no business of the server."""

    def __init__(self, url: str | None, *, retry_for: float = 0) -> None:  # at a shell one tries again by hand
        try:
            super().__init__(url, retry_for=retry_for)
        except workq.ClientError as error:
            raise click.UsageError(error.text) from None

    def _build(self, build: Callable[Concatenate[Caller, P], Call[T]], *args: P.args, **kwargs: P.kwargs) -> Call[T]:
        try:
            return super()._build(build, *args, **kwargs)
        except workq.ClientError as error:
            raise click.UsageError(error.text) from None

"""What the subcommands share: the server, the form of the output, and how arguments are read."""

import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

import workq
from workq.client.address import Address

F = TypeVar("F", bound=Callable[..., Any])

# The exit statuses of `workq`. 1 is any error without a number of its own, 2 is click's for wrong usage.
ERROR: Final = 1
NOT_FOUND: Final = 3
TIMEOUT: Final = 4
JOB_FAILED: Final = 5

_UNIT_S: Final = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class Session:
    """One run of the command: which server (None: the client's default) and whether to print JSON."""

    def __init__(self) -> None:
        self.server: str | None = None
        self.json = False

    def client(self, *, retry_for: float = 0) -> workq.Client:
        """A client that reports at once what is wrong, or tries again for some seconds when the server is away."""
        from workq.cli.client import CommandClient  # not at the start: `workq --help` needs none

        return CommandClient(self.server, retry_for=retry_for)


def shared_options(command: F) -> F:
    """Add the options that every command has; they may stand before the subcommand, too."""
    for option in (
        click.option("--json", "as_json", is_flag=True, expose_value=False, callback=_set_json, help="Print JSON."),
        click.option(
            "--server",
            metavar="URL",
            expose_value=False,
            callback=_set_server,
            help="workq://host:port or unix:/path.  [env: WORKQ_SERVER; default: workq://127.0.0.1:9922]",
        ),
    ):
        command = option(command)
    return command


def _set_server(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        try:
            Address.parse(value)
        except workq.ClientError as error:
            raise click.UsageError(error.text, context) from None
        context.find_root().ensure_object(Session).server = value


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.find_root().ensure_object(Session).json = True


def duration(text: str) -> timedelta:
    """A number of seconds, or a number with one of the units ms, s, m, h, d."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(ms|s|m|h|d|)", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration such as 30, 1.5s, 500ms, 5m, 2h or 1d")
    try:
        return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
    except OverflowError:
        raise click.BadParameter(f"{text!r} is too long") from None


def time(text: str) -> datetime:
    """A time as ISO 8601 writes it; without a zone it is meant in the zone of this machine."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        example = "such as 2030-01-01T12:00:00Z or '2030-01-01 14:00'"
        raise click.BadParameter(f"{text!r} is not a time {example}") from None


def payload(text: str) -> bytes:
    """The argument itself, standard input for ``-``, the content of a file for ``@file``."""
    if text == "-":
        return sys.stdin.buffer.read()
    if not text.startswith("@"):
        return os.fsencode(text)
    try:
        with open(text[1:], "rb") as file:
            return file.read()
    except OSError as error:
        raise click.BadParameter(f"cannot read {text[1:]!r}: {error.strerror}") from None

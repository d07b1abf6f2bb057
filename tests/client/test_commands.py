"""Nothing of the protocol is forgotten: both clients and the shell have each of its commands, with all its flags."""

import inspect
import re
from typing import Final

import click
import pytest

import workq
from workq.cli.main import workq as shell
from workq.protocol.server import _SHAPES

# The flags of each command, as `doc/protocol.md` has them, too.
COMMANDS = {name.decode(): [flag.decode() for flag in shape.flags] for name, shape in _SHAPES.items()}
# A method that is not called like its command, or more than one.
METHODS: Final = {"queue": ["configure_queue"], "lease": ["lease", "lease_many"], "result": ["result", "results"]}
# What is called otherwise than the flag: in the methods, and in the shell.
ARGUMENTS: Final = {("lease", "attempt"): "fenced"}
OPTIONS: Final = {("lease", "attempt"): "--fenced", ("recur", "overlap"): "--skip"}
# A command of the shell hangs up when it is done.
NOT_IN_THE_SHELL: Final = {"quit"}


def methods(name: str) -> list[str]:
    """What a command is called in the clients."""
    return METHODS.get(name, [re.sub("[ -]", "_", name)])


@pytest.mark.parametrize("client", [workq.Client, workq.AsyncClient])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_client_has_it(name: str, client: type) -> None:
    arguments = {
        argument for method in methods(name) for argument in inspect.signature(getattr(client, method)).parameters
    }
    for flag in COMMANDS[name]:
        assert ARGUMENTS.get((name, flag), flag.replace("-", "_")) in arguments


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NOT_IN_THE_SHELL])
def test_the_shell_has_it(name: str) -> None:
    command: click.Command = shell
    for word in name.split(" "):
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    for flag in COMMANDS[name]:
        assert OPTIONS.get((name, flag), f"--{flag}") in options


def test_every_method_is_that_of_a_command() -> None:
    known = {method for name in COMMANDS for method in methods(name)}
    assert known | {"close"} == {name for name in vars(workq.Client) if not name.startswith("_")}

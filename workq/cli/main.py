"""The `workq` command: its subcommands, and how errors become exit statuses."""

import importlib
from typing import Any, Final

import click
from click.shell_completion import get_completion_class

from workq.cli import session
from workq.client.errors import NotFound, Timeout, WorkqError
from workq.version import VERSION

# Subcommand to module: a module is imported when its subcommand is used, so that `workq add` starts quickly.
_COMMANDS: Final = {
    "add": "jobs",
    "run": "jobs",
    "schedule": "jobs",
    "recur": "jobs",
    "lease": "jobs",
    "complete": "jobs",
    "fail": "jobs",
    "touch": "jobs",
    "progress": "jobs",
    "release": "jobs",
    "result": "jobs",
    "delete": "jobs",
    "retry": "jobs",
    "queue": "queues",
    "pause": "queues",
    "resume": "queues",
    "clear": "queues",
    "inspect": "inspection",
    "ping": "inspection",
    "top": "top",
    "import": "bulk",
    "drain": "bulk",
    "worker": "working",
    "hq": "hq",
}
_ATTRIBUTES: Final = {"import": "import_jobs"}


class _Workq(click.Group):
    """Finds subcommands in their modules; turns the client's errors into a line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS, "completion"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"workq.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, _ATTRIBUTES.get(cmd_name, cmd_name))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WorkqError as error:
            click.echo(f"workq: {error}", err=True)
            ctx.exit(_status(error))


def _status(error: WorkqError) -> int:
    if isinstance(error, NotFound):
        return session.NOT_FOUND
    return session.TIMEOUT if isinstance(error, Timeout) else session.ERROR


@click.group(cls=_Workq, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="workq")
@session.shared_options
@click.pass_context
def workq(context: click.Context) -> None:
    """Talk to a Workq job server.

    \b
    Example:
      workq add resize photo.jpg
      workq drain resize --exec 'convert "$(cat)" -resize 320 small.jpg'

    \b
    Exit status:
      0 ok, 1 error, 2 wrong usage, 3 not found, 4 timeout, 5 job failed
    """
    context.ensure_object(session.Session)


@workq.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a SHELL complete this command.

    \b
    Example, in ~/.bashrc:
      eval "$(workq completion bash)"
    """
    script = get_completion_class(shell)
    assert script is not None, "click has one for each of the choices"
    click.echo(script(workq, {}, "workq", "_WORKQ_COMPLETE").source())


def main() -> None:
    """The entry point of the `workq` script."""
    workq(prog_name="workq")

"""`workq worker`: runs a worker that a Python module defines."""

import importlib
import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime

import click

import workq
from workq.cli.session import Session, shared_options
from workq.client.address import URL_VARIABLE


@click.command()
@click.argument("target", metavar="MODULE:WORKER")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to say on standard error; debug adds the tracebacks of failed jobs.",
)
@shared_options
@click.pass_obj
def worker(session: Session, target: str, log_level: str) -> None:
    """Run the worker WORKER of the Python module MODULE, which is looked for in the current directory, too.

    SIGTERM or Ctrl-C lets running jobs finish within the worker's grace time; a second one ends it at once. The server
    of --server is that of a Worker() which does not name one itself.

    \b
    Example, for a tasks.py that says `app = workq.Worker()`:
      workq worker tasks:app
    """
    if session.server is not None:
        os.environ[URL_VARIABLE] = session.server
    found = _find_worker(target)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if session.json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    found.run()


def _find_worker(target: str) -> workq.Worker:
    name, colon, attribute = target.partition(":")
    if not (name and colon and attribute):
        raise click.UsageError(f"{target!r} is not of the form MODULE:WORKER, such as tasks:app")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise click.UsageError(f"cannot import {name}: {type(error).__name__}: {error}{_where(error)}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, workq.Worker):
        raise click.UsageError(f"{name} has no workq.Worker called {attribute}")
    return found


def _where(error: Exception) -> str:
    """The last line that is the user's: neither ours nor the import machinery's."""
    ours = os.path.dirname(workq.__file__)
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(("<", ours, importlib.__file__))]
    return f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""


class _JsonLines(logging.Formatter):
    """Log lines for `--json`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": time, "level": record.levelname, "message": record.getMessage()})

"""`workq hq`: HQ's own command line, for any server that speaks HQ's API over HTTP."""

import functools
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import click
from rich.table import Table
from rich.text import Text

from workq.cli.session import ERROR, F
from workq.cli.tables import console
from workq.version import VERSION

DEFAULT_ADDRESS: Final = "http://127.0.0.1:19900"
# How long an answer may take; a list of everything takes longest.
_TIMEOUT_S: Final = 60.0
_COLUMNS: Final = ("ID", "NAME", "CREATED", "DURATION", "STATUS")
_DETAILED_COLUMNS: Final = ("ID", "NAME", "COMMENT", "URL", "CREATED", "STARTED", "FINISHED", "DURATION", "STATUS")
_STYLES: Final = {
    "failure": "red",
    "success": "green",
    "running": "cyan",
    "canceled": "bright_black",
    "canceling": "bright_black",
}
_UNITS: Final = (
    ("year", 31_536_000),
    ("month", 2_592_000),
    ("week", 604_800),
    ("day", 86_400),
    ("hour", 3_600),
    ("minute", 60),
    ("second", 1),
)


class HqError(click.ClickException):
    """What went wrong, for the user. The exit status is 1."""

    exit_code = ERROR

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {self.message}", err=True)


class Hq:
    """A client of HQ's API. `address` is a URL, below which the API is."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def ask(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes | None = None) -> Any:
        """The JSON of the answer. Raises `HqError`."""
        url = self._address + path + (f"?{urllib.parse.urlencode(query)}" if query else "")
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(url, body, headers, method=method)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise HqError(_told(error)) from None
        except urllib.error.URLError as error:
            raise HqError(f"cannot reach {self._address}: {error.reason}; --address URL takes another") from None
        except TimeoutError:
            raise HqError(f"{self._address} did not answer within {_TIMEOUT_S:g} s") from None
        except (OSError, ValueError) as error:
            raise HqError(f"{self._address} does not answer as HQ does: {error}") from None

    def job(self, job_id: str, method: str = "GET", action: str = "", body: bytes | None = None) -> Any:
        """Ask about one job, or have something done with it."""
        return self.ask(method, f"/job/{urllib.parse.quote(job_id, safe='')}{action}", body=body)


def _told(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"the server answered with status {error.code} ({error.reason})"


def _with_server(command: F) -> F:
    """Add the option that all commands have; the command gets an `Hq`."""

    @click.option(
        "--address",
        "-a",
        metavar="ADDRESS",
        default=DEFAULT_ADDRESS,
        show_default=True,
        help="Where HQ's API is; http://127.0.0.1:9923/hq is where a workq-server has it without more ado.",
    )
    @functools.wraps(command)
    def with_server(address: str, **arguments: Any) -> Any:
        return command(Hq(address), **arguments)

    return with_server  # type: ignore[return-value]  # with another first parameter


_ids = click.argument("ids", nargs=-1, metavar="ID...")


def _check_ids(ids: tuple[str, ...]) -> None:
    if not ids:
        raise HqError("require one id at least")


class _HqGroup(click.Group):
    """A group whose commands fail as those of HQ do: wrong usage has the exit status of any other error."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise HqError(error.format_message()) from None


@click.group(cls=_HqGroup)
@click.version_option(VERSION, "--version", "-v", prog_name="workq hq")
def hq() -> None:
    """Jobs that are sent to a URL: the command line of HQ.

    \b
    Example:
      echo '{"url": "http://localhost:8000/", "payload": 1}' | workq hq push -
      workq hq list --status failure --reverse --limit 10

    \b
    Exit status:
      0 ok, 1 error
    """


@hq.command()
@click.argument("files", nargs=-1, metavar="FILE...", type=click.File("rb"))
@_with_server
def push(server: Hq, files: tuple[BinaryIO, ...]) -> None:
    """Push the jobs that FILE... hold, one as JSON in each; - is standard input. Print their ids.

    \b
    Example:
      workq hq push job1.json job2.json
    """
    if not files:
        raise HqError("require one JSON file at least")
    for file in files:
        click.echo(server.ask("POST", "/job", body=file.read())["id"])


@hq.command("list")
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--name", "-n", metavar="REGEXP", help="Only jobs whose name matches.")
@click.option("--term", "-t", metavar="REGEXP", help="Only jobs whose name, comment, URL, status or id matches.")
@click.option("--begin", "-b", metavar="ID", help="Begin at this id.")
@click.option("--reverse", "-r", is_flag=True, help="Newest first.")
@click.option("--limit", "-l", type=int, metavar="N", help="At most N jobs.")
@click.option("--status", "-s", metavar="STATUS", help="Only jobs with this status.")
@click.option("--quiet", "-q", is_flag=True, help="Print ids only.")
@click.option("--detail", "-d", is_flag=True, help="Print more columns.")
@_with_server
def list_jobs(
    server: Hq, ids: tuple[str, ...], quiet: bool, detail: bool, reverse: bool, limit: int | None, **filters: str | None
) -> None:
    """List the jobs ID..., or those that pass the filters.

    \b
    Example:
      workq hq list --name '^resize' --status failure
    """
    if ids:
        jobs = [server.job(job_id) for job_id in ids]
    else:
        query = {key: value for key, value in filters.items() if value is not None}
        query |= {"reverse": "true"} if reverse else {}
        query |= {} if limit is None else {"limit": str(limit)}
        jobs = server.ask("GET", "/job", query)["jobs"]
    if quiet:
        for job in jobs:
            click.echo(job["id"])
    else:
        console().print(_table(jobs, _DETAILED_COLUMNS if detail else _COLUMNS))


@hq.command()
@_ids
@_with_server
def info(server: Hq, ids: tuple[str, ...]) -> None:
    """Print all about the job ID, as JSON.

    \b
    Example:
      workq hq info 109192606348480512
    """
    if len(ids) != 1:
        raise HqError("require just one argument as a job ID")
    _print_json(server.job(ids[0]))


@hq.command()
@_with_server
def stats(server: Hq) -> None:
    """Print the figures of the server, as JSON.

    \b
    Example:
      workq hq stats
    """
    _print_json(server.ask("GET", "/stats"))


@hq.command()
@_ids
@click.option("--copy", "-c", is_flag=True, help="As new jobs; their ids are printed.")
@_with_server
def restart(server: Hq, ids: tuple[str, ...], copy: bool) -> None:
    """Run the jobs ID... again.

    \b
    Example:
      workq hq restart --copy 109192606348480512
    """
    _check_ids(ids)
    for job_id in ids:
        click.echo(server.job(job_id, "POST", "/restart", json.dumps({"copy": copy}).encode())["id"])


@hq.command()
@_ids
@_with_server
def stop(server: Hq, ids: tuple[str, ...]) -> None:
    """Cancel the jobs ID..., which wait or run, and print their ids in the end. The first error stops it.

    \b
    Example:
      workq hq stop 109192606348480512
    """
    _check_ids(ids)
    _print_ids([server.job(job_id, "POST", "/stop")["id"] for job_id in ids])


@hq.command()
@_ids
@_with_server
def delete(server: Hq, ids: tuple[str, ...]) -> None:
    """Delete the jobs ID..., which neither wait nor run, and print their ids in the end. The first error stops it.

    \b
    Example:
      workq hq list --status success --quiet | xargs workq hq delete
    """
    _check_ids(ids)
    _print_ids([server.job(job_id, "DELETE")["id"] for job_id in ids])


# -- how it looks ------------------------------------------------------------------------------------------------


def _print_ids(ids: list[str]) -> None:
    for job_id in ids:
        click.echo(job_id)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _table(jobs: Iterable[Mapping[str, Any]], columns: tuple[str, ...]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for job in jobs:
        cells = {
            "ID": job["id"],
            "NAME": job["name"],
            "COMMENT": job["comment"],
            "URL": job["url"],
            "CREATED": _ago(job["createdAt"], now),
            "STARTED": _ago(job["startedAt"], now),
            "FINISHED": _ago(job["finishedAt"], now),
            "DURATION": _duration(job, now),
        }
        status = Text(job["status"], style=_STYLES.get(job["status"], ""))
        table.add_row(*[status if column == "STATUS" else _cell(cells[column]) for column in columns])
    return table


def _cell(text: str) -> Text:
    """`text` on one line, with nothing in it that could move a terminal's cursor."""
    return Text("".join([c if c.isprintable() else "\N{MIDDLE DOT}" for c in text]))


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _ago(text: str | None, now: datetime) -> str:
    time = _time(text)
    if time is None:
        return "-"
    passed_s = int((now - time).total_seconds())
    for unit, length_s in _UNITS:
        if passed_s >= length_s:
            count = passed_s // length_s
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "now"


def _duration(job: Mapping[str, Any], now: datetime) -> str:
    started = _time(job["startedAt"])
    if started is None:
        return "-"
    passed_s = ((_time(job["finishedAt"]) or now) - started).total_seconds()
    if passed_s < 1:
        return f"{max(round(passed_s * 1000), 0)}ms"
    if passed_s < 60:
        return f"{passed_s:.3g}s"
    minutes, seconds = divmod(int(passed_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s"

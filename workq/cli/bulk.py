"""Many jobs at once: `workq import` and `workq drain`."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, BinaryIO, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

import workq
from workq.cli.output import print_bytes, print_json
from workq.cli.session import ERROR, JOB_FAILED, Session, duration, shared_options
from workq.values import shown

# Requests in flight. More would not be faster, and would only fill memory.
_BATCH: Final = 1000
_KEYS: Final = ("name", "payload", "payload_base64", "id", "at", "ttr", "ttl", "priority", "max_attempts", "max_fails")
# How much of a command's standard error becomes the reason of a failed job.
_REASON: Final = 4096
# Work that is done is worth some trouble to report, while the server is being restarted, say.
_REPORT_FOR_S: Final = 30


@click.command("import")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--name", metavar="NAME", help="The queue of lines that do not name one.")
@shared_options
@click.pass_context
def import_jobs(context: click.Context, file: BinaryIO, name: str | None) -> None:
    """Add the jobs described by FILE, or standard input, one JSON object per line.

    \b
    Keys, all but the name optional:
      name             the queue
      payload          text; any other JSON value is the payload as JSON
      payload_base64   bytes, instead
      id               a UUID of your own
      at               when it is ready, ISO 8601 with a zone
      ttr, ttl         seconds
      priority, max_attempts, max_fails

    Lines that are refused are reported and passed over; the exit status is 1 then.

    \b
    Example:
      echo '{"name": "resize", "payload": "photo.jpg", "ttr": 30}' | workq import
    """
    session: Session = context.obj
    with session.client() as client:
        client.inspect_server()  # a wrong address is told at once; later on a restart may take its time
    tally = _Tally()
    try:
        asyncio.run(_import(session, file, name, tally))
    except workq.WorkqError:
        click.echo(f"workq: {tally.imported} jobs were imported before this:", err=True)
        raise
    if session.json:
        print_json({"imported": tally.imported, "refused": tally.refused})
    else:
        refused = f", {tally.refused} lines refused" if tally.refused else ""
        click.echo(f"{tally.imported} jobs imported{refused}", err=True)
    if tally.refused:
        context.exit(ERROR)


class _Tally:
    """What became of the lines so far."""

    imported = 0
    refused = 0


async def _import(session: Session, file: BinaryIO, name: str | None, tally: _Tally) -> None:
    lines = enumerate(file, start=1)
    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[jobs]} jobs"))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=_size(file), jobs=0)
        async with workq.AsyncClient(session.server) as client:
            # Reading may wait for whoever writes; the connection must not wait with it.
            while batch := await asyncio.to_thread(lambda: list(itertools.islice(lines, _BATCH))):
                numbered = [(number, line) for number, line in batch if line.strip()]
                calls = [_import_line(client, line, name, tally) for _, line in numbered]
                for (number, _), problem in zip(numbered, await asyncio.gather(*calls), strict=True):
                    if problem is not None:
                        click.echo(f"workq: line {number}: {problem}", err=True)
                progress.update(bar, advance=sum([len(line) for _, line in batch]), jobs=tally.imported)


def _size(file: BinaryIO) -> int | None:
    """The bytes of a file; None where the end is not known, as in a pipe."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


async def _import_line(client: workq.AsyncClient, line: bytes, name: str | None, tally: _Tally) -> str | None:
    """Add the job of one line; return what is wrong with it. A lost connection ends the whole import."""
    try:
        job = _parse_line(line, name)
        await (client.schedule(**job) if "at" in job else client.add(**job))
    except RecursionError:
        problem = "its JSON is nested too deeply"
    except (ValueError, TypeError, workq.ClientError) as error:
        problem = str(error)
    else:
        tally.imported += 1
        return None
    tally.refused += 1
    return problem


def _parse_line(line: bytes, name: str | None) -> dict[str, Any]:
    """The arguments of `add` or, with ``at``, of `schedule`; raise `ValueError` for a line of another form."""
    try:
        job = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(job, dict):
        raise ValueError(f"a JSON object is needed, not {type(job).__name__}")
    unknown = [key for key in job if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    if name is not None:
        job.setdefault("name", name)
    if "name" not in job:
        raise ValueError("the key 'name' is missing; a line needs it unless --name gives it")
    if not isinstance(job["name"], str):
        raise _invalid("name", job["name"], "text")
    if "payload_base64" in job:
        if "payload" in job:
            raise ValueError("payload and payload_base64 exclude each other")
        job["payload"] = _from_base64(job.pop("payload_base64"))
    elif not isinstance(job.get("payload", ""), str):
        job["payload"] = json.dumps(job["payload"], ensure_ascii=False)
    if "at" in job:
        job["at"] = _time(job["at"])
    return job


def _from_base64(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise _invalid("payload_base64", value, "base64 such as aGVsbG8=") from None


def _time(value: Any) -> datetime:
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    raise _invalid("at", value, "a time with a zone such as 2030-01-01T12:00:00Z, in the years 1 to 9999")


def _invalid(key: str, value: Any, allowed: str) -> ValueError:
    """The error for a `value` of a line, which is shown as JSON: the text "5" is not the number 5."""
    return ValueError(f"Invalid {key}: {shown(json.dumps(value))[1:-1]} is not {allowed}")


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--exec", "command", metavar="COMMAND", help="Give each job to this shell command.")
@click.option("--timeout", type=duration, default="0", help="End when no job came for so long.  [default: at once]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N jobs.")
@shared_options
@click.pass_context
def drain(
    context: click.Context, names: tuple[str, ...], command: str | None, timeout: timedelta, limit: int | None
) -> None:
    """Take the jobs of the queues NAME until there are no more, and print their payloads, a line each.

    A job is completed once it is printed. With --exec, a shell command gets each payload on its standard input, and
    WORKQ_JOB_ID and WORKQ_JOB_NAME in its environment. Its exit status decides: 0 completes the job with what it
    printed, any other fails it with what it said on standard error, and the exit status here is 5 in the end. A command
    that does not end within the job's TTR is killed, and the job goes back to its queue.

    \b
    Example:
      workq drain resize --exec 'convert - -resize 320 "$WORKQ_JOB_ID.jpg"'
    """
    session: Session = context.obj
    failed = 0
    with session.client() as client:
        client.inspect_server()  # a wrong address is told at once; later on a restart may take its time
    with _ended_in_order(), session.client(retry_for=_REPORT_FOR_S) as client:
        for _ in itertools.repeat(None) if limit is None else range(limit):
            try:
                job = client.lease(*names, timeout=timeout)
            except workq.Timeout:
                break
            if command is None:
                _print_job(session, job)
                client.complete(job.id)
            else:
                failed += not _execute(session, client, command, job)
    if failed:
        click.echo(f"workq: {failed} jobs failed", err=True)
        context.exit(JOB_FAILED)


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have the signals that end a process end the shell command with it, which is in a session of its own.

    Otherwise it would go on beside the one that gets the job next. What is ignored, as by nohup, stays so.
    """
    ending = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in ending:
        signal.signal(each, _end)
    try:
        yield
    finally:
        for each in ending:
            signal.signal(each, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _print_job(session: Session, job: workq.Job) -> None:
    if session.json:
        print_json(job)
    else:
        print_bytes(job.payload + b"\n")
    sys.stdout.flush()


def _execute(session: Session, client: workq.Client, command: str, job: workq.Job) -> bool:
    """Run the shell command for a job and tell the server how it ended; True if the job is completed."""
    try:
        status, out, err = _shell(command, job)
    except subprocess.TimeoutExpired:
        click.echo(f"workq: job {job.id}: killed after its TTR of {job.ttr:g} s; it goes back to its queue", err=True)
        return False
    sys.stderr.buffer.write(err)
    sys.stderr.flush()
    done = status == 0
    try:
        if done:
            client.complete(job.id, out)
        else:
            client.fail(job.id, err[-_REASON:].strip() or f"exit status {status}")
    except (workq.ClientError, workq.NotFound) as error:
        click.echo(f"workq: {error}", err=True)
        return False
    except click.UsageError as error:  # of the client: the output is too long
        click.echo(f"workq: job {job.id}: {error.message}", err=True)
        return False
    if session.json:
        print_json({"id": job.id, "name": job.name, "status": status})
    else:
        click.echo(f"{job.id} {'done' if done else f'failed with status {status}'}")
    return done


def _shell(command: str, job: workq.Job) -> tuple[int, bytes, bytes]:
    """Exit status, output and error output of the command; raise `TimeoutExpired` when the TTR is over."""
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "WORKQ_JOB_ID": job.id, "WORKQ_JOB_NAME": job.name},
        start_new_session=True,  # the shell's own children are to be killed with it
    )
    with process:
        try:
            out, err = process.communicate(job.payload, timeout=job.remaining())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err

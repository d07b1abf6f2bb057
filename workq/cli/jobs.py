"""The life of one job, a subcommand for each step."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click

import workq
from workq.cli.output import print_bytes, print_json
from workq.cli.session import JOB_FAILED, F, Session, duration, payload, shared_options, time


def _job_options(command: F) -> F:
    for option in (
        click.option(
            "--retry-max-delay",
            type=duration,
            default="0",
            metavar="D",
            help="With --retry-delay: the longest such wait.",
        ),
        click.option(
            "--retry-backoff",
            type=float,
            default=1,
            metavar="F",
            help="With --retry-delay: it grows by this factor, 1 to 10.",
        ),
        click.option("--retry-delay", type=duration, default="0", metavar="D", help="It waits so long after a fail."),
        click.option("--max-fails", type=int, default=0, metavar="N", help="The fail that is final.  [default: first]"),
        click.option("--max-attempts", type=int, default=0, metavar="N", help="Leases allowed.  [default: no limit]"),
        click.option("--priority", type=int, default=0, metavar="N", help="Higher is leased first.  [default: 0]"),
        click.option("--ttl", type=duration, default="1d", show_default=True, help="When it is gone, done or not."),
        click.option("--ttr", type=duration, default="1m", show_default=True, help="How long a worker has for it."),
        click.option("--id", metavar="UUID", help="An id of your own.  [default: a new one]"),
    ):
        command = option(command)
    return command


_attempt = click.option("--attempt", type=int, metavar="N", help="Only while this attempt holds it.")


def _print_id(session: Session, job_id: str) -> None:
    if session.json:
        print_json({"id": job_id})
    else:
        click.echo(job_id)


@click.command()
@click.argument("name")
@click.argument("payload", type=payload, default="")
@click.option("--delay", type=duration, default="0", metavar="D", help="Ready after this time.  [default: at once]")
@_job_options
@shared_options
@click.pass_obj
def add(session: Session, /, name: str, payload: bytes, **options: Any) -> None:
    """Add a job to the queue NAME and print its id.

    PAYLOAD is the text itself, - for standard input, or @file.

    \b
    Example:
      workq add resize photo.jpg --ttr 30s --max-fails 3
    """
    with session.client() as client:
        _print_id(session, client.add(name, payload, **options))


@click.command()
@click.argument("name")
@click.argument("payload", type=payload, default="")
@click.option("--at", type=time, help="When the job is ready: ISO 8601, without a zone in local time.")
@click.option("--in", "delay", type=duration, help="The same, from now on.")
@_job_options
@shared_options
@click.pass_obj
def schedule(
    session: Session, /, name: str, payload: bytes, at: datetime | None, delay: timedelta | None, **options: Any
) -> None:
    """Add a job that is ready later; either --at or --in says when.

    \b
    Example:
      workq schedule remind 'water the plants' --in 2h
      workq schedule remind 'happy new year' --at 2030-01-01T00:00:00Z
    """
    if delay is not None and at is None:
        try:
            at = datetime.now(UTC) + delay
        except OverflowError:
            raise click.BadParameter("that would be after the year 9999, the last", param_hint="--in") from None
    elif delay is not None or at is None:
        raise click.UsageError("give either --at or --in")
    with session.client() as client:
        _print_id(session, client.schedule(name, payload, at=at, **options))


@click.command()
@click.argument("name")
@click.argument("payload", type=payload, default="")
@click.option("--every", type=duration, metavar="D", help="Again and again after this time.")
@click.option("--cron", metavar="FIELDS", help="Minute, hour, day, month and weekday, as in '0 9 * * MON-FRI'.")
@click.option("--zone", metavar="ZONE", help="The time zone of --cron, such as Europe/Berlin.  [default: UTC]")
@click.option("--skip", is_flag=True, help="Hold the next one back while the last one is unfinished.")
@_job_options
@shared_options
@click.pass_obj
def recur(
    session: Session,
    /,
    name: str,
    payload: bytes,
    every: timedelta | None,
    cron: str | None,
    zone: str | None,
    skip: bool,
    **options: Any,
) -> None:
    """Have jobs added to the queue NAME again and again, and print the id by which `workq delete` ends that.

    Either --every or --cron says when. `workq inspect recurring` lists what recurs.

    \b
    Example:
      workq recur poll --every 5m
      workq recur report daily --cron '0 9 * * MON-FRI' --zone Europe/Berlin
    """
    if (every is None) == (cron is None):
        raise click.UsageError("give either --every or --cron")
    if zone is not None and cron is None:
        raise click.UsageError("--zone only goes with --cron")
    overlap: Literal["allow", "skip"] = "skip" if skip else "allow"
    with session.client() as client:
        job_id = client.recur(name, payload, every=every, cron=cron, zone=zone, overlap=overlap, **options)
        _print_id(session, job_id)


@click.command()
@click.argument("name")
@click.argument("payload", type=payload, default="")
@click.option("--timeout", type=duration, default="1m", show_default=True, help="How long to wait for a worker.")
@click.option("--id", metavar="UUID", help="An id of your own.  [default: a new one]")
@click.option("--ttr", type=duration, default="1m", show_default=True, help="How long a worker has for it.")
@click.option("--priority", type=int, default=0, metavar="N", help="Higher is leased first.  [default: 0]")
@shared_options
@click.pass_context
def run(context: click.Context, /, name: str, payload: bytes, **options: Any) -> None:
    """Have a job done by a worker of the queue NAME, and print its result.

    Exit status 5 says that the job failed, 4 that no worker did it in time.

    \b
    Example:
      workq run resize @photo.jpg --timeout 10s > small.jpg
    """
    session: Session = context.obj
    with session.client() as client:
        _print_result(context, client.run(name, payload, **options))


@click.command()
@click.argument("id")
@click.option("--timeout", type=duration, default="1m", show_default=True, help="How long to wait for the result.")
@shared_options
@click.pass_context
def result(context: click.Context, id: str, timeout: timedelta) -> None:
    """Wait for the result of the job ID and print it.

    Exit status 5 says that the job failed, 4 that there is no result yet.

    \b
    Example:
      workq result 61a444a0-6128-41c0-8078-cc757d3bd2d8 --timeout 30s
    """
    session: Session = context.obj
    with session.client() as client:
        _print_result(context, client.result(id, timeout=timeout))


def _print_result(context: click.Context, outcome: workq.JobResult) -> None:
    session: Session = context.obj
    if session.json:
        print_json(outcome)
    elif outcome.success:
        print_bytes(outcome.result)
    else:
        click.echo(f"workq: job {outcome.id} failed: {outcome.error or 'no reason given'}", err=True)
    if not outcome.success:
        context.exit(JOB_FAILED)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--timeout", type=duration, default="1m", show_default=True, help="How long to wait for a job.")
@click.option("--count", type=int, metavar="N", help="Take up to N jobs, 1 to 1000, if they are ready.")
@click.option("--fenced", is_flag=True, help="Tell the attempt, for --attempt of the commands below.")
@shared_options
@click.pass_obj
def lease(session: Session, names: tuple[str, ...], timeout: timedelta, count: int | None, fenced: bool) -> None:
    """Take a job of one of the queues NAME and print it.

    It is yours for its TTR: `workq complete`, `workq fail` or `workq release` it, or it goes back to its queue;
    `workq touch` keeps it. With --json and --count it is a list.

    \b
    Example:
      workq lease resize crop --timeout 5s --json
    """
    leased: workq.Job | list[workq.Job]
    with session.client() as client:
        if count is None:
            leased = client.lease(*names, timeout=timeout, fenced=fenced)
        else:
            leased = client.lease_many(*names, count=count, timeout=timeout, fenced=fenced)
    if session.json:
        print_json(leased)
        return
    from workq.cli.tables import print_facts, print_table  # not at the start: `workq add` needs none

    if isinstance(leased, list):
        print_table(leased, ("id", "name", "attempt", "deadline", "payload"))
    else:
        print_facts(leased)


@click.command()
@click.argument("id")
@click.argument("result", type=payload, default="")
@_attempt
@shared_options
@click.pass_obj
def complete(session: Session, id: str, result: bytes, attempt: int | None) -> None:
    """Finish the job ID with success.

    RESULT is the text itself, - for standard input, or @file.

    \b
    Example:
      workq complete 61a444a0-6128-41c0-8078-cc757d3bd2d8 320x200
    """
    with session.client() as client:
        client.complete(id, result, attempt=attempt)
    _done(session, id)


@click.command()
@click.argument("id")
@click.argument("reason", type=payload, default="")
@click.option("--final", is_flag=True, help="For good, whatever its --max-fails still allows.")
@_attempt
@shared_options
@click.pass_obj
def fail(session: Session, id: str, reason: bytes, attempt: int | None, final: bool) -> None:
    """Say that the job ID failed, and why.

    It goes back to its queue while its --max-fails allows. REASON is the text itself, - for standard input, or @file.

    \b
    Example:
      workq fail 61a444a0-6128-41c0-8078-cc757d3bd2d8 'not an image'
    """
    with session.client() as client:
        client.fail(id, reason, attempt=attempt, final=final)
    _done(session, id)


@click.command()
@click.argument("id")
@_attempt
@shared_options
@click.pass_obj
def touch(session: Session, id: str, attempt: int | None) -> None:
    """Keep the leased job ID: its TTR begins again.

    \b
    Example:
      workq touch 61a444a0-6128-41c0-8078-cc757d3bd2d8
    """
    with session.client() as client:
        client.touch(id, attempt=attempt)
    _done(session, id)


@click.command()
@click.argument("id")
@click.argument("progress", type=payload)
@click.option("--touch", is_flag=True, help="Keep the job, too: its TTR begins again.")
@_attempt
@shared_options
@click.pass_obj
def progress(session: Session, id: str, progress: bytes, attempt: int | None, touch: bool) -> None:
    """Tell how far the work on the leased job ID is; `workq inspect job` shows it.

    \b
    Example:
      workq progress 61a444a0-6128-41c0-8078-cc757d3bd2d8 '7 of 10 pages'
    """
    with session.client() as client:
        client.progress(id, progress, attempt=attempt, touch=touch)
    _done(session, id)


@click.command()
@click.argument("id")
@click.option("--delay", type=duration, default="0", metavar="D", help="Ready after this time.  [default: at once]")
@_attempt
@shared_options
@click.pass_obj
def release(session: Session, id: str, delay: timedelta, attempt: int | None) -> None:
    """Give the leased job ID back to its queue.

    \b
    Example:
      workq release 61a444a0-6128-41c0-8078-cc757d3bd2d8 --delay 30s
    """
    with session.client() as client:
        client.release(id, delay=delay, attempt=attempt)
    _done(session, id)


@click.command()
@click.argument("id")
@shared_options
@click.pass_obj
def delete(session: Session, id: str) -> None:
    """Remove the job ID in whatever state it is, its result with it; or end the recurring job ID.

    \b
    Example:
      workq delete 61a444a0-6128-41c0-8078-cc757d3bd2d8
    """
    with session.client() as client:
        client.delete(id)
    _done(session, id)


@click.command()
@click.argument("id")
@shared_options
@click.pass_obj
def retry(session: Session, id: str) -> None:
    """Put the job ID, which has failed, back into its queue.

    \b
    Example:
      workq retry 61a444a0-6128-41c0-8078-cc757d3bd2d8
    """
    with session.client() as client:
        client.retry(id)
    _done(session, id)


def _done(session: Session, job_id: str) -> None:
    if session.json:
        print_json({"id": job_id})

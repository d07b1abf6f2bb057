"""Looking at a server, its queues and its jobs."""

import time

import click

import workq
from workq.cli.output import print_json
from workq.cli.session import Session, shared_options
from workq.cli.tables import print_facts, print_table
from workq.client.jobs import JobInfo

_cursor = click.option("--cursor", type=int, default=0, metavar="N", help="Pass over the first N.  [default: 0]")
_limit = click.option("--limit", type=int, default=100, metavar="N", help="At most N, 1 to 100.  [default: 100]")


@click.command()
@shared_options
@click.pass_obj
def ping(session: Session) -> None:
    """Ask the server for a sign of life, and say how long it took.

    \b
    Example:
      workq ping --server workq://10.0.0.5:9922
    """
    with session.client() as client:
        try:
            client.inspect_server()  # connects; unlike `ping`, it is known to every server
            started = time.perf_counter()
            client.inspect_server()
        except workq.WorkqError as error:
            error.action = "ping"
            raise
        took_ms = round((time.perf_counter() - started) * 1000, 3)
    if session.json:
        print_json({"server": client.url, "milliseconds": took_ms})
    else:
        click.echo(f"{client.url} answered in {took_ms:g} ms")


@click.group()
def inspect() -> None:
    """Look at the server, its queues and its jobs.

    \b
    Example:
      workq inspect queues
    """


@inspect.command()
@shared_options
@click.pass_obj
def server(session: Session) -> None:
    """Show the figures of the server.

    \b
    Example:
      workq inspect server
    """
    with session.client() as client:
        (print_json if session.json else print_facts)(client.inspect_server())


@inspect.command()
@click.argument("name")
@shared_options
@click.pass_obj
def queue(session: Session, name: str) -> None:
    """Show the figures of the queue NAME.

    \b
    Example:
      workq inspect queue resize
    """
    with session.client() as client:
        (print_json if session.json else print_facts)(client.inspect_queue(name))


@inspect.command()
@_cursor
@_limit
@shared_options
@click.pass_obj
def queues(session: Session, cursor: int, limit: int) -> None:
    """List the queues by name.

    \b
    Example:
      workq inspect queues --json | jq .[].name
    """
    with session.client() as client:
        found = client.inspect_queues(cursor=cursor, limit=limit)
    if session.json:
        print_json(found)
    else:
        columns = ("name", "paused", "ready", "scheduled", "leased", "failed", "completed", "waiting_leasers")
        print_table(found, columns)


@inspect.command()
@click.argument("id")
@shared_options
@click.pass_obj
def job(session: Session, id: str) -> None:
    """Show what the server knows of the job ID.

    \b
    Example:
      workq inspect job 61a444a0-6128-41c0-8078-cc757d3bd2d8
    """
    with session.client() as client:
        (print_json if session.json else print_facts)(client.inspect_job(id))


@inspect.command()
@click.argument("name")
@_cursor
@_limit
@shared_options
@click.pass_obj
def jobs(session: Session, name: str, cursor: int, limit: int) -> None:
    """List the ready jobs of the queue NAME in the order in which they will be leased.

    \b
    Example:
      workq inspect jobs resize --limit 10
    """
    with session.client() as client:
        found = client.inspect_jobs(name, cursor=cursor, limit=limit)
    if session.json:
        print_json(found)
    else:
        print_table(found, ("id", "state", "priority", "created", "payload"))


@inspect.command()
@click.argument("name")
@_cursor
@_limit
@shared_options
@click.pass_obj
def scheduled_jobs(session: Session, name: str, cursor: int, limit: int) -> None:
    """List the jobs of the queue NAME that wait for their time.

    \b
    Example:
      workq inspect scheduled-jobs remind
    """
    with session.client() as client:
        found = client.inspect_scheduled_jobs(name, cursor=cursor, limit=limit)
    if session.json:
        print_json(found)
    else:
        print_table(found, ("id", "scheduled", "priority", "payload"))


@inspect.command()
@_cursor
@_limit
@shared_options
@click.pass_obj
def recurring(session: Session, cursor: int, limit: int) -> None:
    """List the recurring jobs by id.

    \b
    Example:
      workq inspect recurring
    """
    with session.client() as client:
        found = client.inspect_recurring(cursor=cursor, limit=limit)
    if session.json:
        print_json(found)
    else:
        print_table(found, ("id", "name", "rule", "overlap", "occurrences", "skipped", "next", "last", "payload"))


@inspect.command()
@click.argument("name")
@_cursor
@_limit
@shared_options
@click.pass_obj
def leased_jobs(session: Session, name: str, cursor: int, limit: int) -> None:
    """List the jobs of the queue NAME that workers hold, the oldest lease first.

    \b
    Example:
      workq inspect leased-jobs resize
    """
    with session.client() as client:
        _print_jobs(session, client.inspect_leased_jobs(name, cursor=cursor, limit=limit))


@inspect.command()
@click.argument("name")
@_cursor
@_limit
@shared_options
@click.pass_obj
def failed_jobs(session: Session, name: str, cursor: int, limit: int) -> None:
    """List the jobs of the queue NAME that have failed, the newest first.

    \b
    Example:
      workq inspect failed-jobs resize
    """
    with session.client() as client:
        _print_jobs(session, client.inspect_failed_jobs(name, cursor=cursor, limit=limit))


@inspect.command()
@click.argument("name")
@_cursor
@_limit
@shared_options
@click.pass_obj
def completed_jobs(session: Session, name: str, cursor: int, limit: int) -> None:
    """List the jobs of the queue NAME that were completed, the newest first.

    \b
    Example:
      workq inspect completed-jobs resize
    """
    with session.client() as client:
        _print_jobs(session, client.inspect_completed_jobs(name, cursor=cursor, limit=limit))


def _print_jobs(session: Session, found: list[JobInfo]) -> None:
    if session.json:
        print_json(found)
    else:
        print_table(found, ("id", "attempts", "fails", "created", "progress", "payload"))

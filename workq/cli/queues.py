"""What is said to a whole queue."""

from datetime import timedelta
from typing import Literal

import click

from workq.cli.output import print_json
from workq.cli.session import Session, duration, shared_options
from workq.commands import CLEAR_STATES


@click.command()
@click.argument("name")
@click.option("--max-len", type=int, metavar="N", help="Jobs that may wait before no more can be added.")
@click.option("--max-leased", type=int, metavar="N", help="Jobs that may be leased at the same time.")
@click.option("--lease-rate", type=float, metavar="R", help="Leases per second, such as 2.5; 0.001 at least.")
@click.option("--lease-burst", type=int, metavar="N", help="Leases at once after a while without any.")
@click.option("--ttr", type=duration, metavar="D", help="How long a lease lasts, whatever its job says.")
@click.option("--max-attempts", type=int, metavar="N", help="Leases allowed for each job.")
@click.option("--returned", type=click.Choice(["front", "back"]), help="Where a job goes whose TTR ended.")
@shared_options
@click.pass_obj
def queue(
    session: Session,
    /,
    name: str,
    max_len: int | None,
    max_leased: int | None,
    lease_rate: float | None,
    lease_burst: int | None,
    ttr: timedelta | None,
    max_attempts: int | None,
    returned: Literal["front", "back"] | None,
) -> None:
    """Set options of the queue NAME. What is not given stays as it is; 0 is no limit.

    \b
    Example:
      workq queue mail --max-leased 10 --lease-rate 2.5
    """
    with session.client() as client:
        client.configure_queue(
            name,
            max_len=max_len,
            max_leased=max_leased,
            lease_rate=lease_rate,
            lease_burst=lease_burst,
            ttr=ttr,
            max_attempts=max_attempts,
            returned=returned,
        )
    _done(session, name)


@click.command()
@click.argument("name")
@shared_options
@click.pass_obj
def pause(session: Session, name: str) -> None:
    """Let leases of the queue NAME wait; adding goes on.

    \b
    Example:
      workq pause mail
    """
    with session.client() as client:
        client.pause(name)
    _done(session, name)


@click.command()
@click.argument("name")
@shared_options
@click.pass_obj
def resume(session: Session, name: str) -> None:
    """Let the queue NAME, which was paused, go on.

    \b
    Example:
      workq resume mail
    """
    with session.client() as client:
        client.resume(name)
    _done(session, name)


@click.command()
@click.argument("name")
@click.option("--state", type=click.Choice(CLEAR_STATES), default="all", show_default=True, help="Only jobs in it.")
@shared_options
@click.pass_obj
def clear(session: Session, name: str, state: Literal["ready", "scheduled", "failed", "completed", "all"]) -> None:
    """Delete the jobs of the queue NAME, and print how many there were.

    \b
    Example:
      workq clear resize --state failed
    """
    with session.client() as client:
        deleted = client.clear(name, state=state)
    if session.json:
        print_json({"name": name, "deleted": deleted})
    else:
        click.echo(deleted)


def _done(session: Session, name: str) -> None:
    if session.json:
        print_json({"name": name})

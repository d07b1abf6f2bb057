"""`workq top`: a live table of the queues."""

import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

import workq
from workq.cli.output import print_json
from workq.cli.session import Session, duration, shared_options
from workq.cli.tables import console, table

_PAGE = 100
COLUMNS = (
    *("name", "paused", "ready", "oldest_s", "scheduled", "leased", "failed", "leasers"),
    *("added_per_s", "finished_per_s"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A queue now, and what happened in it since the look before, in jobs per second.

    oldest_s        how long its oldest ready job has waited
    leasers         workers that wait for a job
    finished_per_s  jobs that were completed or failed
    """

    name: str
    paused: bool
    ready: int
    oldest_s: float
    scheduled: int
    leased: int
    failed: int
    leasers: int
    added_per_s: float
    leased_per_s: float
    finished_per_s: float


class Sampler:
    """Looks at all queues and compares them with the look before."""

    def __init__(self, client: workq.Client) -> None:
        self._client = client
        self._before: dict[str, workq.QueueInfo] = {}
        self._looked_at = 0.0

    def look(self) -> list[Row]:
        """All queues, those with the most ready jobs first."""
        queues: list[workq.QueueInfo] = []
        while page := self._client.inspect_queues(cursor=len(queues)):
            queues += page
            if len(page) < _PAGE:
                break
        now = time.monotonic()
        elapsed_s = now - self._looked_at
        rows = [_row(queue, self._before.get(queue.name, queue), elapsed_s) for queue in queues]
        self._before = {queue.name: queue for queue in queues}
        self._looked_at = now
        return sorted(rows, key=lambda row: (-row.ready, row.name))


def _row(queue: workq.QueueInfo, before: workq.QueueInfo, elapsed_s: float) -> Row:
    added = queue.total_added - before.total_added
    leased = queue.total_leased - before.total_leased
    finished = queue.total_completed + queue.total_failed - before.total_completed - before.total_failed
    # Less than nothing is a server that was started anew.
    rates = [round(max(count, 0) / elapsed_s, 1) for count in (added, leased, finished)]
    return Row(
        queue.name,
        queue.paused,
        queue.ready,
        queue.oldest_ready_age,
        queue.scheduled,
        queue.leased,
        queue.failed,
        queue.waiting_leasers,
        *rates,
    )


@click.command()
@click.option("--interval", type=duration, default="1s", show_default=True, help="Time between two looks.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N looks.  [default: at Ctrl-C]")
@shared_options
@click.pass_obj
def top(session: Session, interval: timedelta, count: int | None) -> None:
    """Show the queues and what happens in them, live. With --json, a line per look.

    Of each queue: its jobs by state, how long the oldest ready one has waited in
    seconds, workers that wait for a job, and jobs added and finished per second.

    \b
    Example:
      workq top --interval 2s
    """
    looks = itertools.repeat(None) if count is None else itertools.repeat(None, count)
    interval_s = max(interval.total_seconds(), 0.1)
    with session.client() as client:
        sampler = Sampler(client)
        sampler.look()  # what cannot work at all is an error; from here on it is a line in the table
        try:
            if session.json:
                for _ in looks:
                    time.sleep(interval_s)
                    print_json(sampler.look())
            else:
                with Live(console=console(), screen=count is None, auto_refresh=False) as live:
                    for _ in looks:
                        time.sleep(interval_s)
                        live.update(_screen(client.url, sampler), refresh=True)
        except KeyboardInterrupt:
            pass


def _screen(url: str, sampler: Sampler) -> Group:
    title = Text(f"{url}  {datetime.now(UTC).astimezone():%H:%M:%S}", style="bold")
    try:
        rows = sampler.look()
    except workq.WorkqError as error:
        return Group(title, Text(str(error), style="red"))
    return Group(title, table(rows, COLUMNS))

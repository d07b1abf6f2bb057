"""Schedules a reminder and shows it when its time has come.

    .venv/bin/python examples/reminder.py 'water the plants' 2

The server keeps it meanwhile: `bin/workq inspect scheduled-jobs remind` shows it, and any worker may do it.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

import workq

worker = workq.Worker()


@worker.job("remind")
async def remind(what: bytes) -> None:
    """Show a reminder."""
    print(f"{datetime.now():%H:%M:%S}  remember: {what.decode()}")


async def main(what: str, seconds: float) -> None:
    """Schedule one reminder, and work until it was shown."""
    working = asyncio.create_task(worker.run_async())
    async with workq.AsyncClient() as client:
        job_id = await client.schedule("remind", what, at=datetime.now(UTC) + timedelta(seconds=seconds))
        print(f"{datetime.now():%H:%M:%S}  scheduled {job_id} in {seconds:g} s")
        await client.result(job_id, timeout=seconds + 60)
    worker.stop()
    await working


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: reminder.py WHAT SECONDS")
    try:
        asyncio.run(main(sys.argv[1], float(sys.argv[2])))
    except (ValueError, OverflowError):
        sys.exit(f"reminder.py: {sys.argv[2]!r} is not a number of seconds such as 2")
    except workq.WorkqError as error:
        sys.exit(f"reminder.py: {error}")

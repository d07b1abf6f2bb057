"""Fans out 1000 jobs and gathers their results, with a progress bar.

    .venv/bin/python examples/gather.py

Here the worker is a task of the same program; more of them, elsewhere, would share the work.
"""

import asyncio
import sys

from rich.progress import track

import workq

JOBS = 1000

worker = workq.Worker(codec="json")


@worker.job("square", concurrency=32)
async def square(number: int) -> int:
    """Square a number."""
    await asyncio.sleep(0.01)  # so that there is something to see
    return number * number


async def main() -> None:
    """Add the jobs all at once, then take the results as they come."""
    working = asyncio.create_task(worker.run_async())
    async with workq.AsyncClient(codec="json") as client:
        ids = await asyncio.gather(*[client.add("square", number) for number in range(JOBS)])
        results = asyncio.as_completed([client.result(job_id) for job_id in ids])
        total = 0
        for result in track(results, description="gathering", total=JOBS):
            total += (await result).result
        print(f"the sum of the first {JOBS} squares is {total}")
    worker.stop()
    await working


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except workq.WorkqError as error:
        sys.exit(f"gather.py: {error}")

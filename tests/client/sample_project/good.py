"""A project that uses all of the public API. It is not run: a type checker reads it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

import workq
from workq import AsyncClient, Client, Worker


def produce() -> None:
    with Client("workq://127.0.0.1:9922", codec="json", pool_size=4, retry_for=timedelta(seconds=5)) as client:
        job_id = client.add("resize", {"file": "photo.jpg"}, ttr=1.5, ttl=timedelta(days=1), priority=5)
        assert_type(job_id, str)
        assert_type(client.schedule("remind", "tea", at=datetime.now(UTC), id=uuid.uuid4()), str)
        outcome = client.run("resize", {"file": "photo.jpg"}, timeout=10)
        assert_type(outcome, workq.JobResult)
        assert_type(outcome.error, str | None)
        assert_type(client.result(job_id, timeout=3), workq.JobResult)
        job = client.lease("resize", "crop", timeout=5)
        assert_type(job, workq.Job)
        assert_type(job.payload, Any)
        assert_type(job.deadline, datetime)
        client.complete(job.id, {"width": 320})
        client.fail(job.id, "no image")
        client.delete(job_id)
        assert_type(client.recur("report", every=60, overlap="skip"), str)
        assert_type(client.inspect_recurring(limit=5), list[workq.RecurringInfo])
        assert_type(client.lease_many("resize", count=10, fenced=True), list[workq.Job])
        assert_type(client.results([job_id]), list[workq.JobResult])
        client.touch(job.id, attempt=job.attempt)
        client.progress(job.id, "half", touch=True)
        client.ping()
        client.release(job.id, delay=5, attempt=job.attempt)
        assert_type(client.inspect_server(), workq.ServerInfo)
        assert_type(client.inspect_queue("resize").ready, int)
        assert_type(client.inspect_queue("resize").oldest_ready_age, float)
        assert_type(client.inspect_queues(limit=5), list[workq.QueueInfo])
        assert_type(client.inspect_jobs("resize", cursor=5), list[workq.JobInfo])
        assert_type(client.inspect_scheduled_jobs("resize"), list[workq.JobInfo])
        assert_type(client.inspect_job(job_id).state, workq.JobState)


async def produce_many() -> list[str]:
    async with AsyncClient(codec=(lambda number: str(number).encode(), int)) as client:
        try:
            outcome = await client.run("square", 2)
            assert_type(outcome, workq.JobResult)
        except (workq.Timeout, workq.NotFound, workq.ClientError, workq.ServerError) as error:
            assert_type(error.text, str)
            assert_type(error.job_id, str | None)
        except workq.ConnectionLost as error:
            assert_type(error.outcome_unknown, bool)
        return await asyncio.gather(*[client.add("square", number) for number in range(10)])


worker = Worker(codec="json", grace=10)


@worker.job("resize", concurrency=8)
def resize(photo: dict[str, str]) -> dict[str, int]:
    if "file" not in photo:
        raise workq.Reject("no file")
    if workq.current_job().remaining() < 1:
        raise workq.Retry("too late for this one")
    return {"width": 320}


@worker.job("crop", codec="bytes")
async def crop(photo: bytes) -> bytes:
    return photo


@worker.job("convert", processes=True)
def convert(_: Any) -> None:
    pass


def check_decorated() -> None:
    assert_type(resize({"file": "photo.jpg"}), dict[str, int])


async def work() -> None:
    await worker.run_async()


if __name__ == "__main__":
    worker.run()
    worker.stop()

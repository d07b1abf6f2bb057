"""The client library: a blocking client, an asyncio client, a worker. Its public names are those of `workq`."""

from workq.client.asynchronous import AsyncClient
from workq.client.blocking import Client
from workq.client.errors import ClientError, ConnectionLost, NotFound, ServerError, Timeout, WorkqError
from workq.client.jobs import Job, JobInfo, JobResult, JobState, QueueInfo, RecurringInfo, ServerInfo
from workq.client.runners import Reject, Retry, current_job, report_progress
from workq.client.worker import Worker

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Job",
    "JobInfo",
    "JobResult",
    "JobState",
    "NotFound",
    "QueueInfo",
    "RecurringInfo",
    "Reject",
    "Retry",
    "ServerError",
    "ServerInfo",
    "Timeout",
    "Worker",
    "WorkqError",
    "current_job",
    "report_progress",
]

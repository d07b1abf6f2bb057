"""The queue log: a line of JSON for each job that is pushed, taken to be sent, tried again, or that has ended."""

from pathlib import Path
from typing import Final

import msgspec

from workq.background_log import open_line_log
from workq.commands import InspectJob
from workq.dispatch.target import PushResult
from workq.engine.job import COMPLETED, Job
from workq.gateway import Gateway
from workq.http.fireworq.definitions import DOOR
from workq.http.fireworq.jobs import next_try_ms, read_meta
from workq.http.settings import FireworqSettings
from workq.replies import JobInfo, Jobs, LeasedJob
from workq.values import InvalidValue

STANDARD_OUTPUT: Final = "-"
_LEVELS: Final = {"debug": 0, "info": 1, "warn": 2, "error": 3, "fatal": 4}
_DEBUG: Final = 0
_INFO: Final = 1
_LEASED: Final = 4  # as `inspect job` numbers the states
_encode: Final = msgspec.json.Encoder().encode


class _Line(msgspec.Struct):
    """`retry_delay` and `timeout` are in seconds, other times in milliseconds; `retry_count` is what is left."""

    level: str
    time: int
    tag: str
    action: str
    queue: str
    category: str
    id: int
    status: str
    created_at: int
    elapsed: int
    url: str
    payload: str
    next_try: int
    retry_count: int
    retry_delay: int
    fail_count: int
    timeout: int
    message: str


class QueueLog:
    """Writes the lines; a watcher of the dispatcher, so that it hears of them."""

    def __init__(self, gateway: Gateway, settings: FireworqSettings) -> None:
        """Raises `OSError` when the file cannot be written."""
        self._gateway = gateway
        self._tag = settings.queue_log_tag
        self._level = _LEVELS.get(settings.queue_log_level, -1)
        if self._level < 0:
            self._level = int(settings.queue_log_level)
        file = settings.queue_log or STANDARD_OUTPUT
        self._logger = open_line_log("queue log", None if file == STANDARD_OUTPUT else Path(file))

    def on_push(self, meta: bytes, body: bytes, run_at_ms: int, max_retries: int) -> None:
        """A job was accepted."""
        if self._level <= _INFO:
            self._write("push", "claimed", meta, body, self._gateway.now_ms(), run_at_ms, max_retries, 0, "")

    def on_begin(self, leased: LeasedJob) -> None:
        """The dispatcher begins to send a job."""
        if self._level <= _DEBUG:
            job = self._inspect(leased)
            if job is not None:
                self._write_job("pop", "grabbed", job, "")

    def on_failed_try(self, leased: LeasedJob, result: PushResult) -> None:
        """A job could not be sent, or its web worker failed; the engine knows it already."""
        if self._level <= _INFO:
            job = self._inspect(leased)
            if job is not None and job.result is None and job.state != _LEASED:
                self._write_job("retry", "claimed", job, result.error)

    def on_end(self, job: Job) -> None:
        """A job has ended, well or not."""
        if self._level > _INFO or not _is_ours(job.spec.name):
            return
        result = PushResult.from_result(job.result or b"")
        status = "completed" if job.state == COMPLETED else "failed"
        left = max(job.spec.max_fails - 1 - job.fails, 0)
        message = "" if result is None else result.error
        self._write("complete", status, job.meta, job.payload, job.created_ms, 0, left, job.fails, message)

    def _inspect(self, leased: LeasedJob) -> JobInfo | None:
        if not _is_ours(leased.name):
            return None
        reply = self._gateway.post(InspectJob(leased.job_id))
        return reply.jobs[0] if isinstance(reply, Jobs) else None

    def _write_job(self, action: str, status: str, job: JobInfo, message: str) -> None:
        left, next_ms = max(job.max_fails - 1 - job.fails, 0), next_try_ms(job)
        self._write(action, status, job.meta, job.payload, job.created_ms, next_ms, left, job.fails, message)

    def _write(
        self,
        action: str,
        status: str,
        meta: bytes,
        body: bytes,
        created_ms: int,
        next_ms: int,
        retries: int,
        fails: int,
        message: str,
    ) -> None:
        try:
            target, kept = read_meta(meta)
        except (InvalidValue, msgspec.DecodeError):
            return  # somebody else's job in a queue of ours
        now_ms = self._gateway.now_ms()
        line = _Line(
            level="debug" if action == "pop" else "info",
            time=now_ms,
            tag=self._tag,
            action=action,
            queue=kept.queue,
            category=kept.category,
            id=kept.number,
            status=status,
            created_at=created_ms,
            elapsed=now_ms - created_ms,
            url=target.url,
            payload=body.decode("utf-8", "replace"),
            next_try=next_ms,
            retry_count=retries,
            retry_delay=kept.retry_delay,
            fail_count=fails,
            timeout=kept.timeout,
            message=message,
        )
        self._logger.info("%s", _encode(line).decode())


def _is_ours(queue: bytes) -> bool:
    return queue.startswith(DOOR.encode() + b".")

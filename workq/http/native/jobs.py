"""Operations on jobs, for producers and for workers."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from msgspec import UNSET, UnsetType

from workq import commands as c
from workq import replies as r
from workq.gateway import Gateway, job_spec
from workq.http import web
from workq.http.application import HttpError
from workq.http.native import answers
from workq.http.native import structs as s
from workq.http.native.operations import Operation, bytes_of, queue_name
from workq.http.native.push import JobsWithUrls
from workq.protocol.text import check_id, parse_id
from workq.values import PAYLOAD_SIZE, PROGRESS_SIZE, RESULT_SIZE, InvalidValue, JobSpec, RetryPolicy


def operations(gateway: Gateway, with_urls: JobsWithUrls) -> list[Operation]:
    """The operations, on `gateway`."""
    jobs = _Jobs(gateway, with_urls)
    return [
        Operation(
            "POST", "/v1/jobs", "Add a job", s.NewJob, {201: s.Added}, (c.Add, c.Schedule), jobs.add, raw="payload"
        ),
        Operation(
            "POST",
            "/v1/run",
            "Add a job and wait for its result; 204 when the wait ends first, and the job is dropped",
            s.NewForegroundJob,
            {200: s.JobResult, 204: None},
            (c.Run,),
            jobs.run,
            raw="payload",
            raw_answer=True,
        ),
        Operation("GET", "/v1/jobs/{id}", "Show a job", s.Nothing, {200: s.Job}, (c.InspectJob,), jobs.show),
        Operation("DELETE", "/v1/jobs/{id}", "Delete a job", s.Nothing, {204: None}, (c.Delete,), jobs.delete),
        Operation(
            "GET",
            "/v1/jobs/{id}/result",
            "Read the result of a job, waiting for it; 204 when the wait ends first",
            s.WaitForResult,
            {200: s.JobResult, 204: None},
            (c.Result,),
            jobs.result,
            raw_answer=True,
        ),
        Operation(
            "POST",
            "/v1/results",
            "Read the results of several jobs, waiting for all of them",
            s.WaitForResults,
            {200: s.JobResults},
            (c.Results,),
            jobs.results,
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/complete",
            "Finish a job with success",
            s.Success,
            {204: None},
            (c.Complete,),
            jobs.complete,
            raw="result",
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/fail",
            "Finish an attempt, or the job, without success",
            s.Failure,
            {204: None},
            (c.Fail,),
            jobs.fail,
            raw="result",
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/touch",
            "Start the TTR of a lease again",
            s.Touched,
            {204: None},
            (c.Touch,),
            jobs.touch,
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/retry",
            "Put a job that has failed back into its queue",
            s.Nothing,
            {204: None},
            (c.Retry,),
            jobs.retry,
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/progress",
            "Tell how far the work on a leased job is",
            s.Reported,
            {204: None},
            (c.Progress,),
            jobs.progress,
            raw="progress",
        ),
        Operation(
            "POST",
            "/v1/jobs/{id}/release",
            "Give a leased job back; the attempt stays counted",
            s.Released,
            {204: None},
            (c.Release,),
            jobs.release,
        ),
        Operation(
            "POST",
            "/v1/lease",
            "Lease a job, or several, of one of several queues, waiting for one",
            s.LeaseAny,
            {200: s.LeasedJobs, 204: None},
            (c.Lease,),
            jobs.lease_any,
            raw_answer=True,
        ),
        Operation(
            "POST",
            "/v1/queues/{name}/lease",
            "Lease a job of a queue, or several, waiting for one",
            s.LeaseOne,
            {200: s.LeasedJobs, 204: None},
            (c.Lease,),
            jobs.lease_one,
            raw_answer=True,
        ),
    ]


class _Jobs:
    def __init__(self, gateway: Gateway, with_urls: JobsWithUrls) -> None:
        self._gateway = gateway
        self._with_urls = with_urls

    async def add(self, request: web.Request, given: s.NewJob) -> web.Response:
        payload = bytes_of("payload", PAYLOAD_SIZE, given.payload, given.payload_base64)
        spec = background_spec(given)
        job_id = self._job_id(given.id)
        run_at_ms = self._run_at_ms(given)
        meta = await self._with_urls.meta(given)
        command = (
            c.Schedule(job_id, spec, run_at_ms, payload, meta) if run_at_ms else c.Add(job_id, spec, payload, meta)
        )
        answers.expect(r.Ok, await self._gateway.execute(command), "job")
        text = answers.id_text(job_id)
        answer = answers.json(s.Added(text), status=201)
        answer.headers["Location"] = f"/v1/jobs/{text}"
        return answer

    async def run(self, request: web.Request, given: s.NewForegroundJob) -> web.Response:
        payload = bytes_of("payload", PAYLOAD_SIZE, given.payload, given.payload_base64)
        spec = job_spec(
            given.queue.encode(),
            given.ttr_ms,
            0,
            given.priority,
            given.max_attempts,
            given.max_fails,
            foreground=True,
        )
        reply = await self._gateway.execute(c.Run(self._job_id(given.id), spec, given.wait_ms, payload))
        if isinstance(reply, r.TimedOut):
            return answers.done()
        if isinstance(reply, r.NotFound):
            raise HttpError(404, "The job was deleted before it was finished")
        return answers.job_result(request, answers.expect(r.JobResult, reply, "job"))

    async def show(self, request: web.Request, given: s.Nothing) -> web.Response:
        job_id, what = _job(request)
        reply = answers.expect(r.Jobs, await self._gateway.execute(c.InspectJob(job_id)), what)
        return answers.json(answers.job(reply.jobs[0]))

    async def delete(self, request: web.Request, given: s.Nothing) -> web.Response:
        job_id, what = _job(request)
        return await self._do(c.Delete(job_id), what)

    async def result(self, request: web.Request, given: s.WaitForResult) -> web.Response:
        job_id, what = _job(request)
        reply = await self._gateway.execute(c.Result(job_id, given.wait_ms))
        if isinstance(reply, r.TimedOut):
            return answers.done()
        return answers.job_result(request, answers.expect(r.JobResult, reply, what))

    async def results(self, request: web.Request, given: s.WaitForResults) -> web.Response:
        job_ids = tuple([check_id(parse_id(text.encode())) for text in given.ids])
        reply = await self._gateway.execute(c.Results(job_ids, given.wait_ms))
        if isinstance(reply, r.TimedOut):
            return answers.json(s.JobResults([]))
        results = answers.expect(r.JobResults, reply, "job with one of these ids").results
        return answers.json(s.JobResults([answers.outcome(result) for result in results]))

    async def complete(self, request: web.Request, given: s.Success) -> web.Response:
        job_id, what = _job(request)
        result = bytes_of("result", RESULT_SIZE, given.result, given.result_base64)
        return await self._do(c.Complete(job_id, result, given.attempt or 0), what)

    async def fail(self, request: web.Request, given: s.Failure) -> web.Response:
        job_id, what = _job(request)
        result = bytes_of("result", RESULT_SIZE, given.result, given.result_base64)
        return await self._do(c.Fail(job_id, result, given.attempt or 0, given.final), what)

    async def touch(self, request: web.Request, given: s.Touched) -> web.Response:
        job_id, what = _job(request)
        return await self._do(c.Touch(job_id, given.attempt or 0), what)

    async def retry(self, request: web.Request, given: s.Nothing) -> web.Response:
        job_id, what = _job(request)
        return await self._do(c.Retry(job_id), what)

    async def progress(self, request: web.Request, given: s.Reported) -> web.Response:
        job_id, what = _job(request)
        progress = bytes_of("progress", PROGRESS_SIZE, given.progress, given.progress_base64)
        return await self._do(c.Progress(job_id, progress, given.attempt or 0, given.touch), what)

    async def release(self, request: web.Request, given: s.Released) -> web.Response:
        job_id, what = _job(request)
        return await self._do(c.Release(job_id, given.delay_ms, given.attempt or 0), what)

    async def lease_one(self, request: web.Request, given: s.LeaseOne) -> web.Response:
        return await self._lease(request, (queue_name(request),), given)

    async def lease_any(self, request: web.Request, given: s.LeaseAny) -> web.Response:
        return await self._lease(request, tuple([name.encode() for name in given.queues]), given)

    async def _lease(
        self, request: web.Request, names: tuple[bytes, ...], given: s.LeaseOne | s.LeaseAny
    ) -> web.Response:
        raw = answers.wants_raw(request)
        if raw and given.count > 1:
            raise HttpError(400, f"count: '{given.count}' is not 1, the most that fits into a body of {answers.RAW}")
        reply = await self._gateway.execute(c.Lease(names, given.wait_ms, fenced=True, count=given.count))
        if raw:
            return answers.raw_leased_job(reply) if isinstance(reply, r.LeasedJob) else answers.done()
        if isinstance(reply, r.TimedOut):
            jobs: list[r.LeasedJob] = []
        elif isinstance(reply, r.LeasedJobs):
            jobs = reply.jobs
        else:
            jobs = [answers.expect(r.LeasedJob, reply, "job")]
        return answers.json(s.LeasedJobs([answers.leased_job(job) for job in jobs]))

    async def _do(self, command: c.Command, what: str) -> web.Response:
        answers.expect(r.Ok, await self._gateway.execute(command), what)
        return answers.done()

    def _run_at_ms(self, given: s.NewJob) -> int:
        """When the job is to run, 0 for at once."""
        if given.run_at is UNSET:
            return self._gateway.now_ms() + given.delay_ms if given.delay_ms else 0
        if given.delay_ms:
            raise HttpError(400, "run_at and delay_ms are both given, one is allowed")
        return _unix_ms(given.run_at)

    def _job_id(self, given: str | UnsetType) -> bytes:
        return self._gateway.new_job_id() if given is UNSET else check_id(parse_id(given.encode()))


def _job(request: web.Request) -> tuple[bytes, str]:
    """The job that the path names, and how to call it."""
    text: Any = request.match_info["id"]
    return check_id(parse_id(text.encode("utf-8", "replace"))), f"job {text}"


@lru_cache
def _policy(delay_ms: int, backoff: float, max_delay_ms: int) -> RetryPolicy:
    return RetryPolicy(delay_ms, round(backoff * 1_000), max_delay_ms)


def background_spec(given: s.Background) -> JobSpec:
    """The spec that a request asks for."""
    policy = None
    if given.retry_delay_ms is UNSET:
        for option in ("retry_backoff", "retry_max_delay_ms"):
            if getattr(given, option) is not UNSET:
                raise HttpError(400, f"{option}: is nothing without retry_delay_ms")
    elif given.retry_delay_ms:
        backoff = 1 if given.retry_backoff is UNSET else given.retry_backoff
        policy = _policy(given.retry_delay_ms, backoff, given.retry_max_delay_ms or 0)
    name = given.queue.encode()
    return job_spec(name, given.ttr_ms, given.ttl_ms, given.priority, given.max_attempts, given.max_fails, policy)


def _unix_ms(moment: datetime) -> int:
    """Unix milliseconds of an aware time. Never 0, which stands for "no time". Raises `InvalidValue`."""
    try:
        return int(moment.astimezone(UTC).timestamp() * 1000) or 1
    except OverflowError:  # nobody could be shown it
        allowed = "0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        raise InvalidValue(f"Invalid Time: '{moment.isoformat()}' is not from {allowed}") from None

"""The requests of HQ's API, and what they are answered."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final, TypeAlias, TypeVar

import attrs
import msgspec

from workq.archive import Archive
from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway
from workq.halves import decode_halves
from workq.http.application import Application, HttpError
from workq.http.forms import FORMS, read_form
from workq.http.hq.ids import LARGEST_ID, Ids, parse_id, shown_duration
from workq.http.hq.job import HqJob, Push, Restart, given_of, payload_of
from workq.http.hq.listing import BOOLEANS, parameter, read_listing, whole_number
from workq.http.hq.store import DOOR, Found, ListReader, Store
from workq.http.pages import Page
from workq.http.settings import HqSettings
from workq.http.web import ANY, Request, Response, Router
from workq.values import shown
from workq.version import VERSION

T = TypeVar("T")
_Form: TypeAlias = Mapping[str, str]

log = logging.getLogger("workq.http.hq")

_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}
# A list that is longer leaves in pieces of about so many jobs.
_PIECE: Final = 1_000
# The limit of a dashboard request that gives none.
_DASHBOARD_LIMIT: Final = 300

_encode: Final = msgspec.json.Encoder().encode
_decode_push: Final = msgspec.json.Decoder(Push).decode
_decode_restart: Final = msgspec.json.Decoder(Restart).decode


class _Info(msgspec.Struct, rename="camel"):
    version: str
    commit_hash: str


class _Error(msgspec.Struct):
    status: int
    error: str


class _Id(msgspec.Struct):
    id: str


class _JobList(msgspec.Struct, rename="camel"):
    jobs: list[HqJob]
    has_next: bool
    next: str | msgspec.UnsetType
    count: int


class _Stats(msgspec.Struct, rename="camel"):
    """The figures under the names of all generations of HQ."""

    queues: int
    dispatchers: int
    max_workers: int
    queue_usage: int
    num_waiting_jobs: int
    num_running_jobs: int
    num_workers: int
    num_jobs: int
    num_jobs_in_queue: int
    num_jobs_waiting: int
    num_jobs_running: int
    num_stored_jobs: int
    num_jobs_in_last_minute: int
    version: str
    commit_hash: str
    server_id: int
    shutdown_timeout: int
    job_lifetime: int
    job_lifetime_str: str
    job_list_default_limit: int
    queue_max: int


class _Dashboard(msgspec.Struct, rename="camel"):
    stats: _Stats
    job_list: _JobList


class HqDoor:
    """The API of HQ on our jobs."""

    def __init__(self, gateway: Gateway, archive: Archive, dispatcher: Dispatcher, settings: HqSettings) -> None:
        self._gateway = gateway
        self._settings = settings
        ids = Ids(settings.epoch_ms, settings.server_id)
        self._store = Store(gateway, archive, dispatcher, ids, settings.concurrency)
        self._page = Page("hq", "HQ") if settings.ui else None
        archive.keep_for(DOOR, settings.job_lifetime * 1000)
        for key in settings.without_effect:
            log.warning("[hq]: %s has no effect: it is said for the whole server, see workq-server --help", key)

    def application(self) -> Application:
        """A new application that serves it, to be mounted anywhere."""
        served = Application(_error)
        served.on_start.append(self._store.load)
        router = served.router
        for slash in ("", "/"):
            router.add_route(ANY, slash, self._info)
        self._add_routes(router, "")
        if self._page is not None:
            ui = self._settings.ui_basename
            self._add_routes(router, f"{ui}/internal")
            for slash in ("", "/"):
                router.add_route(ANY, f"{ui}/internal{slash}", self._info)
                router.add_get(f"{ui}/internal/dashboard{slash}", self._dashboard)
            router.add_get(ui, self._show_page)
            router.add_get(f"{ui}/{{rest:.*}}", self._show_page)
        return served

    def _add_routes(self, router: Router, prefix: str) -> None:
        for slash in ("", "/"):
            router.add_get(f"{prefix}/stats{slash}", self._stats)
            router.add_post(f"{prefix}/job{slash}", self._push)
            router.add_get(f"{prefix}/job{slash}", self._list)
            router.add_get(f"{prefix}/job/{{id}}{slash}", self._get)
            router.add_delete(f"{prefix}/job/{{id}}{slash}", self._delete)
            router.add_post(f"{prefix}/job/{{id}}/restart{slash}", self._restart)
            router.add_post(f"{prefix}/job/{{id}}/stop{slash}", self._stop)

    # -- requests ------------------------------------------------------------------------------------------------

    async def _info(self, request: Request) -> Response:
        return _answer(request, _encode(_Info(VERSION, "")))

    async def _stats(self, request: Request) -> Response:
        return _answer(request, _encode(await self._figures()))

    async def _push(self, request: Request) -> Response:
        push = _read(request, _decode_push, _push_in_form)
        if push is None:
            raise HttpError(400, "The body is empty; a job is needed, as JSON")
        if not push.url:
            raise HttpError(422, "'url' is required")
        job = await self._store.push(push.url, given_of(push), payload_of(push))
        return _answer(request, _encode(job))

    async def _list(self, request: Request) -> Response:
        listing = read_listing(request.query, self._settings.job_list_default_limit)
        reader = ListReader(self._store, listing)
        jobs = await reader.read(_PIECE)
        if reader.done:
            return _answer(request, _encode(_list_object(jobs, reader)))
        return Response(pieces=_pieces(reader, jobs, "pretty" in request.query), headers=_JSON)

    async def _show_page(self, request: Request) -> Response:
        assert self._page is not None
        if request.match_info.get("rest", "").startswith("internal/"):
            raise HttpError(404, f"There is nothing at {request.path}")
        return await self._page.handle(request)

    async def _dashboard(self, request: Request) -> Response:
        limit = self._settings.job_list_default_limit or _DASHBOARD_LIMIT
        listing = read_listing(request.query, limit)
        # It is answered as a whole, so it must have a limit.
        listing = attrs.evolve(listing, limit=min(listing.limit or limit, _PIECE))
        reader = ListReader(self._store, listing)
        jobs = await reader.read(listing.limit)
        return _answer(request, _encode(_Dashboard(await self._figures(), _list_object(jobs, reader))))

    async def _get(self, request: Request) -> Response:
        return _answer(request, _encode((await self._find(request)).object))

    async def _delete(self, request: Request) -> Response:
        job = await self._find(request)
        _check_finished(job)
        if not await self._store.delete(job):
            raise _no_such_job(job.number)
        return _answer(request, _encode(_Id(str(job.number))))

    async def _restart(self, request: Request) -> Response:
        job = await self._find(request)
        restart = _read(request, _decode_restart, _restart_in_form)
        _check_finished(job)
        copy = restart is not None and restart.copy
        again = await (self._store.copy(job) if copy else self._store.restart(job))
        return _answer(request, _encode(again))

    async def _stop(self, request: Request) -> Response:
        job = await self._find(request)
        if job.state == "finished":
            raise HttpError(422, f"The job {job.number} is not active")
        await self._store.stop(job)
        return _answer(request, _encode(_Id(str(job.number))))

    async def _find(self, request: Request) -> Found:
        text = request.match_info["id"]
        number = parse_id(text)
        if number is None:
            raise HttpError(422, f"The job id must be a number from 0 to {LARGEST_ID}, not {shown(text)}")
        job = await self._store.find(number)
        if job is None:
            raise _no_such_job(number)
        return job

    async def _figures(self) -> _Stats:
        settings = self._settings
        stored = await self._store.count()
        recent = await self._store.count_since(self._gateway.now_ms() - 60_000)
        queue = await self._store.queue()
        waiting, running = queue.ready_len + queue.scheduled_len, queue.leased_len
        return _Stats(
            queues=settings.queues,
            dispatchers=settings.dispatcher_count,
            max_workers=settings.max_workers,
            queue_usage=min(waiting, settings.queues),
            num_waiting_jobs=waiting,
            num_running_jobs=running,
            num_workers=running,
            num_jobs=stored,
            num_jobs_in_queue=min(waiting, settings.queues),
            num_jobs_waiting=waiting,
            num_jobs_running=running,
            num_stored_jobs=stored,
            num_jobs_in_last_minute=recent,
            version=VERSION,
            commit_hash="",
            server_id=settings.server_id,
            shutdown_timeout=settings.shutdown_timeout,
            job_lifetime=settings.job_lifetime,
            job_lifetime_str=shown_duration(settings.job_lifetime),
            job_list_default_limit=settings.job_list_default_limit,
            queue_max=settings.queues,
        )


# -- bodies ------------------------------------------------------------------------------------------------------


def _read(request: Request, decode: Callable[[bytes], T], take_form: Callable[[_Form], T]) -> T | None:
    """The body, in whatever form it comes; None when there is none. Raises `HttpError`."""
    content_type = request.headers.get("Content-Type", "").strip().lower()
    if content_type.startswith("application/json"):
        return _decoded(decode, request.body) if request.body.strip() else None
    if content_type.startswith(FORMS):
        form = read_form(request)
        whole = form.get("payload") or request.query.get("payload")
        return take_form(form) if not whole else _decoded(decode, whole.encode())
    if request.body:
        told = shown(content_type) if content_type else "none"
        raise HttpError(415, f"The Content-Type of the body is {told}; application/json is needed, or that of a form")
    whole = request.query.get("payload")
    return _decoded(decode, whole.encode()) if whole else None


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        body.decode()  # what is only passed on is not looked at below
        return decode_halves(decode, body)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except msgspec.DecodeError as error:
        reason = str(error)
    raise HttpError(400, f"The body is not as it should be: {reason}")


def _push_in_form(form: _Form) -> Push:
    timeout = parameter(form, "timeout", whole_number, "a whole number of seconds")
    return Push(url=form.get("url"), name=form.get("name"), comment=form.get("comment"), timeout=timeout)


def _restart_in_form(form: _Form) -> Restart:
    return Restart(parameter(form, "copy", BOOLEANS.get, "true or false"))


# -- answers -----------------------------------------------------------------------------------------------------


def _answer(request: Request, body: bytes, status: int = 200) -> Response:
    if request.query_string and "pretty" in request.query:
        body = msgspec.json.format(body, indent=2)
    return Response(status=status, body=body, headers=_JSON)


def _error(request: Request, status: int, text: str) -> Response:
    """An error as HQ words it."""
    return _answer(request, _encode(_Error(status, text)), status)


def _no_such_job(number: int) -> HttpError:
    return HttpError(422, f"The job '{number}' is not found")


def _check_finished(job: Found) -> None:
    if job.state != "finished":
        raise HttpError(422, f"The job {job.number} is {job.state} now")


def _list_object(jobs: list[HqJob], reader: ListReader) -> _JobList:
    following = msgspec.UNSET if reader.next is None else str(reader.next)
    return _JobList(jobs, reader.next is not None, following, reader.count)


async def _pieces(reader: ListReader, jobs: list[HqJob], pretty: bool) -> AsyncGenerator[bytes, None]:
    """A long list piece by piece: nothing bounds it but what is stored."""
    between = b'{\n  "jobs": [\n    ' if pretty else b'{"jobs":['
    while jobs:
        piece = _encode(jobs)[1:-1]
        if pretty:
            piece = msgspec.json.format(b"[%b]" % piece, indent=2)[4:-2].replace(b"\n", b"\n  ")
        yield between + piece
        between = b",\n    " if pretty else b","
        jobs = [] if reader.done else await reader.read(_PIECE)
    end = _encode(_list_object([], reader))
    if pretty:
        end = msgspec.json.format(end, indent=2)
    yield end[end.index(b"]") :] if not pretty else b"\n  " + end[end.index(b"]") :]

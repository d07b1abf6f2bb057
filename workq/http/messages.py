"""The messages door: the API of an SQS-like queue. Consumers poll for one message at a time, and lock it.

A message is a job of the queue `messages.<name>`: its TTR is the visibility timeout, its attempts are the receives. The
options of a queue are the engine's, so they hold at once for every message; what the door itself keeps of a queue, its
times, is a document. Messages that ended go to the archive, and stay there until their queue is deleted.

Where documents and code of the original disagree, this follows what its users can rely on: see
`doc/coming-from-messages.md`.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec.json import decode, encode

from workq import commands as c
from workq.archive import Archive, ArchivedJob, ArchiveError, Query
from workq.engine.job import COMPLETED, Job
from workq.gateway import Gateway, ServerUnavailable, job_spec, to_the_end
from workq.halves import decode_halves
from workq.http import web
from workq.http.application import Application, HttpError, check_taken, plain_error, refuse_foreign_pages
from workq.http.names import check_length, is_too_long, queue_name
from workq.http.nesting import DEEPEST, is_too_deep
from workq.http.pages import Page
from workq.http.settings import MessagesSettings
from workq.replies import Documents, JobInfo, Jobs, LatestJobs, LeasedJob
from workq.values import COUNT, DAY_MS, LONGEST_QUEUE_TTR, TTL, Range, shown

log = logging.getLogger("workq.http.messages")

LARGEST_MESSAGE: Final = 2 * 1_048_576
DOOR: Final = "messages"
_DOCUMENT: Final = "messages/queue/"
# Stands for a queue that is deleted, as long as its messages are not: that takes several turns.
_LEFTOVER: Final = "messages/gone/"
_LEASED: Final = 4  # as `inspect job` numbers the states
_INTEGER: Final = Range("integer", -(2**63), 2**63 - 1)
_COMPLETED: Final = 1  # flags in the archive
_FAILED: Final = 2
# What the page shows: so many messages, and so much of the JSON of each.
_SHOWN: Final = 10
_LONGEST_ARGS: Final = 1_000
# Queues looked at in one go; then others have their turn.
_QUEUES_AT_ONCE: Final = 100
_OPTIONS: Final = ("max_attempts", "visibility_timeout_seconds")


class _Kept(msgspec.Struct):
    """What the document of a queue holds. Times are Unix milliseconds."""

    max_attempts: int
    visibility_timeout_seconds: int
    inserted_ms: int
    updated_ms: int


_decode_kept: Final = msgspec.json.Decoder(_Kept).decode


class Queue(msgspec.Struct):
    """A queue as the API shows it. Times are UTC, with milliseconds."""

    name: str
    max_attempts: int
    visibility_timeout_seconds: int
    inserted_at: str
    updated_at: str


class Message(msgspec.Struct):
    """A message as `receive` gives it; `attempts` counts this receive."""

    id: str
    args: msgspec.Raw
    queue: str
    attempts: int


class _Ended(msgspec.Struct):
    """What the archive keeps of a message, beside its columns."""

    args: msgspec.Raw
    attempts: int


class ShownMessage(msgspec.Struct):
    """A message as the page shows it. `args` is the beginning of its JSON; times are UTC, None for what has not
    happened or is not known.
    """

    id: str
    queue: str
    args: str
    attempts: int
    inserted_at: str
    locked_at: str | None = None
    completed_at: str | None = None
    failed_at: str | None = None
    updated_at: str | None = None


class MessagesDoor:
    """The API of messages on our jobs."""

    def __init__(self, gateway: Gateway, archive: Archive, settings: MessagesSettings) -> None:
        self._gateway = gateway
        self._archive = archive
        self._settings = settings
        self._page = Page("messages", "hq web ui")
        self._changing = asyncio.Lock()  # one change of a queue at a time: each takes several commands
        archive.register(DOOR, self._archived)
        for key in settings.without_effect:
            log.warning("[messages]: %s has no effect: messages are kept in --data-dir", key)

    def application(self) -> Application:
        """A new application that serves it, to be mounted anywhere."""
        served = Application(plain_error, time_limit_s=self._settings.request_timeout)
        for slash in ("", "/"):  # the original means to accept both
            served.router.add_post(f"/queues{slash}", self._create)
            served.router.add_get(f"/queues{slash}", self._list)
            served.router.add_get(f"/queues/{{name}}{slash}", self._show)
            served.router.add_put(f"/queues/{{name}}{slash}", self._update)
            served.router.add_delete(f"/queues/{{name}}{slash}", self._delete)
            served.router.add_post(f"/queues/{{name}}/enqueue{slash}", self._enqueue)
            served.router.add_get(f"/queues/{{name}}/receive{slash}", self._receive, allow_head=False)
            served.router.add_put(f"/messages/{{id}}/complete{slash}", self._complete)
            served.router.add_put(f"/messages/{{id}}/fail{slash}", self._fail)
            served.router.add_get(f"/web{slash}", self._page.handle)
        served.router.add_get("/web/messages", self._list_latest)
        return served

    # -- queues --------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        name = _text(request, "name")
        if not name:  # no path would lead to it, not even to delete it
            raise HttpError(400, "The query parameter name is empty")
        check_length("queue name", name)
        max_attempts, timeout_s = [_number(request, option) for option in _OPTIONS]
        _check_options([max_attempts, timeout_s])
        await to_the_end(self._make(name, max_attempts, timeout_s))
        return _nothing()

    async def _make(self, name: str, max_attempts: int, timeout_s: int) -> None:
        async with self._changing:
            if await self._kept(name) is not None:
                raise HttpError(409, f"Error: queue name must be unique, and there is a queue {shown(name)} already")
            await self._remove_leftover(name)
            now_ms = self._gateway.now_ms()
            await self._keep(name, _Kept(max_attempts, timeout_s, now_ms, now_ms))

    async def _list(self, request: web.Request) -> web.Response:
        documents = await self._documents(_DOCUMENT)
        return _json([_queue(key.removeprefix(_DOCUMENT), kept) for key, kept in documents])

    async def _show(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        kept = await self._kept(name)
        return _json(None if kept is None else _queue(name, kept))

    async def _update(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        given = [_number(request, option) if option in request.query else None for option in _OPTIONS]
        _check_options(given)
        async with self._changing:
            kept = await self._kept(name)
            if kept is not None and given != [None, None]:
                max_attempts, visibility_timeout_seconds = given
                kept.max_attempts = max_attempts or kept.max_attempts
                kept.visibility_timeout_seconds = visibility_timeout_seconds or kept.visibility_timeout_seconds
                kept.updated_ms = self._gateway.now_ms()
                await self._keep(name, kept)
        return _nothing()

    async def _delete(self, request: web.Request) -> web.Response:
        await to_the_end(self._remove(request.match_info["name"]))
        return _nothing()

    async def _remove(self, name: str) -> None:
        async with self._changing:
            if await self._kept(name) is not None:
                self._gateway.post(c.PutDocument(_key(_LEFTOVER, name), b"null"))
                await self._gateway.execute(c.PutDocument(_key(_DOCUMENT, name), b""))
            await self._remove_leftover(name)

    async def start(self) -> None:
        """Finish what a crash, or a stop, came in between."""
        reply = await self._gateway.execute(c.ListDocuments(_LEFTOVER.encode()))
        assert isinstance(reply, Documents)
        try:
            for key, _ in reply.documents:
                name = key.decode("utf-8", "surrogatepass").removeprefix(_LEFTOVER)
                if await self._kept(name) is None:  # else the log lacks the deletion itself
                    await self._remove_leftover(name)
        except (ServerUnavailable, ArchiveError) as error:
            log.warning("messages of a deleted queue are left until it is deleted again: %s", error)

    async def _remove_leftover(self, name: str) -> None:
        """Remove what is left of a queue that is deleted."""
        if await self._document(_LEFTOVER, name) is None:
            return
        await self._gateway.execute(c.Clear(queue_name(DOOR, name)))
        options = c.ConfigureQueue(queue_name(DOOR, name), ttr_ms=0, max_attempts=0, to_back=False)
        await self._gateway.execute(options)  # so that nothing of it is left in the log
        await self._archive.delete_queue(DOOR, name)
        await self._gateway.execute(c.PutDocument(_key(_LEFTOVER, name), b""))

    # -- messages ------------------------------------------------------------------------------------------------

    async def _enqueue(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if len(request.body) > LARGEST_MESSAGE:
            raise HttpError(413, f"The message is too long: at most {LARGEST_MESSAGE} bytes are allowed")
        try:
            body = decode_halves(_checked, request.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise HttpError(400, f"Something went wrong: the message is not JSON: {error}") from None
        if is_too_deep(body):
            raise HttpError(400, f"Something went wrong: it is nested too deeply: {DEEPEST} levels are allowed")
        if await self._kept(name) is None:
            raise HttpError(404, f"Something went wrong: there is no queue {shown(name)}")
        message_id = uuid.uuid4()
        spec = job_spec(queue_name(DOOR, name), DAY_MS, TTL.highest)
        check_taken(await self._gateway.execute(c.Add(message_id.bytes, spec, body.strip(), encode(name))))
        return _json({"message_id": str(message_id)})

    async def _receive(self, request: web.Request) -> web.Response:
        refuse_foreign_pages(request, may_lead_here=False)
        name = request.match_info["name"]
        if await self._kept(name) is None:
            return _json(None)
        leased = await self._gateway.execute(c.Lease((queue_name(DOOR, name),), 0, fenced=True))
        if not isinstance(leased, LeasedJob):
            return _json(None)
        message_id = str(uuid.UUID(bytes=leased.job_id))
        return _json(Message(message_id, msgspec.Raw(leased.payload), name, leased.attempt))

    async def _complete(self, request: web.Request) -> web.Response:
        job_id = _message_id(request)
        if await self._is_locked(job_id):
            await self._gateway.execute(c.Complete(job_id, b""))
        return _nothing()

    async def _fail(self, request: web.Request) -> web.Response:
        job_id = _message_id(request)
        if await self._is_locked(job_id):
            await self._gateway.execute(c.Fail(job_id, b"", final=True))
        return _nothing()

    async def _is_locked(self, job_id: bytes) -> bool:
        """Whether the job is a message that somebody holds: only then can it be ended, by anybody."""
        found = await self._gateway.execute(c.InspectJob(job_id))
        if not isinstance(found, Jobs):
            return False
        job = found.jobs[0]
        return job.state == _LEASED and job.name.startswith(DOOR.encode() + b".")

    # -- the page ------------------------------------------------------------------------------------------------

    async def _list_latest(self, request: web.Request) -> web.Response:
        """The messages that changed last, over all queues, the last first."""
        archived = await self._archive.find(Query(door=DOOR, order="finished", descending=True, limit=_SHOWN))
        placed = [(entry.finished_ms, _shown_ended(entry)) for entry in archived]
        for number, (key, kept) in enumerate(await self._documents(_DOCUMENT), 1):
            name = key.removeprefix(_DOCUMENT)
            reply = await self._gateway.execute(c.InspectLatest(queue_name(DOOR, name), _SHOWN))
            assert isinstance(reply, LatestJobs)
            placed += _placed(name, kept, reply.jobs)
            if number % _QUEUES_AT_ONCE == 0:
                await asyncio.sleep(0)
        placed.sort(key=lambda each: -each[0])
        return _json([message for _, message in placed[:_SHOWN]])

    # -- what is kept --------------------------------------------------------------------------------------------

    async def _documents(self, prefix: str) -> list[tuple[str, _Kept]]:
        reply = await self._gateway.execute(c.ListDocuments(prefix.encode()))
        assert isinstance(reply, Documents)
        return [(key.decode(), _decode_kept(value)) for key, value in reply.documents]

    async def _kept(self, name: str) -> _Kept | None:
        value = await self._document(_DOCUMENT, name)
        return None if value is None else _decode_kept(value)

    async def _document(self, prefix: str, name: str) -> bytes | None:
        if is_too_long(name):  # no queue can have it
            return None
        reply = await self._gateway.execute(c.GetDocument(_key(prefix, name)))
        return reply.documents[0][1] if isinstance(reply, Documents) else None

    async def _keep(self, name: str, kept: _Kept) -> None:
        """Remember a queue, and let the engine act on its options, for the messages that are in it, too."""
        max_attempts = min(kept.max_attempts, COUNT.highest)
        options = c.ConfigureQueue(
            queue_name(DOOR, name), ttr_ms=_ttr_ms(kept), max_attempts=max_attempts, to_back=True
        )
        self._gateway.post(options)  # in the same turn as what follows, so that a crash does not come in between
        await self._gateway.execute(c.PutDocument(_key(_DOCUMENT, name), encode(kept)))

    def _archived(self, job: Job) -> ArchivedJob:
        """A message that has ended, as it is kept until its queue is deleted."""
        return ArchivedJob(
            door=DOOR,
            queue=decode(job.meta, type=str),
            number=None,
            job_id=job.job_id,
            created_ms=job.created_ms,
            finished_ms=self._gateway.now_ms(),
            flags=_COMPLETED if job.state == COMPLETED else _FAILED,
            data=encode(_Ended(msgspec.Raw(job.payload), job.attempts)),
        )


def _checked(body: bytes) -> bytes:
    """`body`. Raises `msgspec.DecodeError`, `RecursionError` if it is no JSON."""
    decode(body)
    return body


def _key(prefix: str, name: str) -> bytes:
    return f"{prefix}{name}".encode("utf-8", "surrogatepass")


def _text(request: web.Request, name: str) -> str:
    if name not in request.query:
        raise HttpError(400, f"The query parameter {name} is missing")
    return request.query[name]


def _number(request: web.Request, name: str) -> int:
    text = _text(request, name)
    if re.fullmatch(r"[+-]?[0-9]{1,40}", text) is None or not _INTEGER.lowest <= int(text) <= _INTEGER.highest:
        raise HttpError(400, f"The query parameter {name}: {shown(text)} is not {_INTEGER}")
    return int(text)


def _check_options(options: Sequence[int | None]) -> None:
    for name, value in zip(_OPTIONS, options, strict=True):
        if value is not None and value < 1:
            raise HttpError(422, f"{name} must be >= 1, and {value} is not")


def _message_id(request: web.Request) -> bytes:
    text = request.match_info["id"]
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        raise HttpError(400, f"{shown(text)} is not a UUID like 7aab413c-d164-468e-ab3b-14a4ee1ece3d") from None


def _queue(name: str, kept: _Kept) -> Queue:
    return Queue(
        name, kept.max_attempts, kept.visibility_timeout_seconds, _time(kept.inserted_ms), _time(kept.updated_ms)
    )


def _ttr_ms(kept: _Kept) -> int:
    """How long a message of a queue is locked."""
    return min(kept.visibility_timeout_seconds * 1000, LONGEST_QUEUE_TTR.highest)


def _placed(name: str, kept: _Kept, jobs: list[tuple[JobInfo, int]]) -> list[tuple[int, ShownMessage]]:
    """The messages of a queue with the times at which they changed, for sorting.

    When a lock ran out is not kept, but what came before is: no earlier than that.
    """
    placed = []
    earliest_ms = 0
    for job, lock_ends_ms in reversed(jobs):
        message = ShownMessage(
            str(uuid.UUID(bytes=job.job_id)), name, _shown_args(job.payload), job.attempts, _time(job.created_ms)
        )
        changed_ms = job.created_ms
        if lock_ends_ms:
            changed_ms = lock_ends_ms - _ttr_ms(kept)
            message.locked_at = message.updated_at = _time(changed_ms)
        elif job.attempts == 0:
            message.updated_at = message.inserted_at
        if not lock_ends_ms:
            changed_ms = earliest_ms = max(changed_ms, earliest_ms)
        placed.append((changed_ms, message))
    return placed[::-1]


def _shown_ended(entry: ArchivedJob) -> ShownMessage:
    ended = decode(entry.data, type=_Ended)
    finished = _time(entry.finished_ms)
    return ShownMessage(
        str(uuid.UUID(bytes=entry.job_id)),
        entry.queue,
        _shown_args(bytes(ended.args)),
        ended.attempts,
        _time(entry.created_ms),
        completed_at=finished if entry.flags == _COMPLETED else None,
        failed_at=finished if entry.flags == _FAILED else None,
        updated_at=finished,
    )


def _shown_args(args: bytes) -> str:
    if len(args) <= _LONGEST_ARGS:
        return args.decode("utf-8", "replace")
    return args[:_LONGEST_ARGS].decode("utf-8", "ignore") + "…"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ms % 1000:03d}"


def _json(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")


def _nothing() -> web.Response:
    return web.Response()

"""What the applications of all HTTP APIs have in common: errors in the words of each, and who may ask at all.

A handler is ``async def handler(request) -> web.Response``. It raises `HttpError` for what its client did wrong, and
lets `InvalidValue` (400), `ServerUnavailable` (503), `ArchiveError` (500) and errors that nobody foresaw (500, with the
traceback in the server's log only) pass through; the application's own `FormatError` puts them into the words of that
API.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias

from workq.archive import ArchiveError
from workq.gateway import ServerUnavailable
from workq.http import web
from workq.http.web import Handler, Router
from workq.replies import Ok, Refused, Reply
from workq.values import InvalidValue, shown

# Request, status, what is wrong: the answer. Its headers are completed by those that the status asks for.
FormatError: TypeAlias = Callable[[web.Request, int, str], web.Response]

# A payload of 1 MiB in JSON, each byte of it written as \u00xx, and what comes with it.
LARGEST_BODY: Final = 6 * 1_048_576 + 65_536
# How long a body may take to come, once its head has.
BODY_SECONDS: Final = 60.0
# When to come back after a 503: a full disk is tried again several times a second.
_RETRY_AFTER: Final = {"Retry-After": "1"}

logger = logging.getLogger("workq.http")


class HttpError(Exception):
    """The request cannot be served. The text is for its client: what is wrong, and what is allowed."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def check_taken(reply: Reply) -> None:
    """Raise `HttpError` when `reply` says that a new job was not taken: its queue may have a longest length."""
    if not isinstance(reply, Ok):
        text = reply.text if isinstance(reply, Refused) else repr(reply)
        raise HttpError(503, f"The job cannot be taken now: {text}", _RETRY_AFTER)


def plain_error(request: web.Request, status: int, text: str) -> web.Response:
    """The error as a line of text."""
    return web.Response(status=status, text=f"{text}\n")


class Application:
    """An API: its routes, and those of the applications that are mounted below.

    router        the routes
    on_start      called, and awaited, before there are requests
    time_limit_s  how long a request may take before it is answered 408; None for ever
    """

    def __init__(
        self, format_error: FormatError, *, keep_alive: bool = True, time_limit_s: float | None = None
    ) -> None:
        self.router = Router()
        self.on_start: list[Callable[[], Awaitable[None]]] = []
        self._format_error = format_error
        self._keep_alive = keep_alive
        self.time_limit_s = time_limit_s
        self._mounted: dict[str, Application] = {}

    def mount(self, prefix: str, application: "Application") -> None:
        """Let `application` serve all that is below `prefix`, which is a slash and a word."""
        self._mounted[prefix] = application

    async def start(self) -> None:
        """Do what has to be done before there are requests."""
        for each in [*self.on_start, *[application.start for application in self._mounted.values()]]:
            await each()

    def answer(self, request: web.Request, prefix: str = "") -> Coroutine[Any, Any, web.Response]:
        """What is to be said to `request`, whose path begins with `prefix`."""
        if self._mounted:
            path = request.raw_path
            end = path.find("/", 1)
            first = path if end < 0 else path[:end]
            mounted = self._mounted.get(first)
            if mounted is not None:
                return mounted.answer(request, first)
        return self._answer(request, self.router.find(request, prefix), prefix)

    async def _answer(self, request: web.Request, handler: Handler | None, prefix: str) -> web.Response:
        try:
            refuse_foreign_pages(request)
            if handler is None:
                raise self._nowhere(request, prefix)
            if request.refused is not None:
                raise HttpError(*request.refused)
            if self.time_limit_s is None:
                response = await handler(request)
            else:
                response = await _in_time(handler(request), self.time_limit_s)
            response.keep_alive = response.keep_alive and self._keep_alive
            return response
        except Exception as error:
            return self._failed(request, error)

    def _failed(self, request: web.Request, error: Exception) -> web.Response:
        """What is to be said of an error. Told apart here: a compiled coroutine cannot have several `except … as`."""
        headers: Mapping[str, str] = {}
        if isinstance(error, HttpError):
            status, text, headers = error.status, error.text, error.headers
        elif isinstance(error, InvalidValue):
            status, text = 400, str(error)
        elif isinstance(error, ServerUnavailable):
            status, text, headers = 503, str(error), _RETRY_AFTER
        elif isinstance(error, ArchiveError):
            logger.error("request %s (%s %s): %s", request.id, request.method, request.path, error)
            status, text = 500, str(error)
        else:
            logger.error("request %s (%s %s) failed", request.id, request.method, request.path, exc_info=error)
            status, text = 500, f"The server failed; its log says more at request {request.id}"
        response = self._format_error(request, status, text)
        response.headers.update(headers)
        response.keep_alive = self._keep_alive
        return response

    def _nowhere(self, request: web.Request, prefix: str) -> HttpError:
        """What is wrong with a request that no route takes."""
        methods = self.router.methods(request, prefix)
        if not methods:
            return HttpError(404, f"There is nothing at {request.path}")
        text = f"{request.method} is not allowed at {request.path}, {', '.join(methods)} is"
        return HttpError(405, text, {"Allow": ",".join(methods)})


async def _in_time(work: Coroutine[Any, Any, web.Response], limit_s: float) -> web.Response:
    """The outcome of `work`. Raises `HttpError` if it takes longer than `limit_s`."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except TimeoutError:
        raise HttpError(408, f"The request took longer than {limit_s:g} s") from None


def refuse_foreign_pages(request: web.Request, *, may_lead_here: bool = True) -> None:
    """A web page from elsewhere must not be able to make its reader's browser work with our jobs. Raises `HttpError`.

    may_lead_here  whether it may have a link to us: not where a GET changes something
    """
    headers = request.headers
    if "Origin" not in headers and "Sec-Fetch-Site" not in headers:
        return  # not a browser, or one that was told where to go
    origin = headers.get("Origin", "")
    if origin and origin.partition("://")[2] != headers.get("Host"):
        raise HttpError(403, f"Requests by web pages of {shown(origin)} are not allowed")
    site = headers.get("Sec-Fetch-Site", "none")
    leads_here = may_lead_here and headers.get("Sec-Fetch-Mode") == "navigate"
    if site not in ("same-origin", "none") and not leads_here:
        raise HttpError(403, "Requests by web pages from elsewhere are not allowed")

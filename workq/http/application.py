"""What the applications of all HTTP APIs have in common: errors in the words of each, limits, bodies read in time.

A handler is ``async def handler(request) -> web.Response``. It raises `HttpError` for what its client did wrong, and
lets `InvalidValue` (400), `ServerUnavailable` (503), `ArchiveError` (500) and errors that nobody foresaw (500, with the
traceback in the server's log only) pass through; the application's own `FormatError` puts them into the words of that
API.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from aiohttp import web

from workq.archive import ArchiveError
from workq.gateway import ServerUnavailable
from workq.values import InvalidValue, shown

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Request, status, what is wrong: the answer. Its headers are completed by those that the status asks for.
FormatError: TypeAlias = Callable[[web.Request, int, str], web.Response]

# A payload of 1 MiB in JSON, each byte of it written as \u00xx, and what comes with it.
LARGEST_BODY: Final = 6 * 1_048_576 + 65_536
# How long a body may take to come, once its head has.
BODY_SECONDS: Final = 60.0
# When to come back after a 503: a full disk is tried again several times a second.
_RETRY_AFTER: Final = {"Retry-After": "1"}
# The route of requests to places where nothing is.
NOWHERE: Final = "nowhere"
# Where `request` has its id.
REQUEST_ID: Final = web.RequestKey("request_id", str)
# And when it began, by `time.perf_counter`.
BEGAN_S: Final = web.RequestKey("began_s", float)

logger = logging.getLogger("workq.http")


class HttpError(Exception):
    """The request cannot be served. The text is for its client: what is wrong, and what is allowed."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def plain_error(request: web.Request, status: int, text: str) -> web.Response:
    """The error as a line of text."""
    return web.Response(status=status, text=f"{text}\n")


def application(format_error: FormatError, root: Handler | None = None) -> web.Application:
    """An empty application whose errors are formatted by `format_error`.

    root  answers at its root, whatever the method; it cannot be added later, because what is below comes before
    """

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _refuse_foreign_pages(request)
            return await handler(request)
        except HttpError as error:
            status, text, headers = error.status, error.text, error.headers
        except InvalidValue as error:
            status, text, headers = 400, str(error), {}
        except ServerUnavailable as error:
            status, text, headers = 503, str(error), _RETRY_AFTER
        except ArchiveError as error:
            logger.error("request %s (%s %s): %s", request[REQUEST_ID], request.method, request.path, error)
            status, text, headers = 500, str(error), {}
        except web.HTTPException as error:
            # It is a response too, which something holds, and it holds the frames in its traceback, which hold that:
            # a circle, and nobody collects those here.
            error.__traceback__ = None
            if error.status < 400:
                location = {"Location": error.headers["Location"]} if "Location" in error.headers else None
                return web.Response(status=error.status, headers=location)
            status, text, headers = error.status, _sentence(error), {}
        except Exception:
            logger.exception("request %s (%s %s) failed", request[REQUEST_ID], request.method, request.path)
            status, headers = 500, {}
            text = f"The server failed; its log says more at request {request[REQUEST_ID]}"
        response = format_error(request, status, text)
        response.headers.update(headers)
        return response

    served = web.Application(middlewares=[guard], client_max_size=LARGEST_BODY)
    if root is not None:
        for path in ("", "/"):
            served.router.add_route("*", path, root)
    # aiohttp has an answer for a place where nothing is, too, and with each a reference cycle.
    served.router.add_route("*", "/{path:.+}", partial(_nowhere, served), name=NOWHERE)
    return served


async def _nowhere(served: web.Application, request: web.Request) -> web.Response:
    """For what no other route of `served` takes."""
    allowed: set[str] = set()
    for resource in served.router.resources():
        if isinstance(resource, web.Resource) and resource.name != NOWHERE:  # what is mounted answers for itself
            _, methods = await resource.resolve(request)
            allowed |= methods
    if not allowed:
        raise HttpError(404, f"There is nothing at {request.path}")
    names = sorted(allowed)
    text = f"{request.method} is not allowed at {request.path}, {', '.join(names)} is"
    raise HttpError(405, text, {"Allow": ",".join(names)})


async def read_body(request: web.Request) -> bytes:
    """The whole body. Raises `HttpError` when it is too long or comes too slowly."""
    if request.content.is_eof():
        return await request.read()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise HttpError(408, f"The body did not come within {BODY_SECONDS:g} s") from None


def _refuse_foreign_pages(request: web.Request) -> None:
    """A web page from elsewhere must not be able to make its reader's browser work with our jobs."""
    headers = request.headers
    if "Origin" not in headers and "Sec-Fetch-Site" not in headers:
        return  # not a browser, or one that was told where to go
    origin = headers.get("Origin", "")
    if origin and origin.partition("://")[2] != headers.get("Host"):
        raise HttpError(403, f"Requests by web pages of {shown(origin)} are not allowed")
    site = headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none") and headers.get("Sec-Fetch-Mode") != "navigate":
        raise HttpError(403, "Requests by web pages from elsewhere are not allowed")


def _sentence(error: web.HTTPException) -> str:
    if error.status == 413:
        return f"The body is too long: at most {LARGEST_BODY} bytes are allowed"
    return error.text or error.reason

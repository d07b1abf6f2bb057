"""One push: a request to a web worker, and what came of it. Knows HTTP, and nothing of queues."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

from workq.dispatch.addresses import AddressDenied, AddressRules
from workq.dispatch.resolver import CheckedResolver
from workq.dispatch.target import ErrorKind, PushResult, PushTarget
from workq.dispatch.verdict import judge
from workq.values import shown
from workq.version import VERSION

MAX_REDIRECTS: Final = 10
# Of an answer's body: what is kept, and what is read at all. Who sends more is cut off.
OUTPUT_LIMIT: Final = 1_048_576
READ_LIMIT: Final = 16 * OUTPUT_LIMIT
# Longer than any network needs; jobs without a timeout would wait for minutes at an address where nobody answers.
CONNECT_S: Final = 30.0
# How long an idle connection is kept. Web workers close theirs after 2 s or more, and what was sent just then is lost.
_IDLE_S: Final = 1.5

_LONGEST_REASON: Final = 300

_USER_AGENT: Final = f"workq/{VERSION}"
# Headers that say how a request is framed, and to whom it goes: ours.
_OURS: Final = frozenset(
    (
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "user-agent",
        "accept-encoding",
        "expect",
    )
)
# Headers that are for one host only, and do not follow a redirect to another.
_PRIVATE: Final = ("Authorization", "Cookie", "Proxy-Authorization")
_SEE_OTHER: Final = (301, 302, 303)
_REDIRECTS: Final = (*_SEE_OTHER, 307, 308)


class _Failure(Exception):
    """The push did not work out."""

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class _Exchange:
    """What is known of a push so far."""

    __slots__ = ("body", "cut", "status_code")

    def __init__(self) -> None:
        self.status_code: int | None = None
        self.body = b""
        self.cut = False


class Sender:
    """Sends jobs to web workers. To be made and used on the event loop."""

    def __init__(self, rules: AddressRules, now_ms: Callable[[], int]) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self._resolver = CheckedResolver(rules)
        self._session = _session(aiohttp.TCPConnector(resolver=self._resolver, limit=0, keepalive_timeout=_IDLE_S))
        self._single_use = _session(aiohttp.TCPConnector(resolver=self._resolver, limit=0, force_close=True))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self._single_use.close()
        await self._resolver.close()

    async def send(self, target: PushTarget, body: bytes) -> PushResult:
        """POST `body` to `target`; return what came of it, whatever that is.

        When cancelled, the connection is dropped.
        """
        exchange = _Exchange()
        started_ms = self._now_ms()
        kind: ErrorKind
        try:
            async with asyncio.timeout(target.timeout_ms / 1_000 if target.timeout_ms > 0 else None):
                await self._exchange(target, body, exchange)
        except TimeoutError:
            if exchange.status_code is None:
                kind, error = "timeout", f"no answer within {target.timeout_ms} ms"
            else:
                kind, error = "body", f"the answer's body did not end within {target.timeout_ms} ms"
        except _Failure as failure:
            kind, error = failure.kind, failure.text
        else:
            assert exchange.status_code is not None
            verdict = judge(target.verdict, exchange.status_code, exchange.body)
            return PushResult(
                verdict.outcome,
                started_ms,
                self._now_ms(),
                exchange.status_code,
                verdict.error_kind,
                verdict.error,
                exchange.body.decode("utf-8", "replace"),
                exchange.cut,
            )
        return PushResult("failure", started_ms, self._now_ms(), exchange.status_code, kind, error)

    async def _exchange(self, target: PushTarget, body: bytes, exchange: _Exchange) -> None:
        """Send and follow redirects; leave the last answer in `exchange`. Raises `_Failure`."""
        session = self._session if target.keep_alive else self._single_use
        url = _url(target.url)
        method, data = hdrs.METH_POST, body
        headers = _headers(target)
        for hop in range(MAX_REDIRECTS + 1):
            response = await self._request(session, method, url, data, headers)
            location = response.headers.get(hdrs.LOCATION) if response.status in _REDIRECTS else None
            if location is None:
                await _read(response, exchange)
                return
            response.close()  # its body is of no use to anybody
            if hop == MAX_REDIRECTS:
                raise _Failure("connection", f"more than {MAX_REDIRECTS} redirects, the last one to {shown(location)}")
            following = _redirected(url, location)
            if following.origin() != url.origin():
                for name in _PRIVATE:
                    headers.popall(name, None)
            if response.status in _SEE_OTHER:
                method, data = hdrs.METH_GET, b""
                headers.popall(hdrs.CONTENT_TYPE, None)
            url = following
        raise AssertionError("the loop returns or raises")

    async def _request(
        self, session: aiohttp.ClientSession, method: str, url: URL, data: bytes, headers: CIMultiDict[str]
    ) -> aiohttp.ClientResponse:
        """Send one request; return the answer, whose body is still to come. Raises `_Failure`."""
        try:
            self._rules.check_host(url.host or "")
            return await session.request(
                method, url, data=data if method == hdrs.METH_POST else None, headers=headers, allow_redirects=False
            )
        except aiohttp.ClientConnectorDNSError as error:
            denied = _denial(error)
            raise _Failure(
                "connection", denied or f"cannot find the host {shown(url.host or '')}: {_reason(error)}"
            ) from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise _Failure("connection", f"cannot connect to {_place(url)} with TLS: {_reason(error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise _Failure("connection", f"cannot connect to {_place(url)}: {_reason(error)}") from None
        except aiohttp.ServerTimeoutError:
            raise _Failure("connection", f"cannot connect to {_place(url)}: no answer within {CONNECT_S:g} s") from None
        except aiohttp.ServerDisconnectedError:
            raise _Failure("connection", f"{_place(url)} closed the connection without an answer") from None
        except aiohttp.ClientResponseError as error:
            raise _Failure("connection", f"{_place(url)} does not answer in HTTP: {_one_line(error.message)}") from None
        except AddressDenied as error:
            raise _Failure("connection", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failure("connection", f"{_place(url)}: {_reason(error)}") from None
        except ValueError as error:  # a header that cannot be sent
            raise _Failure("no-url", f"cannot make the request: {_one_line(str(error))}") from None


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        skip_auto_headers=("Accept", "Content-Type"),
    )


def _url(text: str) -> URL:
    try:
        url = URL(text)
        if url.scheme in ("http", "https") and url.host:
            return url
    except ValueError as error:
        raise _Failure("no-url", f"cannot parse the URL {shown(text)}: {_one_line(str(error))}") from None
    if not text:
        raise _Failure("no-url", "the job has no URL")
    if url.scheme in ("http", "https"):
        raise _Failure("connection", f"the URL {shown(text)} has no host")
    raise _Failure("connection", f"the URL {shown(text)} begins neither with http:// nor with https://")


def _redirected(url: URL, location: str) -> URL:
    try:
        following = url.join(URL(location))
        if following.scheme in ("http", "https") and following.host:
            return following
    except ValueError:
        pass
    raise _Failure("connection", f"redirected to {shown(location)}, which is no http or https URL")


def _headers(target: PushTarget) -> CIMultiDict[str]:
    headers = CIMultiDict(
        [
            (hdrs.USER_AGENT, target.user_agent or _USER_AGENT),
            (hdrs.CONTENT_TYPE, target.content_type),
            (hdrs.ACCEPT_ENCODING, "gzip"),
        ]
    )
    if not target.keep_alive:
        headers[hdrs.CONNECTION] = "close"
    for name, value in target.headers:
        if name.lower() not in _OURS:
            # In the spelling of the first of that name: aiohttp lets one that is spelled otherwise replace it.
            headers.add(next((known for known in headers if known.lower() == name.lower()), name), value)
    return headers


async def _read(response: aiohttp.ClientResponse, exchange: _Exchange) -> None:
    """Read the answer's body into `exchange`, up to a limit. Raises `_Failure`."""
    exchange.status_code = response.status
    kept: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_any():
            if size < OUTPUT_LIMIT:
                kept.append(chunk[: OUTPUT_LIMIT - size])
            size += len(chunk)
            if size > READ_LIMIT:
                break
    except (aiohttp.ClientError, OSError) as error:
        raise _Failure("body", f"the answer's body broke off after {size} bytes: {_reason(error)}") from None
    finally:
        response.close() if size > READ_LIMIT else response.release()
    exchange.body = b"".join(kept)
    exchange.cut = size > OUTPUT_LIMIT


def _place(url: URL) -> str:
    return f"{url.host}:{url.port}"


def _denial(error: aiohttp.ClientConnectorDNSError) -> str | None:
    return str(error.os_error) if isinstance(error.os_error, AddressDenied) else None


def _reason(error: BaseException) -> str:
    """What an error says, without what we say ourselves."""
    error.__traceback__ = None  # its frames hold it: a circle, and nobody collects those here
    while isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
        error.__traceback__ = None
    if isinstance(error, OSError) and error.strerror:
        return _one_line(error.strerror)
    return _one_line(str(error) or type(error).__name__)


def _one_line(text: str) -> str:
    """A text that may quote what came from elsewhere, short."""
    line = " ".join(text[: 2 * _LONGEST_REASON].split())
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "..."

"""The head of a request, as bytes. What is the same for all jobs with the same URL is made once."""

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from yarl import URL

from workq.dispatch.target import ErrorKind, PushTarget
from workq.values import shown
from workq.version import VERSION

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
_PRIVATE: Final = frozenset(("authorization", "cookie", "proxy-authorization"))
_AUTHORIZATION: Final = "authorization"
_CONTENT_TYPE: Final = "content-type"
# What a name and a value may consist of, so that none becomes two lines.
_is_name: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_value: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*").fullmatch
# A URL, or a reference to one, whose path and query consist of what they may: they are sent as they are, since somebody
# may have signed them. Others are quoted.
_SENDABLE: Final = r"[A-Za-z0-9._~:/@!$&'()*+,;=-]++|%[0-9A-Fa-f]{2}"
_is_sendable: Final = re.compile(
    rf"((?:https?:)?//[^/?#]*+)?(/(?:{_SENDABLE})*+)?(\?(?:{_SENDABLE}|\?)*+)?(?:#.*)?",
    re.ASCII | re.IGNORECASE | re.DOTALL,
).fullmatch
# Beginnings that are remembered, and URLs that are too long for that.
_MOST_REMEMBERED: Final = 1_000
_LONGEST_REMEMBERED: Final = 4_096

_LONGEST_REASON: Final = 300
# Names end far below, with the password that may stand before them. To translate one of a megabyte took 17 s.
_has_long_host: Final = re.compile(r"[^/?#]*//[^/?#]{8192}").match

Headers: TypeAlias = tuple[tuple[str, str], ...]


class PushFailed(Exception):
    """The push did not work out."""

    def __init__(self, kind: ErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Origin(NamedTuple):
    """Whom a connection leads to. `host` is as a name server wants it, or an address without brackets."""

    scheme: str
    host: str
    port: int

    def place(self) -> str:
        """It for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Beginning:
    """How a request begins: the first line, and our own headers.

    credentials  those in the URL as a line of the head, b"" for none; they count where no header has others
    """

    __slots__ = ("method", "url", "user_agent", "content_type", "keep_alive", "origin", "first_lines", "credentials")

    def __init__(
        self, method: str, url: URL, written: str, user_agent: str, content_type: str, keep_alive: bool
    ) -> None:
        """Raises `PushFailed`.

        written       `url` as it was given
        content_type  "" for a request without a body
        """
        assert url.raw_host is not None
        assert url.port is not None
        self.method = method
        self.url = url
        self.user_agent = user_agent
        self.content_type = content_type
        self.keep_alive = keep_alive
        self.origin = Origin(url.scheme, url.raw_host, url.port)
        ours = [("Host", url.host_port_subcomponent or ""), ("User-Agent", user_agent or _USER_AGENT)]
        if content_type:
            ours.append(("Content-Type", content_type))
        ours.append(("Accept-Encoding", "gzip"))
        if not keep_alive:
            ours.append(("Connection", "close"))
        self.first_lines = f"{method} {_path_and_query(url, written)} HTTP/1.1\r\n".encode() + _lines(ours)
        self.credentials = b""
        if url.raw_user or url.raw_password:
            known = f"{url.user or ''}:{url.password or ''}".encode()
            self.credentials = b"Authorization: Basic %b\r\n" % b64encode(known)


class Request:
    """A request that can be sent.

    headers  those beside ours
    head     as bytes
    body     None for a request without one
    """

    __slots__ = ("beginning", "headers", "head", "body")

    def __init__(self, beginning: Beginning, headers: Headers, body: bytes | None) -> None:
        """Raises `PushFailed`."""
        self.beginning = beginning
        self.headers = headers
        self.body = body
        lines = _lines([header for header in headers if header[0].lower() not in _OURS]) if headers else b""
        if beginning.credentials and _AUTHORIZATION not in [name.lower() for name, _ in headers]:
            lines = beginning.credentials + lines
        if body is None:
            self.head = b"%b%b\r\n" % (beginning.first_lines, lines)
        else:
            self.head = b"%b%bContent-Length: %d\r\n\r\n" % (beginning.first_lines, lines, len(body))


def first_request(target: PushTarget, body: bytes) -> Request:
    """The request that a push begins with. Raises `PushFailed`."""
    begin = _begin if len(target.url) <= _LONGEST_REMEMBERED else _begin.__wrapped__
    beginning = begin(target.url, target.user_agent, target.content_type, target.keep_alive)
    return Request(beginning, target.headers, body)


def redirected(request: Request, location: str, *, see_other: bool) -> Request:
    """The request that follows when `request` was answered with a redirect to `location`. Raises `PushFailed`.

    see_other  whether it is to be a GET without a body
    """
    before, headers, body = request.beginning, request.headers, request.body
    method, content_type = before.method, before.content_type
    if see_other:
        method, content_type, body = "GET", "", None
        headers = tuple([header for header in headers if header[0].lower() != _CONTENT_TYPE])
    url = _join(before.url, location)
    following = Beginning(method, url, location, before.user_agent, content_type, before.keep_alive)
    if following.origin != before.origin:
        headers = tuple([header for header in headers if header[0].lower() not in _PRIVATE])
    return Request(following, headers, body)


def one_line(text: str) -> str:
    """A text that may quote what came from elsewhere: short, printable, never a way to forge a second line."""
    words = " ".join(text[: 2 * _LONGEST_REASON].split())
    line = "".join([each if each.isprintable() else ascii(each)[1:-1] for each in words])
    return line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + "..."


@lru_cache(_MOST_REMEMBERED)
def _begin(url: str, user_agent: str, content_type: str, keep_alive: bool) -> Beginning:
    return Beginning("POST", _parse(url), url, user_agent, content_type, keep_alive)


def _parse(text: str) -> URL:
    if _has_long_host(text):
        raise PushFailed("no-url", f"cannot parse the URL {shown(text)}: its host is too long")
    try:
        url = URL(text)
        if url.scheme in ("http", "https") and url.host:
            return url
    except ValueError as error:
        raise PushFailed("no-url", f"cannot parse the URL {shown(text)}: {one_line(str(error))}") from None
    if not text:
        raise PushFailed("no-url", "the job has no URL")
    if url.scheme in ("http", "https"):
        raise PushFailed("connection", f"the URL {shown(text)} has no host")
    raise PushFailed("connection", f"the URL {shown(text)} begins neither with http:// nor with https://")


def _join(url: URL, location: str) -> URL:
    try:
        following = url.join(URL(location))
        if following.scheme in ("http", "https") and following.host:
            return following
    except ValueError:
        pass
    raise PushFailed("connection", f"redirected to {shown(location)}, which is no http or https URL")


def _path_and_query(url: URL, written: str) -> str:
    """What is asked for: as in `written` if that can be, else as the standards want it."""
    match = _is_sendable(written)
    if match is None or not (match[1] or match[2]):  # a reference to something near by
        quoted: str = url.raw_path_qs
        return quoted
    return (match[2] or "/") + (match[3] or "")


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers as lines of a head."""
    lines = []
    for name, value in headers:
        if not _is_name(name):
            raise PushFailed("no-url", f"cannot make the request: {shown(name)} is no name of a header")
        if not _is_value(value):
            raise PushFailed("no-url", f"cannot make the request: the header {name} has characters that cannot be sent")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()

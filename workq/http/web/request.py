"""A request. What most handlers do not look at is taken apart when somebody does."""

from collections.abc import Iterator, Mapping
from typing import Final, overload
from urllib.parse import parse_qsl, unquote

_KEYS: Final[dict[str, bytes]] = {}  # by the names that handlers ask for, which are few


class Headers:
    """The headers of a request, whatever their case. One that came several times has all its values, by commas."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        """`fields` by their names in small letters."""
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._fields

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of `name`, as UTF-8; what is not is replaced."""
        value = self._fields.get(_key(name))
        return default if value is None else value.decode("utf-8", "replace")


class Query(Mapping[str, str]):
    """The parameters of a query; one that is given several times has its first value."""

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getall(self, name: str) -> list[str]:
        """All values of `name`, in their order."""
        return self._values[name]


class Request:
    """A request, all of which has come.

    method        in capitals
    target        what was asked for, with the query, as it was sent
    raw_path      its path, as it was sent
    path          the same, with %XX decoded
    query_string  what stands behind the question mark
    headers       see `Headers`
    body          b"" if there is none
    remote        the address of the client
    loopback_port the port of ours that it came to, if it came by a loopback address; else 0
    http_1_0      whether it was sent in that version, which knows no chunks
    keep_alive    whether the client goes on with this connection
    refused       a status and a text: what is wrong with the body, which is left out then; None if nothing is
    id            the name of the request in logs
    began_s       when its turn came, by `time.perf_counter`
    route         the path of the route that serves it; None if there is none
    match_info    what that path has in braces, with %XX decoded
    waits         set at its beginning by a handler that waits for what may never come: then a client that sends no more
                  is taken to be gone
    """

    __slots__ = (
        "method",
        "target",
        "raw_path",
        "path",
        "query_string",
        "headers",
        "body",
        "remote",
        "loopback_port",
        "http_1_0",
        "keep_alive",
        "refused",
        "id",
        "began_s",
        "route",
        "match_info",
        "waits",
        "_query",
    )

    def __init__(self, method: str, target: str, headers: Headers, remote: str) -> None:
        self.method = method
        self.target = target
        self.raw_path, _, self.query_string = target.partition("?")
        if not self.raw_path.startswith("/"):  # as proxies are asked: the whole URL
            self.raw_path = "/" + self.raw_path.partition("://")[2].partition("/")[2]
        self.path = unquote(self.raw_path) if "%" in self.raw_path else self.raw_path
        self.headers = headers
        self.body = b""
        self.remote = remote
        self.loopback_port = 0
        self.http_1_0 = False
        self.keep_alive = True
        self.refused: tuple[int, str] | None = None
        self.id = ""
        self.began_s = 0.0
        self.route: str | None = None
        self.match_info: Mapping[str, str] = _NO_MATCH
        self.waits = False
        self._query: Query | None = None

    @property
    def query(self) -> Query:
        """The parameters of the query."""
        if self._query is None:
            self._query = Query(self.query_string)
        return self._query


_NO_MATCH: Final[Mapping[str, str]] = {}


def _key(name: str) -> bytes:
    key = _KEYS.get(name)
    if key is None:
        key = _KEYS[name] = name.lower().encode()
    return key

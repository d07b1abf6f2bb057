"""Which handler serves which path."""

import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from workq.http.web.request import Request
from workq.http.web.response import Response

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

# Stands for each method that has no handler of its own.
ANY: Final = "*"
_BRACES: Final = re.compile(r"\{(\w+)(?::([^{}]*))?\}")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")
# What each escape becomes: a character that was needlessly escaped; any other stays as it is, a slash above all.
_ESCAPES: Final = {
    f"%{high}{low}": character if _UNRESERVED.fullmatch(character) else f"%{high}{low}".upper()
    for high in "0123456789ABCDEFabcdef"
    for low in "0123456789ABCDEFabcdef"
    for character in (chr(int(high + low, 16)),)
}


class _Route:
    """A path and the handlers of its methods. `pattern` is None for one without braces."""

    __slots__ = ("path", "pattern", "handlers")

    def __init__(self, path: str) -> None:
        self.path = path
        self.pattern = _pattern(path) if "{" in path else None
        self.handlers: dict[str, Handler] = {}


class Router:
    """The routes of an application.

    A path may have parts in braces: ``{name}`` takes anything up to the next slash, ``{name:regex}`` what the regular
    expression does; the request has them in `match_info`. Paths without braces come first, then those that begin alike
    for longer, then those that were added earlier.
    """

    def __init__(self) -> None:
        self._plain: dict[str, _Route] = {}
        # By what stands before their braces, up to its last slash.
        self._patterns: dict[str, list[_Route]] = {}
        self._longest = 0  # of these

    def add_get(self, path: str, handler: Handler, *, allow_head: bool = True) -> None:
        """Serve GET, and HEAD like it."""
        self.add_route("GET", path, handler)
        if allow_head:
            self.add_route("HEAD", path, handler)

    def add_post(self, path: str, handler: Handler) -> None:
        """Serve POST."""
        self.add_route("POST", path, handler)

    def add_put(self, path: str, handler: Handler) -> None:
        """Serve PUT."""
        self.add_route("PUT", path, handler)

    def add_delete(self, path: str, handler: Handler) -> None:
        """Serve DELETE."""
        self.add_route("DELETE", path, handler)

    def add_route(self, method: str, path: str, handler: Handler) -> None:
        """Serve `method`, or `ANY`."""
        if "{" not in path:
            route = self._plain.setdefault(path, _Route(path))
        else:
            begin = path[: path.index("{")].rpartition("/")[0] + "/"
            self._longest = max(self._longest, len(begin))
            alike = self._patterns.setdefault(begin, [])
            route = next((each for each in alike if each.path == path), None) or _Route(path)
            if route not in alike:
                alike.append(route)
        route.handlers.setdefault(method, handler)

    def find(self, request: Request, prefix: str = "") -> Handler | None:
        """The handler of `request`, whose route is filled in; None if there is none. All paths are below `prefix`."""
        path = _below(prefix, request)
        method = request.method
        route = self._plain.get(path)
        if route is not None:
            handler = route.handlers.get(method) or route.handlers.get(ANY)
            if handler is not None:
                request.route = prefix + route.path
                return handler
        for route in self._candidates(path):
            handler = route.handlers.get(method) or route.handlers.get(ANY)
            if handler is None:
                continue
            match = route.pattern.fullmatch(path)  # type: ignore[union-attr]
            if match is not None:
                request.route = prefix + route.path
                found = match.groupdict()
                request.match_info = found if "%" not in path else {key: unquote(found[key]) for key in found}
                return handler
        return None

    def methods(self, request: Request, prefix: str = "") -> list[str]:
        """The methods that are served where `request` goes, sorted."""
        path = _below(prefix, request)
        found = set(self._plain[path].handlers) if path in self._plain else set()
        for route in self._candidates(path):
            if route.pattern is not None and route.pattern.fullmatch(path):
                found.update(route.handlers)
        return sorted(found)

    def _candidates(self, path: str) -> Iterator[_Route]:
        """The routes with braces that begin like `path`."""
        end = self._longest  # else each slash of a long path would be a copy of what stands before it
        while (end := path.rfind("/", 0, end)) >= 0:
            yield from self._patterns.get(path[: end + 1], ())


def _pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a path with braces."""
    parts, end = [], 0
    for braces in _BRACES.finditer(path):
        parts += [re.escape(path[end : braces.start()]), f"(?P<{braces[1]}>{braces[2] or '[^/]+'})"]
        end = braces.end()
    return re.compile("".join([*parts, re.escape(path[end:])]))


def _below(prefix: str, request: Request) -> str:
    path = request.raw_path[len(prefix) :]
    return _ESCAPE.sub(_plain, path) if "%" in path else path


def _plain(escape: re.Match[str]) -> str:
    return _ESCAPES[escape[0]]

"""One `Operation` per method and path: how its request is read, what it answers, which commands stand behind it.

Options come as a JSON object, or as query parameters when there is no JSON; the bytes of a payload or a result may also
be the body itself (`application/octet-stream`), with the options in the query.
"""

import re
from collections.abc import Callable, Coroutine, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from workq.commands import Command
from workq.http import web
from workq.http.application import HttpError
from workq.http.native.answers import RAW
from workq.http.native.structs import ALLOWED, LISTS
from workq.values import SHOWN_LENGTH, Range, check_name, shown

JSON: Final = "application/json"
_look_over: Final = msgspec.json.Decoder(msgspec.Raw).decode
# What JSON begins with, unless it is a number.
_KINDS: Final = {
    b"{": "an object",
    b"[": "an array",
    b'"': "a string",
    b"t": "a boolean",
    b"f": "a boolean",
    b"n": "null",
}
# In bytes, a value that an error quotes as we write it, and not as it was written.
_LONGEST_READ: Final = 1_000

Act: TypeAlias = Callable[[web.Request, Any], Coroutine[Any, Any, web.Response]]


@attrs.frozen
class Operation:
    """What a method does at a path.

    request   the struct of its options
    answers   by status, the struct of the JSON that comes with it, None for no body
    commands  what it has the engine do
    act       called with the request and its options
    raw       the option that a body of bytes stands for, if it may
    raw_answer  whether a client that accepts only `application/octet-stream` gets bytes
    """

    method: str
    path: str
    summary: str
    request: type[msgspec.Struct]
    answers: Mapping[int, type[msgspec.Struct] | None]
    commands: tuple[type[Command], ...]
    act: Act
    raw: str | None = None
    raw_answer: bool = False
    _decode: Callable[[bytes], Any] = attrs.field(init=False)
    _look: Callable[[bytes], Any] = attrs.field(init=False)
    _names: tuple[str, ...] = attrs.field(init=False)
    _waits: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_decode", msgspec.json.Decoder(self.request).decode)
        object.__setattr__(self, "_names", tuple([field.name for field in msgspec.structs.fields(self.request)]))
        unread = msgspec.defstruct("Unread", [(name, msgspec.Raw, msgspec.Raw(b"null")) for name in self._names])
        object.__setattr__(self, "_look", msgspec.json.Decoder(unread).decode)
        object.__setattr__(self, "_waits", "wait_ms" in self._names)

    @property
    def takes_body(self) -> bool:
        """Whether options may come as JSON."""
        return self.method in ("POST", "PUT")

    async def handle(self, request: web.Request) -> web.Response:
        """Serve `request`."""
        request.waits = self._waits
        return await self.act(request, self._read(request))

    def _read(self, request: web.Request) -> Any:
        body = request.body
        if not body:
            return self._from_query(request)
        if not self.takes_body:
            raise HttpError(400, f"{request.method} takes no body here; give options in the query")
        given_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if given_type == RAW and self.raw is not None:
            options = self._from_query(request)
            setattr(options, f"{self.raw}_base64", body)
            return options
        if given_type != JSON:
            allowed = JSON if self.raw is None else f"{JSON} or, for a {self.raw} as it is, {RAW}"
            raise HttpError(415, f"Content-Type: {shown(given_type)} is not {allowed}")
        if request.query_string:
            raise HttpError(400, "Options are allowed in the body or in the query, not in both")
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            wrong = str(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from None
        try:
            _look_over(body)  # without making objects of it: millions of small ones take a while
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(error) from None  # what came before its end was wrong too, which matters less
        kind = _KINDS.get(body.lstrip()[:1], "a number")
        if kind != "an object":
            raise HttpError(400, f"The body is {kind}, only an object is allowed")
        unread = self._look(body)
        raise self._explain(wrong, lambda name: _shown_json(bytes(getattr(unread, name))))

    def _from_query(self, request: web.Request) -> Any:
        given: dict[str, Any] = {}
        if request.query_string:
            for name in request.query:
                values = request.query.getall(name)
                if name in LISTS:
                    given[name] = values
                elif len(values) > 1:
                    raise HttpError(400, f"{name}: given {len(values)} times, once is allowed")
                else:
                    given[name] = values[0]
        try:
            return msgspec.convert(given, self.request, strict=False)
        except msgspec.ValidationError as error:
            raise self._explain(str(error), lambda name: _shown_json(msgspec.json.encode(given[name]))) from None

    def _explain(self, text: str, shown_value: Callable[[str], str]) -> HttpError:
        """What is wrong with the options, of which msgspec says `text`: by name, value, and what is allowed."""
        names = self._names
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL)
        if unknown is not None:
            near = get_close_matches(unknown[1][:SHOWN_LENGTH], names, n=1)  # a name of megabytes would take seconds
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(names) or 'none'}"
            return HttpError(400, f"{shown(unknown[1])}: no such option; {hint}")
        missing = re.fullmatch(r"Object missing required field `(.*)`", text)
        if missing is not None:
            return HttpError(400, f"{missing[1]}: is missing; it must be {self._allowed(missing[1])}")
        place = re.search(r" - at `\$\.(\w+)", text)
        assert place is not None
        name = place[1]
        return HttpError(400, f"{name}: {shown_value(name)} is not {self._allowed(name)}")

    def _allowed(self, name: str) -> str:
        return ALLOWED.get(f"{self.request.__name__}.{name}") or ALLOWED[name]


def bytes_of(name: str, size: Range, text: str | UnsetType, raw: bytes | UnsetType) -> bytes:
    """The bytes of a payload or a result, given as text or as bytes or not at all."""
    if raw is UNSET:
        data = b"" if text is UNSET else text.encode()
    elif text is UNSET:
        data = raw
    else:
        raise HttpError(400, f"{name} and {name}_base64 are both given, one is allowed")
    if len(data) > size.highest:
        raise HttpError(413, f"The {name} has {len(data)} bytes, {size.highest} are allowed")
    return data


def queue_name(request: web.Request) -> bytes:
    """The queue that the path names."""
    return check_name(request.match_info["name"].encode("utf-8", "replace"))


def _not_json(error: Exception) -> HttpError:
    return HttpError(400, f"The body is not JSON: {error}")


def _shown_json(value: bytes) -> str:
    """`value` as an error quotes it: strings as their text, all else as JSON, of which a long one is not looked at."""
    if value[:1] == b'"':
        return shown(msgspec.json.decode(value, type=str))
    if len(value) <= _LONGEST_READ:
        value = msgspec.json.encode(msgspec.json.decode(value))
    return shown(value[:_LONGEST_READ].decode("utf-8", "replace"))

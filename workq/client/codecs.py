"""How values become payloads and results, and back."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from workq.values import InvalidValue

# What users write: the name of a codec we have, or a pair of (value -> bytes, bytes -> value).
CodecChoice: TypeAlias = Literal["bytes", "json"] | tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


@dataclass(frozen=True, slots=True)
class Codec:
    """A pair of functions and the name that error messages give it. Their errors come out as `InvalidValue`."""

    name: str
    to_bytes: Callable[[Any], bytes]
    from_bytes: Callable[[bytes], Any]

    def encode(self, value: Any) -> bytes:
        """`value` as the bytes that travel."""
        try:
            data = self.to_bytes(value)
        except Exception as error:
            what = f"a value of type {type(value).__name__}"
            raise InvalidValue(f"{what} cannot be encoded as {self.name}: {error}") from error
        if not isinstance(data, bytes):
            raise InvalidValue(f"the codec {self.name} gave {type(data).__name__} instead of bytes")
        return data

    def decode(self, data: bytes) -> Any:
        """The value of bytes that came."""
        try:
            return self.from_bytes(data)
        except Exception as error:
            raise InvalidValue(f"{len(data)} bytes cannot be decoded as {self.name}: {error}") from error


def _to_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError("bytes, str (as UTF-8) or None are allowed; codec='json' takes more")


def _to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


BYTES: Final = Codec("bytes", _to_bytes, bytes)
_NAMED: Final = {
    "bytes": BYTES,
    "json": Codec("json", _to_json, json.loads),
}


def find_codec(choice: CodecChoice) -> Codec:
    """The codec a user chose; raise `InvalidValue` for a choice we do not know."""
    if isinstance(choice, str):
        if choice in _NAMED:
            return _NAMED[choice]
    elif isinstance(choice, tuple) and len(choice) == 2 and all([callable(each) for each in choice]):
        return Codec(getattr(choice[0], "__qualname__", repr(choice[0])), *choice)
    raise InvalidValue(f"Invalid codec: {choice!r}; allowed are 'bytes', 'json' and a pair (to_bytes, from_bytes)")

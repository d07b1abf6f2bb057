"""How a table of settings is written: one field per setting, read from flags, environment variables and TOML alike.

A table is a frozen attrs class whose fields are made by `setting` and `repeatable_setting`. The name of a field gives
its names outside; its `Kind` reads and checks the value wherever it comes from. `workq/server/config.py` has the
server's table, `workq/http/settings.py` those of the HTTP doors.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_args, overload

import attrs

from workq.values import Range, shown

T = TypeVar("T")


class ConfigError(Exception):
    """A mistake in the settings. The text is one line for the user: where it is, what it is, what is allowed."""


@attrs.frozen
class Address:
    """Where to listen on TCP. `host` is a name or an address, IPv6 without brackets; `port` 0 is any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class Kind(Generic[T]):
    """What a setting may be.

    placeholder  what --help calls the value
    allowed      the end of the sentence "'x' is not ..."
    parse        text to value; raises `ValueError` for text that is not allowed
    toml_types   the types taken from a TOML file besides a string; `parse` gets a boolean as "true" or "false"
    """

    placeholder: str
    allowed: str
    parse: Callable[[str], T]
    toml_types: tuple[type, ...] = ()


def _host(text: str) -> str:
    if ":" in text:
        ipaddress.IPv6Address(text)
    elif re.fullmatch(r"[A-Za-z0-9_.-]+", text) is None:
        raise ValueError(text)
    return text


_PORTS: Final = Range("port", 0, 65_535)


def _port(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None:
        raise ValueError(text)
    return _PORTS.check(int(text))


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if bracketed != (":" in host):
        raise ValueError(text)
    return Address(_host(host), _port(port))


def _address_or_off(text: str) -> Address | None:
    return None if text == "off" else _address(text)


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text)


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def one_of(literal: object) -> Kind[Any]:
    """One of the words of a `Literal`."""
    words = get_args(literal)

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind("|".join(words), f"one of {', '.join(words)}", parse)


def whole_number(numbers: Range, placeholder: str = "NUMBER") -> Kind[int]:
    """A whole number in the range `numbers`."""

    def parse(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,20}", text) is None:
            raise ValueError(text)
        return numbers.check(int(text))

    return Kind(placeholder, str(numbers), parse, (int,))


def seconds(shortest_s: float, longest_s: float) -> Kind[float]:
    """A time in seconds, with or without a fraction."""

    def parse(text: str) -> float:
        value = float(text)
        if not shortest_s <= value <= longest_s:
            raise ValueError(text)
        return value

    return Kind("SECONDS", f"a number of seconds from {shortest_s:g} to {longest_s:g}", parse, (int, float))


HOST: Final = Kind("HOST", "a host name or an IP address", _host)
PORT: Final = Kind("PORT", str(_PORTS), _port, (int,))
ADDRESS: Final = Kind("HOST:PORT", "HOST:PORT, such as 127.0.0.1:9922 or [::1]:9922", _address)
ADDRESS_OR_OFF: Final = Kind("HOST:PORT|off", "off or HOST:PORT, such as 127.0.0.1:9923 or [::1]:9923", _address_or_off)
PATH: Final = Kind("PATH", "a path", _path)
TEXT: Final = Kind("TEXT", "a text", str)
SWITCH: Final = Kind("true|false", "true or false", _switch, (bool,))


@attrs.frozen
class Row:
    """One row of a table: a setting by its names, and how its value is read.

    key       its name in a TOML file
    variable  its environment variable, if it has one
    """

    name: str
    kind: Kind[Any]
    help: str
    default: str | None
    repeatable: bool
    key: str
    variable: str | None

    @property
    def flag(self) -> str:
        """The flag on the command line, for the server's own table."""
        return f"--{self.key}"

    def parse(self, where: str, texts: Sequence[str]) -> object:
        """The value of the setting, given as `texts`; raise `ConfigError` that says `where` for one not allowed."""
        values = [self._parse_one(where, text) for text in texts]
        return tuple(values) if self.repeatable else values[-1]

    def parse_variable(self, variable: str, text: str) -> object:
        """The value of the setting, given as an environment variable."""
        return self.parse(variable, [part.strip() for part in text.split(",")] if self.repeatable else [text])

    def parse_toml(self, where: str, given: object) -> object:
        """The value of the setting, given in a TOML file."""
        values = given if self.repeatable and isinstance(given, list) else [given]
        for value in values:
            if type(value) not in (str, *self.kind.toml_types):
                raise ConfigError(f"{where}: {shown(str(value))} is not {self.kind.allowed}")
        return self.parse(
            where, [str(value).lower() if value is True or value is False else str(value) for value in values]
        )

    def _parse_one(self, where: str, text: str) -> object:
        try:
            return self.kind.parse(text)
        except ValueError:
            raise ConfigError(f"{where}: {shown(text)} is not {self.kind.allowed}") from None


@overload
def setting(help: str, kind: Kind[T], *, variable: str | None = None) -> T | None: ...
@overload
def setting(help: str, kind: Kind[T], default: str, *, variable: str | None = None) -> T: ...
def setting(help: str, kind: Kind[T], default: str | None = None, *, variable: str | None = None) -> T | None:
    """A field of a table; without `default`, its value is None unless it is given.

    variable  its environment variable, where that does not follow from its name
    """
    value = None if default is None else kind.parse(default)
    field: T | None = attrs.field(default=value, metadata={"row": (kind, help, default, False, variable)})
    return field


def repeatable_setting(help: str, kind: Kind[T], *, variable: str | None = None) -> tuple[T, ...]:
    """A field of a table that takes any number of values, none by default."""
    field: tuple[T, ...] = attrs.field(default=(), metadata={"row": (kind, help, None, True, variable)})
    return field


def rows(table: type, prefix: str | None = None) -> tuple[Row, ...]:
    """The rows of `table`. With `prefix`, keys are spelled with dashes, and variables are the prefix and the name."""
    made = []
    for field in attrs.fields(table):
        if "row" in field.metadata:
            kind, help, default, repeatable, variable = field.metadata["row"]
            key = field.name if prefix is None else field.name.replace("_", "-")
            variable = variable if prefix is None else prefix + field.name.upper()
            made.append(Row(field.name, kind, help, default, repeatable, key, variable))
    return tuple(made)


def read_toml(table: Iterable[Row], where: str, given: Mapping[str, object]) -> dict[str, object]:
    """The values of the settings in `given`, by name. Raises `ConfigError` for the first that is wrong or unknown."""
    by_key = {row.key: row for row in table}
    layer = {}
    for key, value in given.items():
        if key not in by_key:
            raise no_such_setting(f"{where}: {shown(key)}", key, by_key)
        layer[by_key[key].name] = by_key[key].parse_toml(f"{where}: {key}", value)
    return layer


def no_such_setting(where: str, name: str, known: Iterable[str], prefix: str = "") -> ConfigError:
    """The error for a `name` that is not among the `known` ones, which may share a `prefix`."""
    bare = [each.removeprefix(prefix) for each in known]  # a shared prefix would make every name look near
    near = difflib.get_close_matches(name.removeprefix(prefix), bare, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else "see --help"
    return ConfigError(f"{where}: no such setting; {hint}")

"""The server's settings: flags over `WORKQ_*` environment variables over a TOML file.

`Settings` is the whole table. The name of a field gives its flag (`--log-sync`), its environment variable
(`WORKQ_LOG_SYNC`) and its TOML key (`log-sync`); its `Kind` reads and checks the value wherever it comes from. To add a
setting, add a field.
"""

import argparse
import difflib
import ipaddress
import platform
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar, get_args, overload

import attrs

from workq.build import is_compiled
from workq.values import Range, shown
from workq.version import VERSION

T = TypeVar("T")

CONFIG_FLAG: Final = "--config"
CONFIG_VARIABLE: Final = "WORKQ_CONFIG"
# Variables that are not the server's: the client's and the build's, and those that Kubernetes sets in every pod beside
# a service named "workq".
_OTHERS_VARIABLE: Final = re.compile(r"WORKQ_(SERVER|PURE|SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_.*)")


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
    toml_types   the types taken from a TOML file besides a string
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


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text)


_SEGMENT_SIZES: Final = Range("segment size", 4 * 2**10, 4 * 2**30, "bytes")
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _segment_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})(|KiB|MiB|GiB)", text)
    if match is None:
        raise ValueError(text)
    return _SEGMENT_SIZES.check(int(match[1]) * _UNITS[match[2]])


_SHORTEST_SYNC_INTERVAL_S: Final = 0.001
_LONGEST_SYNC_INTERVAL_S: Final = 3600.0


def _sync_interval(text: str) -> float:
    seconds = float(text)
    if not _SHORTEST_SYNC_INTERVAL_S <= seconds <= _LONGEST_SYNC_INTERVAL_S:
        raise ValueError(text)
    return seconds


def _one_of(literal: object) -> Kind[Any]:
    words = get_args(literal)

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return Kind("|".join(words), f"one of {', '.join(words)}", parse)


HOST: Final = Kind("HOST", "a host name or an IP address", _host)
PORT: Final = Kind("PORT", str(_PORTS), _port, (int,))
ADDRESS: Final = Kind("HOST:PORT", "HOST:PORT, such as 127.0.0.1:9922 or [::1]:9922", _address)
PATH: Final = Kind("PATH", "a path", _path)
SEGMENT_SIZE: Final = Kind(
    "BYTES",
    f"a size from {_SEGMENT_SIZES.lowest} to {_SEGMENT_SIZES.highest} bytes, such as 8388608, 512KiB or 64MiB",
    _segment_size,
    (int,),
)
SYNC_INTERVAL: Final = Kind(
    "SECONDS",
    f"a number of seconds from {_SHORTEST_SYNC_INTERVAL_S:g} to {_LONGEST_SYNC_INTERVAL_S:g}",
    _sync_interval,
    (int, float),
)

LogLevel = Literal["debug", "info", "warning", "error"]
LogSync = Literal["always", "interval", "os"]


@attrs.frozen
class Row:
    """One row of the table: a setting by its names, and how its value is read."""

    name: str
    kind: Kind[Any]
    help: str
    default: str | None
    repeatable: bool

    @property
    def key(self) -> str:
        """The key in a TOML file."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The flag on the command line."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"WORKQ_{self.name.upper()}"

    def parse(self, where: str, texts: Sequence[str]) -> object:
        """The value of the setting, given as `texts`; raise `ConfigError` that says `where` for one not allowed."""
        values = [self._parse_one(where, text) for text in texts]
        return tuple(values) if self.repeatable else values[-1]

    def _parse_one(self, where: str, text: str) -> object:
        try:
            return self.kind.parse(text)
        except ValueError:
            raise ConfigError(f"{where}: {shown(text)} is not {self.kind.allowed}") from None


@overload
def _setting(help: str, kind: Kind[T]) -> T | None: ...
@overload
def _setting(help: str, kind: Kind[T], default: str) -> T: ...
def _setting(help: str, kind: Kind[T], default: str | None = None) -> T | None:
    value = None if default is None else kind.parse(default)
    field: T | None = attrs.field(default=value, metadata={"row": (kind, help, default, False)})
    return field


def _repeatable_setting(help: str, kind: Kind[T]) -> tuple[T, ...]:
    field: tuple[T, ...] = attrs.field(default=(), metadata={"row": (kind, help, None, True)})
    return field


@attrs.frozen(kw_only=True)
class Settings:
    """What the server is told to do. `log_sync_interval` is in seconds, `log_segment_size` in bytes."""

    host: str = _setting("listen on this host name or IP address", HOST, "127.0.0.1")
    port: int = _setting("listen on this port; 0 takes any free one", PORT, "9922")
    listen: tuple[Address, ...] = _repeatable_setting("listen here instead of --host and --port; repeatable", ADDRESS)
    unix: Path | None = _setting("listen on a Unix socket too", PATH)
    log_level: LogLevel = _setting("report from this level up, on standard error", _one_of(LogLevel), "info")
    data_dir: Path | None = _setting("keep jobs in this directory over a restart; without it, in memory only", PATH)
    log_sync: LogSync = _setting(
        "when changes are forced to disk: before each reply, at an interval, or when the system likes",
        _one_of(LogSync),
        "always",
    )
    log_sync_interval: float = _setting("the interval of --log-sync interval", SYNC_INTERVAL, "1")
    log_segment_size: int = _setting("begin a new log file at this size", SEGMENT_SIZE, "64MiB")

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where to listen on TCP: `listen` if given, else `host` and `port`."""
        return self.listen or (Address(self.host, self.port),)


ROWS: Final = tuple([Row(field.name, *field.metadata["row"]) for field in attrs.fields(Settings)])


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings for a server started with `argv` (without the program's name) in `environ`.

    Raises `ConfigError` for any mistake of the user, and `SystemExit` with status 0 after printing for `--help` and
    `--version`.
    """
    flags = _read_flags(argv)
    config_file = flags.pop("config", None)
    layers = [_from_environ(environ), _from_flags(flags)]
    if config_file is not None:
        layers.insert(0, _from_file(CONFIG_FLAG, config_file))
    elif CONFIG_VARIABLE in environ:
        layers.insert(0, _from_file(CONFIG_VARIABLE, environ[CONFIG_VARIABLE]))

    chosen: dict[str, Any] = {}
    for layer in layers:
        if "host" in layer or "port" in layer:
            chosen.pop("listen", None)  # `--port 7000` is meant, whatever the file lists
        chosen |= layer
    return Settings(**chosen)


def version_line() -> str:
    """What `--version` prints: the server, its build, its Python, its event loop."""
    try:
        import uvloop
    except ImportError:
        loop = "asyncio"
    else:
        loop = f"uvloop {uvloop.__version__}"  # type: ignore[attr-defined]  # there, but not declared
    build = "compiled" if is_compiled() else "pure"
    return f"workq-server {VERSION} ({build}, Python {platform.python_version()}, {loop})"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


_EPILOG: Final = """\
Every setting has three spellings; a flag wins over the environment, the environment over the file:
  --log-sync os        flag
  WORKQ_LOG_SYNC=os    environment variable
  log-sync = "os"      key in the TOML file
Where several values are allowed: WORKQ_LISTEN=A,B or listen = ["A", "B"].
"""


def _parser() -> _Parser:
    parser = _Parser(
        prog="workq-server",
        description="A job server that speaks the Workq protocol.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version_line(), help="print the version and exit")
    parser.add_argument(CONFIG_FLAG, metavar="FILE", help=f"read settings from this TOML file (or {CONFIG_VARIABLE})")
    for row in ROWS:
        default = "" if row.default is None else f" (default: {row.default})"
        parser.add_argument(
            row.flag, dest=row.name, action="append", metavar=row.kind.placeholder, help=row.help + default
        )
    return parser


def _read_flags(argv: Sequence[str]) -> dict[str, Any]:
    known, unknown = _parser().parse_known_args(argv)
    for argument in unknown:
        if not argument.startswith("-"):
            raise ConfigError(f"{shown(argument)}: not a flag; see --help")
        flag = argument.partition("=")[0]
        known_flags = ["--help", "--version", CONFIG_FLAG, *[row.flag for row in ROWS]]
        raise _no_such_setting(flag, flag, known_flags, prefix="--")
    return {name: given for name, given in vars(known).items() if given is not None}


def _from_flags(flags: Mapping[str, list[str]]) -> dict[str, object]:
    return {row.name: row.parse(row.flag, flags[row.name]) for row in ROWS if row.name in flags}


def _from_environ(environ: Mapping[str, str]) -> dict[str, object]:
    rows = {row.variable: row for row in ROWS}
    layer = {}
    for variable, text in environ.items():
        if not variable.startswith("WORKQ_") or variable == CONFIG_VARIABLE or _OTHERS_VARIABLE.fullmatch(variable):
            continue
        if variable not in rows:
            raise _no_such_setting(variable, variable, [CONFIG_VARIABLE, *rows], prefix="WORKQ_")
        row = rows[variable]
        texts = [part.strip() for part in text.split(",")] if row.repeatable else [text]
        layer[row.name] = row.parse(variable, texts)
    return layer


def _from_file(told_by: str, path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{told_by}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path}: not a TOML file: {error}") from None

    rows = {row.key: row for row in ROWS}
    layer = {}
    for key, given in document.items():
        if key not in rows:
            raise _no_such_setting(f"{path}: {shown(key)}", key, rows)
        row = rows[key]
        where = f"{path}: {key}"
        values = given if row.repeatable and isinstance(given, list) else [given]
        for value in values:
            if type(value) not in (str, *row.kind.toml_types):
                raise ConfigError(f"{where}: {shown(str(value))} is not {row.kind.allowed}")
        layer[row.name] = row.parse(where, [str(value) for value in values])
    return layer


def _no_such_setting(where: str, name: str, known: Iterable[str], prefix: str = "") -> ConfigError:
    bare = [each.removeprefix(prefix) for each in known]  # a shared prefix would make every name look near
    near = difflib.get_close_matches(name.removeprefix(prefix), bare, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else "see --help"
    return ConfigError(f"{where}: no such setting; {hint}")

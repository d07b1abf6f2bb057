"""The server's settings: flags over `WORKQ_*` environment variables over a TOML file.

`Settings` is the whole table. The name of a field gives its flag (`--log-sync`), its environment variable
(`WORKQ_LOG_SYNC`) and its TOML key (`log-sync`). To add a setting, add a field; how is in `workq/settings.py`. The HTTP
doors have tables of their own (`workq/http/settings.py`), given as TOML tables and by the variables of old.
"""

import argparse
import platform
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TypeVar

import attrs

from workq.build import is_compiled
from workq.dispatch.addresses import Rule
from workq.http.settings import FireworqSettings, HqSettings, MessagesSettings
from workq.settings import (
    ADDRESS,
    ADDRESS_OR_OFF,
    HOST,
    PATH,
    PORT,
    Address,
    ConfigError,
    Kind,
    no_such_setting,
    one_of,
    read_toml,
    repeatable_setting,
    rows,
    seconds,
    setting,
)
from workq.values import Range, shown
from workq.version import VERSION

T = TypeVar("T")

CONFIG_FLAG: Final = "--config"
CONFIG_VARIABLE: Final = "WORKQ_CONFIG"
# Variables that are not the server's: the client's and the build's, and those that Kubernetes sets in every pod beside
# a service named "workq".
_OTHERS_VARIABLE: Final = re.compile(r"WORKQ_(SERVER|PURE|SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_.*)")

_SEGMENT_SIZES: Final = Range("segment size", 4 * 2**10, 4 * 2**30, "bytes")
_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _segment_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,12})(|KiB|MiB|GiB)", text)
    if match is None:
        raise ValueError(text)
    return _SEGMENT_SIZES.check(int(match[1]) * _UNITS[match[2]])


SEGMENT_SIZE: Final = Kind(
    "BYTES",
    f"a size from {_SEGMENT_SIZES.lowest} to {_SEGMENT_SIZES.highest} bytes, such as 8388608, 512KiB or 64MiB",
    _segment_size,
    (int,),
)
SYNC_INTERVAL: Final = seconds(0.001, 3_600)
# How long a head may take to come, and a connection may be idle; the longest is a day.
HTTP_TIMEOUT: Final = seconds(0.1, 86_400)
DISPATCH_TIMEOUT: Final = seconds(0, 86_400)
DISPATCH_RULE: Final = Kind(
    "HOST|NETWORK",
    "a host such as hooks.example.com or *.example.com, an address or a network such as 10.0.0.0/8",
    Rule.parse,
)

LogLevel = Literal["debug", "info", "warning", "error"]
LogSync = Literal["always", "interval", "os"]
AccessLog = Literal["off", "text", "json"]


def _table(table: type[T]) -> T:
    field: T = attrs.field(factory=table, metadata={"table": table})
    return field


@attrs.frozen(kw_only=True)
class Settings:
    """What the server is told to do.

    `log_sync_interval` and all timeouts are in seconds, `log_segment_size` in bytes.
    """

    host: str = setting("listen on this host name or IP address", HOST, "127.0.0.1")
    port: int = setting("listen on this port; 0 takes any free one", PORT, "9922")
    listen: tuple[Address, ...] = repeatable_setting("listen here instead of --host and --port; repeatable", ADDRESS)
    unix: Path | None = setting("listen on a Unix socket too", PATH)
    log_level: LogLevel = setting("report from this level up, on standard error", one_of(LogLevel), "info")
    data_dir: Path | None = setting("keep jobs in this directory over a restart; without it, in memory only", PATH)
    log_sync: LogSync = setting(
        "when changes are forced to disk: before each reply, at an interval, or when the system likes",
        one_of(LogSync),
        "always",
    )
    log_sync_interval: float = setting("the interval of --log-sync interval", SYNC_INTERVAL, "1")
    log_segment_size: int = setting("begin a new log file at this size", SEGMENT_SIZE, "64MiB")
    http: Address | None = setting(
        "serve the HTTP API here, and the other HTTP doors below it", ADDRESS_OR_OFF, "127.0.0.1:9923"
    )
    hq_listen: Address | None = setting("serve the HQ door at the root of this address too", ADDRESS_OR_OFF, "off")
    fireworq_listen: Address | None = setting(
        "serve the Fireworq door at the root of this address too", ADDRESS_OR_OFF, "off"
    )
    messages_listen: Address | None = setting(
        "serve the messages door at the root of this address too", ADDRESS_OR_OFF, "off"
    )
    http_idle_timeout: float = setting(
        "close an HTTP connection whose next request has not begun, or not got past its head, by then",
        HTTP_TIMEOUT,
        "75",
    )
    access_log: AccessLog = setting("write a line for each HTTP request", one_of(AccessLog), "off")
    access_log_file: Path | None = setting("append those lines to this file, not to standard output", PATH)
    dispatch_allow: tuple[Rule, ...] = repeatable_setting(
        "push jobs to these hosts and networks only; repeatable. An address named here may be a link-local or a cloud "
        "metadata one, which are denied otherwise",
        DISPATCH_RULE,
    )
    dispatch_deny: tuple[Rule, ...] = repeatable_setting(
        "push no jobs to these hosts and networks; repeatable", DISPATCH_RULE
    )
    dispatch_shutdown_timeout: float = setting(
        "when the server stops, wait so long for the answers to jobs that are being pushed; then give them back",
        DISPATCH_TIMEOUT,
        "10",
    )
    hq: HqSettings = _table(HqSettings)
    fireworq: FireworqSettings = _table(FireworqSettings)
    messages: MessagesSettings = _table(MessagesSettings)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where to listen on TCP: `listen` if given, else `host` and `port`."""
        return self.listen or (Address(self.host, self.port),)

    @property
    def hq_address(self) -> Address | None:
        """Where to serve the HQ door at the root: `hq_listen` or, as HQ's own file says it, `addr` in `[hq]`."""
        return self.hq_listen or self.hq.addr

    @property
    def listens_on_http(self) -> bool:
        """Whether there is any HTTP listener."""
        return any([self.http, self.hq_address, self.fireworq_address, self.messages_address])

    @property
    def fireworq_address(self) -> Address | None:
        """Where to serve the Fireworq door at the root: `fireworq_listen` or, as Fireworq says it, `bind`."""
        return self.fireworq_listen or self.fireworq.bind

    @property
    def messages_address(self) -> Address | None:
        """Where to serve the messages door at the root: `messages_listen` or, as the old server says it, `port`."""
        port = self.messages.port
        return self.messages_listen or (None if port is None else Address("0.0.0.0", port))


ROWS: Final = rows(Settings, "WORKQ_")
TABLES: Final[dict[str, type]] = {
    field.name: field.metadata["table"] for field in attrs.fields(Settings) if "table" in field.metadata
}
# Where doors listen, as their own files say it: what our settings win over, also with "off".
_OWN_ADDRESSES: Final = {
    "hq_listen": ("hq", "addr"),
    "fireworq_listen": ("fireworq", "bind"),
    "messages_listen": ("messages", "port"),
}


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
        for name in TABLES.keys() & layer.keys():
            layer[name] = chosen.get(name, {}) | layer[name]
        chosen |= layer
    for name, (table, key) in _OWN_ADDRESSES.items():
        if name in chosen:
            chosen.get(table, {}).pop(key, None)
    for name in TABLES.keys() & chosen.keys():
        chosen[name] = TABLES[name](**chosen[name])
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
        raise no_such_setting(flag, flag, known_flags, prefix="--")
    return {name: given for name, given in vars(known).items() if given is not None}


def _from_flags(flags: Mapping[str, list[str]]) -> dict[str, object]:
    return {row.name: row.parse(row.flag, flags[row.name]) for row in ROWS if row.name in flags}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {row.variable: row for row in ROWS}
    layer: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith("WORKQ_") or variable == CONFIG_VARIABLE or _OTHERS_VARIABLE.fullmatch(variable):
            continue
        if variable not in by_variable:
            known = [CONFIG_VARIABLE, *[str(name) for name in by_variable]]
            raise no_such_setting(variable, variable, known, prefix="WORKQ_")
        layer[by_variable[variable].name] = by_variable[variable].parse_variable(variable, text)
    for name, table in TABLES.items():
        given = {
            row.name: row.parse_variable(row.variable, environ[row.variable])
            for row in rows(table)
            if row.variable is not None and row.variable in environ
        }
        if given:
            layer[name] = given
    return layer


def _from_file(told_by: str, path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{told_by}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigError(f"{path}: not a TOML file: {error}") from None

    tables = {name: document.pop(name) for name in list(document) if name in TABLES}
    layer: dict[str, Any] = read_toml(ROWS, path, document)
    for name, given in tables.items():
        if not isinstance(given, dict):
            raise ConfigError(f"{path}: {name}: {shown(str(given))} is not a table; begin it with [{name}]")
        layer[name] = read_toml(rows(TABLES[name]), f"{path}: [{name}]", given)
    return layer

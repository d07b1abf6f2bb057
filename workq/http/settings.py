"""The settings of the HTTP doors of other systems, under the names that they have there.

A field is a key of the door's table in the TOML file (`[hq]`, `[fireworq]`, `[messages]`); one with `variable` is read
from that environment variable too, which wins. How a table is written is in `workq/settings.py`.
"""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import attrs

from workq.settings import (
    ADDRESS,
    PORT,
    SWITCH,
    TEXT,
    Address,
    ConfigError,
    Kind,
    one_of,
    repeatable_setting,
    seconds,
    setting,
    whole_number,
)
from workq.values import Range, shown


def _go_address(text: str) -> Address:
    return ADDRESS.parse(f"0.0.0.0{text}" if text.startswith(":") else text)


def _path_prefix(text: str) -> str:
    if re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", text) is None:
        raise ValueError(text)
    return text.rstrip("/")


def _positive(what: str, highest: int, lowest: int = 0) -> Kind[int]:
    return whole_number(Range(what, lowest, highest))


_GO_ADDRESS: Final = Kind("HOST:PORT", "HOST:PORT or :PORT, such as 0.0.0.0:19900", _go_address)
_PATH_PREFIX: Final = Kind("PATH", "a path such as /ui, of A-Z a-z 0-9 - . _ ~", _path_prefix)
_COUNT: Final = _positive("number", 2**31 - 1)
_SECONDS: Final = _positive("number of seconds", 2**31 - 1)
_HqLogLevel = Literal["debug", "info", "warn", "error", "off"]


@attrs.frozen(kw_only=True)
class HqSettings:
    """The table `[hq]`.

    id_epoch  year, month and day at which ids begin

    `shutdown_timeout` and `job_lifetime` are in seconds. What is said for the whole server elsewhere is read, so that a
    file of HQ's can be used as it is, and has no effect: `without_effect` names it.
    """

    server_id: int = setting("part of every id", _positive("server id", 1023), "0")
    id_epoch: tuple[int, ...] = repeatable_setting("year, month, day", _positive("part of a date", 9999))
    addr: Address | None = setting("where to listen, unless --hq-listen says it", _GO_ADDRESS)
    data_dir: str | None = setting("without effect: see --data-dir", TEXT)
    log_level: _HqLogLevel | None = setting("without effect: see --log-level", one_of(_HqLogLevel))
    log_file: str | None = setting("without effect: the log is on standard error", TEXT)
    access_log_file: str | None = setting("without effect: see --access-log-file", TEXT)
    queues: int = setting(
        "the size of the queue in its figures; it is never full", _positive("size", 2**31 - 1, 1), "8192"
    )
    dispatchers: int | None = setting("with max_workers: jobs sent at a time", _positive("number", 65_536, 1))
    max_workers: int = setting("for each dispatcher", _positive("number", 65_536), "0")
    shutdown_timeout: int = setting("how long jobs in progress have at a stop", _SECONDS, "10")
    job_lifetime: int = setting("how long finished jobs are kept; 0 for ever", _SECONDS, "2419200")
    job_list_default_limit: int = setting("the limit of lists that give none", _COUNT, "0")
    ui: bool = setting("whether there is a web page", SWITCH, "true")
    ui_basename: str = setting("where it is", _PATH_PREFIX, "/ui")

    def __attrs_post_init__(self) -> None:
        """Raises `ConfigError` for an epoch that is no date, or is to come."""
        if self.epoch_ms > datetime.now(UTC).timestamp() * 1000:
            raise ConfigError(f"[hq]: id_epoch: {shown(str(list(self.id_epoch)))} is in the future")

    @property
    def epoch_ms(self) -> int:
        """Where the time in ids begins, as Unix time."""
        year_month_day = self.id_epoch or (2019, 1, 1)
        try:
            year, month, day = year_month_day
            return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000
        except ValueError:
            text = shown(str(list(year_month_day)))
            raise ConfigError(f"[hq]: id_epoch: {text} is not a date such as [2019, 1, 1]") from None

    @property
    def dispatcher_count(self) -> int:
        """How many dispatchers there are: as many as processors, unless it is said."""
        return self.dispatchers or os.cpu_count() or 1

    @property
    def concurrency(self) -> int:
        """How many jobs are sent at a time."""
        return self.dispatcher_count * max(self.max_workers, 1)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """The keys given that have no effect here."""
        return tuple([key for key in ("data_dir", "log_level", "log_file", "access_log_file") if getattr(self, key)])


_ELSEWHERE: Final = "no effect: it is said for the whole server, see workq-server --help"
_NOWHERE: Final = "no effect: there is nothing like it here"
_ANYTHING: Final = Kind("VALUE", "a value", str, (int, float, bool))
_QueueLogLevel = Literal["debug", "info", "warn", "error", "fatal", "0", "1", "2", "3", "4"]
_POSITIVE: Final = whole_number(Range("number", 1, 2**32 - 1))


def _shown_setting(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


@attrs.frozen(kw_only=True)
class FireworqSettings:
    """The table `[fireworq]`; each key is also read from the variable `FIREWORQ_` and its name in capitals.

    Intervals are in milliseconds, `shutdown_timeout` and `dispatch_idle_conn_timeout` in seconds. What is said for the
    whole server elsewhere, or not at all, is read, so that a set-up can be used as it is, and has no effect: see
    `without_effect`.
    """

    bind: Address | None = setting(
        "where to listen, unless --fireworq-listen says it", ADDRESS, variable="FIREWORQ_BIND"
    )
    queue_default: str = setting(
        "where jobs without a routing go; empty: nowhere", TEXT, "default", variable="FIREWORQ_QUEUE_DEFAULT"
    )
    queue_default_polling_interval: int = setting(
        "what queues say that give none; nothing polls here",
        _POSITIVE,
        "200",
        variable="FIREWORQ_QUEUE_DEFAULT_POLLING_INTERVAL",
    )
    queue_default_max_workers: int = setting(
        "jobs sent at a time, for queues that do not say it",
        _POSITIVE,
        "20",
        variable="FIREWORQ_QUEUE_DEFAULT_MAX_WORKERS",
    )
    keep_alive: bool = setting(
        "whether connections of clients may be used again", SWITCH, "false", variable="FIREWORQ_KEEP_ALIVE"
    )
    dispatch_keep_alive: bool | None = setting(
        "whether those to web workers may; as keep_alive unless given", SWITCH, variable="FIREWORQ_DISPATCH_KEEP_ALIVE"
    )
    dispatch_user_agent: str | None = setting(
        "who web workers are told we are", TEXT, variable="FIREWORQ_DISPATCH_USER_AGENT"
    )
    pid: str | None = setting(_NOWHERE, _ANYTHING, variable="FIREWORQ_PID")
    shutdown_timeout: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_SHUTDOWN_TIMEOUT")
    dispatch_max_conns_per_host: str | None = setting(
        _NOWHERE, _ANYTHING, variable="FIREWORQ_DISPATCH_MAX_CONNS_PER_HOST"
    )
    dispatch_idle_conn_timeout: str | None = setting(
        _NOWHERE, _ANYTHING, variable="FIREWORQ_DISPATCH_IDLE_CONN_TIMEOUT"
    )
    config_refresh_interval: str | None = setting(_NOWHERE, _ANYTHING, variable="FIREWORQ_CONFIG_REFRESH_INTERVAL")
    access_log: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_ACCESS_LOG")
    access_log_tag: str | None = setting(_NOWHERE, _ANYTHING, variable="FIREWORQ_ACCESS_LOG_TAG")
    error_log: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_ERROR_LOG")
    error_log_level: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_ERROR_LOG_LEVEL")
    queue_log: str | None = setting(
        "a file for the queue log, - for standard output; none unless given", TEXT, variable="FIREWORQ_QUEUE_LOG"
    )
    queue_log_tag: str = setting("the tag of its lines", TEXT, "fireworq.queue", variable="FIREWORQ_QUEUE_LOG_TAG")
    queue_log_level: _QueueLogLevel = setting(
        "debug: jobs that are taken, too; from warn on, nothing",
        one_of(_QueueLogLevel),
        "info",
        variable="FIREWORQ_QUEUE_LOG_LEVEL",
    )
    driver: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_DRIVER")
    mysql_dsn: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_MYSQL_DSN")
    queue_mysql_dsn: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_QUEUE_MYSQL_DSN")
    repository_mysql_dsn: str | None = setting(_ELSEWHERE, _ANYTHING, variable="FIREWORQ_REPOSITORY_MYSQL_DSN")

    @property
    def dispatch_keeps_alive(self) -> bool:
        """Whether connections to web workers may be used again."""
        return self.keep_alive if self.dispatch_keep_alive is None else self.dispatch_keep_alive

    @property
    def without_effect(self) -> dict[str, str]:
        """The keys given that have no effect here, and why."""
        helps = {field.name: field.metadata["row"][1] for field in attrs.fields(FireworqSettings)}
        return {name: help for name, help in helps.items() if help in (_ELSEWHERE, _NOWHERE) and getattr(self, name)}

    def shown(self, user_agent: str, elsewhere: Mapping[str, str]) -> dict[str, str]:
        """What is in force, as `/settings` says it: strings. `elsewhere` is what is said for the whole server."""
        values = {field.name: getattr(self, field.name) for field in attrs.fields(FireworqSettings)}
        values |= {**dict.fromkeys(self.without_effect, ""), **elsewhere}
        values |= {"dispatch_keep_alive": self.dispatch_keeps_alive, "dispatch_user_agent": user_agent}
        return {name: _shown_setting(value) for name, value in values.items()}


@attrs.frozen(kw_only=True)
class MessagesSettings:
    """The table `[messages]`. `request_timeout` is in seconds."""

    port: int | None = setting("listen on this port of all interfaces, unless --messages-listen says it", PORT)
    request_timeout: float | None = setting(
        "answer a request that takes longer with 408", seconds(0.001, 86_400), variable="REQUEST_TIMEOUT"
    )
    database: str | None = setting("without effect: see --data-dir", TEXT)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """The keys given that have no effect here."""
        return ("database",) if self.database else ()

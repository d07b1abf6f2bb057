"""The settings of the HTTP doors of other systems, under the names that they have there.

A field is a key of the door's table in the TOML file (`[hq]`, `[fireworq]`, `[messages]`); one with `variable` is read
from that environment variable too, which wins. How a table is written is in `workq/settings.py`.
"""

import os
import re
from datetime import UTC, datetime
from typing import Final, Literal

import attrs

from workq.settings import (
    ADDRESS,
    SWITCH,
    TEXT,
    Address,
    ConfigError,
    Kind,
    one_of,
    repeatable_setting,
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


@attrs.frozen(kw_only=True)
class FireworqSettings:
    """The table `[fireworq]`."""


@attrs.frozen(kw_only=True)
class MessagesSettings:
    """The table `[messages]`."""

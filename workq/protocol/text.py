"""How single values are written on the wire."""

import re
from binascii import hexlify, unhexlify
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote_from_bytes

from workq.values import NIL_ID, InvalidValue, shown

# Where a job goes whose TTR ended: to its old place, or behind the others.
RETURNED: Final = (b"front", b"back")

_ID: Final = re.compile(rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
# What stands at each place of an id's canonical form: one of its 32 digits, or what comes behind them, a hyphen.
_PLACES: Final = bytes([*range(8), 32, *range(8, 12), 32, *range(12, 16), 32, *range(16, 20), 32, *range(20, 32)])
_BEHIND_DIGITS: Final = b"-" * (256 - 32)
_PRINTABLE: Final = "".join([chr(code) for code in range(32, 127) if chr(code) != "%"])
_TIME: Final = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?Z")

# The first and the last second that can be written.
_EARLIEST_S: Final = -62_135_596_800
_LATEST_S: Final = 253_402_300_799


def parse_id(text: bytes) -> bytes:
    """The 16 bytes of a canonical UUID in either case; raise `InvalidValue` for anything else."""
    if _ID.fullmatch(text) is None:
        raise InvalidValue(f"Invalid ID: {shown_bytes(text)} is not a UUID like 6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    return unhexlify(text.replace(b"-", b""))


def check_id(job_id: bytes) -> bytes:
    """Return `job_id`; raise `InvalidValue` for the nil UUID."""
    if job_id == NIL_ID:
        raise InvalidValue("Invalid ID: the nil UUID is not allowed")
    return job_id


def format_id(job_id: bytes) -> bytes:
    """The canonical lower-case form of 16 bytes."""
    return _PLACES.translate(hexlify(job_id) + _BEHIND_DIGITS)  # each place by the byte that belongs there


def parse_time(text: bytes) -> int:
    """Unix milliseconds of a UTC time like ``2030-01-01T12:00:00Z``, a fraction of the second allowed and cut to ms.

    Never 0, which stands for "no time" elsewhere: the first millisecond of 1970 gives 1.
    """
    match = _TIME.fullmatch(text)
    if match is not None:
        try:
            moment = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[arg-type, misc]
        except ValueError:
            pass
        else:
            milliseconds = int(((match[7] or b"") + b"000")[:3])
            return _seconds(moment) * 1000 + milliseconds or 1
    raise InvalidValue(f"Invalid Time: {shown_bytes(text)} is not a UTC time like 2030-01-01T12:00:00Z")


def format_time(time_ms: int) -> bytes:
    """A UTC time with whole seconds; the nearest that can be written for one before the year 1 or after 9999."""
    moment = _EPOCH.fromtimestamp(min(max(time_ms // 1000, _EARLIEST_S), _LATEST_S), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0").encode()


def quote_bytes(value: bytes) -> bytes:
    """`value` on one line: ``%`` and all that is not printable ASCII as ``%hh``, as in URLs."""
    return quote_from_bytes(value, safe=_PRINTABLE).encode()


def shown_bytes(text: bytes) -> str:
    """`text` as an error message quotes it."""
    return shown(text.decode("utf-8", "replace"))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _seconds(moment: datetime) -> int:
    difference = moment - _EPOCH
    return difference.days * 86_400 + difference.seconds

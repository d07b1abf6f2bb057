"""How results look to scripts: JSON, and bytes as they are. Tables for people are in `tables.py`."""

import base64
import dataclasses
import json
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import click


def as_json(value: Any) -> Any:
    """A public value of the library as what JSON can hold.

    Bytes that are UTF-8 are text; others come as base64 under their name with ``_base64`` behind it.
    """
    if dataclasses.is_dataclass(value):
        found: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            found |= json_entry(field.name, getattr(value, field.name))
        return found
    if isinstance(value, list):
        return [as_json(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.value if isinstance(value, Enum) else value


def json_entry(key: str, value: Any) -> dict[str, Any]:
    """The entry of a JSON object for `value`."""
    if not isinstance(value, bytes):
        return {key: as_json(value)}
    try:
        return {key: value.decode()}
    except UnicodeDecodeError:
        return {f"{key}_base64": base64.b64encode(value).decode()}


def print_json(value: Any) -> None:
    """One line of JSON."""
    click.echo(json.dumps(as_json(value), ensure_ascii=False))


def print_bytes(data: bytes) -> None:
    """Bytes as they are, and a line end if a person reads them."""
    out = sys.stdout.buffer
    out.write(data)
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        out.write(b"\n")
    out.flush()

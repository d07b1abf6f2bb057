"""Bodies that are forms, as browsers send them."""

import re
from email import message_from_bytes
from email.message import Message
from email.policy import HTTP
from itertools import takewhile
from typing import Final
from urllib.parse import parse_qsl

from workq.http.application import HttpError
from workq.http.web import Request

# What the Content-Type of a form begins with.
FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
# Forms have a handful of fields, about which little is said. To read more of either takes long, and nobody is served
# meanwhile.
_MOST_PARTS: Final = 100
_LONGEST_HEAD: Final = 1_024
# A part: the lines of its head, and its body.
_PART: Final = re.compile(rb"[ \t]*((?:\r?\n[^\r\n]+)*)\r?\n\r?\n(.*)", re.DOTALL)


def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, without files; the first of those with the same name. Raises `HttpError`."""
    content_type = request.headers.get("Content-Type", "")
    try:
        if content_type.strip().lower().startswith(FORMS[0]):
            text = request.body.decode()
            fields = parse_qsl(text, keep_blank_values=True, errors="strict")
        else:
            fields = _parts(content_type, request.body)
    except ValueError as error:
        raise HttpError(400, f"The body is not a form: {error}") from None
    return dict(reversed(fields))


def _parts(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a form in parts. Raises `ValueError`."""
    boundary = _head(b"Content-Type: " + " ".join(content_type.split()).encode()).get_boundary() or ""
    delimiter = rb"\r?\n--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(?=--|[ \t]*\r?\n)"
    pieces = re.split(delimiter, b"\n" + body, maxsplit=_MOST_PARTS + 1)[1:]
    parts = list(takewhile(_is_part, pieces))
    if not boundary or len(parts) == len(pieces):
        raise ValueError(f"its parts are not as they should be, or more than {_MOST_PARTS}")
    fields = []
    for part in parts:
        split = _PART.fullmatch(part)
        if split is None:
            raise ValueError("its parts are not as they should be")
        head = _head(split[1].lstrip())
        name = head.get_param("name", header="Content-Disposition")
        if isinstance(name, str) and head.get_filename() is None:
            fields.append((name, split[2].decode()))
    return fields


def _is_part(piece: bytes) -> bool:
    """Whether what stands behind a boundary is a part; else it is the end."""
    return not piece.startswith(b"--")


def _head(lines: bytes) -> Message:
    """The headers in `lines`. Raises `ValueError`."""
    if len(lines) > _LONGEST_HEAD:
        raise ValueError(f"its headers are too long: at most {_LONGEST_HEAD} bytes are allowed for each part")
    return message_from_bytes(lines + b"\r\n\r\n", policy=HTTP)

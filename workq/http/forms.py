"""Bodies that are forms, as browsers send them."""

import re
from binascii import a2b_qp
from email import message_from_bytes
from email.message import Message
from email.policy import HTTP
from itertools import takewhile
from typing import Final

from workq.http.application import HttpError
from workq.http.web import Request

# What the Content-Type of a form begins with.
FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
# Forms have a handful of fields, about which little is said. To read more of either takes long, and nobody is served
# meanwhile.
_MOST_PARTS: Final = 100
_LONGEST_HEAD: Final = 1_024
# A part: the lines of its head, of which no more are looked at than fit into the longest; and its body.
_PART: Final = re.compile(rb"[ \t]{0,100}((?:\r?\n[^\r\n]+){0,500})\r?\n\r?\n(.*)", re.DOTALL)
# A percent sign that stands for itself, since no escape begins with it; of these, too, there are only so many.
_PLAIN_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_MOST_PLAIN_PERCENTS: Final = 10_000


def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, without files; the first of those with the same name. Raises `HttpError`."""
    content_type = request.headers.get("Content-Type", "")
    try:
        if content_type.strip().lower().startswith(FORMS[0]):
            fields = _pairs(request.body)
        else:
            fields = _parts(content_type, request.body)
    except ValueError as error:
        raise HttpError(400, f"The body is not a form: {error}") from None
    return dict(reversed(fields))


def _pairs(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form in one line. Raises `ValueError`."""
    pairs = [pair for pair in body.split(b"&", maxsplit=_MOST_PARTS) if pair]
    if len(pairs) > _MOST_PARTS:
        raise ValueError(f"it has more than {_MOST_PARTS} fields")
    return [(_unescaped(name), _unescaped(value)) for name, _, value in [pair.partition(b"=") for pair in pairs]]


def _unescaped(text: bytes) -> str:
    """`text` without the escapes of forms. Raises `ValueError`.

    Those of e-mail differ by their sign only, and are read in a hundredth of the time that urllib takes for a payload.
    """
    text, plain = _PLAIN_PERCENT.subn(b"%25", text, count=_MOST_PLAIN_PERCENTS)
    if plain == _MOST_PLAIN_PERCENTS:
        raise ValueError("it has too many percent signs that are no escapes")
    return a2b_qp(text.replace(b"+", b" ").replace(b"=", b"=3D").replace(b"%", b"=")).decode()


def _parts(content_type: str, body: bytes) -> list[tuple[str, str]]:
    """The fields of a form in parts. Raises `ValueError`."""
    boundary = _head(b"Content-Type: " + " ".join(content_type.split()).encode()).get_boundary() or ""
    delimiter = rb"\r?\n--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(?=--|[ \t]{0,100}\r?\n)"
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

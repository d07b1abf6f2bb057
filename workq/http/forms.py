"""Bodies that are forms, as browsers send them."""

from email import message_from_bytes
from email.message import Message
from email.policy import HTTP
from typing import Final
from urllib.parse import parse_qsl

from workq.http.application import HttpError
from workq.http.web import Request

# What the Content-Type of a form begins with.
FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


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
    head = f"Content-Type: {' '.join(content_type.split())}\r\n\r\n"
    form = message_from_bytes(head.encode("utf-8", "replace") + body, policy=HTTP)
    if not form.is_multipart() or form.defects:
        raise ValueError("its parts are not as they should be")
    fields = []
    for part in form.iter_parts():
        assert isinstance(part, Message)
        name = part.get_param("name", header="Content-Disposition")
        if isinstance(name, str) and part.get_filename() is None:
            value = part.get_payload(decode=True)
            fields.append((name, value.decode() if isinstance(value, bytes) else ""))
    return fields

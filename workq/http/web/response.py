"""An answer, and its bytes."""

from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

_STATUS_LINES: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
# Answers with these have no body, and do not say how long it is.
_BODILESS: Final = (204, 304)


class Response:
    """What a request is answered: `body`, or `text` in UTF-8, or `pieces`, which are sent as they come.

    headers     by name; a value must be one line
    keep_alive  whether the connection may be used again; handlers may say no
    """

    __slots__ = ("status", "body", "pieces", "headers", "keep_alive")

    def __init__(
        self,
        *,
        status: int = 200,
        body: bytes = b"",
        text: str | None = None,
        pieces: AsyncGenerator[bytes, None] | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.pieces = pieces
        self.headers: dict[str, str] = {} if headers is None else dict(headers)
        self.keep_alive = True
        if text is not None:
            self.body = text.encode("utf-8", "backslashreplace")
            content_type = f"{content_type or 'text/plain'}; charset=utf-8"
        if content_type is not None:
            self.headers["Content-Type"] = content_type

    def head(self, request_id: str, common: bytes, connection: bytes, chunked: bool = False) -> bytes:
        """The head: with the headers `common` to all answers, and the line `connection`, which may be empty.

        Raises `ValueError` for a header that is more than a line.
        """
        parts = [_STATUS_LINES.get(self.status) or b"HTTP/1.1 %d \r\n" % self.status]
        parts += [header_line(name, value) for name, value in self.headers.items()]
        if self.pieces is not None:
            if chunked:
                parts.append(b"Transfer-Encoding: chunked\r\n")
        elif self.status not in _BODILESS:
            parts.append(b"Content-Length: %d\r\n" % len(self.body))
        if request_id:
            parts.append(b"X-Request-Id: %b\r\n" % request_id.encode())
        parts += (connection, common, b"\r\n")
        return b"".join(parts)


@lru_cache(256)  # most are the same for all answers
def header_line(name: str, value: str) -> bytes:
    """A line of a head. Raises `ValueError` if it would be more than one: what stands behind would be a header too."""
    if not (name.isascii() and name.isprintable()) or "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"{name!r}: {value!r} is no header")
    return f"{name}: {value}\r\n".encode()

"""Where a server is, as users write it."""

import os
import re
from dataclasses import dataclass
from typing import Final

from workq.client.errors import ClientError
from workq.values import shown

DEFAULT_URL: Final = "workq://127.0.0.1:9922"
URL_VARIABLE: Final = "WORKQ_SERVER"

_DEFAULT_PORT: Final = 9922
_TCP: Final = re.compile(r"workq://(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s\[\]:/?#@]+))(?::([0-9]{1,5}))?/?")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP host and port, or the path of a Unix socket (then `host` is empty). `url` is what messages show."""

    url: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str | None) -> "Address":
        """Read ``workq://host:port``, ``workq://[::1]:9922`` or ``unix:/path``; raise `ClientError` for other forms.

        None stands for the environment variable WORKQ_SERVER and, without it, for ``workq://127.0.0.1:9922``.
        """
        if url is None:
            url = os.environ.get(URL_VARIABLE) or DEFAULT_URL
        if url.startswith("unix:") and len(url) > len("unix:"):
            return cls(url, "", 0, url.removeprefix("unix:"))
        match = _TCP.fullmatch(url)
        if match is not None:
            host = match[1] or match[2]
            port = int(match[3]) if match[3] else _DEFAULT_PORT
            if 1 <= port <= 65_535 and _may_be_host(host):
                shown_host = f"[{host}]" if ":" in host else host
                return cls(f"workq://{shown_host}:{port}", host, port, "")
        raise ClientError(
            f"Invalid server address: {shown(url)}; allowed are workq://host:port, workq://[::1]:9922 and unix:/path"
        )

    def __str__(self) -> str:
        return self.url


def _may_be_host(host: str) -> bool:
    """Whether the resolver would take it: it refuses some, as ``a..b``, with an error that nobody expects of it."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True

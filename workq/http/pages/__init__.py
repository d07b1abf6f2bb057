"""Web pages: each is one file that brings all it needs, made of what pages share and what is its own.

layout.html  the frame of every page
style.css    how they look
common.js    what their scripts have in common
NAME.js      what the page NAME does; begins at `start`
"""

import base64
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Final

from workq.http.web import Request, Response

_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}


class Page:
    """The page `name`, shown at its path and at all below that; its script tells them apart."""

    def __init__(self, name: str, title: str) -> None:
        style, script = _read("style.css"), "\n".join(['"use strict";', _read("common.js"), _read(f"{name}.js")])
        layout = _read("layout.html").replace("{title}", escape(title))
        self._before, self._after = layout.replace("{style}", style).replace("{script}", script).split("{base}")
        # Nothing but what is written here may run or be loaded, whatever a job says of itself.
        policy = (
            "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'self'; form-action 'none';"
            f" frame-ancestors 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
        )
        self._headers: Mapping[str, str] = {**_SECURITY, "Content-Security-Policy": policy}

    async def handle(self, request: Request) -> Response:
        """Answer with the page. `rest`, in the route, is the path below that of the page; none for the page's own."""
        rest = request.match_info.get("rest")
        # As a relative address, so that the page works behind proxies that move it.
        base = f"{request.path.rpartition('/')[2]}/" if rest is None else "../" * rest.count("/") or "./"
        text = f"{self._before}{escape(base)}{self._after}"
        return Response(text=text, content_type="text/html", headers=self._headers)


def _read(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"

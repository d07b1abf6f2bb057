"""The HTTP server itself, on httptools, and nothing else than HTTP: it knows no job and no API.

connection.py  one client: requests in, answers out, in order, within bounds
request.py     a request, all of which has come
response.py    an answer
router.py      which handler serves which path

A handler is ``async def handler(request: Request) -> Response``. It is called when the body is there, so nothing in it
waits for its client; it is cancelled when the client goes away.
"""

from workq.http.web.connection import Connection, Limits, Service
from workq.http.web.request import Headers, Query, Request
from workq.http.web.response import Response
from workq.http.web.router import ANY, Handler, Router

__all__ = ["ANY", "Connection", "Handler", "Headers", "Limits", "Query", "Request", "Response", "Router", "Service"]

"""One push: a request to a web worker, redirects, and what came of it. Knows nothing of queues."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from workq.dispatch.addresses import AddressDenied, AddressRules
from workq.dispatch.answer import Answer
from workq.dispatch.http_client import Connection, Pool, default_tls
from workq.dispatch.request import PushFailed, first_request, redirected
from workq.dispatch.target import ErrorKind, PushResult, PushTarget
from workq.dispatch.verdict import judge
from workq.run_queue import RunQueue
from workq.values import shown

MAX_REDIRECTS: Final = 10
_SEE_OTHER: Final = (301, 302, 303)

log = logging.getLogger("workq.dispatch")


class Sender:
    """Sends jobs to web workers. To be made and used on the event loop."""

    def __init__(
        self,
        rules: AddressRules,
        now_ms: Callable[[], int],
        run_queue: RunQueue,
        make_tls: Callable[[], ssl.SSLContext] = default_tls,
    ) -> None:
        self.rules = rules
        self.now_ms = now_ms
        self.pool = Pool(rules, run_queue, make_tls)

    def close(self) -> None:
        """Close all idle connections."""
        self.pool.close()

    def send(self, target: PushTarget, body: bytes, on_result: Callable[[PushResult], None]) -> "Sending":
        """POST `body` to `target`; `on_result` is told what came of it, whatever that is, later and once."""
        return Sending(self, target, body, on_result)


class Sending:
    """A push on its way."""

    __slots__ = (
        "_sender",
        "_target",
        "_on_result",
        "_started_ms",
        "_request",
        "_hops",
        "_connection",
        "_connecting",
        "_timer",
    )

    def __init__(
        self, sender: Sender, target: PushTarget, body: bytes, on_result: Callable[[PushResult], None]
    ) -> None:
        self._sender = sender
        self._target = target
        self._on_result: Callable[[PushResult], None] | None = on_result
        self._started_ms = sender.now_ms()
        self._hops = 0
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        loop = asyncio.get_running_loop()
        try:
            self._request = first_request(target, body)
            self._send()
        except PushFailed as failure:
            self._timer = loop.call_soon(self._fail, failure.kind, failure.text)
        else:
            if target.timeout_ms > 0:
                self._timer = loop.call_later(target.timeout_ms / 1_000, self._time_is_over)

    def cancel(self) -> None:
        """Drop the connection. Nobody is told any more."""
        self._on_result = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    # -- what the connection says ---------------------------------------------------------------------------------

    def on_answer(self, answer: Answer) -> None:
        """The answer has come: judge it, or follow it."""
        self._connection = None
        try:
            if answer.location is None:
                self._judge(answer)
            else:
                self._follow(answer.status_code, answer.location)
        except PushFailed as failure:
            self._fail(failure.kind, failure.text)
        except Exception as error:
            self._fail_unforeseen(error)

    def on_failure(self, failure: PushFailed, unheard: bool) -> None:
        """There is none. A GET may be sent once more; to whom a POST has come nobody knows."""
        connection, self._connection = self._connection, None
        assert connection is not None
        if unheard and self._request.body is None:
            self._connect()
        else:
            status_code = connection.status_code() or None
            self._fail(failure.kind, failure.text, status_code)

    # -- sending --------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send the request on a connection that is there, or make one. Raises `PushFailed`."""
        beginning = self._request.beginning
        try:
            self._sender.rules.check_host(beginning.origin.host)
        except AddressDenied as denied:
            raise PushFailed("connection", str(denied)) from None
        connection = self._sender.pool.take(beginning.origin) if beginning.keep_alive else None
        if connection is None:
            self._connect()
        else:
            self._connection = connection
            connection.send(self._request, self)

    def _connect(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._send_on_new_connection())

    async def _send_on_new_connection(self) -> None:
        beginning = self._request.beginning
        try:
            connection = await self._sender.pool.connect(beginning.origin, keep_alive=beginning.keep_alive)
            self._connecting = None
            self._connection = connection
            connection.send(self._request, self)
        except PushFailed as failure:
            self._connecting = None
            self._fail(failure.kind, failure.text)
        except Exception as error:
            self._connecting = None
            self._fail_unforeseen(error)

    def _follow(self, status_code: int, location: str) -> None:
        if self._hops == MAX_REDIRECTS:
            text = f"more than {MAX_REDIRECTS} redirects, the last one to {shown(location)}"
            raise PushFailed("connection", text)
        self._hops += 1
        self._request = redirected(self._request, location, see_other=status_code in _SEE_OTHER)
        self._send()

    # -- the end --------------------------------------------------------------------------------------------------

    def _judge(self, answer: Answer) -> None:
        judgement = judge(self._target.verdict, answer.status_code, answer.body, answer.cut)
        self._finish(
            PushResult(
                judgement.outcome,
                self._started_ms,
                self._sender.now_ms(),
                answer.status_code,
                judgement.error_kind,
                judgement.error,
                answer.body.decode("utf-8", "replace"),
                answer.cut,
            )
        )

    def _time_is_over(self) -> None:
        timeout_ms = self._target.timeout_ms
        status_code = 0 if self._connection is None else self._connection.status_code()
        if status_code:
            self._fail("body", f"the answer's body did not end within {timeout_ms} ms", status_code)
        else:
            self._fail("timeout", f"no answer within {timeout_ms} ms")

    def _fail(self, kind: ErrorKind, text: str, status_code: int | None = None) -> None:
        self._finish(PushResult("failure", self._started_ms, self._sender.now_ms(), status_code, kind, text))

    def _fail_unforeseen(self, error: Exception) -> None:
        """By a fault of ours. The job must not be sent for ever all the same."""
        log.exception("a push to %s failed", shown(self._target.url))
        self._fail("connection", f"a fault of the server, whose log says more: {type(error).__name__}")

    def _finish(self, result: PushResult) -> None:
        on_result = self._on_result
        self.cancel()
        if on_result is not None:
            on_result(result)

"""The way of a push, from the body of the request to a job of the engine and the answer."""

from typing import Final

import msgspec

from workq.commands import Schedule
from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway
from workq.http.application import HttpError, check_taken
from workq.http.fireworq.bodies import json_answer, read_json
from workq.http.fireworq.definitions import DOOR, Definitions
from workq.http.fireworq.jobs import body_of, pushed, spec_of, target_of
from workq.http.fireworq.numbers import Numbers
from workq.http.fireworq.queue_log import QueueLog
from workq.http.fireworq.structs import PushRequest
from workq.http.names import numbered_jobs, queue_name
from workq.http.settings import FireworqSettings
from workq.http.web import Request, Response
from workq.values import DELAY

_decode: Final = msgspec.json.Decoder(PushRequest | None)


class Pushes:
    """Takes jobs."""

    def __init__(
        self,
        gateway: Gateway,
        dispatcher: Dispatcher,
        definitions: Definitions,
        settings: FireworqSettings,
        user_agent: str,
        queue_log: QueueLog | None,
    ) -> None:
        """`queue_log` is where each job is written down, if there is one."""
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._definitions = definitions
        self._keeps_alive = settings.dispatch_keeps_alive
        self._user_agent = user_agent
        self._queue_log = queue_log
        self._numbers = Numbers(gateway)

    async def handle(self, request: Request) -> Response:
        """Take the job of a request."""
        category = request.match_info["category"]
        asked = read_json(request, _decode) or PushRequest()
        if not asked.url:
            raise HttpError(400, "Missing field: url")
        try:
            body = body_of(asked.payload)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise HttpError(400, f"Invalid payload: {error}") from None
        queue = (await self._definitions.queue_of(category)).name
        number = await self._numbers.take(queue)
        target = target_of(asked, queue, number, category, self._user_agent, self._keeps_alive)
        meta = target.to_meta()
        job_id = numbered_jobs(DOOR, queue).job_id(number)
        # All jobs have a time, so that they stand in the order of their next try.
        now_ms = self._gateway.now_ms()
        run_at_ms = min(now_ms + (asked.run_after or 0) * 1_000, now_ms + DELAY.highest)
        check_taken(await self._gateway.execute(Schedule(job_id, spec_of(asked, queue), run_at_ms, body, meta)))
        self._dispatcher.count_push(queue_name(DOOR, queue))
        if self._queue_log is not None:
            self._queue_log.on_push(meta, body, run_at_ms, asked.max_retries or 0)
        return json_answer(pushed(asked, target, number, queue, category))

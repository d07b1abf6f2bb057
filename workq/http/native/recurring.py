"""Operations on recurring jobs. `DELETE /v1/jobs/{id}` ends one, as it deletes a job."""

from msgspec import UNSET

from workq import commands as c
from workq import replies as r
from workq.gateway import Gateway
from workq.http import web
from workq.http.native import answers
from workq.http.native import structs as s
from workq.http.native.jobs import background_spec
from workq.http.native.operations import Operation, bytes_of
from workq.protocol.text import check_id, parse_id
from workq.recurrence import parse_rule
from workq.values import PAYLOAD_SIZE


def operations(gateway: Gateway) -> list[Operation]:
    """The operations, on `gateway`."""
    recurring = _Recurring(gateway)
    return [
        Operation(
            "POST",
            "/v1/recurring",
            "Have jobs added whenever a rule says",
            s.NewRecurringJob,
            {201: s.Added},
            (c.Recur,),
            recurring.add,
            raw="payload",
        ),
        Operation(
            "GET",
            "/v1/recurring",
            "List recurring jobs by id",
            s.Page,
            {200: s.RecurringJobs},
            (c.InspectRecurring,),
            recurring.page,
        ),
    ]


class _Recurring:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def add(self, request: web.Request, given: s.NewRecurringJob) -> web.Response:
        payload = bytes_of("payload", PAYLOAD_SIZE, given.payload, given.payload_base64)
        rule = parse_rule(given.rule)
        job_id = self._gateway.new_job_id() if given.id is UNSET else check_id(parse_id(given.id.encode()))
        command = c.Recur(job_id, background_spec(given), rule, given.overlap == "skip", payload)
        answers.expect(r.Ok, await self._gateway.execute(command), "job")
        return answers.json(s.Added(answers.id_text(job_id)), status=201)

    async def page(self, request: web.Request, given: s.Page) -> web.Response:
        reply = await self._gateway.execute(c.InspectRecurring(given.cursor, given.limit))
        jobs = [answers.recurring_job(info) for info in answers.expect(r.RecurringJobs, reply, "job").jobs]
        return answers.json(s.RecurringJobs(jobs, answers.next_cursor(given.cursor, given.limit, len(jobs))))

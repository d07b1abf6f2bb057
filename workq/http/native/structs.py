"""What requests and answers look like, as msgspec structs. Field names end in their unit; times are RFC 3339 in UTC.

The ranges are those of `workq/values.py`. A payload or a result is text in `payload` or `result`, or any bytes in
`payload_base64` or `result_base64`; answers use the first where the bytes are UTF-8.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from workq import values
from workq.dispatch.target import MOST_SENDING, Verdict
from workq.values import Range

# What is allowed in each field, for errors; by the name of the field, or of the struct and the field.
ALLOWED: Final[dict[str, str]] = {}

# Options that a query may give several times.
LISTS: Final = frozenset(("queues", "ids"))
# Jobs whose results may be asked for at once: as many as may be leased at once.
MOST_IDS: Final = values.BULK_COUNT.highest

_LARGEST_CHECKED: Final = 2**63 - 1


def _number(name: str, numbers: Range, description: str) -> Meta:
    ALLOWED[name] = str(numbers)
    if numbers.highest > _LARGEST_CHECKED:  # then `JobSpec` checks it
        return Meta(ge=numbers.lowest, description=description, extra_json_schema={"maximum": numbers.highest})
    return Meta(ge=numbers.lowest, le=numbers.highest, description=description)


def _text(name: str, pattern: str | None, allowed: str, description: str) -> Meta:
    ALLOWED[name] = allowed
    return Meta(pattern=pattern, description=description)


_HEX: Final = "[0-9a-fA-F]"
_UUID: Final = f"^(?!0{{8}}(-0{{4}}){{3}}-0{{12}}){_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}$"
_BASE64: Final = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_NAME_ALLOWED: Final = f"1 to {values.NAME_LENGTH} of A-Z a-z 0-9 _ - ."
_A_UUID: Final = "a UUID like 6ba7b810-9dad-11d1-80b4-00c04fd430c8, and not the nil one"
ALLOWED.update(
    ids=f"a list of 1 to {MOST_IDS} ids, each {_A_UUID}",
    payload="a text",
    payload_base64="a text in base64",
    result="a text",
    result_base64="a text in base64",
    run_at="a time like 2030-01-01T12:00:00Z",
    retry_backoff="a number from 1 to 10",
    final="true or false",
    touch="true or false",
    progress="a text",
    progress_base64="a text in base64",
    returned="front or back",
    queues=f"a list of 1 to 64 names of queues, each {_NAME_ALLOWED}",
)

QueueName: TypeAlias = Annotated[
    str, _text("queue", r"^[A-Za-z0-9_.\-]{1,255}$", _NAME_ALLOWED, f"name of a queue: {_NAME_ALLOWED}")
]
JobId: TypeAlias = Annotated[str, _text("id", _UUID, _A_UUID, "UUID of the job, any version but not the nil UUID")]
Base64: TypeAlias = Annotated[bytes, Meta(description="any bytes, in base64", extra_json_schema={"pattern": _BASE64})]
Ttr: TypeAlias = Annotated[int, _number("ttr_ms", values.TTR, "time to run: how long a lease lasts")]
Ttl: TypeAlias = Annotated[
    int, _number("ttl_ms", values.TTL, "time to live: how long the job is kept, from `run_at` if it has one")
]
Priority: TypeAlias = Annotated[int, _number("priority", values.PRIORITY, "higher is leased first")]
MaxAttempts: TypeAlias = Annotated[int, _number("max_attempts", values.MAX_ATTEMPTS, "leases allowed, 0 for no limit")]
MaxFails: TypeAlias = Annotated[
    int, _number("max_fails", values.MAX_FAILS, "the fail that is final; 0 and 1 both mean the first")
]
RetryDelay: TypeAlias = Annotated[
    int,
    _number(
        "retry_delay_ms", values.DELAY, "how long the job waits after its first fail that is not final; 0 unless given"
    ),
]
RetryBackoff: TypeAlias = Annotated[
    float, Meta(ge=1, le=10, description="what each further fail multiplies that delay with; 1 unless given")
]
RetryMaxDelay: TypeAlias = Annotated[
    int, _number("retry_max_delay_ms", values.DELAY, "the longest such delay; 0, and unless given, no limit")
]
Delay: TypeAlias = Annotated[int, _number("delay_ms", values.DELAY, "not before so much time from now")]
Attempt: TypeAlias = Annotated[
    int,
    _number(
        "attempt", values.ATTEMPT, "the attempt that speaks, as its lease told; refused unless it still holds the job"
    ),
]
Rule: TypeAlias = Annotated[
    str,
    _text(
        "rule",
        None,
        "every:<ms>, or cron: and the five fields of cron joined by _, and @ and a time zone of IANA if not UTC",
        "`every:<ms>`, or `cron:<minute>_<hour>_<day>_<month>_<weekday>[@<time zone>]`, as in doc/protocol.md",
    ),
]
Overlap: TypeAlias = Annotated[
    Literal["allow", "skip"], Meta(description="whether the next one waits until the last one has ended: `skip`")
]
BulkCount: TypeAlias = Annotated[int, _number("count", values.BULK_COUNT, "how many jobs at most")]
MaxLen: TypeAlias = Annotated[int, _number("max_len", values.MAX_LEN, "jobs that may wait in the queue")]
MaxLeased: TypeAlias = Annotated[int, _number("max_leased", values.MAX_LEASED, "jobs that may be leased at once")]
LeaseRate: TypeAlias = Annotated[int, _number("lease_rate", values.LEASE_RATE, "leases per 1000 s")]
LeaseBurst: TypeAlias = Annotated[
    int, _number("lease_burst", values.LEASE_BURST, "leases at once after a while without; 0: those of a second")
]
QueueTtr: TypeAlias = Annotated[
    int, Meta(ge=0, le=values.QUEUE_TTR.highest, description="how long a lease lasts, whatever its job says")
]
RunWait: TypeAlias = Annotated[int, _number("wait_ms", values.WAIT_TIMEOUT, "how long to wait for the result")]
LeaseWait: TypeAlias = Annotated[int, _number("wait_ms", values.WAIT_TIMEOUT, "how long to wait for a job")]
Limit: TypeAlias = Annotated[int, _number("limit", values.LIMIT, "how many at most")]
Cursor: TypeAlias = Annotated[
    int, _number("cursor", values.CURSOR, "where the page begins: `next_cursor` of the page before")
]

PUSH_TIMEOUT: Final = Range("timeout", 0, values.DAY_MS, "ms")
CONCURRENCY: Final = Range("concurrency", 1, MOST_SENDING)
Url: TypeAlias = Annotated[
    str,
    _text(
        "url",
        r"^https?://[^/?#\s]",
        "a URL like http://localhost:8000/work",
        "http or https; the job is POSTed there, and the queue becomes a pushed one",
    ),
]
PushTimeout: TypeAlias = Annotated[
    int, _number("timeout_ms", PUSH_TIMEOUT, "how long the web worker may take, 0 for no limit")
]
PushVerdict: TypeAlias = Annotated[
    Verdict,
    Meta(
        description='what is a success: status 200, any 2xx, or (json-status) an answer `{"status": "success"}` '
        'whatever its status; others are "failure" and "permanent-failure", which is not retried'
    ),
]
Headers: TypeAlias = Annotated[dict[str, str], Meta(description="sent to the web worker beside ours")]
Concurrency: TypeAlias = Annotated[
    int, _number("concurrency", CONCURRENCY, "how many jobs of the queue are sent at a time")
]
ALLOWED.update(
    headers="an object of texts",
    verdict="200, 2xx or json-status",
)

# The same defaults as those of the Python client.
DEFAULT_TTR_MS: Final = 60_000
DEFAULT_TTL_MS: Final = values.DAY_MS
DEFAULT_WAIT_MS: Final = 60_000
DEFAULT_PUSH_TIMEOUT_MS: Final = 60_000
DEFAULT_CONCURRENCY: Final = 20


class Request(Struct, forbid_unknown_fields=True):
    """Base of what is asked."""


# -- requests --------------------------------------------------------------------------------------------------------


class Nothing(Request):
    """No options."""


class Background(Request, kw_only=True):
    """What every job of a queue can be given. Give `payload` or `payload_base64` or neither."""

    queue: QueueName
    payload: str | UnsetType = UNSET
    payload_base64: Base64 | UnsetType = UNSET
    id: JobId | UnsetType = UNSET
    ttr_ms: Ttr = DEFAULT_TTR_MS
    ttl_ms: Ttl = DEFAULT_TTL_MS
    priority: Priority = 0
    max_attempts: MaxAttempts = 0
    max_fails: MaxFails = 0
    retry_delay_ms: RetryDelay | UnsetType = UNSET
    retry_backoff: RetryBackoff | UnsetType = UNSET
    retry_max_delay_ms: RetryMaxDelay | UnsetType = UNSET


class NewJob(Background, kw_only=True):
    """A job to be added. Give `payload` or `payload_base64` or neither; without an `id` the server makes one."""

    delay_ms: Delay = 0
    run_at: Annotated[datetime, Meta(tz=True, description="not before this time")] | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    headers: Headers | UnsetType = UNSET
    timeout_ms: PushTimeout | UnsetType = UNSET
    verdict: PushVerdict | UnsetType = UNSET


class Push(Request):
    """How a queue is pushed."""

    concurrency: Concurrency | UnsetType = UNSET


class NewRecurringJob(Background, kw_only=True):
    """Jobs to be added whenever `rule` says; `id` is that of the rule, the jobs have their own."""

    rule: Rule
    overlap: Overlap = "allow"


class NewForegroundJob(Request):
    """A job whose result is waited for; it is dropped when the wait ends or the client hangs up."""

    queue: QueueName
    payload: str | UnsetType = UNSET
    payload_base64: Base64 | UnsetType = UNSET
    id: JobId | UnsetType = UNSET
    ttr_ms: Ttr = DEFAULT_TTR_MS
    wait_ms: RunWait = DEFAULT_WAIT_MS
    priority: Priority = 0
    max_attempts: MaxAttempts = 0
    max_fails: MaxFails = 0


class Success(Request):
    """How a job ended. Give `result` or `result_base64` or neither."""

    result: str | UnsetType = UNSET
    result_base64: Base64 | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET


class Failure(Request):
    """How an attempt ended. Give `result` or `result_base64` or neither."""

    result: str | UnsetType = UNSET
    result_base64: Base64 | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET
    final: Annotated[bool, Meta(description="whether the job has failed, whatever attempts and fails it has left")] = (
        False
    )


class Touched(Request):
    """Whose lease it is."""

    attempt: Attempt | UnsetType = UNSET


class Reported(Request):
    """How far the work is. Give `progress` or `progress_base64`; the last one is kept, in at most 4096 bytes."""

    progress: str | UnsetType = UNSET
    progress_base64: Base64 | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET
    touch: Annotated[bool, Meta(description="whether it starts the TTR of the lease again, too")] = False


class Released(Request):
    """Whose lease it is, and how long the job is to rest."""

    attempt: Attempt | UnsetType = UNSET
    delay_ms: Delay = 0


class WaitForResult(Request):
    """How long to wait."""

    wait_ms: RunWait = 0


class WaitForResults(Request):
    """Whose results; when the wait ends, those that there are by then."""

    ids: Annotated[list[JobId], Meta(min_length=1, max_length=MOST_IDS)]
    wait_ms: RunWait = 0


class LeaseOne(Request):
    """How long to wait, and for how many jobs at most; it is waited for the first only."""

    wait_ms: LeaseWait = 0
    count: BulkCount = 1


class LeaseAny(Request):
    """From which queues; among several that have jobs one is picked at random."""

    queues: Annotated[list[QueueName], Meta(min_length=1, max_length=64)]
    wait_ms: LeaseWait = 0
    count: BulkCount = 1


class QueueOptions(Request):
    """Options of a queue; those that are not given stay as they are, 0 takes one away."""

    max_len: MaxLen | UnsetType = UNSET
    max_leased: MaxLeased | UnsetType = UNSET
    lease_rate: LeaseRate | UnsetType = UNSET
    lease_burst: LeaseBurst | UnsetType = UNSET
    ttr_ms: QueueTtr | UnsetType = UNSET
    max_attempts: MaxAttempts | UnsetType = UNSET
    returned: (
        Annotated[Literal["front", "back"], Meta(description="where a job goes when its TTR ends")] | UnsetType
    ) = UNSET


class Page(Request):
    """Which part of a list."""

    cursor: Cursor = 0
    limit: Limit = values.LIMIT.highest


class JobsToClear(Request):
    """Which jobs of a queue."""

    state: Annotated[
        Literal["ready", "scheduled", "failed", "completed", "all"],
        Meta(description="jobs in this state; `all` includes those that are leased"),
    ]


class JobsPage(Request):
    """Which jobs of a queue."""

    state: Annotated[
        Literal["ready", "scheduled", "leased", "failed", "completed"], Meta(description="jobs in this state")
    ] = "ready"
    cursor: Cursor = 0
    limit: Limit = values.LIMIT.highest


ALLOWED["overlap"] = "allow or skip"
ALLOWED["state"] = "ready, scheduled, leased, failed or completed"
ALLOWED["JobsToClear.state"] = "ready, scheduled, failed, completed or all"


# -- answers ---------------------------------------------------------------------------------------------------------


class Cleared(Struct):
    """How many jobs were deleted."""

    deleted: int


class Added(Struct):
    """The job is there."""

    id: str


class LeasedJob(Struct, omit_defaults=True):
    """A job handed to a worker, who has `ttr_ms` from now to finish it, and says which `attempt` it is."""

    id: str
    queue: str
    ttr_ms: int
    attempt: int
    payload: str | UnsetType = UNSET
    payload_base64: bytes | UnsetType = UNSET


class LeasedJobs(Struct):
    """The jobs leased; none when the wait ended without one."""

    jobs: list[LeasedJob]


class JobResult(Struct, omit_defaults=True):
    """How a job ended: `success` after `complete`, not after `fail` or when its attempts were used up."""

    id: str
    success: bool
    result: str | UnsetType = UNSET
    result_base64: bytes | UnsetType = UNSET


class JobResults(Struct):
    """How jobs ended, in the order asked for, without those that have not."""

    results: list[JobResult]


JobState: TypeAlias = Literal["new", "completed", "failed", "pending", "leased"]


class Job(Struct):
    """A job as it stands. `pending` is back in its queue after an attempt; `new` has had none.

    `ttl_ms` is 0 for a job of `run`, `scheduled_at` null for one without a time. A job that has finished has a result,
    and one whose worker has told how far it is a progress.
    """

    id: str
    queue: str
    state: JobState
    ttr_ms: int
    ttl_ms: int
    priority: int
    max_attempts: int
    attempts: int
    max_fails: int
    fails: int
    created_at: datetime
    scheduled_at: datetime | None
    payload: str | UnsetType = UNSET
    payload_base64: bytes | UnsetType = UNSET
    result: str | UnsetType = UNSET
    result_base64: bytes | UnsetType = UNSET
    progress: str | UnsetType = UNSET
    progress_base64: bytes | UnsetType = UNSET


class Jobs(Struct):
    """A page of jobs; `next_cursor` is null on the last one."""

    jobs: list[Job]
    next_cursor: int | None


class RecurringJob(Struct):
    """What is added again and again; `next_at` is null if nothing is to come, `last_at` before the first one."""

    id: str
    queue: str
    rule: str
    overlap: Literal["allow", "skip"]
    ttr_ms: int
    ttl_ms: int
    priority: int
    max_attempts: int
    max_fails: int
    occurrences: int
    skipped: int
    next_at: datetime | None
    last_at: datetime | None
    last_id: str | None
    payload: str | UnsetType = UNSET
    payload_base64: bytes | UnsetType = UNSET


class RecurringJobs(Struct):
    """A page of recurring jobs; `next_cursor` is null on the last one."""

    jobs: list[RecurringJob]
    next_cursor: int | None


class OptionsOfQueue(Struct):
    """The options of a queue; 0 is no limit, or leaves it to each job. `lease_rate` is in jobs per 1000 s."""

    max_len: int
    max_leased: int
    lease_rate: int
    lease_burst: int
    ttr_ms: int
    max_attempts: int
    returned: Literal["front", "back"]


class Totals(Struct):
    """How often that happened to jobs of a queue since the server was started.

    `returned` are leases that ended with their TTR, with attempts left; `expired` jobs whose TTL ended.
    """

    added: int
    leased: int
    completed: int
    failed: int
    returned: int
    expired: int
    deleted: int


class LastMinute(Struct):
    """How often that happened to jobs of a queue in the last 55 to 60 s; `finished` ones were completed or failed."""

    added: int
    leased: int
    finished: int


class Queue(Struct):
    """Figures of a queue: its jobs by state, leases that wait for one, its options, and what happened in it.

    `oldest_ready_age_ms` is that of the job that has been ready longest: since it was added or, if it was scheduled,
    since its time; 0 without one.
    """

    name: str
    ready: int
    scheduled: int
    leased: int
    failed: int
    completed: int
    waiting_leasers: int
    oldest_ready_age_ms: int
    paused: bool
    options: OptionsOfQueue
    totals: Totals
    last_minute: LastMinute


class Queues(Struct):
    """A page of queues by name; `next_cursor` is null on the last one."""

    queues: list[Queue]
    next_cursor: int | None


class Pushing(Struct):
    """Figures of a pushed queue since the server started.

    `sending` are being sent now. A try is a request, or one that could not be made; `failed_tries` counts all that
    failed, `failed` the jobs that did for good. `seconds` is the time from the creation of a job to its end, summed up.
    """

    pushed: bool
    concurrency: int
    sending: int
    tries: int
    failed_tries: int
    succeeded: int
    failed: int
    seconds: float


class Server(Struct):
    """Figures of the whole server. A job is evicted when its TTL ends before it does."""

    version: str
    started_at: datetime
    active_clients: int
    evicted_jobs: int

"""The client's side of the text protocol: commands to bytes, bytes to replies.

A reply does not say what it answers, so a `Connection` remembers what it sent. Each kind of reply is read by a
generator that yields when it needs more bytes, so any chunking gives the same replies.
"""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from workq import commands as c
from workq import replies as r
from workq.protocol.text import RETURNED, format_id, format_time, parse_id, parse_time, shown_bytes
from workq.values import MIB, InvalidValue, JobSpec, QueueOptions, check_name

# The longest reply line of a server is far below this: an error text, or a queue name and a number.
MAX_LINE: Final = 65_536
# Bytes already read are dropped from the front of the buffer at this many, so that it does not grow with a long reply.
_COMPACT: Final = 65_536
# The highest number of a job's state; see `replies.JobInfo`.
_LAST_STATE: Final = 4


class ProtocolError(Exception):
    """The server's bytes are not a reply to what was asked. The connection is of no further use."""


# -- commands to bytes ---------------------------------------------------------------------------------------------


def encode(command: c.Command) -> bytes:
    """The bytes of `command` on the wire."""
    return _ENCODERS[type(command)](command)


def _flags(spec: JobSpec) -> bytes:
    flags = b""
    if spec.priority:
        flags += b" -priority=%d" % spec.priority
    if spec.max_attempts:
        flags += b" -max-attempts=%d" % spec.max_attempts
    if spec.max_fails:
        flags += b" -max-fails=%d" % spec.max_fails
    retry = spec.retry
    if retry is not None:
        flags += b" -retry-delay=%d" % retry.delay_ms
        if retry.backoff_thousandths != 1000:
            flags += f" -retry-backoff={retry.backoff_thousandths / 1000:g}".encode()
        if retry.max_delay_ms:
            flags += b" -retry-max-delay=%d" % retry.max_delay_ms
    return flags


def _add(command: c.Add) -> bytes:
    spec = command.spec
    payload = command.payload
    flags = _flags(spec) + _delay(command.delay_ms)
    words = (format_id(command.job_id), spec.name, spec.ttr_ms, spec.ttl_ms, len(payload), flags, payload)
    return b"add %b %b %d %d %d%b\r\n%b\r\n" % words


def _schedule(command: c.Schedule) -> bytes:
    spec = command.spec
    line = b"schedule %b %b %d %d %b %d%b\r\n" % (
        format_id(command.job_id),
        spec.name,
        spec.ttr_ms,
        spec.ttl_ms,
        _time(command.run_at_ms),
        len(command.payload),
        _flags(spec),
    )
    return line + command.payload + b"\r\n"


def _recur(command: c.Recur) -> bytes:
    spec = command.spec
    line = b"recur %b %b %d %d %b %d%b%b\r\n" % (
        format_id(command.job_id),
        spec.name,
        spec.ttr_ms,
        spec.ttl_ms,
        command.rule.text.encode(),
        len(command.payload),
        _flags(spec),
        b" -overlap=skip" if command.skips else b"",
    )
    return line + command.payload + b"\r\n"


def _time(time_ms: int) -> bytes:
    fraction = time_ms % 1000
    text = format_time(time_ms)
    return b"%b.%03dZ" % (text[:-1], fraction) if fraction else text


def _run(command: c.Run) -> bytes:
    spec = command.spec
    line = b"run %b %b %d %d %d%b\r\n" % (
        format_id(command.job_id),
        spec.name,
        spec.ttr_ms,
        command.wait_ms,
        len(command.payload),
        _flags(spec),
    )
    return line + command.payload + b"\r\n"


def _lease(command: c.Lease) -> bytes:
    count = b" -count=%d" % command.count if command.count > 1 else b""
    fenced = b" -attempt=1" if command.fenced else b""
    return b"lease %b %d%b%b\r\n" % (b" ".join(command.names), command.wait_ms, count, fenced)


def _complete(command: c.Complete) -> bytes:
    words = (format_id(command.job_id), len(command.result), _attempt(command.attempt), command.result)
    return b"complete %b %d%b\r\n%b\r\n" % words


def _fail(command: c.Fail) -> bytes:
    flags = _attempt(command.attempt) + (b" -final=1" if command.final else b"")
    return b"fail %b %d%b\r\n%b\r\n" % (format_id(command.job_id), len(command.result), flags, command.result)


def _touch(command: c.Touch) -> bytes:
    return b"touch %b%b\r\n" % (format_id(command.job_id), _attempt(command.attempt))


def _release(command: c.Release) -> bytes:
    return b"release %b%b%b\r\n" % (format_id(command.job_id), _delay(command.delay_ms), _attempt(command.attempt))


def _progress(command: c.Progress) -> bytes:
    flags = _attempt(command.attempt) + (b" -touch=1" if command.touches else b"")
    words = (format_id(command.job_id), len(command.progress), flags, command.progress)
    return b"progress %b %d%b\r\n%b\r\n" % words


def _delay(delay_ms: int) -> bytes:
    return b" -delay=%d" % delay_ms if delay_ms else b""


def _attempt(attempt: int) -> bytes:
    return b" -attempt=%d" % attempt if attempt else b""


def _result(command: c.Result) -> bytes:
    return b"result %b %d\r\n" % (format_id(command.job_id), command.wait_ms)


def _results(command: c.Results) -> bytes:
    return b"result %b %d\r\n" % (b" ".join(map(format_id, command.job_ids)), command.wait_ms)


def _delete(command: c.Delete) -> bytes:
    return b"delete %b\r\n" % format_id(command.job_id)


def _ping(_: c.Ping) -> bytes:
    return b"ping\r\n"


def _quit(_: c.Quit) -> bytes:
    return b"quit\r\n"


def _queue(command: c.ConfigureQueue) -> bytes:
    to_back = command.to_back
    options: list[tuple[bytes, int | bytes | None]] = [
        (b"max-len", command.max_len),
        (b"max-leased", command.max_leased),
        (b"lease-rate", command.lease_rate),
        (b"lease-burst", command.lease_burst),
        (b"ttr", command.ttr_ms),
        (b"max-attempts", command.max_attempts),
        (b"returned", None if to_back is None else RETURNED[to_back]),
    ]
    line = b"queue %b" % command.name
    for name, value in options:
        if value is not None:
            line += b" -%b=%b" % (name, value if isinstance(value, bytes) else b"%d" % value)
    return line + b"\r\n"


def _retry(command: c.Retry) -> bytes:
    return b"retry %b\r\n" % format_id(command.job_id)


def _clear(command: c.Clear) -> bytes:
    return b"clear %b -state=%b\r\n" % (command.name, command.state.encode())


def _pause(command: c.PauseQueue) -> bytes:
    return b"pause %b\r\n" % command.name


def _resume(command: c.ResumeQueue) -> bytes:
    return b"resume %b\r\n" % command.name


def _inspect_server(_: c.InspectServer) -> bytes:
    return b"inspect server\r\n"


def _inspect_queue(command: c.InspectQueue) -> bytes:
    return b"inspect queue %b\r\n" % command.name


def _inspect_queues(command: c.InspectQueues) -> bytes:
    return b"inspect queues %d %d\r\n" % (command.cursor, command.limit)


def _inspect_job(command: c.InspectJob) -> bytes:
    return b"inspect job %b\r\n" % format_id(command.job_id)


def _inspect_jobs(command: c.InspectJobs) -> bytes:
    listing = "jobs" if command.state == "ready" else f"{command.state}-jobs"
    return b"inspect %b %b %d %d\r\n" % (listing.encode(), command.name, command.cursor, command.limit)


def _inspect_recurring(command: c.InspectRecurring) -> bytes:
    return b"inspect recurring %d %d\r\n" % (command.cursor, command.limit)


_ENCODERS: Final[dict[type[c.Command], Callable[[Any], bytes]]] = {
    c.Add: _add,
    c.Schedule: _schedule,
    c.Recur: _recur,
    c.Run: _run,
    c.Lease: _lease,
    c.Complete: _complete,
    c.Fail: _fail,
    c.Touch: _touch,
    c.Release: _release,
    c.Progress: _progress,
    c.Result: _result,
    c.Results: _results,
    c.Delete: _delete,
    c.Ping: _ping,
    c.Quit: _quit,
    c.Retry: _retry,
    c.Clear: _clear,
    c.ConfigureQueue: _queue,
    c.PauseQueue: _pause,
    c.ResumeQueue: _resume,
    c.InspectServer: _inspect_server,
    c.InspectQueue: _inspect_queue,
    c.InspectQueues: _inspect_queues,
    c.InspectJob: _inspect_job,
    c.InspectJobs: _inspect_jobs,
    c.InspectRecurring: _inspect_recurring,
}


# -- bytes to replies ----------------------------------------------------------------------------------------------

# What a reader is made of: it yields when it needs more bytes, and returns what it read.
_Reading = Generator[None, None, r.Reply]

# Keys of a queue; but for the first three, an old server does not tell them.
_LENGTHS: Final = (b"ready-len", b"scheduled-len", b"leased-len")
_FIGURES: Final = (b"failed-len", b"completed-len", b"waiting-leasers", b"oldest-ready-age")
_OPTIONS: Final = (b"max-len", b"max-leased", b"lease-rate", b"lease-burst", b"ttr", b"max-attempts")
_TOTALS: Final = (
    *(b"total-added", b"total-leased", b"total-completed", b"total-failed", b"total-returned"),
    *(b"total-expired", b"total-deleted", b"added-per-minute", b"leased-per-minute", b"finished-per-minute"),
)


class Connection:
    """One connection, seen from the client: commands in order out, replies in the same order in.

    Write what `send` returns to the socket; `feed` what the socket gives, then take replies with `next` until it
    returns None.
    """

    __slots__ = ("_buffer", "_pos", "_expected", "_reading")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._pos = 0
        self._expected: deque[_Reader | None] = deque()  # how their success is read; None for a bare `+OK`
        self._reading: _Reading | None = None

    def send(self, command: c.Command) -> bytes:
        """The bytes of `command`, whose reply is expected from now on."""
        data = encode(command)
        self._expected.append(_reader_of(command))
        return data

    def feed(self, data: bytes) -> None:
        """Take bytes from the server."""
        if self._pos == len(self._buffer) or self._pos > _COMPACT:
            del self._buffer[: self._pos]
            self._pos = 0
        self._buffer += data

    def next(self) -> r.Reply | None:
        """The next reply; None when more bytes are needed. Raises `ProtocolError` for bytes that are no reply."""
        reading = self._reading
        if reading is None:
            if not self._expected:
                if self._pos < len(self._buffer):
                    raise ProtocolError(f"the server sent {self._rest()} without being asked")
                return None
            if self._buffer.startswith(b"+OK\r\n", self._pos) and self._expected[0] is None:
                self._pos += 5
                self._expected.popleft()
                return r.OK
            reading = self._reading = self._reply(self._expected[0])
        try:
            next(reading)
        except StopIteration as end:
            self._reading = None
            self._expected.popleft()
            reply: r.Reply = end.value
            return reply
        except InvalidValue as error:
            raise ProtocolError(f"the server's reply holds a wrong value: {error}") from None
        return None

    # -- readers -------------------------------------------------------------------------------------------------

    def _reply(self, reader: "_Reader | None") -> _Reading:
        while self._pos == len(self._buffer):
            yield
        if self._buffer[self._pos] not in b"+-":  # another protocol may never send the line end to wait for
            raise ProtocolError(f"{self._rest()} is not a reply of a Workq server")
        line = yield from self._line()
        if line == b"-TIMEOUT":
            return r.TIMED_OUT
        if line == b"-NOT-FOUND":
            return r.NOT_FOUND
        kind, _, rest = line.partition(b" ")
        if kind == b"-CLIENT-ERROR":
            return r.Refused(rest.decode("utf-8", "replace"))
        if kind == b"-SERVER-ERROR":
            return r.Unavailable(rest.decode("utf-8", "replace"))
        if kind != b"+OK":
            raise ProtocolError(f"{shown_bytes(line)} is not a reply of a Workq server")
        if reader is None:
            if rest:
                raise ProtocolError(f"'+OK' was expected, not {shown_bytes(line)}")
            return r.OK
        return (yield from reader(self, _number(rest)))

    def _leased_job(self, count: int) -> _Reading:
        _only(count)
        return (yield from self._job(4))

    def _fenced_job(self, count: int) -> _Reading:
        _only(count)
        return (yield from self._job(5))

    def _leased_jobs(self, count: int) -> _Reading:
        jobs = []
        for _ in range(count):
            jobs.append((yield from self._job(4)))
        return r.LeasedJobs(jobs)

    def _fenced_jobs(self, count: int) -> _Reading:
        jobs = []
        for _ in range(count):
            jobs.append((yield from self._job(5)))
        return r.LeasedJobs(jobs)

    def _job_result(self, count: int) -> _Reading:
        _only(count)
        return (yield from self._result())

    def _job_results(self, count: int) -> _Reading:
        results = []
        for _ in range(count):
            results.append((yield from self._result()))
        return r.JobResults(results)

    def _job(self, words: int) -> Generator[None, None, r.LeasedJob]:
        job_id, name, ttr_ms, size, *attempt = yield from self._object(words)
        payload = yield from self._body(_number(size))
        fence = _number(attempt[0]) if attempt else 0
        return r.LeasedJob(parse_id(job_id), check_name(name), _number(ttr_ms), payload, attempt=fence)

    def _result(self) -> Generator[None, None, r.JobResult]:
        job_id, success, size = yield from self._object(3)
        if success not in (b"0", b"1"):
            raise ProtocolError(f"a result's success is 0 or 1, not {shown_bytes(success)}")
        result = yield from self._body(_number(size))
        return r.JobResult(parse_id(job_id), success == b"1", result)

    def _server_info(self, count: int) -> _Reading:
        _only(count)
        _, fields = yield from self._fields()
        return r.ServerInfo(
            _number(_field(fields, b"active-clients")),
            _number(_field(fields, b"evicted-jobs")),
            parse_time(_field(fields, b"started")),
        )

    def _cleared(self, count: int) -> _Reading:
        if count != 1:
            raise ProtocolError(f"one object was expected, not {count}")
        name, fields = yield from self._fields()
        return r.Cleared(check_name(name), _number(_field(fields, b"deleted")))

    def _queues(self, count: int) -> _Reading:
        queues = []
        for _ in range(count):
            name, fields = yield from self._fields()
            ready, scheduled, leased = [_number(_field(fields, key)) for key in _LENGTHS]
            failed, completed, leasers, oldest_ms = [_number(fields.get(key, b"0")) for key in _FIGURES]
            max_len, max_leased, rate, burst, ttr_ms, attempts = [_number(fields.get(key, b"0")) for key in _OPTIONS]
            to_back = fields.get(b"returned") == RETURNED[1]
            paused = fields.get(b"paused") == b"1"
            options = QueueOptions(max_len, max_leased, rate, burst, ttr_ms, attempts, to_back, paused)
            totals = r.QueueTotals(*[_number(fields.get(key, b"0")) for key in _TOTALS])
            figures = (ready, scheduled, leased, failed, completed, leasers, oldest_ms)
            queues.append(r.QueueInfo(check_name(name), *figures, options, totals))
        return r.Queues(queues)

    def _jobs(self, count: int) -> _Reading:
        jobs = []
        for _ in range(count):
            job_id, fields = yield from self._fields()
            state = _number(_field(fields, b"state"))
            if state > _LAST_STATE:
                raise ProtocolError(f"a job's state is 0 to {_LAST_STATE}, not {state}")
            scheduled = fields.get(b"time")
            jobs.append(
                r.JobInfo(
                    job_id=parse_id(job_id),
                    name=check_name(_field(fields, b"name")),
                    ttr_ms=_number(_field(fields, b"ttr")),
                    ttl_ms=_number(_field(fields, b"ttl")),
                    payload=_field(fields, b"payload"),
                    max_attempts=_number(_field(fields, b"max-attempts")),
                    attempts=_number(_field(fields, b"attempts")),
                    max_fails=_number(_field(fields, b"max-fails")),
                    fails=_number(_field(fields, b"fails")),
                    priority=_number(_field(fields, b"priority"), signed=True),
                    state=state,
                    created_ms=parse_time(_field(fields, b"created")),
                    scheduled_ms=0 if scheduled is None else parse_time(scheduled),
                    progress=unquote_to_bytes(fields.get(b"progress", b"")),
                )
            )
        return r.Jobs(jobs)

    def _recurring(self, count: int) -> _Reading:
        jobs = []
        for _ in range(count):
            job_id, fields = yield from self._fields()
            following, last = fields.get(b"next"), fields.get(b"last")
            jobs.append(
                r.RecurringInfo(
                    job_id=parse_id(job_id),
                    name=check_name(_field(fields, b"name")),
                    ttr_ms=_number(_field(fields, b"ttr")),
                    ttl_ms=_number(_field(fields, b"ttl")),
                    payload=_field(fields, b"payload"),
                    max_attempts=_number(_field(fields, b"max-attempts")),
                    max_fails=_number(_field(fields, b"max-fails")),
                    priority=_number(_field(fields, b"priority"), signed=True),
                    rule=_field(fields, b"rule").decode("ascii", "replace"),
                    skips=_field(fields, b"overlap") == b"skip",
                    occurrences=_number(_field(fields, b"occurrences")),
                    skipped=_number(_field(fields, b"skipped")),
                    next_ms=0 if following is None else parse_time(following),
                    last_ms=0 if last is None else parse_time(last),
                    last_id=b"" if last is None else parse_id(_field(fields, b"last-id")),
                )
            )
        return r.RecurringJobs(jobs)

    # -- pieces --------------------------------------------------------------------------------------------------

    def _object(self, words: int) -> Generator[None, None, list[bytes]]:
        """The line of an object, as its words."""
        line = yield from self._line()
        parts = line.split(b" ")
        if len(parts) != words:
            raise ProtocolError(f"an object of {words} words was expected, not {shown_bytes(line)}")
        return parts

    def _fields(self) -> Generator[None, None, tuple[bytes, dict[bytes, bytes]]]:
        """The label and the keys and values of one object of an inspect reply; keys we do not know come along."""
        line = yield from self._line()
        label, _, key_count = line.partition(b" ")
        fields: dict[bytes, bytes] = {}
        for _ in range(_number(key_count)):
            # The one value that is raw bytes: only its size, which stands before it, tells where it ends.
            if b"payload-size" in fields and b"payload" not in fields:
                key = yield from self._exactly(len(b"payload "))
                if key != b"payload ":
                    raise ProtocolError(f"'payload ' was expected after payload-size, not {shown_bytes(key)}")
                fields[b"payload"] = yield from self._body(_number(fields[b"payload-size"]))
                continue
            line = yield from self._line()
            key, _, value = line.partition(b" ")
            fields[key] = value
        return label, fields

    def _line(self) -> Generator[None, None, bytes]:
        searched = 0
        while (end := self._buffer.find(b"\n", self._pos + searched)) < 0:
            searched = len(self._buffer) - self._pos
            if searched > MAX_LINE:
                raise ProtocolError(f"{self._rest()} is not a reply of a Workq server")
            yield
        line = bytes(self._buffer[self._pos : end])
        self._pos = end + 1
        return line.removesuffix(b"\r")

    def _body(self, size: int) -> Generator[None, None, bytes]:
        if size > MIB:
            raise ProtocolError(f"a payload of {size} bytes is announced, {MIB} are allowed")
        body = yield from self._exactly(size)
        end = yield from self._line()
        if end:
            raise ProtocolError(f"a payload of {size} bytes was announced, but {shown_bytes(end)} follows them")
        return body

    def _exactly(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) - self._pos < size:
            yield
        data = bytes(self._buffer[self._pos : self._pos + size])
        self._pos += size
        return data

    def _rest(self) -> str:
        return shown_bytes(bytes(self._buffer[self._pos : self._pos + 256]).partition(b"\r\n")[0])


def _only(count: int) -> None:
    if count != 1:
        raise ProtocolError(f"one object was expected, not {count}")


def _number(text: bytes, *, signed: bool = False) -> int:
    digits = text.removeprefix(b"-") if signed else text
    if not digits.isdigit() or len(digits) > 20:
        raise ProtocolError(f"{shown_bytes(text)} stands where a number was expected")
    return int(text)


def _field(fields: dict[bytes, bytes], key: bytes) -> bytes:
    try:
        return fields[key]
    except KeyError:
        raise ProtocolError(f"the reply lacks the key {shown_bytes(key)}") from None


# Reads the success of a command, given the count behind `+OK`.
_Reader: TypeAlias = Callable[[Connection, int], _Reading]
# The success of all other commands is a bare `+OK`.
_READERS: Final[dict[type[c.Command], _Reader]] = {
    c.Run: Connection._job_result,
    c.Result: Connection._job_result,
    c.Results: Connection._job_results,
    c.Lease: Connection._leased_job,
    c.InspectServer: Connection._server_info,
    c.InspectQueue: Connection._queues,
    c.InspectQueues: Connection._queues,
    c.InspectJob: Connection._jobs,
    c.InspectJobs: Connection._jobs,
    c.Clear: Connection._cleared,
    c.InspectRecurring: Connection._recurring,
}


def _reader_of(command: c.Command) -> _Reader | None:
    if isinstance(command, c.Lease) and command.count > 1:
        return Connection._fenced_jobs if command.fenced else Connection._leased_jobs
    if isinstance(command, c.Lease) and command.fenced:
        return Connection._fenced_job
    return _READERS.get(type(command))

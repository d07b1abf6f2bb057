"""The server's side of the text protocol: a pull decoder for commands, an encoder for replies.

The grammar and the order of checks are those of `doc/protocol.md`; `_parse` is the whole of it. Producers and workers
repeat themselves, so what a line says apart from its id is remembered (`_adds`, `_completes`, `_leases`, `_touches`),
and a line that was seen before is not parsed again.
"""

import re
import sys
from binascii import unhexlify
from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias, TypeVar

from workq import commands as c
from workq import replies as r
from workq.protocol.text import (
    RETURNED,
    check_id,
    format_id,
    format_time,
    parse_id,
    parse_time,
    quote_bytes,
    shown_bytes,
)
from workq.record import Record
from workq.recurrence import parse_rule
from workq.values import (
    ATTEMPT,
    BULK_COUNT,
    CURSOR,
    DELAY,
    LEASE_BURST,
    LEASE_RATE,
    LIMIT,
    MAX_ATTEMPTS,
    MAX_FAILS,
    MAX_LEASED,
    MAX_LEN,
    MIB,
    NIL_ID,
    PAYLOAD_SIZE,
    PRIORITY,
    PROGRESS_SIZE,
    QUEUE_TTR,
    RESULT_SIZE,
    RETRY_BACKOFF,
    RETRY_DELAY,
    RETRY_MAX_DELAY,
    TTL,
    TTR,
    WAIT_TIMEOUT,
    InvalidValue,
    JobSpec,
    Range,
    RetryPolicy,
    check_name,
)

# A command line: room for a lease on 250 names of the longest kind.
MAX_LINE: Final = 65_536
# An oversized payload is read and thrown away up to here, so that the connection stays usable; beyond, it is closed.
MAX_DRAIN: Final = 64 * MIB
# Lines remembered, of each kind, and the longest of them. The bounds are for those who never repeat themselves.
MAX_REMEMBERED: Final = 16_384
LONGEST_REMEMBERED: Final = 512
# Commands decoded in one go: enough to make a go cheap, few enough not to hold much memory for tiny ones.
MAX_TAKEN: Final = 64

T = TypeVar("T")

_DASH: Final = ord("-")
# These bits tell apart the first letters of the commands whose lines are remembered.
_LETTER_BITS: Final = 0b1111


class Malformed(Record):
    """Bytes that are not a command. `text` is for the client; after a `fatal` one the connection must be closed."""

    __match_args__ = ("text", "fatal")
    __slots__ = __match_args__

    def __init__(self, text: str, fatal: bool = False) -> None:
        self.text = text
        self.fatal = fatal


class _Known:
    """What a line says apart from its id.

    text      what follows the id, or the whole line of a lease; with the line end
    command   what the line of a lease means
    spec      what the line of an `add` means
    delay_ms  what it says, 0 for nothing
    attempt   what the line of a `complete` or a `touch` says, 0 for nothing
    verb      what stands before the id, with the space; b"" for a lease, which has none
    is_touch  whether it is that of a `touch`
    tail      the line end behind a payload or result: that of the line, or else it is not known; b"" for a `touch`
    unpack    cuts verb, id and text out of a command that is no lease
    length    of the whole command; and where in it payload or result begin and end
    """

    __slots__ = (
        *("text", "command", "spec", "delay_ms", "attempt", "verb", "is_touch", "tail"),
        *("unpack", "length", "payload_at", "payload_end"),
    )

    def __init__(
        self,
        verb: bytes,
        text: bytes,
        command: c.Lease | None,
        spec: JobSpec | None,
        delay_ms: int,
        attempt: int,
        size: int,
    ) -> None:
        self.text = text
        self.command = command
        self.spec = spec
        self.delay_ms = delay_ms
        self.attempt = attempt
        self.verb = verb
        self.is_touch = size < 0
        self.tail = b"" if self.is_touch else b"\r\n" if text.endswith(b"\r\n") else b"\n"
        head = Struct(f"{len(verb)}s36s{len(text)}s")
        self.unpack: Callable[[bytes, int], tuple[bytes, bytes, bytes]] = head.unpack_from
        self.payload_at = head.size
        self.payload_end = head.size + max(size, 0)
        self.length = len(text) if command is not None else self.payload_end + len(self.tail)


class Decoder:
    """Turns the bytes of one connection into commands.

    `feed` it with what was read, in any chunks. Take commands with `take` until there are none; then ask `aside`, and
    go on if it told something. Nothing is parsed in `feed`, so a caller that stops taking (a blocked connection) only
    pays for the memory: see `buffered`.
    After a fatal `Malformed` there is nothing more, and whatever else comes is thrown away.
    """

    __slots__ = (
        "_data",
        "_pos",
        "_later",
        "_later_size",
        "_wanted",
        "_body",
        "_aside",
        "_skip_bytes",
        "_skip_line",
        "_last",
    )

    def __init__(self) -> None:
        self._data = b""  # from _pos on, not taken yet
        self._pos = 0
        self._later: list[bytes] = []  # fed since, not joined to _data yet
        self._later_size = 0
        self._wanted = 0  # bytes that must be within reach before trying again is of use
        self._body: _Body | None = None
        self._aside: Malformed | c.Quit | None = None  # what stands behind the commands that were taken
        self._skip_bytes = 0
        self._skip_line = False
        # The last line of each kind, by some bits of its first letter: the next one will most likely say the same.
        self._last: list[_Known | None] = [None] * (_LETTER_BITS + 1)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client."""
        if self._data or self._later:
            self._later.append(data)
            self._later_size += len(data)
        else:
            self._data = data

    def buffered(self) -> int:
        """Bytes taken and not yet returned as commands."""
        return len(self._data) - self._pos + self._later_size

    def next(self) -> c.Command | Malformed | None:
        """The next command, or what is wrong with it; None when more bytes are needed."""
        commands = self.take(1)
        return commands[0] if commands else self.aside()

    def take(self, most: int = MAX_TAKEN) -> list[c.Command]:
        """The next commands, `most` at most, up to one that may take long or what only concerns the connection: see
        `aside`.
        """
        found: list[c.Command] = []
        while self._aside is None:
            if self._body is None and not self._skip_line:
                self._take_known(found, most)
            if self._pos == len(self._data):
                self._data = b""
                self._pos = 0
                if not self._later:
                    break
            if len(found) == most:
                break
            command = self._any()
            if isinstance(command, (Malformed, c.Quit)):
                self._aside = command
            elif command is not None:
                found.append(command)
                if command.may_take_long():
                    break  # see `Connection.serve`
            elif not self._join():
                break
        return found

    def is_done(self) -> bool:
        """Whether it has nothing: no bytes, no line whose payload is to come, nothing to say about either."""
        return self._pos == len(self._data) and not self._later and self._body is None and self._aside is None

    def aside(self) -> Malformed | c.Quit | None:
        """What stands behind the commands that were taken, if it is a `Quit` or no command; told once."""
        aside, self._aside = self._aside, None
        return aside

    def _join(self) -> bool:
        """Bring the bytes fed since within reach. False if they are too few to be of use."""
        missing = self._wanted - (len(self._data) - self._pos)
        if not self._later or self._later_size < missing:
            return False
        self._data = b"".join([self._data[self._pos :], *self._later])
        self._pos = 0
        self._later.clear()
        self._later_size = 0
        return True

    def _take_known(self, found: list[c.Command], most: int) -> None:
        """Add commands to `found` up to one whose line is not remembered, or that is not all there, or wrong."""
        data = self._data
        size = len(data)
        pos = self._pos
        while pos < size and len(found) < most:
            known = self._last[data[pos] & _LETTER_BITS]
            if known is not None:
                after = pos + known.length
                command = known.command
                if command is not None:
                    if data[pos:after] == known.text:
                        found.append(command)
                        pos = after
                        continue
                elif after <= size:
                    verb, id_text, text = known.unpack(data, pos)
                    payload_end = pos + known.payload_end
                    if text == known.text and verb == known.verb and data[payload_end:after] == known.tail:
                        job_id = _read_id(id_text)
                        if job_id is None:
                            break
                        payload = data[pos + known.payload_at : payload_end]
                        spec = known.spec
                        if spec is not None:
                            found.append(c.Add(job_id, spec, payload, b"", known.delay_ms))
                        elif known.is_touch:
                            found.append(c.Touch(job_id, known.attempt))
                        else:
                            found.append(c.Complete(job_id, payload, known.attempt))
                        pos = after
                        continue
            if not self._recall(pos):
                break
        self._pos = pos

    def _recall(self, pos: int) -> bool:
        """Expect the line at `pos` from now on, if it says something else than the last one, and is remembered."""
        first = self._data[pos]
        memory = _MEMORIES.get(first)
        known = None if memory is None else memory.get(self._data, pos)
        if known is None or known is self._last[first & _LETTER_BITS]:
            return False
        self._last[first & _LETTER_BITS] = known
        return True

    def _any(self) -> c.Command | Malformed | None:
        """The next command by the whole grammar; None if the bytes within reach do not hold one."""
        self._wanted = 0
        if self._skip_line and not self._skip():
            return None
        if self._body is None:
            data = self._data
            end = data.find(b"\n", self._pos)
            if (end if end >= 0 else len(data)) - self._pos > MAX_LINE:
                return self._end(Malformed(f"Invalid command: its line is longer than {MAX_LINE} bytes", fatal=True))
            if end < 0:
                return None
            line = data[self._pos : end]
            self._pos = end + 1
            parsed = _parse(line[:-1] if line.endswith(b"\r") else line)
            if isinstance(parsed, c.Lease) and not parsed.may_take_long():
                _leases.put(line, command=parsed)
            elif isinstance(parsed, c.Touch) and line[:6] == b"touch " and _read_id(line[6:42]) == parsed.job_id:
                _touches.put(line, attempt=parsed.attempt)
            if not isinstance(parsed, _Body):
                return self._end(parsed) if isinstance(parsed, Malformed) and parsed.fatal else parsed
            if parsed.size > MAX_DRAIN:
                return self._end(Malformed(parsed.error, fatal=True))
            if parsed.size > MIB:
                self._skip_bytes = parsed.size
                self._skip_line = True
                return Malformed(parsed.error)
            parsed.line = line
            self._body = parsed
        return self._finish(self._body)

    def _finish(self, body: "_Body") -> c.Command | Malformed | None:
        """The command whose line was read, once its payload and the line end behind it are within reach."""
        data = self._data
        start = self._pos
        end = start + body.size
        if data.startswith(b"\r\n", end):
            self._pos = end + 2
        elif data.startswith(b"\n", end):
            self._pos = end + 1
        elif data[end : end + 2] in (b"", b"\r"):
            self._wanted = max(end, len(data)) + 1 - start
            return None
        else:
            self._pos = end
            self._skip_line = True
            problem = f"{body.size} bytes were announced, but no line end follows them"
            body.error = body.error or f"Invalid {body.size_range.what}: {problem}"
        self._body = None
        if body.error:
            return Malformed(body.error)
        command = _build(body.shape, body.args, body.flags, data[start:end])
        # Remembered is what stands behind an id that stands right behind the command; a line may be written otherwise.
        line = body.line
        if isinstance(command, c.Add):
            if line[4:40] == body.args[0]:
                _adds.put(line, spec=command.spec, delay_ms=command.delay_ms, size=body.size)
        elif isinstance(command, c.Complete) and line[9:45] == body.args[0]:
            _completes.put(line, attempt=command.attempt, size=body.size)
        return command

    def _end(self, fatal: Malformed) -> Malformed:
        self._skip_bytes = sys.maxsize
        self._skip_line = True
        return fatal

    def _skip(self) -> bool:
        """Throw away a number of bytes and then the rest of a line. True when that is done."""
        here = min(self._skip_bytes, len(self._data) - self._pos)
        self._skip_bytes -= here
        self._pos += here
        end = self._data.find(b"\n", self._pos)
        self._pos = end + 1 or len(self._data)
        self._skip_line = end < 0
        return end >= 0


# -- the grammar -----------------------------------------------------------------------------------------------------

_Args: TypeAlias = list[bytes]
_Flags: TypeAlias = dict[bytes, bytes]
_Found: TypeAlias = c.Command | Malformed


class _Memory:
    """Lines of one kind that are remembered, by what they say behind `verb` and the id; a lease has none."""

    __slots__ = ("verb", "id_length", "lines")

    def __init__(self, verb: bytes, id_length: int = 36) -> None:
        self.verb = verb
        self.id_length = id_length
        self.lines: dict[bytes, _Known] = {}

    def put(
        self,
        line: bytes,
        *,
        command: c.Lease | None = None,
        spec: JobSpec | None = None,
        delay_ms: int = 0,
        attempt: int = 0,
        size: int = -1,
    ) -> None:
        """Remember what `line` means, which ended with a newline; `size` is -1 where no payload follows."""
        if len(line) < LONGEST_REMEMBERED:
            whole = line + b"\n"
            rest = whole[len(self.verb) + self.id_length :]
            verb, text = (self.verb, rest) if command is None else (b"", whole)
            _put(self.lines, rest, _Known(verb, text, command, spec, delay_ms, attempt, size))

    def get(self, data: bytes, start: int) -> _Known | None:
        """What the line at `start` means, if it is all there, and remembered."""
        id_at = start + len(self.verb)
        if data[start:id_at] != self.verb:
            return None
        rest_at = id_at + self.id_length
        end = data.find(b"\n", rest_at)
        return self.lines.get(data[rest_at : end + 1]) if end >= 0 else None


_adds: Final = _Memory(b"add ")
_completes: Final = _Memory(b"complete ")
_leases: Final = _Memory(b"lease ", 0)
_touches: Final = _Memory(b"touch ")
_MEMORIES: Final = {memory.verb[0]: memory for memory in (_adds, _completes, _leases, _touches)}

_DIGITS: Final = re.compile(rb"[0-9]+")
_SIZE: Final = re.compile(rb"\+?[0-9]+")
_SIGNED: Final = re.compile(rb"[+\-]?[0-9]+")
_BACKOFF: Final = re.compile(rb"[0-9]{1,2}(\.[0-9]{1,3})?")
_LONGEST_NUMBER: Final = 20  # digits of 2**64
_HTTP: Final = re.compile(rb"[A-Z]+ .* HTTP/[0-9.]+")


class _Shape:
    """A command as a row: how it is written, and what makes it.

    name        the words that begin its line
    usage       the arguments, as an error message shows them
    flags       the flags it takes
    first_flags how many of them, the first ones, the first Workq server took: what more flags than that get wrong is
                told as it told it
    switches    those of `flags` that are on or off, 1 or 0
    size_range  of its last argument, if that announces a payload
    build       makes the command from arguments, flags and payload
    """

    __slots__ = ("name", "usage", "arguments", "takes_many", "flags", "first_flags", "switches", "size_range", "build")

    def __init__(
        self,
        name: str,
        usage: str,
        build: Callable[[_Args, _Flags, bytes], _Found],
        size_range: Range | None = None,
        flags: tuple[bytes, ...] = (),
        first_flags: int = 0,
        switches: tuple[bytes, ...] = (),
    ) -> None:
        self.name = name
        self.usage = usage
        self.arguments = usage.count("<")
        self.takes_many = "..." in usage
        self.flags = flags + switches
        self.first_flags = first_flags
        self.switches = switches
        self.size_range = size_range
        self.build = build


class _Body:
    """A command line that was read before its payload. With an `error`, the payload is only to be thrown away."""

    __slots__ = ("shape", "args", "flags", "size", "size_range", "error", "line")

    def __init__(self, shape: _Shape, args: _Args, flags: _Flags, size: int, size_range: Range, error: str) -> None:
        self.shape = shape
        self.args = args
        self.flags = flags
        self.size = size
        self.size_range = size_range
        self.error = error
        self.line = b""


def _parse(line: bytes) -> c.Command | Malformed | _Body:
    """What a line without its end means."""
    words = line.split(b" ")
    name = words[0]
    args: _Args = []
    flags: _Flags = {}
    error = ""
    for word in words[1:]:
        if word.startswith(b"-") and b"=" in word:
            key, value = word[1:].split(b"=", 2)[:2]
            if not key or not value or key in flags:
                problem = "is given twice" if key in flags else "needs a name and a value"
                error = error or f"Invalid command flags: {shown_bytes(word)} {problem}"
            flags[key] = value
        elif word:
            args.append(word)
    if name == b"inspect" and args:
        name += b" " + args.pop(0)
    shape = _SHAPES.get(name)
    if shape is None:
        return _unknown(name, line, error)
    if len(args) != shape.arguments and not (shape.takes_many and len(args) > shape.arguments):
        return Malformed(error or f"Invalid command args: {shape.name} takes {shape.usage}, got {len(args)} arguments")
    size_range = shape.size_range
    if size_range is None:
        return Malformed(error) if error else _build(shape, args, flags, b"")
    size_text = args[-1]
    if _SIZE.fullmatch(size_text) is None:
        return Malformed(error or str(size_range.error(size_text.decode("utf-8", "replace"))))
    digits = size_text.lstrip(b"+0") or b"0"
    size = int(digits) if len(digits) <= _LONGEST_NUMBER else MAX_DRAIN + 1
    if size > size_range.highest:
        error = error or str(size_range.error(size_text.decode()))
    return _Body(shape, args, flags, size, size_range, error)


def _unknown(name: bytes, line: bytes, error: str) -> Malformed:
    if _HTTP.fullmatch(line) is not None:
        # Not only a courtesy: a web page must not be able to make a browser speak to this port.
        return Malformed("Unknown command: this port speaks the Workq protocol, not HTTP", fatal=True)
    if error:
        return Malformed(error)
    if name.startswith(b"inspect"):
        objects = (
            "server, queue, queues, job, jobs, scheduled-jobs, leased-jobs, failed-jobs, completed-jobs, recurring"
        )
        return Malformed(f"Unknown command: {shown_bytes(name)}, inspect knows {objects}")
    commands = ", ".join(dict.fromkeys([known.split(b" ")[0].decode() for known in _SHAPES]))
    return Malformed(f"Unknown command: {shown_bytes(name)}, known are {commands}")


def _build(shape: _Shape, args: _Args, flags: _Flags, payload: bytes) -> _Found:
    try:
        _check_flags(shape, flags)
        return shape.build(args, flags, payload)
    except InvalidValue as error:
        return Malformed(str(error))


def _check_flags(shape: _Shape, flags: _Flags) -> None:
    for key in flags:
        if key not in shape.flags:
            wrong = "args" if len(flags) > shape.first_flags else "flags"
            known = ", ".join([f"-{flag.decode()}=" for flag in shape.flags]) or "no flags"
            raise InvalidValue(
                f"Invalid command {wrong}: {shown_bytes(b'-' + key)} is unknown, {shape.name} takes {known}"
            )
    for switch in shape.switches:
        if flags.get(switch, b"0") not in (b"0", b"1"):
            text = shown_bytes(b"-" + switch + b"=" + flags[switch])
            raise InvalidValue(f"Invalid command flags: {text} is neither 0 nor 1")


def _number(limits: Range, text: bytes, form: re.Pattern[bytes] = _DIGITS) -> int:
    """Read a number that may be out of range; raise `InvalidValue` if it is none."""
    digits = text.lstrip(b"+-0") or b"0"
    if form.fullmatch(text) is None or len(digits) > _LONGEST_NUMBER:
        raise limits.error(text.decode("utf-8", "replace"))
    return -int(digits) if text.startswith(b"-") else int(digits)


def _flag(flags: _Flags, name: bytes, limits: Range, form: re.Pattern[bytes] = _DIGITS) -> int:
    text = flags.get(name)
    return 0 if text is None else limits.check(_number(limits, text, form))


def _attempt(flags: _Flags) -> int:
    """The attempt that a worker says is his, 0 if it says none."""
    return _flag(flags, b"attempt", ATTEMPT)


def _is_on(flags: _Flags, switch: bytes) -> bool:
    return flags.get(switch) == b"1"


def _option(flags: _Flags, name: bytes, limits: Range) -> int | None:
    """Like `_flag`, for one where 0 and nothing are not the same."""
    return _flag(flags, name, limits) if name in flags else None


def _choice(what: str, flags: _Flags, name: bytes, choices: tuple[bytes, ...]) -> int | None:
    """Which of `choices` a flag says; None without it."""
    text = flags.get(name)
    if text is None:
        return None
    if text not in choices:
        allowed = ", ".join([choice.decode() for choice in choices])
        raise InvalidValue(f"Invalid {what}: {shown_bytes(text)} is none of {allowed}")
    return choices.index(text)


def _wait(text: bytes) -> int:
    return WAIT_TIMEOUT.check(_number(WAIT_TIMEOUT, text))


def _put(memory: dict[bytes, T], key: bytes, value: T) -> None:
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
    memory[key] = value


def _read_id(text: bytes) -> bytes | None:
    """The id that 36 bytes say; None for anything that is none."""
    try:
        job_id = unhexlify(text.replace(b"-", b""))
    except ValueError:
        return None
    if len(job_id) != 16 or not (text[8] == text[13] == text[18] == text[23] == _DASH) or job_id == NIL_ID:
        return None
    return job_id


# In each of these: first every argument is read, then each is checked against its range, in the documented order.
# Flags and wait-timeouts are checked as they are read.


def _add(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    ttr_ms = _number(TTR, args[2])
    ttl_ms = _number(TTL, args[3])
    delay_ms = _flag(flags, b"delay", DELAY)
    return c.Add(job_id, _background_spec(job_id, args[1], ttr_ms, ttl_ms, flags), payload, delay_ms=delay_ms)


def _schedule(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    ttr_ms = _number(TTR, args[2])
    ttl_ms = _number(TTL, args[3])
    run_at_ms = parse_time(args[4])
    return c.Schedule(job_id, _background_spec(job_id, args[1], ttr_ms, ttl_ms, flags), run_at_ms, payload)


def _recur(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    ttr_ms = _number(TTR, args[2])
    ttl_ms = _number(TTL, args[3])
    rule = parse_rule(args[4].decode("utf-8", "replace"))
    overlap = flags.get(b"overlap", b"allow")
    if overlap not in (b"allow", b"skip"):
        raise InvalidValue(f"Invalid overlap: {shown_bytes(overlap)} is not allow or skip")
    spec = _background_spec(job_id, args[1], ttr_ms, ttl_ms, flags)
    return c.Recur(job_id, spec, rule, overlap == b"skip", payload)


def _background_spec(job_id: bytes, name: bytes, ttr_ms: int, ttl_ms: int, flags: _Flags) -> JobSpec:
    """What `add`, `schedule` and `recur` do alike when they have read their arguments."""
    max_attempts = _flag(flags, b"max-attempts", MAX_ATTEMPTS)
    max_fails = _flag(flags, b"max-fails", MAX_FAILS)
    priority = _flag(flags, b"priority", PRIORITY, _SIGNED)
    retry = _retry_policy(flags)
    check_id(job_id)
    return JobSpec(name, ttr_ms, ttl_ms, priority, max_attempts, max_fails, retry)


def _retry_policy(flags: _Flags) -> RetryPolicy | None:
    delay_ms = _flag(flags, b"retry-delay", RETRY_DELAY)
    backoff_thousandths = _backoff(flags)
    max_delay_ms = _flag(flags, b"retry-max-delay", RETRY_MAX_DELAY)
    if b"retry-delay" not in flags:
        for flag in (b"retry-backoff", b"retry-max-delay"):
            if flag in flags:
                raise InvalidValue(
                    f"Invalid command flags: {shown_bytes(b'-' + flag)} is nothing without -retry-delay="
                )
    return RetryPolicy(delay_ms, backoff_thousandths, max_delay_ms) if delay_ms else None


def _backoff(flags: _Flags) -> int:
    """The factor of the flag in thousandths."""
    text = flags.get(b"retry-backoff", b"1")
    if _BACKOFF.fullmatch(text) is not None:
        whole, _, fraction = text.partition(b".")
        thousandths = int(whole) * 1000 + int((fraction + b"000")[:3])
        if RETRY_BACKOFF.lowest <= thousandths <= RETRY_BACKOFF.highest:
            return thousandths
    raise InvalidValue(
        f"Invalid retry backoff: {shown_bytes(text)} is not a number from 1 to 10 with three decimals at most"
    )


def _run(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    ttr_ms = _number(TTR, args[2])
    priority = _flag(flags, b"priority", PRIORITY, _SIGNED)
    wait_ms = _wait(args[3])
    check_id(job_id)
    return c.Run(job_id, JobSpec(args[1], ttr_ms, 0, priority, foreground=True), wait_ms, payload)


def _lease(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    fenced = _is_on(flags, b"attempt")
    count = _flag(flags, b"count", BULK_COUNT) or 1
    wait_ms = _wait(args[-1])
    return c.Lease(tuple([check_name(name) for name in args[:-1]]), wait_ms, fenced, count)


def _complete(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    attempt = _attempt(flags)
    return c.Complete(check_id(job_id), payload, attempt)


def _fail(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    attempt = _attempt(flags)
    return c.Fail(check_id(job_id), payload, attempt, _is_on(flags, b"final"))


def _touch(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    attempt = _attempt(flags)
    return c.Touch(check_id(job_id), attempt)


def _progress(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    attempt = _attempt(flags)
    return c.Progress(check_id(job_id), payload, attempt, _is_on(flags, b"touch"))


def _release(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    job_id = parse_id(args[0])
    delay_ms = _flag(flags, b"delay", DELAY)
    attempt = _attempt(flags)
    return c.Release(check_id(job_id), delay_ms, attempt)


def _result(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    if len(args) > 2:
        return _results(args)
    job_id = parse_id(args[0])
    wait_ms = _wait(args[1])
    return c.Result(check_id(job_id), wait_ms)


def _results(args: _Args) -> c.Command:
    if len(args) - 1 > BULK_COUNT.highest:
        raise InvalidValue(f"Invalid command args: result takes {BULK_COUNT.highest} ids, got {len(args) - 1}")
    try:
        job_ids = [parse_id(text) for text in args[:-1]]
    except InvalidValue as error:  # to the first Workq server these would have been too many arguments
        raise InvalidValue(f"Invalid command args: result takes <id>... <wait-timeout>: {error}") from None
    wait_ms = _wait(args[-1])
    return c.Results(tuple([check_id(job_id) for job_id in job_ids]), wait_ms)


def _delete(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.Delete(check_id(parse_id(args[0])))


def _ping(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.Ping()


def _quit(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.Quit()


def _retry(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.Retry(check_id(parse_id(args[0])))


def _clear(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    state = _choice("State", flags, b"state", _CLEAR_STATES)
    return c.Clear(check_name(args[0]), "all" if state is None else c.CLEAR_STATES[state])


def _queue(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    max_len = _option(flags, b"max-len", MAX_LEN)
    max_leased = _option(flags, b"max-leased", MAX_LEASED)
    lease_rate = _option(flags, b"lease-rate", LEASE_RATE)
    lease_burst = _option(flags, b"lease-burst", LEASE_BURST)
    ttr_ms = _option(flags, b"ttr", QUEUE_TTR)
    max_attempts = _option(flags, b"max-attempts", MAX_ATTEMPTS)
    returned = _choice("Returned", flags, b"returned", RETURNED)
    to_back = None if returned is None else returned == 1
    return c.ConfigureQueue(
        check_name(args[0]), max_len, max_leased, lease_rate, lease_burst, ttr_ms, max_attempts, to_back
    )


def _pause(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.PauseQueue(check_name(args[0]))


def _resume(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.ResumeQueue(check_name(args[0]))


def _inspect_server(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.InspectServer()


def _inspect_queue(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.InspectQueue(check_name(args[0]))


def _inspect_queues(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.InspectQueues(*_page(args))


def _inspect_job(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.InspectJob(check_id(parse_id(args[0])))


def _inspect_jobs(state: str) -> Callable[[_Args, _Flags, bytes], _Found]:
    def build(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
        return c.InspectJobs(check_name(args[0]), state, *_page(args))

    return build


def _inspect_recurring(args: _Args, flags: _Flags, payload: bytes) -> c.Command:
    return c.InspectRecurring(*_page(args))


def _page(args: _Args) -> tuple[int, int]:
    """The cursor and the limit that end the arguments of a listing."""
    return CURSOR.check(_number(CURSOR, args[-2])), LIMIT.check(_number(LIMIT, args[-1]))


_JOB_FLAGS: Final = (
    *(b"priority", b"max-attempts", b"max-fails"),
    *(b"retry-delay", b"retry-backoff", b"retry-max-delay"),
)
_CLEAR_STATES: Final = tuple([state.encode() for state in c.CLEAR_STATES])
_QUEUE_FLAGS: Final = (
    b"max-len",
    b"max-leased",
    b"lease-rate",
    b"lease-burst",
    b"ttr",
    b"max-attempts",
    b"returned",
)
_SHAPES: Final[dict[bytes, _Shape]] = {
    shape.name.encode(): shape
    for shape in (
        _Shape("add", "<id> <name> <ttr> <ttl> <payload-size>", _add, PAYLOAD_SIZE, (*_JOB_FLAGS, b"delay"), 3),
        _Shape("schedule", "<id> <name> <ttr> <ttl> <time> <payload-size>", _schedule, PAYLOAD_SIZE, _JOB_FLAGS, 3),
        _Shape(
            "recur",
            "<id> <name> <ttr> <ttl> <rule> <payload-size>",
            _recur,
            PAYLOAD_SIZE,
            (*_JOB_FLAGS, b"overlap"),
        ),
        _Shape("run", "<id> <name> <ttr> <wait-timeout> <payload-size>", _run, PAYLOAD_SIZE, (b"priority",), 1),
        _Shape("lease", "<name>... <wait-timeout>", _lease, flags=(b"count",), switches=(b"attempt",)),
        _Shape("complete", "<id> <result-size>", _complete, PAYLOAD_SIZE, (b"attempt",)),
        _Shape("fail", "<id> <result-size>", _fail, RESULT_SIZE, (b"attempt",), switches=(b"final",)),
        _Shape("touch", "<id>", _touch, flags=(b"attempt",)),
        _Shape("release", "<id>", _release, flags=(b"delay", b"attempt")),
        _Shape("progress", "<id> <progress-size>", _progress, PROGRESS_SIZE, (b"attempt",), switches=(b"touch",)),
        _Shape("result", "<id>... <wait-timeout>", _result),
        _Shape("delete", "<id>", _delete),
        _Shape("retry", "<id>", _retry),
        _Shape("clear", "<name>", _clear, flags=(b"state",), first_flags=1),
        _Shape("queue", "<name>", _queue, flags=_QUEUE_FLAGS, first_flags=len(_QUEUE_FLAGS)),
        _Shape("pause", "<name>", _pause),
        _Shape("resume", "<name>", _resume),
        _Shape("inspect server", "no arguments", _inspect_server),
        _Shape("inspect queue", "<name>", _inspect_queue),
        _Shape("inspect queues", "<cursor-offset> <limit>", _inspect_queues),
        _Shape("inspect job", "<id>", _inspect_job),
        _Shape("inspect jobs", "<name> <cursor-offset> <limit>", _inspect_jobs("ready")),
        _Shape("inspect scheduled-jobs", "<name> <cursor-offset> <limit>", _inspect_jobs("scheduled")),
        _Shape("inspect leased-jobs", "<name> <cursor-offset> <limit>", _inspect_jobs("leased")),
        _Shape("inspect failed-jobs", "<name> <cursor-offset> <limit>", _inspect_jobs("failed")),
        _Shape("inspect completed-jobs", "<name> <cursor-offset> <limit>", _inspect_jobs("completed")),
        _Shape("inspect recurring", "<cursor-offset> <limit>", _inspect_recurring),
        _Shape("ping", "no arguments", _ping),
        _Shape("quit", "no arguments", _quit),
    )
}


# -- replies ---------------------------------------------------------------------------------------------------------


def encode(reply: r.Reply) -> bytes:
    """The bytes of a reply."""
    if reply is r.OK:
        return b"+OK\r\n"
    if isinstance(reply, r.LeasedJob):
        return _encode_job(reply, b"+OK 1\r\n")
    if isinstance(reply, r.JobResult):
        return b"+OK 1\r\n" + _encode_result(reply)
    if isinstance(reply, r.LeasedJobs):
        return b"+OK %d\r\n" % len(reply.jobs) + b"".join([_encode_job(job, b"") for job in reply.jobs])
    if isinstance(reply, r.JobResults):
        return b"+OK %d\r\n" % len(reply.results) + b"".join([_encode_result(result) for result in reply.results])
    if isinstance(reply, r.TimedOut):
        return b"-TIMEOUT\r\n"
    if isinstance(reply, r.NotFound):
        return b"-NOT-FOUND\r\n"
    if isinstance(reply, r.Refused):
        return b"-CLIENT-ERROR %b\r\n" % reply.text.encode()
    if isinstance(reply, r.Unavailable):
        return b"-SERVER-ERROR %b\r\n" % reply.text.encode()
    if isinstance(reply, r.ServerInfo):
        return _encode_objects([_server_object(reply)])
    if isinstance(reply, r.Cleared):
        return _encode_objects([(reply.name, [(b"deleted", reply.deleted)])])
    if isinstance(reply, r.Queues):
        return _encode_objects([_queue_object(queue) for queue in reply.queues])
    if isinstance(reply, r.Jobs):
        return _encode_objects([_job_object(job) for job in reply.jobs])
    if isinstance(reply, r.RecurringJobs):
        return _encode_objects([_recurring_object(job) for job in reply.jobs])
    raise TypeError(f"the protocol has no form for {type(reply).__name__}")


class _Words:
    """What the line of a leased job says behind the id, remembered because the next job's mostly says the same."""

    __slots__ = ("name", "ttr_ms", "size", "attempt", "text")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.ttr_ms = -1
        self.size = -1
        self.attempt = -1
        self.text = b""

    def of(self, job: r.LeasedJob) -> bytes:
        """The end of the line of `job`, which has this name."""
        size = len(job.payload)
        if size != self.size or job.ttr_ms != self.ttr_ms or job.attempt != self.attempt:
            self.ttr_ms = job.ttr_ms
            self.size = size
            self.attempt = job.attempt
            attempt = b" %d" % job.attempt if job.attempt else b""
            self.text = b" %b %d %d%b\r\n" % (self.name, job.ttr_ms, size, attempt)
        return self.text


_words: Final[dict[bytes, _Words]] = {}  # by name


def _encode_job(job: r.LeasedJob, head: bytes) -> bytes:
    words = _words.get(job.name)
    if words is None:
        words = _Words(job.name)
        _put(_words, job.name, words)
    return b"%b%b%b%b\r\n" % (head, format_id(job.job_id), words.of(job), job.payload)


def _encode_result(reply: r.JobResult) -> bytes:
    return b"%b %d %d\r\n%b\r\n" % (format_id(reply.job_id), reply.success, len(reply.result), reply.result)


_Object: TypeAlias = tuple[bytes, list[tuple[bytes, bytes | int]]]


def _encode_objects(objects: list[_Object]) -> bytes:
    lines = [b"+OK %d\r\n" % len(objects)]
    for label, pairs in objects:
        lines.append(b"%b %d\r\n" % (label, len(pairs)))
        for key, value in pairs:
            lines.append(b"%b %b\r\n" % (key, value if isinstance(value, bytes) else b"%d" % value))
    return b"".join(lines)


def _server_object(info: r.ServerInfo) -> _Object:
    return b"server", [
        (b"active-clients", info.active_clients),
        (b"evicted-jobs", info.evicted_jobs),
        (b"started", format_time(info.started_ms)),
    ]


def _queue_object(queue: r.QueueInfo) -> _Object:
    options = queue.options
    totals = queue.totals
    return queue.name, [
        (b"ready-len", queue.ready_len),
        (b"scheduled-len", queue.scheduled_len),
        (b"leased-len", queue.leased_len),
        (b"failed-len", queue.failed_len),
        (b"completed-len", queue.completed_len),
        (b"waiting-leasers", queue.leasers),
        (b"oldest-ready-age", queue.oldest_ready_ms),
        (b"paused", int(options.paused)),
        (b"max-len", options.max_len),
        (b"max-leased", options.max_leased),
        (b"lease-rate", options.lease_rate),
        (b"lease-burst", options.lease_burst),
        (b"ttr", options.ttr_ms),
        (b"max-attempts", options.max_attempts),
        (b"returned", RETURNED[int(options.to_back)]),
        (b"total-added", totals.added),
        (b"total-leased", totals.leased),
        (b"total-completed", totals.completed),
        (b"total-failed", totals.failed),
        (b"total-returned", totals.returned),
        (b"total-expired", totals.expired),
        (b"total-deleted", totals.deleted),
        (b"added-per-minute", totals.added_per_minute),
        (b"leased-per-minute", totals.leased_per_minute),
        (b"finished-per-minute", totals.finished_per_minute),
    ]


def _job_object(job: r.JobInfo) -> _Object:
    pairs: list[tuple[bytes, bytes | int]] = [
        (b"name", job.name),
        (b"ttr", job.ttr_ms),
        (b"ttl", job.ttl_ms),
        (b"payload-size", len(job.payload)),
        (b"payload", job.payload),
        (b"max-attempts", job.max_attempts),
        (b"attempts", job.attempts),
        (b"max-fails", job.max_fails),
        (b"fails", job.fails),
        (b"priority", job.priority),
        (b"state", job.state),
        (b"created", format_time(job.created_ms)),
    ]
    if job.scheduled_ms:
        pairs.append((b"time", format_time(job.scheduled_ms)))
    if job.progress:
        pairs.append((b"progress", quote_bytes(job.progress)))
    return format_id(job.job_id), pairs


def _recurring_object(job: r.RecurringInfo) -> _Object:
    pairs: list[tuple[bytes, bytes | int]] = [
        (b"name", job.name),
        (b"ttr", job.ttr_ms),
        (b"ttl", job.ttl_ms),
        (b"payload-size", len(job.payload)),
        (b"payload", job.payload),
        (b"max-attempts", job.max_attempts),
        (b"max-fails", job.max_fails),
        (b"priority", job.priority),
        (b"rule", job.rule.encode()),
        (b"overlap", b"skip" if job.skips else b"allow"),
        (b"occurrences", job.occurrences),
        (b"skipped", job.skipped),
    ]
    if job.next_ms:
        pairs.append((b"next", format_time(job.next_ms)))
    if job.last_ms:
        pairs += [(b"last", format_time(job.last_ms)), (b"last-id", format_id(job.last_id))]
    return format_id(job.job_id), pairs

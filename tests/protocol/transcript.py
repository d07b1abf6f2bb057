"""Plays transcripts against a server. Their notation is explained in `doc/transcripts/README.md`."""

import re
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

from tests.server import Dialogue, ServerProcess

_LINE = re.compile(r"(?P<name>\w*)(?P<what>[<>]| waits| closes| stops sending| is closed)(?: (?P<text>.*))?")
_TOKEN = re.compile(r"(\\x[0-9a-f]{2}|\\[rn0\\]|\{\d+\*.\}|\{now\+\d+ms\}|\{time\}|\{number\}|\{id\})")
_LINES = re.compile(r"\{(\d+) lines\}")
_ESCAPES = {r"\r": b"\r", r"\n": b"\n", r"\0": b"\0", r"\\": b"\\"}
_PATTERNS = {
    "{time}": rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    "{number}": rb"\d+",
    "{id}": rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


@dataclass(frozen=True)
class Step:
    """A line of a transcript: where it stands, whose it is, what is done (`>`, `<`, `waits`, ...) with which text."""

    where: str
    name: str
    what: str
    text: str


def parse(text: str, file: str, first_line: int = 1) -> list[Step]:
    """The steps of a transcript."""
    steps = []
    for number, line in enumerate(text.splitlines(), first_line):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match is not None, f"{file}:{number}: no line of a transcript looks like this: {line}"
            steps.append(Step(f"{file}:{number}", match["name"], match["what"].strip(), match["text"] or ""))
    return steps


def play(steps: list[Step], server: ServerProcess) -> None:
    """Play the steps; fail at the first that the server does not follow."""
    with ExitStack() as connections:
        dialogues: dict[str, Dialogue] = {}
        for (name, what), steps_alike in groupby(steps, lambda step: (step.name, step.what)):
            group = list(steps_alike)
            if name not in dialogues:
                dialogues[name] = connections.enter_context(server.connect())
            dialogue = dialogues[name]
            if what == ">":
                dialogue.send(b"".join([to_send(step.text) for step in group]))
            for step in group:
                _follow(step, dialogue, server)
            if what in ("closes", "is closed"):
                del dialogues[name]
        for name, dialogue in dialogues.items():
            assert not dialogue.has_input(server), f"{steps[-1].where}: the end, but {name} still gets something"


def _follow(step: Step, dialogue: Dialogue, server: ServerProcess) -> None:
    try:
        if step.what == "<" and (lines := _LINES.fullmatch(step.text)) is not None:
            for _ in range(int(lines[1])):
                dialogue.line()
        elif step.what == "<":
            line = dialogue.line()
            assert to_read(step.text).fullmatch(line), f"the server said {line!r}"
        elif step.what == "waits":
            assert not dialogue.has_input(server), f"the server said {dialogue.line()!r}"
        elif step.what == "stops sending":
            dialogue.stop_sending()
        elif step.what == "closes":
            dialogue.close()
        elif step.what == "is closed":
            dialogue.expect_end()
    except (AssertionError, OSError) as error:
        raise AssertionError(f"{step.where}: {step.name}{step.what} {step.text}: {error}") from None


def to_send(text: str) -> bytes:
    """The bytes that a text of the client stands for."""
    whole = re.search(r"(?<!\\)(\\\\)*\\$", text) is None
    pieces = _TOKEN.split(text if whole else text[:-1])
    data = b"".join([_value(piece) if at % 2 else piece.encode() for at, piece in enumerate(pieces)])
    return data + b"\r\n" if whole else data


def to_read(text: str) -> re.Pattern[bytes]:
    """What a text of the server stands for, as a pattern."""
    pattern = b""
    for at, piece in enumerate(_TOKEN.split(text.removesuffix("..."))):
        if at % 2 == 0:
            pattern += re.escape(piece.encode())
        elif "*" in piece:
            count, unit = _repetition(piece)
            pattern += b"(?:%b){%d}" % (re.escape(unit), count)  # written out, a megabyte takes seconds to compile
        else:
            pattern += _PATTERNS.get(piece) or re.escape(_value(piece))
    return re.compile(pattern + b".*" if text.endswith("...") else pattern, re.DOTALL)


def _value(token: str) -> bytes:
    if token in _ESCAPES:
        return _ESCAPES[token]
    if token.startswith(r"\x"):
        return bytes.fromhex(token[2:])
    if token.startswith("{now+"):
        moment = datetime.now(UTC) + timedelta(milliseconds=int(token[5:-3]))
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
    count, unit = _repetition(token)
    return unit * count


def _repetition(token: str) -> tuple[int, bytes]:
    count, _, unit = token[1:-1].partition("*")
    return int(count), unit.encode()

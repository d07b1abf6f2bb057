"""`doc/protocol.md` and `doc/transcripts/` are true: their dialogues are played, their lists compared with the code."""

import re
from pathlib import Path

import pytest

from tests.protocol.transcript import Step, parse, play
from tests.server import ServerProcess
from workq import values
from workq.protocol.server import _SHAPES

DOC = Path(__file__).parents[2] / "doc"
DOCUMENT = (DOC / "protocol.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE))
COMMANDS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", SECTIONS["Commands"], re.DOTALL | re.MULTILINE))
TRANSCRIPTS = sorted(DOC.glob("transcripts/*.txt"))

RANGES = {
    "ttr": values.TTR,
    "ttl": values.TTL,
    "wait-timeout": values.WAIT_TIMEOUT,
    "payload-size": values.PAYLOAD_SIZE,
    "result-size": values.RESULT_SIZE,
    "progress-size": values.PROGRESS_SIZE,
    "priority": values.PRIORITY,
    "max-attempts": values.MAX_ATTEMPTS,
    "max-fails": values.MAX_FAILS,
    "retry-delay": values.RETRY_DELAY,
    "retry-backoff": values.Range("retry backoff", 1, 10),
    "retry-max-delay": values.RETRY_MAX_DELAY,
    "delay": values.DELAY,
    "attempt": values.ATTEMPT,
    "count": values.BULK_COUNT,
    "max-len": values.MAX_LEN,
    "max-leased": values.MAX_LEASED,
    "lease-rate": values.LEASE_RATE,
    "lease-burst": values.LEASE_BURST,
    "cursor-offset": values.CURSOR,
    "limit": values.LIMIT,
}

# What the predecessor of this server knew: commands, and their flags.
OLD: dict[str, tuple[str, ...]] = {
    "add": ("priority", "max-attempts", "max-fails"),
    "schedule": ("priority", "max-attempts", "max-fails"),
    "run": ("priority",),
    **dict.fromkeys(("lease", "complete", "fail", "result", "delete"), ()),
    **{f"inspect {what}": () for what in ("server", "queue", "queues", "job", "jobs", "scheduled-jobs")},
}
QUEUE_RANGES = RANGES | {"ttr": values.QUEUE_TTR}  # of the options of a queue, where 0 takes one away

each_command = pytest.mark.parametrize("command", COMMANDS)


# -- the dialogues ---------------------------------------------------------------------------------------------------


def examples() -> list[list[Step]]:
    found = re.finditer(r"^```workq\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [parse(match[1], "protocol.md", DOCUMENT.count("\n", 0, match.start(1)) + 1) for match in found]


@pytest.mark.parametrize("steps", [pytest.param(steps, id=steps[0].where) for steps in examples()])
def test_the_examples_of_the_document(steps: list[Step]) -> None:
    with ServerProcess() as server:
        play(steps, server)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in TRANSCRIPTS])
def test_the_transcripts(path: Path) -> None:
    with ServerProcess() as server:
        play(parse(path.read_text(), path.name), server)


@each_command
def test_a_transcript_shows_each_kind_of_reply(command: str) -> None:
    documented = set(re.findall(r"^- `(\+OK|-TIMEOUT|-NOT-FOUND)", COMMANDS[command], re.MULTILINE))
    path = DOC / "transcripts" / f"{command.replace(' ', '-')}.txt"
    shown = {step.text.split(" ")[0] for step in parse(path.read_text(), path.name) if step.what == "<"}
    assert documented
    assert documented <= shown


def test_the_transcripts_show_the_documented_errors_and_no_others() -> None:
    documented = set(re.findall(r"`([A-Z][A-Za-z ]+)`", _first_cells(SECTIONS["Errors"])))
    shown = {match for path in TRANSCRIPTS for match in re.findall(r"-CLIENT-ERROR ([A-Za-z ]+)", path.read_text())}
    assert shown == documented


# -- the lists -------------------------------------------------------------------------------------------------------


def test_the_documented_commands_are_those_the_server_knows() -> None:
    assert list(COMMANDS) == [name.decode() for name in _SHAPES]


@each_command
def test_the_documented_usage_is_that_of_the_server(command: str) -> None:
    shape = _SHAPES[command.encode()]
    words = [command]
    if shape.arguments:
        words.append(shape.usage)
    for flag in shape.flags:
        value = "1" if flag in shape.switches else f"<{flag.decode()}>"
        words.append(f"[-{flag.decode()}={value}]")
    payload = [f"\n<{name}>" for name in re.findall(r"<(\w+)-size>", shape.usage)]
    assert _usage_block(command).replace("\n    ", " ") == " ".join(words) + "".join(payload)


def test_the_documented_ranges_are_those_of_the_server() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (-?\d+) \| (\d+) \| ([\w ]*?) ?\|", SECTIONS["Values"], re.MULTILINE)
    documented = {name: (int(lowest), int(highest), unit) for name, lowest, highest, unit in rows}
    assert documented == {name: (limits.lowest, limits.highest, limits.unit) for name, limits in RANGES.items()}


@each_command
def test_every_argument_of_a_command_is_explained_with_its_range(command: str) -> None:
    bullets = re.findall(r"^- ((?:`<[a-z-]+>`(?:, )?)+)((?:-?\d+ to \d+.*?)?):", COMMANDS[command], re.MULTILINE)
    ranges = QUEUE_RANGES if command == "queue" else RANGES
    explained = [(name, limits) for names, limits in bullets for name in _placeholders(names)]
    assert explained == [
        (
            name,
            f"{ranges[name].lowest} to {ranges[name].highest} {ranges[name].unit}".rstrip() if name in ranges else "",
        )
        for name in _placeholders(_usage_block(command))
    ]


@each_command
def test_what_is_new_is_marked(command: str) -> None:
    text = COMMANDS[command]
    if command not in OLD:
        assert re.match(r"\n\*New in \d\.\d\.\* ", text)
        return
    shape = _SHAPES[command.encode()]
    assert {flag.decode() for flag in shape.flags[: shape.first_flags]} == set(OLD[command])
    bullets = re.findall(r"^- `(?:<|-)([a-z-]+)(?:>|=1)`(.*?)(?=^- |^$)", text, re.DOTALL | re.MULTILINE)
    marked = {name for name, text in bullets if re.search(r"\*New in \d\.\d\.\*\s*$", text)}
    assert marked == {flag.decode() for flag in shape.flags[shape.first_flags :]}


@each_command
def test_the_documented_errors_of_a_command_are_those_of_its_arguments(command: str) -> None:
    errors = {"id": "Invalid ID", "name": "Invalid Name", "time": "Invalid Time", "returned": "Invalid Returned"}
    errors["state"] = "Invalid State"
    errors |= {"rule": "Invalid rule", "overlap": "Invalid overlap"}
    errors |= {name: f"Invalid {limits.what}" for name, limits in RANGES.items()}
    if command == "complete":
        errors["result-size"] = errors["payload-size"]
    listed = re.search(r"^- `-CLIENT-ERROR`: (.+?)\.$", COMMANDS[command], re.DOTALL | re.MULTILINE)
    words = re.findall(r"`(Invalid .+?)`", listed[1]) if listed else []
    assert words == [errors[name] for name in _placeholders(_usage_block(command)) if name in errors]


def _usage_block(command: str) -> str:
    """The lines that say how a command is written."""
    block = re.search(r"^```text\n(.*?)\n```$", COMMANDS[command], re.DOTALL | re.MULTILINE)
    assert block is not None
    return block[1]


def _placeholders(text: str) -> list[str]:
    return re.findall(r"<([a-z-]+)>", text)


def _first_cells(text: str) -> str:
    """The first cells of the rows of a table."""
    return "\n".join(re.findall(r"^\| (.+?) \|", text, re.MULTILINE))

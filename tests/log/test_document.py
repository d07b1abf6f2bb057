"""`doc/log.md` says what the code does."""

import re
from pathlib import Path

from workq.engine.documents import DOORS
from workq.engine.events import Added, Carried, Completed, Counters, Deleted, DocumentPut, Leased
from workq.engine.job import COMPLETED, Job
from workq.log.records import (
    BATCH_BYTES,
    FRAME,
    JOB_OVERHEAD,
    MAX_BODY,
    RETRY_BYTES,
    SYNCED,
    TYPE_NAMES,
    Decoder,
    encode,
    synced,
    trimmed,
)
from workq.log.segments import HEADER_SIZE, VERSION, Header
from workq.values import MIB, JobSpec

DOCUMENT = (Path(__file__).parents[2] / "doc" / "log.md").read_text()
JOB_ID = bytes.fromhex("61a444a0612841c08078cc757d3bd2d8")
HISTORY = bytes.fromhex("0123456789abcdef")
ADDED_MS = 1465886806000


def example() -> dict[str, bytes]:
    """The bytes of the example, by the word in front of them."""
    _, _, text = DOCUMENT.partition("### Example")
    shown: dict[str, str] = {}
    name = ""
    for line in text.split("```")[1].strip().splitlines():
        if line[0] != " ":
            name, line = line.split(" ", 1)
        shown[name] = shown.get(name, "") + line
    return {name: bytes.fromhex(digits) for name, digits in shown.items()}


def test_the_example_is_what_the_code_writes() -> None:
    added = Job(JOB_ID, JobSpec(b"ping", 1000, 60_000, -10, 3, 0), b"pong", ADDED_MS, 0, 1)
    carried = added.copy()
    carried.state, carried.attempts, carried.result = COMPLETED, 1, b"ok"
    assert example() == {
        "header": Header(HISTORY, 1, 1, 0).pack(),
        "added": encode([Added(added)]),
        "leased": encode([Leased(JOB_ID, ADDED_MS + 500)]),
        "completed": encode([Completed(JOB_ID, b"ok", ADDED_MS + 1000)]),
        "carried": encode([Carried(carried)]),
        "counters": encode([Counters(2, 0)]),
        "document": encode([DocumentPut(DOORS, b"hq/x", b"{}")]),
        "batch": encode([Leased(JOB_ID, ADDED_MS + 500), Deleted(JOB_ID)]),
        "synced": synced(HISTORY, 1, HEADER_SIZE),
        "trimmed": trimmed(1),
    }


def test_the_example_can_be_read() -> None:
    shown = example()
    assert Header.unpack(shown.pop("header")) == Header(HISTORY, 1, 1, 0)
    for record in shown.values():
        if record[FRAME.size] < SYNCED:
            Decoder().decode(record[FRAME.size :])


def test_every_type_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \| ", DOCUMENT, re.MULTILINE)
    assert {int(number): name.replace(" ", "-") for number, name in rows} == TYPE_NAMES


def test_its_figures_are_right() -> None:
    assert f"Version {VERSION}." in DOCUMENT
    assert f"takes {JOB_OVERHEAD - RETRY_BYTES} bytes and its name, payload and result" in DOCUMENT.replace("\n", " ")
    assert f"at most 3 MiB and {MAX_BODY - 3 * MIB} bytes long" in DOCUMENT
    assert f"at most {BATCH_BYTES // 1024} KiB of them" in DOCUMENT
    assert f"The header stays {HEADER_SIZE} bytes" in DOCUMENT

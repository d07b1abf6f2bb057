"""A search that nothing guides: random inputs, made of the lines of known ones. It runs wherever the server does."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from fuzz.targets import Check

MAX_LENGTH: Final = 4096


def search(check: Check, known: list[bytes], runs: int, seed: int, found: Path) -> None:
    """Check the known inputs and then `runs` others, the same for the same `seed`.

    The first that breaks something ends the search by its exception, and is kept in the directory `found`.
    """
    others = random_inputs(known, Random(seed))
    for data in [*known, *[next(others) for _ in range(runs)]]:
        try:
            check(data)
        except Exception:
            path = found / f"crash-{hashlib.sha1(data).hexdigest()}"
            path.write_bytes(data)
            print(f"broken by {data!r}, kept in {path}", file=sys.stderr)
            raise


def random_inputs(known: list[bytes], random: Random) -> Iterator[bytes]:
    """Endlessly: lines of the known inputs anew, in another order, some of them damaged."""
    lines = sorted({line for data in known for line in data.splitlines(keepends=True)})
    while True:
        chosen = random.choices(lines, k=random.randint(1, 20))
        yield b"".join([_damaged(line, random) if random.random() < 0.2 else line for line in chosen])[:MAX_LENGTH]


def _damaged(line: bytes, random: Random) -> bytes:
    start, end = sorted(random.choices(range(len(line) + 1), k=2))
    return line[:start] + random.choice([b"", line[start:end] * 2, random.randbytes(end - start)]) + line[end:]

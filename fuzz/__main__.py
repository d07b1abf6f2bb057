"""Runs a fuzz target: `python -m fuzz decoder` or `python -m fuzz server`, then options of libFuzzer. See README.md.

A target is a module `fuzz_NAME` with a function `check(data)`, which raises when the promise in the module's first line
is broken. Where atheris cannot be imported, the same function is given random inputs instead, without guidance.
"""

import hashlib
import importlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

HERE: Final = Path(__file__).parent
TARGETS: Final = ("decoder", "server")
# Of random inputs only; libFuzzer has its own defaults.
RUNS: Final = 100_000
MAX_LENGTH: Final = 4096

Check = Callable[[bytes], None]


def main(arguments: list[str]) -> None:
    """Fuzz the target that is named first. The other arguments are libFuzzer's: options, directories, single inputs."""
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {'|'.join(TARGETS)} [-runs=N] [-seed=N] [-max_total_time=S] [DIRECTORY...]")
    name, *options = arguments
    found = HERE / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    paths = [Path(option) for option in options if not option.startswith("-")]
    inputs = [path for path in paths if path.is_file()]
    if not paths:
        options.append(str(found))  # the first directory is where libFuzzer collects what reaches something new
    if not inputs:
        options += [str(HERE / "corpus" / name), str(HERE / "regressions" / name)]
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        print("atheris is not installed here: no search guided by coverage", file=sys.stderr)
        check = load(name)
        if not inputs:
            run_random(check, known_inputs(name), options, found)
        for path in inputs:
            check(path.read_bytes())
        return
    with atheris.instrument_imports(include=["workq"]):
        check = load(name)
    defaults = [f"-dict={HERE / 'workq.dict'}", f"-artifact_prefix={found}/", f"-max_len={MAX_LENGTH}"]
    again = f"{shlex.quote(sys.executable)} -m fuzz {name}"  # how -jobs and -minimize_crash start more of this
    atheris.Setup([again, *defaults, *options], check)
    atheris.Fuzz()


def load(name: str) -> Check:
    """The function that checks one input."""
    check: Check = importlib.import_module(f"fuzz.fuzz_{name}").check
    return check


def known_inputs(name: str) -> list[Path]:
    """The files of the corpus of target `name`, and the inputs that once broke something."""
    return sorted([*(HERE / "corpus" / name).iterdir(), *(HERE / "regressions" / name).iterdir()])


# -- without atheris -------------------------------------------------------------------------------------------------


def run_random(check: Check, known: list[Path], options: list[str], found: Path) -> None:
    """Check `-runs` inputs; the same `-seed` gives the same inputs. One that breaks something is kept in `found`."""
    numbers = dict(option[1:].split("=") for option in options if option.startswith("-") and "=" in option)
    runs, seed = int(numbers.get("runs", RUNS)), int(numbers.get("seed", 0))
    inputs = random_inputs([path.read_bytes() for path in known], Random(seed))
    for _ in range(runs):
        data = next(inputs)
        try:
            check(data)
        except Exception:
            path = found / f"crash-{hashlib.sha1(data).hexdigest()}"
            path.write_bytes(data)
            print(f"broken by {data!r}, kept in {path}", file=sys.stderr)
            raise
    print(f"Done {runs} runs, without guidance", file=sys.stderr)


def random_inputs(known: list[bytes], random: Random) -> Iterator[bytes]:
    """Endlessly: lines of the known inputs anew, in another order, some of them damaged."""
    lines = sorted({line for data in known for line in data.splitlines(keepends=True)})
    while True:
        chosen = random.choices(lines, k=random.randint(1, 20))
        yield b"".join([_damaged(line, random) if random.random() < 0.2 else line for line in chosen])[:MAX_LENGTH]


def _damaged(line: bytes, random: Random) -> bytes:
    start, end = sorted(random.choices(range(len(line) + 1), k=2))
    return line[:start] + random.choice([b"", line[start:end] * 2, random.randbytes(end - start)]) + line[end:]


if __name__ == "__main__":
    main(sys.argv[1:])

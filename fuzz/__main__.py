"""Runs a fuzz target: `python -m fuzz decoder`, or another of `targets.py`, then options of libFuzzer. See README.md.

atheris guides the search by what runs of the Python sources. With `--random`, or where atheris is not installed, the
same target is given random inputs instead, on the modules as they are installed, compiled or not.
"""

import os
import shlex
import sys
from pathlib import Path

from fuzz.random_search import MAX_LENGTH, search
from fuzz.targets import HERE, TARGETS, files, found_directory, known_directories, load
from tests.engine.sources import import_sources


def main(arguments: list[str]) -> None:
    """Fuzz the target that is named first. The other arguments are options and paths."""
    if not arguments or arguments[0] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {'|'.join(TARGETS)} [--random] [-runs=N] [-seed=N] [-OPTION=...] [PATH...]")
    name = arguments[0]
    options = [argument for argument in arguments[1:] if argument.startswith("-")]
    paths = [Path(argument) for argument in arguments[1:] if not argument.startswith("-")]
    if "--random" not in options:
        try:
            import atheris  # type: ignore[import-untyped]  # noqa: F401
        except ImportError:
            print("atheris is not installed here: searching at random", file=sys.stderr)
        else:
            search_guided(name, options, paths)
    search_at_random(name, options, paths)


def search_guided(name: str, options: list[str], paths: list[Path]) -> None:
    """Search with libFuzzer, which does not return."""
    import atheris

    found = found_directory(name)
    if not paths:
        paths = [found]  # the first directory is where libFuzzer collects what reaches something new
    if all(path.is_dir() for path in paths):
        paths += known_directories(name)
    os.environ.pop("WORKQ_PURE", None)  # it would import the sources, too, but past atheris
    import_sources()
    with atheris.instrument_imports(include=["workq"]):
        check = load(name)
    again = f"{shlex.quote(sys.executable)} -m fuzz {name}"  # how -jobs and -minimize_crash start more of this
    defaults = [f"-dict={HERE / 'workq.dict'}", f"-artifact_prefix={found}/", f"-max_len={MAX_LENGTH}"]
    atheris.Setup([again, *defaults, *options, *map(str, paths)], check)
    atheris.Fuzz()


def search_at_random(name: str, options: list[str], paths: list[Path]) -> None:
    """Search without libFuzzer. Of its options, `-runs` and `-seed` are known here."""
    numbers = dict(option.split("=", 1) for option in options if "=" in option)
    runs = int(numbers.get("-runs", 100_000))
    found = found_directory(name)
    known = [path.read_bytes() for path in files(paths or [*known_directories(name), found])]
    search(load(name), known, runs, int(numbers.get("-seed", 0)), found)
    print(f"Done {runs} runs at random", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])

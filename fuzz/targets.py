"""The fuzz targets and what is known to them.

A target is a module `fuzz_NAME` with a function `check(data)`, which raises when the promise in the module's first line
is broken.
"""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

Check: TypeAlias = Callable[[bytes], None]

HERE: Final = Path(__file__).parent
TARGETS: Final = ("answer", "decoder", "http", "server")


def load(name: str) -> Check:
    """The function that checks one input."""
    check: Check = importlib.import_module(f"fuzz.fuzz_{name}").check
    return check


def known_directories(name: str) -> list[Path]:
    """Where the corpus of a target is, and the inputs that once broke something."""
    return [HERE / "corpus" / name, HERE / "regressions" / name]


def found_directory(name: str) -> Path:
    """Where a search leaves what it finds."""
    found = HERE / "found" / name
    found.mkdir(parents=True, exist_ok=True)
    return found


def files(paths: Iterable[Path]) -> list[Path]:
    """The files of `paths`, which are files and directories."""
    return [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]

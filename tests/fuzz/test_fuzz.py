"""The fuzz targets hold: for all that is known, and for a while of searching. For hours of it see fuzz/README.md."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from fuzz.random_search import random_inputs, search
from fuzz.targets import HERE, TARGETS, files, known_directories, load

RUNS = 1000
GUIDED_RUNS = 150  # each is as slow as 20 others; they come on top of all known inputs


def known_inputs(target: str) -> list[bytes]:
    return [path.read_bytes() for path in files(known_directories(target))]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(target, path, id=f"{target}-{path.name}")
        for target in TARGETS
        for path in files(known_directories(target))
    ],
)
def test_known_inputs(target: str, path: Path) -> None:
    """The corpus, and every input that once broke something."""
    load(target)(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_search(target: str, tmp_path: Path) -> None:
    """By the command that runs for hours: guided by coverage where atheris is installed, else at random."""
    inputs = [str(path) for path in (tmp_path, *known_directories(target))]
    command = [sys.executable, "-m", "fuzz", target, f"-runs={GUIDED_RUNS}", "-seed=1", *inputs]
    run = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Done {GUIDED_RUNS} runs" in run.stderr
    assert find_spec("atheris") is None or re.search(r"DONE +cov: \d+", run.stderr), "it was not guided"


@pytest.mark.parametrize("target", TARGETS)
def test_random_search(target: str, tmp_path: Path) -> None:
    """On the modules as they are installed: what is compiled has faults of its own."""
    search(load(target), known_inputs(target), RUNS, seed=1, found=tmp_path)


def test_the_same_seed_gives_the_same_inputs() -> None:
    first, second = [random_inputs(known_inputs("server"), Random(1)) for _ in range(2)]
    assert [next(first) for _ in range(100)] == [next(second) for _ in range(100)]


def test_an_input_that_breaks_something_is_kept(tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        if b"inspect" in data and b"delete" in data:
            raise ValueError("found")

    with pytest.raises(ValueError, match="found"):
        search(check, known_inputs("server"), RUNS, seed=1, found=tmp_path)
    (kept,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match="found"):
        check(kept.read_bytes())

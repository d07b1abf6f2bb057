"""The fuzz targets hold: for all that is known, and for a while of searching. For hours of it see fuzz/README.md."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from fuzz.__main__ import HERE, TARGETS, known_inputs, load, random_inputs, run_random

RUNS = 2000


@pytest.mark.parametrize(
    ("target", "path"),
    [pytest.param(target, path, id=f"{target}-{path.name}") for target in TARGETS for path in known_inputs(target)],
)
def test_known_inputs(target: str, path: Path) -> None:
    """The corpus, and every input that once broke something."""
    load(target)(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_search(target: str, tmp_path: Path) -> None:
    """Guided by coverage where atheris runs, else at random."""
    command = [sys.executable, "-m", "fuzz", target, f"-runs={RUNS}", "-seed=1", str(tmp_path)]
    run = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Done {RUNS} runs" in run.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_random_search(target: str, tmp_path: Path) -> None:
    """What is done where atheris does not run."""
    run_random(load(target), known_inputs(target), [f"-runs={RUNS // 4}", "-seed=1"], tmp_path)


@pytest.fixture
def some_inputs() -> Iterator[bytes]:
    return random_inputs([path.read_bytes() for path in known_inputs("server")], Random(1))


def test_random_inputs_are_the_same_for_the_same_seed(some_inputs: Iterator[bytes]) -> None:
    again = random_inputs([path.read_bytes() for path in known_inputs("server")], Random(1))
    assert [next(some_inputs) for _ in range(100)] == [next(again) for _ in range(100)]


def test_an_input_that_breaks_something_is_kept(tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        if b"delete" in data:
            raise ValueError("found")

    with pytest.raises(ValueError, match="found"):
        run_random(check, known_inputs("server"), ["-seed=1"], tmp_path)
    (kept,) = tmp_path.iterdir()
    assert b"delete" in kept.read_bytes()

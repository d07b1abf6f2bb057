"""No command gets dearer with the number of jobs and clients. Counted in lines of the engine that run, not in time."""

import json
import subprocess
import sys

import pytest

from tests.engine.cost import FEW, LIVES, MANY
from tests.engine.driver import Driver
from tests.engine.sources import PACKAGE


@pytest.fixture(scope="module")
def lines_run() -> dict[str, list[int]]:
    """Lines that run for a few and for many jobs, by the name of their life."""
    command = [sys.executable, "-m", "tests.engine.cost"]
    counted = subprocess.run(command, cwd=PACKAGE.parent, stdout=subprocess.PIPE, check=True, timeout=300)
    lines: dict[str, list[int]] = json.loads(counted.stdout)
    return lines


@pytest.mark.parametrize("life", [life.__name__ for life in LIVES])
def test_eight_times_as_many_cost_about_eight_times_as_much(life: str, lines_run: dict[str, list[int]]) -> None:
    few, many = lines_run[life]
    assert few > FEW, "lines are counted"
    assert many < MANY / FEW * 1.5 * few  # what is quadratic costs 64 times as much


def test_a_hundred_thousand_jobs() -> None:
    """Leased from the first to the last, in order, each once."""
    driver = Driver()
    for number in range(100_000):
        driver.add(number)
    assert [driver.leased() for _ in range(100_000)] == list(range(100_000))

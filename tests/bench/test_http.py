"""`bin/bench http` works. Figures are not looked at."""

import re
import shutil

import pytest

from tests.bench.test_bench import bench


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_the_doors_are_measured() -> None:
    done = bench("http", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^bare handler +[\d,]+ +1\.00", done.stdout, re.M), done.stdout
    for door in ("hq", "fireworq"):
        row = rf"^{door} \(workq-pure\) +[\d,]+ +[\d.]+ +[\d,]+ +[\d.]+x +[\d.]+x"
        assert re.search(row, done.stdout, re.M), done.stdout

"""`bin/bench clients` works. Figures are not looked at."""

import re

from tests.bench.test_bench import bench, needs_compiler


@needs_compiler
def test_the_clients_are_measured() -> None:
    done = bench("clients", "--jobs", "1000", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    for row in (
        "load generator in C, adds/s",
        "AsyncClient, adds/s",
        "AsyncClient / load generator",
        "Client, adds/s",
        "workq import of 1000 jobs, s",
        "Worker and server on one core, jobs/s",
    ):
        assert re.search(rf"^ *{row} +[\d,.]+ *$", done.stdout, re.M), done.stdout

"""`bin/bench soak` works. Figures are not looked at."""

import re

from tests.bench.test_bench import bench, needs_compiler


@needs_compiler
def test_pauses_are_measured() -> None:
    done = bench("soak", "--seconds", "0.2", "--jobs", "500", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    for line in (
        r"500 jobs added; the longest wait for a reply was [\d.]+ ms",
        r"p99\.9 with them: [\d,]+ µs; longest [\d.]+ ms",
        r"p99\.9, ratio: [\d.]+",
        r"[\d,]+ commands in 0\.2 s; longest pause [\d.]+ ms",
        r"memory in MiB: first slice \d+, highest \d+, last \d+",
    ):
        assert re.search(line, done.stdout), done.stdout


@needs_compiler
def test_a_server_that_is_not_there_is_named() -> None:
    done = bench("soak", "--server", "nothing")
    assert done.returncode == 1
    assert "--server nothing: not one of workq-" in done.stderr

"""`bin/bench soak` works. Figures are not looked at."""

import re
from io import StringIO

from rich.console import Console

from bench.loadgen import LoadGenerator
from bench.servers import find_servers, running
from bench.soak import Soak
from tests.bench.test_bench import bench, needs_compiler
from workq import Client


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
def test_the_load_leaves_the_resident_jobs_alone() -> None:
    bench_of_pauses = Soak(Console(file=StringIO()), LoadGenerator())
    workq = find_servers()[0][0]
    with running(workq, log=False) as target:
        bench_of_pauses.fill(target, 20)
        bench_of_pauses.soak(target, None, 0.2)

        with Client(f"workq://127.0.0.1:{target.port}") as client:
            queues = {queue.name: queue for queue in client.inspect_queues()}

    assert queues["r0"].ready == 20
    assert queues["q0"].ready <= 4  # what one connection has in flight


@needs_compiler
def test_a_server_that_is_not_there_is_named() -> None:
    done = bench("soak", "--server", "nothing")
    assert done.returncode == 1
    assert "--server nothing: not one of workq-" in done.stderr

"""What is measured, as data. To measure something else, add a row to `SCENARIOS`."""

from collections.abc import Mapping
from typing import Final, Literal

import attrs


@attrs.frozen(kw_only=True)
class Load:
    """Work for a server, in the terms of the load generator (`loadgen.c` says what they mean).

    Without `jobs` the load goes on for the time that the run gives it.
    """

    kind: Literal["cycle", "add", "drain", "blocked", "run"] = "cycle"
    connections: int = 1
    depth: int = 1
    payload_bytes: int = 100
    queues: int | None = None
    queue_letter: str | None = None
    priorities: int | None = None
    ttl_ms: int | None = None
    jobs: int | None = None

    def scaled(self, factor: float) -> "Load":
        """The same with so many times the jobs."""
        return self if self.jobs is None else attrs.evolve(self, jobs=max(int(self.jobs * factor), 1))


@attrs.frozen(kw_only=True)
class Scenario:
    """A row of the table.

    title, detail  what is special about it, and the rest
    fill           jobs that are put into the server before; neighbours with the same fill share their servers
    log            whether the servers write every change to disk before they answer
    missing        servers that cannot do this, by their protocol, and why
    """

    name: str
    title: str
    detail: str
    load: Load
    fill: Load | None = None
    log: bool = False
    missing: Mapping[str, str] = {}


_MILLION: Final = Load(kind="add", connections=16, depth=32, queues=1, jobs=1_000_000)
_PRIORITIES: Final = Load(kind="add", connections=16, depth=32, queues=1, priorities=1000, jobs=100_000)

SCENARIOS: Final = (
    Scenario(
        name="single",
        title="1 connection",
        detail="1 in flight",
        load=Load(),
    ),
    Scenario(
        name="conns-16",
        title="16 connections",
        detail="1 in flight",
        load=Load(connections=16),
    ),
    Scenario(
        name="conns-64",
        title="64 connections",
        detail="1 in flight",
        load=Load(connections=64),
    ),
    Scenario(
        name="conns-1000",
        title="1 000 connections",
        detail="1 in flight",
        load=Load(connections=1000),
    ),
    Scenario(
        name="pipelined-1",
        title="1 connection, pipelined",
        detail="32 in flight",
        load=Load(depth=32),
    ),
    Scenario(
        name="pipelined-16",
        title="16 connections, pipelined",
        detail="32 in flight",
        load=Load(connections=16, depth=32),
    ),
    Scenario(
        name="add",
        title="Adding only",
        detail="16 connections, 32 in flight",
        load=Load(kind="add", connections=16, depth=32, jobs=60_000),
    ),
    Scenario(
        name="deep",
        title="1 000 000 jobs waiting",
        detail="16 connections, 1 in flight",
        fill=_MILLION,
        load=Load(connections=16, queues=1),
    ),
    Scenario(
        name="deep-drain",
        title="1 000 000 jobs drained",
        detail="16 connections, 32 in flight",
        fill=_MILLION,
        load=Load(kind="drain", connections=16, depth=32, queues=1, jobs=60_000),
    ),
    Scenario(
        name="queues",
        title="10 000 queues",
        detail="16 connections, 32 in flight",
        load=Load(connections=16, depth=32, queues=10_000),
    ),
    Scenario(
        name="priorities",
        title="1 000 priorities",
        detail="100 000 jobs waiting, 16 connections, 32 in flight",
        fill=_PRIORITIES,
        load=Load(connections=16, depth=32, queues=1, priorities=1000),
        missing={"redis": "Redis lists have no priorities"},
    ),
    Scenario(
        name="blocked",
        title="1 000 blocked leasers",
        detail="woken one by one",
        load=Load(kind="blocked", connections=1000),
    ),
    Scenario(
        name="run",
        title="run",
        detail="from 16 callers to 16 workers and back",
        load=Load(kind="run", connections=16),
        missing={"beanstalk": "beanstalkd has no results", "redis": "Redis lists have no results"},
    ),
    Scenario(
        name="payload",
        title="64 KiB payloads",
        detail="16 connections, 1 in flight",
        load=Load(connections=16, payload_bytes=65_536, ttl_ms=3000),
    ),
    Scenario(
        name="log",
        title="Log on",
        detail="synced before each answer, 64 connections, 1 in flight",
        load=Load(connections=64),
        log=True,
    ),
)

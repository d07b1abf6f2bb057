"""Generated histories: commands, the passing of time, clients that leave. Ids and names are few, so they collide.

In a generated `Schedule`, `run_at_ms` is relative to the moment of its execution.
"""

from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

from workq import commands as c
from workq.recurrence import parse_rule
from workq.values import JobSpec, RetryPolicy

IDS = [number.to_bytes(16, "big") for number in range(1, 6)]
NAMES = [b"a", b"b", b"c"]


@dataclass(frozen=True)
class Sleep:
    """Time passes, and the engine is called whenever it asks for it."""

    ms: int


@dataclass(frozen=True)
class Stall(Sleep):
    """Time passes, and the engine is called only at the end of it."""


@dataclass(frozen=True)
class HangUp:
    """One of the clients that wait goes away; `which` counts them modulo their number."""

    which: int


@dataclass(frozen=True)
class OfOccurrence:
    """Something happens to a job that a recurring one made; `which` counts them modulo their number."""

    what: type[c.Complete | c.Fail | c.Delete | c.Result]
    which: int


Step = c.Command | Sleep | HangUp | OfOccurrence
T = TypeVar("T")


def one_of(*values: int) -> st.SearchStrategy[int]:
    return st.sampled_from(values)


ids = st.sampled_from(IDS)
names = st.sampled_from(NAMES)
waits = one_of(0, 1, 5, 20, 300, 70_000)
payloads = st.sampled_from([b"", b"x"])
metas = st.sampled_from([b"", b"", b"m"])
ttrs = one_of(1, 5, 20, 300, 86_400_000)
ttls = one_of(1, 7, 20, 400, 100_000, 2**62 - 1, 2**64 - 1)
priorities = one_of(0, 0, 1, -1)
run_at = one_of(-2 * 10**12, -400, -5, -1, 0, 1, 5, 20, 300, 90_000)
rules = st.sampled_from(
    [
        "every:7000",
        "every:70000",
        "every:1000000000",
        "cron:*_*_*_*_*",
        "cron:0,30_*/2_*_*_*@Europe/Berlin",
        "cron:30_2_*_*_*@America/New_York",
        "cron:0_0_*/30_2_MON#5",
    ]
).map(parse_rule)
cursors = one_of(0, 1, 2, 9)

attempts = one_of(0, 0, 1, 1, 2, 3)
delays = one_of(0, 1, 5, 20, 300)
retries = st.none() | st.builds(RetryPolicy, delays, one_of(1_000, 1_500, 10_000), one_of(0, 7, 100_000))


def _maybe(*values: int) -> st.SearchStrategy[int | None]:
    """An option of a queue, mostly not given."""
    return st.one_of(st.none(), st.none(), one_of(0, *values))


configurations = st.builds(
    c.ConfigureQueue,
    names,
    _maybe(1, 2, 3),
    _maybe(1, 2),
    _maybe(1, 50_000, 1_000_000, 3_000_003),
    _maybe(1, 2),
    _maybe(1, 20, 5_000),
    _maybe(1, 2),
    st.sampled_from([None, None, False, True]),
)

background = st.builds(JobSpec, names, ttrs, ttls, priorities, one_of(0, 0, 1, 2), one_of(0, 1, 2, 3), retries)


def _foreground(name: bytes, ttr_ms: int, priority: int) -> JobSpec:
    return JobSpec(name, ttr_ms, 0, priority, foreground=True)


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(c.Add, ids, background, payloads, metas, one_of(0, 0, 0, 1, 5, 300)),
    st.builds(c.Schedule, ids, background, run_at, payloads, metas),
    st.builds(c.Run, ids, st.builds(_foreground, names, ttrs, priorities), waits, payloads),
    st.builds(c.Lease, st.lists(names, min_size=1, max_size=4).map(tuple), waits, st.booleans(), one_of(1, 1, 2, 3)),
    st.builds(c.Results, st.lists(ids, min_size=1, max_size=4).map(tuple), waits),
    st.builds(c.Complete, ids, payloads, attempts),
    st.builds(c.Fail, ids, payloads, attempts, st.sampled_from([False, False, False, True])),
    st.builds(c.Touch, ids, attempts),
    st.builds(c.Release, ids, delays, attempts),
    st.builds(c.Progress, ids, payloads, attempts, st.booleans()),
    st.builds(c.Result, ids, waits),
    st.builds(c.Delete, ids),
    st.builds(c.Recur, ids, background, rules, st.booleans(), payloads, metas),
    st.builds(OfOccurrence, st.sampled_from([c.Complete, c.Complete, c.Fail, c.Delete, c.Result]), st.integers(0, 3)),
    st.builds(c.Retry, ids),
    st.builds(c.Clear, names, st.sampled_from(c.CLEAR_STATES)),
    configurations,
    st.builds(c.PauseQueue, names),
    st.builds(c.ResumeQueue, names),
    st.builds(c.PutDocument, names, payloads),
    st.builds(Sleep, one_of(0, 1, 2, 5, 20, 300, 70_000)),
    st.builds(Stall, one_of(1, 5, 20, 300, 70_000, 10**9)),
    st.builds(HangUp, st.integers(0, 3)),
)
# Much about few jobs and their queues' options: what the many kinds of `steps` hardly ever do together.
busy_names = st.sampled_from([b"a", b"a", b"b"])
busy_specs = st.builds(JobSpec, busy_names, one_of(5, 300), st.just(10**9), priorities, one_of(0, 2), one_of(0, 3))
option_steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(c.Add, ids, busy_specs, payloads),
    st.builds(c.Add, ids, busy_specs, payloads),
    st.builds(c.Schedule, ids, busy_specs, run_at, payloads),
    st.builds(c.Lease, st.lists(busy_names, min_size=1, max_size=2).map(tuple), one_of(300, 70_000)),
    st.builds(c.Lease, st.lists(busy_names, min_size=1, max_size=2).map(tuple), one_of(300, 70_000)),
    st.builds(c.Complete, ids, payloads),
    st.builds(c.Fail, ids, payloads),
    st.builds(c.Delete, ids),
    st.builds(c.Retry, ids),
    st.builds(c.Clear, busy_names, st.sampled_from(c.CLEAR_STATES)),
    configurations,
    configurations,
    st.builds(c.PauseQueue, busy_names),
    st.builds(c.ResumeQueue, busy_names),
    st.builds(Sleep, one_of(1, 5, 20, 300)),
    st.builds(Stall, one_of(5, 300, 70_000)),
    st.builds(HangUp, st.integers(0, 3)),
)
looks: st.SearchStrategy[Step] = st.one_of(
    st.builds(c.InspectJob, ids),
    st.builds(c.GetDocument, names),
    st.builds(c.ListDocuments, st.sampled_from([b"", *NAMES])),
    st.builds(c.InspectQueue, names),
    st.builds(c.InspectQueues, cursors, one_of(1, 2, 9)),
    *[st.builds(c.InspectJobs, names, st.just(state), cursors, one_of(1, 2, 9)) for state in c.LISTED_STATES],
    st.builds(c.InspectRecurring, cursors, one_of(1, 2, 9)),
)
# Starts from which short steps cross the borders of the timing wheel's slots, coarse and fine.
starts = one_of(1_700_000_000_000, 2**40 - 3, 2**32 - 200, 65_536 * 77 - 2)


def histories(step: st.SearchStrategy[T], longest: int = 60) -> st.SearchStrategy[list[T]]:
    """Lists of steps. Made of lists of lists, because hypothesis by itself makes hardly any long ones."""
    several = st.lists(step, max_size=12)
    return st.lists(several, max_size=longest // 6).map(lambda lists: [step for steps in lists for step in steps])


def at(step: c.Command, now_ms: int) -> c.Command:
    """`step` as a command to execute at `now_ms`."""
    if isinstance(step, c.Schedule):
        return c.Schedule(step.job_id, step.spec, now_ms + step.run_at_ms, step.payload, step.meta)
    return step


def about(step: OfOccurrence, others: list[bytes]) -> c.Command | None:
    """`step` as a command, when there are jobs with the ids `others` beside those of `IDS`."""
    if not others:
        return None
    job_id = sorted(others)[step.which % len(others)]
    if step.what is c.Delete:
        return c.Delete(job_id)
    return c.Result(job_id, 300) if step.what is c.Result else step.what(job_id, b"r")

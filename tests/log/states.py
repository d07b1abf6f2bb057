"""Stories for logs: random lives of jobs in a real engine, and what a state looks like for comparing."""

from random import Random
from typing import TypeAlias

from workq import commands as c
from workq.engine import Engine
from workq.engine.job import LEASED, SCHEDULED
from workq.engine.state import State
from workq.recurrence import parse_rule
from workq.replies import Reply
from workq.values import JobSpec, RetryPolicy

START_MS = 1_700_000_000_000
RULES = [parse_rule(text) for text in ("every:100", "every:250", "cron:*_*_*_*_*@Europe/Berlin")]
NAMES = (b"mail", b"thumbs", b"x" * 255)

Snapshot: TypeAlias = tuple[object, ...]


def snapshot(state: State) -> Snapshot:
    """All that a log has to bring back: jobs, their places in the queues, their timers, the counters."""
    jobs = [job for job in state.jobs.values() if not job.spec.foreground]
    ids = {job.job_id for job in jobs}
    queues = {job.spec.name for job in jobs}
    return (
        sorted(
            (
                job.job_id,
                job.seq,
                job.place,
                repr(job.spec),
                job.payload,
                job.created_ms,
                job.scheduled_ms,
                job.state,
                job.attempts,
                job.spent,
                job.fails,
                job.deadline_ms if job.state in (LEASED, SCHEDULED) else None,
                job.result,
                job.meta,
                job.extra.progress if job.extra is not None else b"",
            )
            for job in jobs
        ),
        {name: [job.job_id for job in state.queues[name].ready_jobs(0, 10**9) if job.job_id in ids] for name in queues},
        {name: [job.job_id for job in state.queues[name].scheduled_jobs(0, 10**9)] for name in queues},
        {name: state.queues[name].counts for name in queues},
        len(state.expiries),
        len(state.deadlines),
        state.evicted_jobs,
        state.stored_bytes,
        [dict(area) for area in state.documents],
        len(state.recurrences),
        {key: each.rule.text for key, each in state.recurring.items()},
    )


class Story:
    """An engine to which random commands and time happen.

    now_ms  its time
    """

    def __init__(self, engine: Engine, random: Random, ids: int = 12) -> None:
        self.engine = engine
        self.now_ms = START_MS
        self._random = random
        self._ids = [random.randbytes(16) for _ in range(ids)]

    def command(self) -> c.Command:
        """Something that a client could say."""
        random = self._random
        job_id = random.choice(self._ids)
        name = random.choice(NAMES)
        data = random.randbytes(random.choice((0, 1, 7, 40, 300)))
        retry = random.choice((None, None, RetryPolicy(40, 2_000)))
        spec = JobSpec(
            name, random.choice((20, 100)), random.choice((50, 1000, 10**6)), random.choice((0, 5)), 2, 2, retry
        )
        kind = random.randrange(19)
        if kind < 3:
            return c.Add(job_id, spec, data, random.choice((b"", b"", b"{}")), random.choice((0, 0, 0, 30)))
        if kind == 3:
            return c.Schedule(job_id, spec, self.now_ms + random.choice((-20, 0, 30, 400)), data)
        if kind < 7:
            names = tuple(random.sample(NAMES, random.randrange(1, 3)))
            return c.Lease(names, random.choice((0, 0, 50)), count=random.choice((1, 1, 3)))
        if kind == 7:
            return c.Complete(job_id, data)
        if kind == 8:
            return c.Fail(job_id, data)
        if kind == 9:
            return c.Delete(job_id)
        if kind == 10:
            return c.Touch(job_id)
        if kind == 11:
            return c.Release(job_id, random.choice((0, 0, 30)))
        if kind == 12:
            return c.Progress(job_id, data, touches=random.random() < 0.5)
        if kind == 13:
            rule = random.choice(RULES)
            return c.Recur(job_id, spec, rule, random.random() < 0.5, data, random.choice((b"", b"{}")))
        if kind == 14:
            limits = [random.choice((None, None, 0, 1, 2)) for _ in range(3)]
            lasting = random.choice((None, 0, 10, 200))
            return c.ConfigureQueue(name, 9, *limits, lasting, random.choice((None, 0, 1)), random.random() < 0.5)
        if kind == 15:
            return random.choice((c.PauseQueue, c.ResumeQueue, c.ResumeQueue))(name)
        if kind == 16:
            return c.Retry(job_id)
        if kind == 17:
            return c.Clear(name, random.choice(c.CLEAR_STATES))
        return c.PutDocument(name[:4], random.choice((b"", data)))

    def step(self) -> None:
        """One command, or a little time."""
        if self._random.random() < 0.2:
            self.now_ms += self._random.choice((1, 15, 60, 300))
            self.engine.tick(self.now_ms)
        else:
            self.engine.execute(self.command(), self.now_ms, _unheard)


def _unheard(reply: Reply) -> None:
    """What waiters are told is none of the log's business."""

"""The rules of the job server said as plainly as possible: lists, scans and sorting, with no thought of speed.

The engine must give the same replies to the same clients at the same times. Where the rules leave a choice (a lease
on several queues), the model is told what the engine chose (`told`) and checks that it was allowed.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Literal
from uuid import UUID, uuid5

from workq import commands as c
from workq import replies as r
from workq.values import JobSpec, QueueOptions

FOREVER_MS = 2**62  # a TTL this long does not end
NO_OPTIONS = QueueOptions()
ModelState = Literal["scheduled", "ready", "leased", "completed", "failed"]
MODEL_STATES: tuple[ModelState, ...] = ("ready", "scheduled", "leased", "failed", "completed")


@dataclass(eq=False)
class ModelJob:
    """A job; `time_ms` is 0 unless it was scheduled, `timer` orders deadlines that fall together.

    `deadline_ms` is the end of the lease or, of a scheduled job, when it will be ready.
    `entered` orders jobs by their coming into a state.
    `number` is that of the last attempt; `attempts` are those that count.
    `rank` is its `seq`, until it is sent to the back. `started_ms` is the beginning of its lease.
    """

    job_id: bytes
    spec: JobSpec
    payload: bytes
    created_ms: int
    time_ms: int
    seq: int
    state: ModelState
    deadline_ms: int
    timer: int
    attempts: int = 0
    number: int = 0
    fails: int = 0
    result: bytes = b""
    meta: bytes = b""
    progress: bytes = b""
    rank: int = 0
    entered: int = 0
    started_ms: int = 0

    def finished(self) -> bool:
        return self.state in ("completed", "failed")

    def place(self) -> tuple[int, bool, int, int]:
        """Where it stands in its queue: by priority, then never scheduled ones, then by time, then by creation."""
        return -self.spec.priority, self.time_ms != 0, self.time_ms, self.rank or self.seq

    def turn(self) -> tuple[int, int, int]:
        """Where it stands among those that wait for their time: by priority, then by that time."""
        return -self.spec.priority, self.deadline_ms, self.seq

    def expires_ms(self) -> int | None:
        endless = self.spec.foreground or self.spec.ttl_ms >= FOREVER_MS
        return None if endless else (self.time_ms or self.created_ms) + self.spec.ttl_ms


@dataclass
class ModelBucket:
    """Tokens of a queue whose leases are paced; `per_ms` come every millisecond, up to `most`."""

    per_ms: Fraction
    most: int
    tokens: Fraction
    at_ms: int

    def fill(self, now_ms: int) -> None:
        self.tokens = min(self.tokens + (now_ms - self.at_ms) * self.per_ms, Fraction(self.most))
        self.at_ms = now_ms

    def next_ms(self, now_ms: int) -> int:
        """When there is a token to take."""
        self.fill(now_ms)
        return now_ms + max(ceil((1 - self.tokens) / self.per_ms), 0)


@dataclass(eq=False)
class ModelWaiter:
    """A client that waits, for all of `jobs` to end or for a lease.

    `results`: of jobs that it waited for before. `overdue`: a run past its time that waits for the end of the lease.
    """

    client: int
    command: c.Lease | c.Run | c.Result | c.Results
    deadline_ms: int
    jobs: list[ModelJob]
    results: dict[bytes, r.JobResult] = field(default_factory=dict)
    overdue: bool = False


@dataclass(eq=False)
class ModelRecurring:
    """A recurring job; `timer` orders those due together, `held_ms` is the time of an occurrence that waits."""

    command: c.Recur
    next_ms: int | None
    timer: int
    last_ms: int = 0
    held_ms: int = 0
    occurrences: int = 0
    skipped: int = 0

    def id_at(self, at_ms: int) -> bytes:
        return uuid5(UUID(bytes=self.command.job_id), str(at_ms)).bytes


class Model:
    """Holds jobs in order of creation and waiters in order of arrival; `replies` to waiters go by client.

    `told` are the replies of the engine since the last comparison.
    """

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.jobs: list[ModelJob] = []
        self.waiters: list[ModelWaiter] = []
        self.names: set[bytes] = set()
        self.replies: dict[int, r.Reply] = {}
        self.told: dict[int, r.Reply] = {}
        self.evicted_jobs = 0
        self.documents: dict[bytes, bytes] = {}
        self.recurring: list[ModelRecurring] = []
        self.freed: list[ModelRecurring] = []
        self.options: dict[bytes, QueueOptions] = {}
        self.buckets: dict[bytes, ModelBucket] = {}
        self.counts: dict[bytes, dict[str, int]] = {}
        self.moments: list[tuple[int, bytes, str]] = []
        self._seqs = 0
        self._timers = 0

    # -- commands ------------------------------------------------------------------------------------------------

    def execute(self, client: int, command: c.Command) -> r.Reply | None:
        """The reply to `command`; None if the client has to wait."""
        match command:
            case c.Add(job_id, spec, payload, meta, delay_ms):
                return self._create(job_id, spec, payload, self.now_ms + delay_ms if delay_ms else 0, meta)
            case c.Clear(name, state):
                if name not in self.names:
                    return r.NOT_FOUND
                cleared = [job for job in self.jobs if job.spec.name == name and state in (job.state, "all")]
                for job in cleared:
                    self._count(job, "deleted")
                    self._remove(job)
                return r.Cleared(name, len(cleared))
            case c.Retry(job_id):
                found = [job for job in self.jobs if job.job_id == job_id]
                return self._retry(found[0]) if found else r.NOT_FOUND
            case c.ConfigureQueue() | c.PauseQueue() | c.ResumeQueue():
                return self._configure(command)
            case c.PutDocument(key, value):
                self.documents.pop(key, None)
                if value:
                    self.documents[key] = value
                return r.OK
            case c.GetDocument(key):
                return r.Documents([(key, self.documents[key])]) if key in self.documents else r.NOT_FOUND
            case c.ListDocuments(prefix):
                return r.Documents(sorted((k, v) for k, v in self.documents.items() if k.startswith(prefix)))
            case c.Schedule(job_id, spec, run_at_ms, payload, meta):
                if run_at_ms + spec.ttl_ms <= self.now_ms:
                    return r.Refused("Invalid Time: time and TTL together are in the past")
                return self._create(job_id, spec, payload, run_at_ms, meta)
            case c.Recur():
                return self._recur(command)
            case c.InspectRecurring(cursor, limit):
                page = sorted(self.recurring, key=lambda each: each.command.job_id)[cursor : cursor + limit]
                return r.RecurringJobs([_recurring_info(each) for each in page])
            case c.Delete(job_id) if any(each.command.job_id == job_id for each in self.recurring):
                self.recurring = [each for each in self.recurring if each.command.job_id != job_id]
                self.freed = [each for each in self.freed if each.command.job_id != job_id]
                return r.OK
            case c.Run():
                return self._run(client, command)
            case c.Lease(names):
                return self._lease(client, command, set(names))
            case c.Results(job_ids):
                return self._results(client, command, [job for job in self.jobs if job.job_id in job_ids])
            case c.Ping() | c.Quit():
                return r.OK
            case c.Touch(job_id) | c.Release(job_id) | c.Progress(job_id):
                found = [job for job in self.jobs if job.job_id == job_id]
                return self._by_holder(command, found[0]) if found else r.NOT_FOUND
            case c.InspectQueue(name):
                return r.Queues([self._queue_info(name)]) if name in self.names else r.NOT_FOUND
            case c.InspectQueues(cursor, limit):
                page = sorted(self.names)[cursor : cursor + limit]
                return r.Queues([self._queue_info(name) for name in page])
            case c.InspectJobs(name, "ready" | "scheduled" as state, cursor, limit):
                return self._page(state, name, cursor, limit)
            case c.InspectJobs(name, "leased" | "failed" | "completed" as state, cursor, limit):
                return self._by_entrance(state, name, cursor, limit)
            case c.Complete(job_id) | c.Fail(job_id) | c.Delete(job_id) | c.Result(job_id) | c.InspectJob(job_id):
                found = [job for job in self.jobs if job.job_id == job_id]
                return self._about(client, command, found[0]) if found else r.NOT_FOUND
        raise TypeError(command)

    def _about(self, client: int, command: c.Command, job: ModelJob) -> r.Reply | None:
        match command:
            case c.InspectJob():
                return r.Jobs([_job_info(job)])
            case c.Delete():
                self._count(job, "deleted")
                self._remove(job)
                return r.OK
            case c.Result(_, wait_ms):
                if job.finished():
                    return _outcome(job)
                if wait_ms == 0:
                    return r.TIMED_OUT
                self._wait(client, command, [job])
                return None
            case c.Complete(attempt=attempt) | c.Fail(attempt=attempt) if attempt and attempt != job.number:
                return r.LEASE_EXPIRED
            case c.Complete() | c.Fail() if job.finished():
                return r.DUPLICATE_RESULT
            case c.Complete(attempt=attempt) | c.Fail(attempt=attempt) if attempt and job.state != "leased":
                return r.LEASE_EXPIRED
            case c.Complete(_, result):
                self._finish(job, "completed", result)
            case c.Fail(_, result, final=final):
                job.fails += 1
                if final or job.fails >= job.spec.max_fails or self._attempts_are_used_up(job):
                    self._finish(job, "failed", result)
                elif job.state != "scheduled":
                    retry = job.spec.retry
                    self._put_back(job, retry.wait_ms(job.fails, job.job_id) if retry else 0)
                    self._hand_out()
        return r.OK

    def _be_ready(self, job: ModelJob) -> None:
        if job.state != "ready":
            self._timers += 1
            job.entered = self._timers
            job.state = "ready"

    def _retry(self, job: ModelJob) -> r.Reply:
        if job.state != "failed":
            return r.NOT_FAILED
        job.attempts = job.fails = 0
        job.result = b""
        self._be_ready(job)
        self._hand_out()
        return r.OK

    def _by_holder(self, command: c.Touch | c.Release | c.Progress, job: ModelJob) -> r.Reply:
        """What only the worker that holds the job can do."""
        if command.attempt and (job.state != "leased" or job.number != command.attempt):
            return r.LEASE_EXPIRED
        if job.state != "leased":
            return r.NOT_LEASED
        match command:
            case c.Touch():
                self._touch(job)
            case c.Progress(_, progress, touches=touches):
                job.progress = progress
                if touches:
                    self._touch(job)
            case c.Release(_, delay_ms):
                self._end_lease(job, delay_ms)
                self._hand_out()
        return r.OK

    def _touch(self, job: ModelJob) -> None:
        self._timers += 1
        job.started_ms = self.now_ms
        job.deadline_ms = self.now_ms + self._ttr_ms(job)
        job.timer = self._timers

    def _put_back(self, job: ModelJob, wait_ms: int) -> None:
        """The job is in its old place again, at once or when it has waited."""
        if wait_ms:
            self._timers += 1
            job.state = "scheduled"
            job.deadline_ms = self.now_ms + wait_ms
            job.timer = self._timers
        else:
            self._be_ready(job)

    def _create(self, job_id: bytes, spec: JobSpec, payload: bytes, time_ms: int, meta: bytes = b"") -> r.Reply:
        if self._is_taken(job_id):
            return r.DUPLICATE_JOB
        if self._is_full(spec):
            return r.QUEUE_FULL
        self._seqs += 1
        self._timers += 1
        state: ModelState = "scheduled" if time_ms > self.now_ms else "ready"
        job = ModelJob(job_id, spec, payload, self.now_ms, time_ms, self._seqs, state, time_ms, self._timers)
        job.meta = meta
        job.entered = self._timers
        self._count(job, "added")
        self.jobs.append(job)
        self.names.add(spec.name)
        self._hand_out()
        return r.OK

    def _is_full(self, spec: JobSpec) -> bool:
        max_len = self._options(spec.name).max_len
        waiting = [job for state in ("ready", "scheduled") for job in self._in_state(state, spec.name)]
        return max_len != 0 and len(waiting) >= max_len

    def _is_taken(self, job_id: bytes) -> bool:
        return job_id in [job.job_id for job in self.jobs] + [each.command.job_id for each in self.recurring]

    def _recur(self, command: c.Recur) -> r.Reply:
        if self._is_taken(command.job_id):
            return r.DUPLICATE_JOB
        next_ms = command.rule.after(self.now_ms)
        if next_ms is None:
            return r.Refused(f"Invalid rule: '{command.rule.text}' does not occur in the next 50 years")
        self._timers += 1
        self.recurring.append(ModelRecurring(command, next_ms, self._timers))
        return r.OK

    def _run(self, client: int, command: c.Run) -> r.Reply | None:
        created = self._create(command.job_id, command.spec, command.payload, 0)
        if created != r.OK:
            return created
        job = self.jobs[-1]
        if command.wait_ms == 0 and job.spec.name in self.options:
            self._wake(all_of_them=False)
        if command.wait_ms == 0 and job.state == "ready":
            self._remove(job)
            return r.TIMED_OUT
        self._wait(client, command, [job])
        return None

    def _results(self, client: int, command: c.Results, jobs: list[ModelJob]) -> r.Reply | None:
        waiter = ModelWaiter(
            client, command, self.now_ms + command.wait_ms, [job for job in jobs if not job.finished()]
        )
        waiter.results = {job.job_id: _outcome(job) for job in jobs if job.finished()}
        if not waiter.jobs:
            return _found(waiter) or r.NOT_FOUND
        if command.wait_ms == 0:
            return _found(waiter) or r.TIMED_OUT
        self.waiters.append(waiter)
        return None

    def _lease(self, client: int, command: c.Lease, names: set[bytes]) -> r.Reply | None:
        self.names |= names
        free = {name for name in names if not self._leasers(name)}
        for name in dict.fromkeys(command.names):
            if name in free:
                self._weed(name)
        if self._ready(free):
            return self._take(client, command, free)
        if command.wait_ms == 0:
            return r.TIMED_OUT
        self._wait(client, command, [])
        return None

    def _take(self, client: int, command: c.Lease, names: set[bytes]) -> r.Reply:
        """What a lease gets. From which of the queues is the engine's choice, but it must take what it can."""
        told = self.told.get(client)
        jobs = told.jobs if isinstance(told, r.LeasedJobs) else [told]
        granted = []
        for leased in jobs:
            allowed = self._ready(names)
            assert isinstance(leased, r.LeasedJob), f"{told} was told to {client}, who may have a job of {allowed}"
            assert leased.name in allowed, f"{leased.name!r} was leased from, allowed are {allowed}"
            granted.append(self._grant(self._in_state("ready", leased.name)[0], command.fenced))
        assert len(granted) == command.count or not self._ready(names), f"{client} could have more than {granted}"
        return granted[0] if command.count == 1 else r.LeasedJobs(granted)

    def _ready(self, names: set[bytes]) -> set[bytes]:
        """Those of the queues that may hand out a job."""
        return {name for name in names if self._may_hand_out(name)}

    def _configure(self, command: c.ConfigureQueue | c.PauseQueue | c.ResumeQueue) -> r.Reply:
        name = command.name
        self.names.add(name)
        old = self._options(name)
        match command:
            case c.ConfigureQueue():
                given = {field: getattr(command, field) for field in command.__match_args__[1:]}
            case c.PauseQueue() | c.ResumeQueue():
                given = {"paused": isinstance(command, c.PauseQueue)}
        new = {field: getattr(old, field) for field in old.__match_args__}
        new |= {field: value for field, value in given.items() if value is not None}
        options = QueueOptions(**new)
        if options == old:
            return r.OK
        self.options[name] = options
        per_ms = Fraction(options.lease_rate, 1_000_000)
        most = options.lease_burst or max(options.lease_rate // 1000, 1)
        bucket = self.buckets.pop(name, None)
        if per_ms:
            bucket = bucket or ModelBucket(per_ms, most, Fraction(most), self.now_ms)
            bucket.fill(self.now_ms)
            self.buckets[name] = ModelBucket(per_ms, most, min(bucket.tokens, Fraction(most)), self.now_ms)
        leased = sorted(self._in_state("leased", name), key=lambda job: job.timer)
        for job in leased:
            deadline_ms = job.started_ms + self._ttr_ms(job)
            if deadline_ms != job.deadline_ms:
                self._timers += 1
                job.deadline_ms = deadline_ms
                job.timer = self._timers
        return r.OK

    # -- time ----------------------------------------------------------------------------------------------------

    def next_ms(self) -> int | None:
        """When something happens by itself."""
        moments = [job.deadline_ms for job in self.jobs if job.state in ("leased", "scheduled")]
        moments += [expires_ms for job in self.jobs if (expires_ms := job.expires_ms()) is not None]
        moments += [waiter.deadline_ms for waiter in self.waiters if not waiter.overdue]
        moments += [each.next_ms for each in self.recurring if each.next_ms is not None]
        moments += [self.now_ms for _ in self.freed]
        moments += [self.buckets[name].next_ms(self.now_ms) for name in self.buckets if self._is_paced(name)]
        return min(moments, default=None)

    def tick(self, now_ms: int) -> None:
        """First the TTLs that are over, then leases and scheduled times, then jobs that recur, then waits.

        In between, and at the end, those who wait get what the options of their queues allow.
        """
        self.now_ms = now_ms
        expired = [(expires_ms, job) for job in self.jobs if (expires_ms := job.expires_ms()) is not None]
        for expires_ms, job in sorted(expired, key=lambda pair: (pair[0], pair[1].seq)):
            if expires_ms <= now_ms:
                self.evicted_jobs += not job.finished()
                self._count(job, "expired")
                self._remove(job)
        due = [job for job in self.jobs if job.state in ("leased", "scheduled") and job.deadline_ms <= now_ms]
        for job in sorted(due, key=lambda job: (job.deadline_ms, job.timer)):
            if job.state == "leased":
                self._end_lease(job, timed_out=True)
            else:
                self._be_ready(job)
        self._hand_out()
        self._wake()
        while self.freed:
            self._occur(self.freed.pop(0))
        recurring = [(each.next_ms, each.timer, each) for each in self.recurring if each.next_ms is not None]
        for next_ms, _, each in sorted(recurring, key=lambda triple: triple[:2]):
            if next_ms <= now_ms:
                self._occur(each)
        for waiter in sorted(self.waiters, key=lambda waiter: waiter.deadline_ms):
            if waiter in self.waiters and waiter.deadline_ms <= now_ms and not waiter.overdue:
                self._time_out(waiter)
        self._wake()

    def _occur(self, recurring: ModelRecurring) -> None:
        at_ms = recurring.held_ms
        if recurring.next_ms is not None and recurring.next_ms <= self.now_ms:
            recurring.skipped += at_ms != 0
            while recurring.next_ms is not None and recurring.next_ms <= self.now_ms:
                at_ms = recurring.next_ms
                recurring.next_ms = recurring.command.rule.after(at_ms)
        self._timers += 1
        recurring.timer = self._timers
        unfinished = [job.job_id for job in self.jobs if not job.finished()]
        recurring.held_ms = 0
        if recurring.command.skips and recurring.last_ms and recurring.id_at(recurring.last_ms) in unfinished:
            recurring.held_ms = at_ms
            return
        if self._is_full(recurring.command.spec):
            recurring.skipped += 1
            return
        recurring.last_ms = at_ms
        recurring.occurrences += 1
        command = recurring.command
        self._create(recurring.id_at(at_ms), command.spec, command.payload, 0, command.meta)

    def _end(self, job: ModelJob) -> None:
        """`job` has finished or is gone: an occurrence may have waited for that."""
        for each in self.recurring:
            if each.held_ms and each.id_at(each.last_ms) == job.job_id and each not in self.freed:
                self.freed.append(each)

    def _end_lease(self, job: ModelJob, wait_ms: int = 0, *, timed_out: bool = False) -> None:
        patient = [w for w in self.waiters if job in w.jobs and isinstance(w.command, c.Run) and not w.overdue]
        if job.spec.foreground and not patient:
            self._answer_watchers(job, r.TIMED_OUT)
            self._remove(job)
        elif self._attempts_are_used_up(job):
            self._finish(job, "failed", b"")
        else:
            self._put_back(job, wait_ms)
            if timed_out:
                self._count(job, "returned")
            if timed_out and self._options(job.spec.name).to_back:
                self._seqs += 1
                job.rank = self._seqs

    def _time_out(self, waiter: ModelWaiter) -> None:
        if not isinstance(waiter.command, c.Run):
            self._answer(waiter, _found(waiter) or r.TIMED_OUT)
        elif waiter.jobs[0].state == "leased":
            waiter.overdue = True
        else:
            self._answer(waiter, r.TIMED_OUT)
            self._remove(waiter.jobs[0])

    # -- waiters -------------------------------------------------------------------------------------------------

    def cancel(self, client: int) -> None:
        """`client` goes away. Its foreground job goes too, unless a worker has it."""
        (waiter,) = [waiter for waiter in self.waiters if waiter.client == client]
        self.waiters.remove(waiter)
        if isinstance(waiter.command, c.Run) and waiter.jobs[0].state != "leased":
            self._remove(waiter.jobs[0])

    def _wait(self, client: int, command: c.Lease | c.Run | c.Result, jobs: list[ModelJob]) -> None:
        self.waiters.append(ModelWaiter(client, command, self.now_ms + command.wait_ms, jobs))

    def _answer(self, waiter: ModelWaiter, reply: r.Reply) -> None:
        self.waiters.remove(waiter)
        assert waiter.client not in self.replies
        self.replies[waiter.client] = reply

    def _answer_watchers(self, job: ModelJob, reply: r.Reply) -> None:
        for waiter in [waiter for waiter in self.waiters if job in waiter.jobs]:
            if not isinstance(waiter.command, c.Results):
                self._answer(waiter, reply)
                continue
            waiter.jobs.remove(job)
            if isinstance(reply, r.JobResult):
                waiter.results[job.job_id] = reply
            if not waiter.jobs:
                self._answer(waiter, _found(waiter) or r.NOT_FOUND)

    def _hand_out(self) -> None:
        """Give ready jobs to those who wait for them, longest first. A lease gets jobs of one of its queues."""
        for waiter in list(self.waiters):
            if isinstance(waiter.command, c.Lease) and self._ready(set(waiter.command.names) - set(self.options)):
                told = self.told.get(waiter.client)
                first = told.jobs[0] if isinstance(told, r.LeasedJobs) else told
                assert isinstance(first, r.LeasedJob), f"{waiter} got nothing, though it waited longest"
                assert first.name in waiter.command.names
                self._answer(waiter, self._take(waiter.client, waiter.command, {first.name}))

    def _weed(self, name: bytes) -> None:
        """Who would lease a job that has no attempt left, because its queue allows fewer than it did, lets it fail."""
        while self._has_leave(name) and self._has_token(name) and self._is_first_used_up(name):
            self._finish(self._in_state("ready", name)[0], "failed", b"")

    def _wake(self, *, all_of_them: bool = True) -> None:
        """Where queues have options, those who wait get jobs at the next tick. Which queue goes first is left open."""
        for client, told in [*self.told.items(), (0, None)]:
            for name in sorted(self.names):
                if self._leasers(name):
                    self._weed(name)
            waiters = [waiter for waiter in self.waiters if waiter.client == client]
            first = told.jobs[0] if isinstance(told, r.LeasedJobs) else told
            if waiters and isinstance(first, r.LeasedJob) and first.name in self._ready(set(self.options)):
                (waiter,) = waiters
                assert isinstance(waiter.command, c.Lease)
                assert waiter is self._leasers(first.name)[0], f"{client} got a job for which others wait longer"
                self._answer(waiter, self._take(client, waiter.command, {first.name}))
        late = [name for name in self._ready(self.names) if self._leasers(name)]
        assert not (late and all_of_them), f"somebody could have a job of {late}"

    def _leasers(self, name: bytes) -> list[ModelWaiter]:
        return [w for w in self.waiters if isinstance(w.command, c.Lease) and name in w.command.names]

    # -- options -------------------------------------------------------------------------------------------------

    def _options(self, name: bytes) -> QueueOptions:
        return self.options.get(name, NO_OPTIONS)

    def _may_hand_out(self, name: bytes) -> bool:
        return self._has_leave(name) and self._has_token(name) and not self._is_first_used_up(name)

    def _has_token(self, name: bytes) -> bool:
        bucket = self.buckets.get(name)
        return bucket is None or bucket.next_ms(self.now_ms) <= self.now_ms

    def _is_first_used_up(self, name: bytes) -> bool:
        """Whether the job to lease next may not be leased any more."""
        return self._attempts_are_used_up(self._in_state("ready", name)[0])

    def _has_leave(self, name: bytes) -> bool:
        """Whether only a bucket could forbid a lease."""
        options = self._options(name)
        leased = len(self._in_state("leased", name))
        may = not options.paused and not (options.max_leased and leased >= options.max_leased)
        return may and bool(self._in_state("ready", name))

    def _is_paced(self, name: bytes) -> bool:
        """Whether somebody waits only for the bucket."""
        return bool(self._leasers(name)) and self._has_leave(name)

    def _ttr_ms(self, job: ModelJob) -> int:
        return self._options(job.spec.name).ttr_ms or job.spec.ttr_ms

    def _attempts_are_used_up(self, job: ModelJob) -> bool:
        limits = (job.spec.max_attempts, self._options(job.spec.name).max_attempts)
        return any(limit != 0 and job.attempts >= limit for limit in limits)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _in_state(self, state: ModelState, name: bytes | None) -> list[ModelJob]:
        found = [job for job in self.jobs if job.state == state and job.spec.name == name]
        return sorted(found, key=ModelJob.turn if state == "scheduled" else ModelJob.place)

    def _grant(self, job: ModelJob, fenced: bool) -> r.LeasedJob:
        self._timers += 1
        job.entered = self._timers
        self._count(job, "leased")
        job.attempts += 1
        job.number += 1
        job.state = "leased"
        job.started_ms = self.now_ms
        job.deadline_ms = self.now_ms + self._ttr_ms(job)
        job.timer = self._timers
        attempt = job.number if fenced else 0
        bucket = self.buckets.get(job.spec.name)
        if bucket is not None:
            bucket.fill(self.now_ms)
            bucket.tokens -= 1
        return r.LeasedJob(job.job_id, job.spec.name, self._ttr_ms(job), job.payload, job.meta, attempt)

    def _finish(self, job: ModelJob, state: ModelState, result: bytes) -> None:
        self._timers += 1
        job.entered = self._timers
        self._count(job, state)
        job.state = state
        job.result = result
        self._end(job)
        self._answer_watchers(job, _outcome(job))
        if job.spec.foreground:
            self._remove(job)

    def _remove(self, job: ModelJob) -> None:
        self.jobs.remove(job)
        self._end(job)
        self._answer_watchers(job, r.NOT_FOUND)

    # -- inspect -------------------------------------------------------------------------------------------------

    def _queue_info(self, name: bytes) -> r.QueueInfo:
        lengths = [len(self._in_state(state, name)) for state in MODEL_STATES]
        ready = sorted(self._in_state("ready", name), key=lambda job: job.entered)
        age_ms = self.now_ms - (ready[0].time_ms or ready[0].created_ms) if ready else 0
        counts = self.counts.get(name, {})
        totals = [counts.get(what, 0) for what in r.QueueTotals.__match_args__[:7]]
        since_ms = self.now_ms - self.now_ms % 5000 - 55_000
        recent = [what for at_ms, named, what in self.moments if named == name and at_ms >= since_ms]
        finished = recent.count("completed") + recent.count("failed")
        minute = (recent.count("added"), recent.count("leased"), finished)
        return r.QueueInfo(
            name, *lengths, len(self._leasers(name)), age_ms, self._options(name), r.QueueTotals(*totals, *minute)
        )

    def _count(self, job: ModelJob, what: str) -> None:
        counts = self.counts.setdefault(job.spec.name, {})
        counts[what] = counts.get(what, 0) + 1
        self.moments.append((self.now_ms, job.spec.name, what))

    def _by_entrance(self, state: ModelState, name: bytes, cursor: int, limit: int) -> r.Reply:
        """Leased jobs from the first lease on, finished ones from the last end on."""
        if name not in self.names:
            return r.NOT_FOUND
        jobs = sorted(self._in_state(state, name), key=lambda job: job.entered, reverse=state != "leased")
        return r.Jobs([_job_info(job) for job in jobs[cursor : cursor + limit]])

    def _page(self, state: ModelState, name: bytes, cursor: int, limit: int) -> r.Reply:
        if name not in self.names:
            return r.NOT_FOUND
        return r.Jobs([_job_info(job) for job in self._in_state(state, name)[cursor : cursor + limit]])


def _recurring_info(each: ModelRecurring) -> r.RecurringInfo:
    command = each.command
    spec = command.spec
    return r.RecurringInfo(
        job_id=command.job_id,
        name=spec.name,
        ttr_ms=spec.ttr_ms,
        ttl_ms=spec.ttl_ms,
        payload=command.payload,
        max_attempts=spec.max_attempts,
        max_fails=spec.max_fails,
        priority=spec.priority,
        rule=command.rule.text,
        skips=command.skips,
        occurrences=each.occurrences,
        skipped=each.skipped,
        next_ms=each.next_ms or 0,
        last_ms=each.last_ms,
        last_id=each.id_at(each.last_ms) if each.last_ms else b"",
    )


def _outcome(job: ModelJob) -> r.JobResult:
    return r.JobResult(job.job_id, job.state == "completed", job.result)


def _found(waiter: ModelWaiter) -> r.Reply | None:
    """The results that a client gets who asked for several; None if there are none."""
    if not isinstance(waiter.command, c.Results) or not waiter.results:
        return None
    asked = dict.fromkeys(waiter.command.job_ids)
    return r.JobResults([waiter.results[job_id] for job_id in asked if job_id in waiter.results])


def _job_info(job: ModelJob) -> r.JobInfo:
    numbers = {"leased": 4, "completed": 1, "failed": 2}
    return r.JobInfo(
        job_id=job.job_id,
        name=job.spec.name,
        ttr_ms=job.spec.ttr_ms,
        ttl_ms=job.spec.ttl_ms,
        payload=job.payload,
        max_attempts=job.spec.max_attempts,
        attempts=job.attempts,
        max_fails=job.spec.max_fails,
        fails=job.fails,
        priority=job.spec.priority,
        state=numbers.get(job.state, 3 if job.attempts or job.fails else 0),
        created_ms=job.created_ms,
        scheduled_ms=job.deadline_ms if job.state == "scheduled" else job.time_ms,
        meta=job.meta,
        result=job.result if job.state in ("completed", "failed") else None,
        progress=job.progress,
    )

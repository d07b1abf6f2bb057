"""The rules. A command comes in, is checked against the state, and becomes events; a reply goes out.

The engine is deterministic: the same commands at the same times, with the same seed, give the same events and
replies. It reads no clock and does no I/O. Every change of state is an event that `_commit` applies and keeps for the
log; waiters are the one thing it holds that is not in the log, because they end with their connections.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from workq.commands import (
    Add,
    Clear,
    Command,
    Complete,
    ConfigureQueue,
    Delete,
    Fail,
    GetDocument,
    Lease,
    ListDocuments,
    PauseQueue,
    Progress,
    PutDocument,
    Recur,
    Release,
    Result,
    Results,
    ResumeQueue,
    Retry,
    Run,
    Schedule,
    Touch,
)
from workq.engine import inspect
from workq.engine.documents import DOORS, QUEUES, RECURRED, RECURRING, pack_options
from workq.engine.events import (
    Added,
    Carried,
    Completed,
    Counters,
    Deleted,
    DocumentPut,
    Due,
    Event,
    Exhausted,
    Expired,
    Failed,
    FailedOnce,
    JobEvent,
    Leased,
    LeasedInARow,
    Progressed,
    Released,
    Retried,
    Returned,
    SentToBack,
    Touched,
)
from workq.engine.job import COMPLETED, FAILED, LEASED, NEVER_MS, READY, SCHEDULED, Job
from workq.engine.queue import Queue
from workq.engine.recurring import Position, Recurring, define
from workq.engine.state import State
from workq.engine.timers import TimerWheel
from workq.engine.waiters import (
    ClearWaiter,
    LeaseWaiter,
    OnReply,
    ResultsWaiter,
    ResultWaiter,
    RunWaiter,
    Waiter,
    Watcher,
)
from workq.engine.watchers import Watchers
from workq.replies import (
    DUPLICATE_JOB,
    DUPLICATE_RESULT,
    LEASE_EXPIRED,
    NOT_FAILED,
    NOT_FOUND,
    NOT_LEASED,
    OK,
    QUEUE_FULL,
    TIMED_OUT,
    Cleared,
    Documents,
    JobResult,
    LeasedJob,
    LeasedJobs,
    Refused,
    Reply,
)
from workq.values import BULK_BYTES, MIB, NO_OPTIONS, JobSpec, QueueOptions, shown

# Deadlines worked off in one go; what is left is due at once, after others had their turn.
TICK_STEPS: Final = 1000
# The same for recurring jobs, whose next time takes longer to find and whose payloads have to be written.
RECUR_STEPS: Final = 50
RECUR_BYTES: Final = MIB
# Jobs that a lease finds without an attempt left: likewise, together with a job that it gets.
WEEDED_AT_ONCE: Final = 8
# Jobs that a `clear` deletes before it waits for `tick`: what they take in the log is within the bound of a command.
CLEARED_AT_ONCE: Final = 16

_CLEARED: Final[dict[str, tuple[int, ...]]] = {
    "ready": (READY,),
    "scheduled": (SCHEDULED,),
    "failed": (FAILED,),
    "completed": (COMPLETED,),
    "all": (READY, SCHEDULED, LEASED, FAILED, COMPLETED),
}


def _always(size: int) -> bool:
    return True


def _wait_ends_ms(waiter: Waiter) -> int:
    return waiter.deadline_ms


def _wake_ms(queue: Queue) -> int:
    return queue.wake_ms


class Engine:
    """The state machine behind every door.

    Call `execute`, `cancel` and `tick` with a time that never goes back. After each, `events` holds what happened, in
    order, for the log; the caller empties it. `next_ms()` says when `tick` has something to do.

    While `held`, time does nothing to jobs: no lease, TTL or schedule ends, only waits do. It is for a caller whose log
    cannot be written, who must then not execute commands that change something either. While `recurring_held`, no job
    recurs.
    """

    __slots__ = ("state", "events", "held", "recurring_held", "_waits", "_wakes", "_clears", "_watchers", "_random")

    def __init__(self, now_ms: int, seed: int = 0) -> None:
        self.state = State(now_ms)
        self.events: list[Event] = []
        self.held = False
        self.recurring_held = False
        self._waits: TimerWheel[Waiter] = TimerWheel(_wait_ends_ms, now_ms)
        self._wakes: TimerWheel[Queue] = TimerWheel(_wake_ms, now_ms)
        self._clears: dict[ClearWaiter, None] = {}
        self._watchers = Watchers()
        self._random = Random(seed)

    # -- the caller's side ---------------------------------------------------------------------------------------

    def execute(self, command: Command, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        """Do `command`. What is due by `now_ms` should have happened before: see `tick`.

        Returns its reply, or the waiter that will give the reply to `on_reply` later, from within another call. The
        replies of other clients' waiters are given to them before this returns.
        """
        # In the order of their frequency; a dict of methods would be slower, compiled and not.
        if type(command) is Lease:
            return self._lease(command, now_ms, on_reply)
        if type(command) is Complete:
            return self._complete(command, now_ms)
        if type(command) is Add:
            return self._add(command, now_ms)
        if type(command) is Result:
            return self._result(command, now_ms, on_reply)
        if type(command) is Results:
            return self._results(command, now_ms, on_reply)
        if type(command) is Run:
            return self._run(command, now_ms, on_reply)
        if type(command) is Schedule:
            return self._schedule(command, now_ms)
        if type(command) is Fail:
            return self._fail(command, now_ms)
        if type(command) is Touch:
            return self._touch(command, now_ms)
        if type(command) is Progress:
            return self._progress(command, now_ms)
        if type(command) is Release:
            return self._release(command, now_ms)
        if type(command) is Delete:
            return self._delete(command, now_ms)
        if type(command) is Recur:
            return self._recur(command, now_ms)
        if type(command) is Retry:
            return self._retry(command, now_ms)
        if type(command) is Clear:
            return self._clear(command, now_ms, on_reply)
        if type(command) is ConfigureQueue:
            return self._configure(command, now_ms)
        if type(command) is PauseQueue:
            return self._pause(command.name, True, now_ms)
        if type(command) is ResumeQueue:
            return self._pause(command.name, False, now_ms)
        if type(command) is PutDocument:
            return self._put_document(command)
        if type(command) is GetDocument:
            return self._get_document(command)
        if type(command) is ListDocuments:
            return self._list_documents(command)
        return inspect.answer(self.state, command, now_ms)

    def cancel(self, waiter: Waiter) -> None:
        """Forget `waiter`, whose client is gone. A foreground job that no worker holds goes with its client."""
        if waiter.done:
            return
        self._end_wait(waiter)
        if isinstance(waiter, RunWaiter) and waiter.job.state != LEASED:
            self._remove(waiter.job)

    def waiting(self) -> tuple[int, int]:
        """How many wait for a job, and how many for a result."""
        # Not looked for in the queues: some wait at thousands of them.
        leasers = [waiter for waiter in self._waits if isinstance(waiter, LeaseWaiter)]
        return len(leasers), len(self._watchers)

    def tick(self, now_ms: int, job_steps: int = TICK_STEPS, admit: Callable[[int], bool] = _always) -> None:
        """Let what is due by `now_ms` happen, up to a bounded amount of work: `next_ms()` tells whether it was all.

        A step that changes jobs makes two events at most; `job_steps` bounds their number. A job that recurs makes as
        many bytes as a command with the same payload; `admit` is asked for them, and after a no there are none.
        """
        if not self.held:
            self._tick_jobs(now_ms, job_steps)
            if not self.recurring_held:
                self._tick_recurring(now_ms, admit)
        # Waits go last, so that a job which becomes ready in the last millisecond of a wait still reaches the waiter.
        steps = TICK_STEPS
        while self._waits.next_ms <= now_ms and steps > 0:
            steps -= 1
            waiter = self._waits.step(now_ms)
            if waiter is not None:
                self._time_out(waiter)

    def next_ms(self) -> int:
        """The time by which `tick` must be called: never after the next deadline; `NEVER_MS` if there is none.

        It may lie in the past: then there is something to do at once.
        """
        if self.held:
            return self._waits.next_ms
        if self._clears:
            return 0
        state = self.state
        next_ms = state.expiries.next_ms
        if state.deadlines.next_ms < next_ms:
            next_ms = state.deadlines.next_ms
        if self._wakes.next_ms < next_ms:
            next_ms = self._wakes.next_ms
        if not self.recurring_held:
            if state.freed:
                return 0
            if state.recurrences.next_ms < next_ms:
                next_ms = state.recurrences.next_ms
        if self._waits.next_ms < next_ms:
            next_ms = self._waits.next_ms
        return next_ms

    def carry(self, job: Job) -> None:
        """Have the log write `job` anew, whole, so that it can drop what it wrote about it before.

        The deadline of a lease goes with the options of its queue, so these are written with it.
        """
        if job.state == LEASED and job.spec.name in self.state.documents[QUEUES]:
            self.carry_document(QUEUES, job.spec.name)
        self.events.append(Carried(job.copy()))

    def carry_document(self, area: int, key: bytes) -> None:
        """Have the log write a document anew, as `carry` does with a job."""
        self.events.append(DocumentPut(area, key, self.state.documents[area][key]))

    def counters(self) -> Counters:
        """The counters as they are, for the log to begin a file with."""
        return Counters(self.state.next_seq, self.state.evicted_jobs)

    # -- commands ------------------------------------------------------------------------------------------------

    def _add(self, command: Add, now_ms: int) -> Reply:
        if self._is_taken(command.job_id):
            return DUPLICATE_JOB
        if self._is_full(command.spec):
            return QUEUE_FULL
        run_at_ms = now_ms + command.delay_ms if command.delay_ms else 0
        job = self._create(command.job_id, command.spec, command.payload, now_ms, run_at_ms, command.meta)
        if job.queue.leasers:
            self._offer(job.queue, now_ms)
        return OK

    def _schedule(self, command: Schedule, now_ms: int) -> Reply:
        if command.run_at_ms + command.spec.ttl_ms <= now_ms:
            return Refused("Invalid Time: time and TTL together are in the past")
        if self._is_taken(command.job_id):
            return DUPLICATE_JOB
        if self._is_full(command.spec):
            return QUEUE_FULL
        job = self._create(command.job_id, command.spec, command.payload, now_ms, command.run_at_ms, command.meta)
        self._offer(job.queue, now_ms)
        return OK

    def _recur(self, command: Recur, now_ms: int) -> Reply:
        if self._is_taken(command.job_id):
            return DUPLICATE_JOB
        next_ms = command.rule.after(now_ms)
        if next_ms is None:
            return Refused(f"Invalid rule: {shown(command.rule.text)} does not occur in the next 50 years")
        self._put(RECURRED, command.job_id, Position(next_ms).pack())
        self._put(RECURRING, command.job_id, define(command))
        return OK

    def _run(self, command: Run, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        if self._is_taken(command.job_id):
            return DUPLICATE_JOB
        if self._is_full(command.spec):
            return QUEUE_FULL
        job = self._create(command.job_id, command.spec, command.payload, now_ms, 0)
        waiter = RunWaiter(on_reply, now_ms + command.wait_ms, job)
        self._watch(waiter)
        self._offer(job.queue, now_ms)
        if command.wait_ms == 0 and job.queue.options is not None:
            self._hand_out(job.queue, now_ms, 1)
        if command.wait_ms == 0 and job.state != LEASED:
            self._end_wait(waiter)
            self._remove(job)
            return TIMED_OUT
        return waiter

    def _lease(self, command: Lease, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        names = command.names
        if len(names) == 1:
            queue = self.state.queues.get(names[0]) or self.state.queue(names[0])
            if queue.options is not None and not queue.leasers:
                self._weed([queue], now_ms, WEEDED_AT_ONCE)
            job = None if queue.leasers else queue.next_job(now_ms)  # who comes now stands behind those who wait
            if job is not None:
                if command.count == 1:
                    return self._grant(job, now_ms, command.fenced)
                return self._grant_several([queue], command.count, command.fenced, now_ms)
            queues = [queue]
        else:
            queues = [self.state.queue(name) for name in dict.fromkeys(names)]
            free = [queue for queue in queues if not queue.leasers]
            self._weed(free, now_ms, WEEDED_AT_ONCE)
            ready = [queue for queue in free if queue.next_job(now_ms) is not None]
            if ready:
                return self._grant_several(ready, command.count, command.fenced, now_ms)
        if command.wait_ms == 0 and not self._may_weed_more(queues, now_ms):
            return TIMED_OUT
        waiter = LeaseWaiter(on_reply, now_ms + command.wait_ms, queues, command.fenced, command.count)
        for queue in queues:
            queue.leasers[waiter] = None
            if queue.options is not None:
                self._wake_later(queue, now_ms)
        self._waits.add(waiter, waiter.deadline_ms)
        return waiter

    def _complete(self, command: Complete, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        refusal = _no_finisher(job, command.attempt)
        if refusal is not None:
            return refusal
        self._commit(job, Completed(command.job_id, command.result, now_ms))
        traffic = job.queue.traffic
        if now_ms >= traffic.slot_ends_ms:
            traffic.turn(now_ms)
        traffic.completed += 1
        if self._watchers.by_job or job.spec.foreground:
            self._announce(job)
        if job.queue.options is not None:
            self._offer(job.queue, now_ms)
        return OK

    def _fail(self, command: Fail, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        refusal = _no_finisher(job, command.attempt)
        if refusal is not None:
            return refusal
        fails = job.fails + 1
        if command.final or fails >= job.spec.max_fails or job.queue.is_last_attempt(job):
            self._commit(job, Failed(command.job_id, command.result, now_ms))
            self._count_failed(job.queue, now_ms)
            self._announce(job)
        else:
            retry = job.spec.retry
            wait_ms = retry.wait_ms(fails, job.job_id) if retry is not None and job.state != SCHEDULED else 0
            self._commit(job, FailedOnce(command.job_id, now_ms + wait_ms if wait_ms else 0))
        self._offer(job.queue, now_ms)
        return OK

    def _touch(self, command: Touch, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        refusal = _no_holder(job, command.attempt)
        if refusal is not None:
            return refusal
        self._commit(job, Touched(command.job_id, now_ms))
        return OK

    def _progress(self, command: Progress, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        refusal = _no_holder(job, command.attempt)
        if refusal is not None:
            return refusal
        self._commit(job, Progressed(command.job_id, command.progress))
        if command.touches:
            self._commit(job, Touched(command.job_id, now_ms))
        return OK

    def _release(self, command: Release, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        refusal = _no_holder(job, command.attempt)
        if refusal is not None:
            return refusal
        due_ms = now_ms + command.delay_ms if command.delay_ms else 0
        self._end_lease(job, Released(command.job_id, due_ms), now_ms)
        self._offer(job.queue, now_ms)
        return OK

    def _delete(self, command: Delete, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is not None:
            self._remove(job)
            job.queue.traffic.deleted += 1
            self._offer(job.queue, now_ms)
        elif command.job_id in self.state.recurring:
            self._put(RECURRING, command.job_id, b"")
            self._put(RECURRED, command.job_id, b"")
        else:
            return NOT_FOUND
        return OK

    def _result(self, command: Result, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        if job.result is not None:
            return _outcome(job)
        if command.wait_ms == 0:
            return TIMED_OUT
        waiter = ResultWaiter(on_reply, now_ms + command.wait_ms, job)
        self._watch(waiter)
        return waiter

    def _results(self, command: Results, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        waiter = ResultsWaiter(on_reply, now_ms + command.wait_ms, command.job_ids)
        for job_id in command.job_ids:
            job = self.state.jobs.get(job_id)
            if job is not None and job.result is not None:
                waiter.found[job_id] = _outcome(job)
            elif job is not None:
                waiter.missing[job_id] = job
        if not waiter.missing:
            return waiter.reply()
        if command.wait_ms == 0:
            return waiter.reply(TIMED_OUT)
        self._watch(waiter)
        return waiter

    def _retry(self, command: Retry, now_ms: int) -> Reply:
        job = self.state.jobs.get(command.job_id)
        if job is None:
            return NOT_FOUND
        if job.state != FAILED:
            return NOT_FAILED
        self._commit(job, Retried(job.job_id))
        self._offer(job.queue, now_ms)
        return OK

    def _clear(self, command: Clear, now_ms: int, on_reply: OnReply) -> Reply | Waiter:
        queue = self.state.queues.get(command.name)
        if queue is None:
            return NOT_FOUND
        waiter = ClearWaiter(on_reply, queue, list(_CLEARED[command.state]), self.state.next_seq)
        self._clear_some(waiter, now_ms, CLEARED_AT_ONCE)
        if waiter.next_job() is None:
            return Cleared(queue.name, waiter.deleted)
        self._clears[waiter] = None
        return waiter

    def _clear_some(self, waiter: ClearWaiter, now_ms: int, most: int) -> int:
        """Delete at most so many of the jobs that `waiter` is about; return how many, at least 1."""
        deleted = 0
        while deleted < most:
            job = waiter.next_job()
            if job is None:
                break
            deleted += 1
            self._remove(job)
        waiter.deleted += deleted
        waiter.queue.traffic.deleted += deleted
        self._offer(waiter.queue, now_ms)
        return max(deleted, 1)

    def _configure(self, command: ConfigureQueue, now_ms: int) -> Reply:
        queue = self.state.queue(command.name)
        return self._set_options(queue, command.changed(queue.options or NO_OPTIONS), now_ms)

    def _pause(self, name: bytes, paused: bool, now_ms: int) -> Reply:
        queue = self.state.queue(name)
        return self._set_options(queue, (queue.options or NO_OPTIONS).with_paused(paused), now_ms)

    def _set_options(self, queue: Queue, options: QueueOptions, now_ms: int) -> Reply:
        if options != (queue.options or NO_OPTIONS):
            if queue.bucket is not None:
                queue.bucket.fill(now_ms)  # at the old rate
            self._put(QUEUES, queue.name, pack_options(options))
            self._wake_later(queue, now_ms)
        return OK

    def _put_document(self, command: PutDocument) -> Reply:
        self._put(DOORS, command.key, command.value)
        return OK

    def _get_document(self, command: GetDocument) -> Reply:
        value = self.state.documents[DOORS].get(command.key)
        return NOT_FOUND if value is None else Documents([(command.key, value)])

    def _list_documents(self, command: ListDocuments) -> Reply:
        documents = self.state.documents[DOORS]
        return Documents(sorted([item for item in documents.items() if item[0].startswith(command.prefix)]))

    # -- what happens by itself ----------------------------------------------------------------------------------

    def _tick_jobs(self, now_ms: int, steps: int) -> None:
        # Expiries go first, so that nobody is handed a job whose life is over.
        expiries = self.state.expiries
        while expiries.next_ms <= now_ms and steps > 0:
            steps -= 1
            expired = expiries.step(now_ms)
            if expired is not None:
                self._expire(expired, now_ms)
        # Offered when all are ready: the best ones first, and to a bulk lease as many as there are.
        woken: dict[Queue, None] = {}
        deadlines = self.state.deadlines
        while deadlines.next_ms <= now_ms and steps > 0:
            steps -= 1
            job = deadlines.step(now_ms)
            if job is None:
                continue
            if job.state == LEASED:
                self._end_lease(job, self._returned(job), now_ms)
            else:
                self._commit(job, Due(job.job_id))
            if job.queue.leasers:
                woken[job.queue] = None
        for queue in woken:
            self._offer(queue, now_ms)
        wakes = self._wakes
        while wakes.next_ms <= now_ms and steps > 0:
            woken_queue = wakes.step(now_ms)
            if woken_queue is None:
                steps -= 1
            else:
                woken_queue.wake_ms = NEVER_MS
                steps -= self._hand_out(woken_queue, now_ms, steps)
        while self._clears and steps > 0:
            clear = next(iter(self._clears))
            before = clear.deleted
            steps -= self._clear_some(clear, now_ms, steps)
            if clear.next_job() is None:
                if clear.deleted == before:
                    # Others took what was left. The answer must wait for the log all the same, which may not have the
                    # slices before: it waits for what comes after them.
                    self.events.append(self.counters())
                self._end_wait(clear)
                clear.on_reply(Cleared(clear.queue.name, clear.deleted))

    def _tick_recurring(self, now_ms: int, admit: Callable[[int], bool]) -> None:
        state = self.state
        steps = RECUR_STEPS
        budget = RECUR_BYTES
        while steps > 0 and budget > 0:
            steps -= 1
            recurring: Recurring | None
            if state.freed:
                recurring = next(iter(state.freed))
                if state.is_unfinished(recurring.last_id()):  # the job was brought back
                    del state.freed[recurring]
                    state.hold(recurring)
                    continue
            elif state.recurrences.next_ms <= now_ms:
                recurring = state.recurrences.step(now_ms)
                if recurring is None:
                    continue
            else:
                break
            budget -= recurring.size()
            if not admit(recurring.size()):
                if recurring not in state.freed:
                    state.recurrences.add(recurring, recurring.position.next_ms)
                self.recurring_held = True
                break
            self._occur(recurring, now_ms)

    def _occur(self, recurring: Recurring, now_ms: int) -> None:
        """Let the occurrence that is due, the last one of several, become a job; or one that was held back."""
        old = recurring.position
        if recurring.is_armed() and old.next_ms <= now_ms:
            at_ms, following_ms = recurring.rule.caught_up(old.next_ms, now_ms)
            skipped = old.skipped + (old.held_ms != 0)
            new = Position(following_ms or 0, old.last_ms, 0, old.occurrences, skipped)
        else:
            at_ms = old.held_ms
            new = Position(old.next_ms, old.last_ms, 0, old.occurrences, old.skipped)
        job_id = recurring.id_at(at_ms)
        if recurring.skips and old.last_ms and self.state.is_unfinished(recurring.last_id()):
            new.held_ms = at_ms
            self._put(RECURRED, recurring.recurring_id, new.pack())
            return
        if self._is_full(recurring.spec):
            new.skipped += 1
            self._put(RECURRED, recurring.recurring_id, new.pack())
            return
        new.last_ms = at_ms
        new.occurrences += 1
        # The job goes first: a log that is torn between the two then lacks the note that it exists, and not the job.
        job = None
        if not self._is_taken(job_id):
            job = self._create(job_id, recurring.spec, recurring.payload, now_ms, 0, recurring.meta)
        self._put(RECURRED, recurring.recurring_id, new.pack())
        if job is not None:
            self._offer(job.queue, now_ms)

    def _expire(self, job: Job, now_ms: int) -> None:
        self._commit(job, Expired(job.job_id))
        job.queue.traffic.expired += 1
        self._answer_watchers(job, NOT_FOUND)
        self._offer(job.queue, now_ms)

    def _end_lease(self, job: Job, returned: Returned | SentToBack | Released, now_ms: int) -> None:
        """The lease of `job` ended without a result: it is `returned`, unless this was its last attempt."""
        queue = job.queue
        if job.spec.foreground and self._nobody_waits_for(job):
            self._answer_watchers(job, TIMED_OUT)
            self._remove(job)
        elif queue.is_last_attempt(job):
            self._exhaust(job, now_ms)
        else:
            self._commit(job, returned)
            if not isinstance(returned, Released):
                queue.traffic.returned += 1

    def _exhaust(self, job: Job, now_ms: int) -> None:
        """Let `job` fail, because it has no attempt left."""
        self._commit(job, Exhausted(job.job_id, now_ms))
        self._count_failed(job.queue, now_ms)
        self._announce(job)

    def _count_failed(self, queue: Queue, now_ms: int) -> None:
        if now_ms >= queue.traffic.slot_ends_ms:
            queue.traffic.turn(now_ms)
        queue.traffic.failed += 1

    def _returned(self, job: Job) -> Returned | SentToBack:
        """Where `job` goes when its TTR has ended."""
        options = job.queue.options
        if options is not None and options.to_back:
            return SentToBack(job.job_id, self.state.next_seq)
        return Returned(job.job_id)

    def _time_out(self, waiter: Waiter) -> None:
        if isinstance(waiter, RunWaiter):
            if waiter.job.state == LEASED:
                waiter.overdue = True
                return
            self._end_wait(waiter)
            self._remove(waiter.job)
        else:
            self._end_wait(waiter)
        waiter.on_reply(waiter.reply(TIMED_OUT) if isinstance(waiter, ResultsWaiter) else TIMED_OUT)

    def _put(self, area: int, key: bytes, value: bytes) -> None:
        event = DocumentPut(area, key, value)
        event.apply(self.state)
        self.events.append(event)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _is_taken(self, job_id: bytes) -> bool:
        state = self.state
        return state.jobs.get(job_id) is not None or (len(state.recurring) > 0 and job_id in state.recurring)

    def _commit(self, job: Job, event: JobEvent) -> None:
        """Let `event` happen to `job`. Foreground jobs end with their connection, so their events are not kept."""
        event.happen(self.state, job)
        if not job.spec.foreground:
            self.events.append(event)

    def _is_full(self, spec: JobSpec) -> bool:
        queue = self.state.queues.get(spec.name)
        return queue is not None and queue.options is not None and queue.is_full()

    def _create(
        self, job_id: bytes, spec: JobSpec, payload: bytes, now_ms: int, scheduled_ms: int, meta: bytes = b""
    ) -> Job:
        job = Job(job_id, spec, payload, now_ms, scheduled_ms, self.state.next_seq, meta)
        self._commit(job, Added(job))
        traffic = job.queue.traffic
        if now_ms >= traffic.slot_ends_ms:
            traffic.turn(now_ms)
        traffic.added += 1
        return job

    def _offer(self, queue: Queue, now_ms: int) -> None:
        """Jobs of `queue` may have become ready: of those who wait, the one who waits longest gets the best job.

        Where there are options this is left to `tick`, which can count what it does: options may allow much at once.
        """
        if queue.options is not None:
            if queue.leasers:
                self._wake_later(queue, now_ms)
            return
        while queue.leasers:
            best = queue.first_ready()
            if best is None:
                return
            waiter = next(iter(queue.leasers))
            self._end_wait(waiter)
            if waiter.count == 1:
                waiter.on_reply(self._grant(best, now_ms, waiter.fenced))
            else:
                waiter.on_reply(self._grant_several([queue], waiter.count, waiter.fenced, now_ms))

    def _hand_out(self, queue: Queue, now_ms: int, most: int) -> int:
        """Give whoever waits longest what the options of `queue` allow now, `most` jobs at most; return how many."""
        before = queue.lists[LEASED].count
        if queue.leasers:
            self._weed([queue], now_ms, 1)
        if queue.leasers and queue.next_job(now_ms) is not None:
            waiter = next(iter(queue.leasers))
            self._end_wait(waiter)
            count = waiter.count
            reply = self._grant_several([queue], min(count, most), waiter.fenced, now_ms)
            waiter.on_reply(LeasedJobs([reply]) if count > 1 and isinstance(reply, LeasedJob) else reply)
        self._wake_later(queue, now_ms)
        return max(queue.lists[LEASED].count - before, 1)

    def _weed(self, queues: list[Queue], now_ms: int, most: int) -> None:
        """Let jobs fail that would be leased next and have no attempt left: their queue allows fewer than it did."""
        for queue in queues:
            while most > 0 and (job := queue.used_up_job(now_ms)) is not None:
                most -= 1
                self._exhaust(job, now_ms)

    def _may_weed_more(self, queues: list[Queue], now_ms: int) -> bool:
        """Whether one of the queues may have a job behind those for which a lease has had no time."""
        return any([not queue.leasers and queue.used_up_job(now_ms) is not None for queue in queues])

    def _wake_later(self, queue: Queue, now_ms: int) -> None:
        """Have `tick` offer the next job of `queue` when its options allow it, if somebody waits: now, or later."""
        wake_ms = queue.next_lease_ms(now_ms) if queue.leasers else NEVER_MS
        if wake_ms != queue.wake_ms:
            if queue.wake_ms != NEVER_MS:
                self._wakes.remove(queue, queue.wake_ms)
            queue.wake_ms = wake_ms
            if wake_ms != NEVER_MS:
                self._wakes.add(queue, wake_ms)

    def _grant_several(self, ready: list[Queue], count: int, fenced: bool, now_ms: int) -> Reply:
        """Hand out a job of one of the queues `ready`, which all have one; for a `count` above 1 more, too."""
        jobs: list[LeasedJob] = []
        size = 0
        if count > 1 and len(ready) == 1 and ready[0].options is None:
            jobs, size = self._grant_front(ready[0], count, fenced, now_ms)
        while len(jobs) < count and ready:
            at = 0 if len(ready) == 1 else self._random.randrange(len(ready))
            queue = ready[at]
            job = queue.first_ready()
            if job is not None:
                size += len(job.payload)
                if size > BULK_BYTES and jobs:
                    break
                leased = self._grant(job, now_ms, fenced)
                if count == 1:
                    return leased
                jobs.append(leased)
            if queue.next_job(now_ms) is None:
                del ready[at]  # the others, of which there may be thousands, are as they were
        return LeasedJobs(jobs)

    def _grant_front(self, queue: Queue, count: int, fenced: bool, now_ms: int) -> tuple[list[LeasedJob], int]:
        """Hand out the jobs of `queue` that stand ready in a row: in one go, at half the price of one by one.

        Returns them, maybe none, and the bytes of their payloads.
        """
        front = queue.front(count)
        size = 0
        for at, job in enumerate(front):
            larger = size + len(job.payload)
            if larger > BULK_BYTES:
                del front[at:]
                break
            size = larger
        jobs: list[LeasedJob] = []
        if not front:
            return jobs, 0
        event = LeasedInARow(front, now_ms)
        event.apply(self.state)
        traffic = queue.traffic
        if now_ms >= traffic.slot_ends_ms:
            traffic.turn(now_ms)
        traffic.leased += len(front)
        name = queue.name
        is_logged = False
        for job in front:
            spec = job.spec
            is_logged = is_logged or not spec.foreground
            jobs.append(LeasedJob(job.job_id, name, spec.ttr_ms, job.payload, job.meta, job.attempts if fenced else 0))
        if is_logged:
            self.events.append(event)
        return jobs, size

    def _grant(self, job: Job, now_ms: int, fenced: bool) -> LeasedJob:
        self._commit(job, Leased(job.job_id, now_ms))
        queue = job.queue
        traffic = queue.traffic
        if now_ms >= traffic.slot_ends_ms:
            traffic.turn(now_ms)
        traffic.leased += 1
        if queue.bucket is not None:
            queue.bucket.take(now_ms)
        ttr_ms = job.deadline_ms - now_ms  # as `Leased` has just set it
        attempt = job.attempts if fenced else 0
        return LeasedJob(job.job_id, queue.name, ttr_ms, job.payload, job.meta, attempt)

    def _remove(self, job: Job) -> None:
        self._commit(job, Deleted(job.job_id))
        self._answer_watchers(job, NOT_FOUND)

    # -- waiters -------------------------------------------------------------------------------------------------

    def _watch(self, waiter: Watcher) -> None:
        self._watchers.add(waiter)
        self._waits.add(waiter, waiter.deadline_ms)

    def _end_wait(self, waiter: Waiter) -> None:
        """Forget `waiter` everywhere, so that nothing can be given to it."""
        waiter.done = True
        if isinstance(waiter, ClearWaiter):
            del self._clears[waiter]
            return
        self._waits.remove(waiter, waiter.deadline_ms)
        if isinstance(waiter, LeaseWaiter):
            for queue in waiter.queues:
                del queue.leasers[waiter]
                if queue.wake_ms != NEVER_MS and not queue.leasers:
                    self._wakes.remove(queue, queue.wake_ms)
                    queue.wake_ms = NEVER_MS
        elif isinstance(waiter, Watcher):
            self._watchers.remove(waiter)

    def _announce(self, job: Job) -> None:
        """`job` has just finished: tell everybody who waits for its result. A foreground job is then over."""
        if self._watchers.by_job:
            self._answer_watchers(job, _outcome(job))
        if job.spec.foreground:
            self._remove(job)

    def _answer_watchers(self, job: Job, reply: Reply) -> None:
        for waiter in self._watchers.of(job.job_id):
            if isinstance(waiter, ResultsWaiter):
                self._watchers.remove_from(job.job_id, waiter)
                waiter.note(job.job_id, reply)
                if waiter.missing:
                    continue
            self._end_wait(waiter)
            waiter.on_reply(waiter.reply() if isinstance(waiter, ResultsWaiter) else reply)

    def _nobody_waits_for(self, job: Job) -> bool:
        """Whether the client of a foreground job is gone, or waits only because a worker holds the job."""
        watchers = self._watchers.of(job.job_id)
        return not any([isinstance(waiter, RunWaiter) and not waiter.overdue for waiter in watchers])


def _holds(job: Job, attempt: int) -> bool:
    """Whether the worker with this attempt is the one that holds `job` now."""
    return job.state == LEASED and job.attempts == attempt


def _no_holder(job: Job, attempt: int) -> Refused | None:
    """What to tell a worker that does not hold `job`; None if it does, as far as it says who it is."""
    if attempt and not _holds(job, attempt):
        return LEASE_EXPIRED
    return None if job.state == LEASED else NOT_LEASED


def _no_finisher(job: Job, attempt: int) -> Refused | None:
    """What to tell a worker that cannot finish `job`, perhaps because it has done so before; None if it can."""
    if job.result is not None:
        return DUPLICATE_RESULT if attempt in (0, job.attempts) else LEASE_EXPIRED
    return LEASE_EXPIRED if attempt and not _holds(job, attempt) else None


def _outcome(job: Job) -> JobResult:
    return JobResult(job.job_id, job.state == COMPLETED, job.result or b"")

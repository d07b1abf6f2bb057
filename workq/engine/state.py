"""All that the server remembers about jobs. Events change it (`events.py`), the engine reads it."""

from typing import Final

from sortedcontainers import SortedDict, SortedList

from workq.engine.documents import AREA_NAMES, QUEUES, RECURRED, RECURRING, unpack_options
from workq.engine.job import FAILED, GONE, LEASED, NEVER_MS, READY, SCHEDULED, STATE_NAMES, TRANSITIONS, Job
from workq.engine.queue import Queue
from workq.engine.recurring import Recurring, next_ms, unpack_position
from workq.engine.table import JobTable
from workq.engine.timers import TimerWheel
from workq.values import QueueOptions

# TRANSITIONS for the hot path: whether a state (first index) may become another (second).
_MAY_MOVE: Final[list[list[bool]]] = [
    [to in TRANSITIONS[state] for to in range(len(STATE_NAMES))] for state in range(len(STATE_NAMES))
]


class ImpossibleMove(Exception):
    """An event asked for a transition that the table of the life of a job does not have."""


def _expires_ms(job: Job) -> int:
    return job.expires_ms()


def _deadline_ms(job: Job) -> int:
    return job.deadline_ms


class State:
    """Jobs, their queues and their deadlines.

    jobs          every job that exists, by id
    queues        every queue ever used, by name
    queue_names   their names in order
    expiries      the end of each job's TTL
    deadlines     the end of each lease, and when each scheduled job is ready
    next_seq      the `seq` of the next job
    evicted_jobs  jobs whose TTL ended before they did
    stored_bytes  names, payloads, results and extras of all jobs that the log keeps, so not of foreground jobs; and
                  documents
    documents     what is kept beside jobs: areas of keys and values (`documents.py`)
    finished      jobs with `meta` that have finished since the broker last took this list
    recurring     recurring jobs, by id
    recurrences   the next occurrence of each of them
    held          those with an occurrence that waits, by the id of the job that it waits for
    freed         those whose wait may be over, in the order in which it was
    """

    __slots__ = (
        "jobs",
        "queues",
        "queue_names",
        "expiries",
        "deadlines",
        "next_seq",
        "evicted_jobs",
        "stored_bytes",
        "documents",
        "finished",
        "recurring",
        "recurrences",
        "held",
        "freed",
    )

    def __init__(self, now_ms: int) -> None:
        self.jobs = JobTable()
        self.queues: dict[bytes, Queue] = {}
        self.queue_names: SortedList[bytes] = SortedList()
        self.expiries: TimerWheel[Job] = TimerWheel(_expires_ms, now_ms)
        self.deadlines: TimerWheel[Job] = TimerWheel(_deadline_ms, now_ms)
        self.next_seq = 1
        self.evicted_jobs = 0
        self.stored_bytes = 0
        self.documents: list[dict[bytes, bytes]] = [{} for _ in AREA_NAMES]
        self.finished: list[Job] = []
        self.recurring: SortedDict[bytes, Recurring] = SortedDict()
        self.recurrences: TimerWheel[Recurring] = TimerWheel(next_ms, now_ms)
        self.held: dict[bytes, Recurring] = {}
        self.freed: dict[Recurring, None] = {}

    def queue(self, name: bytes) -> Queue:
        """The queue `name`, made at its first use."""
        queue = self.queues.get(name)
        if queue is None:
            queue = self.queues[name] = Queue(name)
            self.queue_names.add(name)
        return queue

    def put_document(self, area: int, key: bytes, value: bytes) -> None:
        """Let `key` have `value` from now on, b"" for none, and take effect. Raises `InvalidValue`."""
        if area == QUEUES:
            self._set_options(self.queue(key), unpack_options(value))
        documents = self.documents[area]
        old = documents.pop(key, None)
        if old is not None:
            self.stored_bytes -= len(key) + len(old)
        if value:
            documents[key] = value
            self.stored_bytes += len(key) + len(value)
        if area in (RECURRING, RECURRED):
            self._set_recurring(key)

    def _set_recurring(self, key: bytes) -> None:
        """Let a recurring job be what its documents say."""
        old = self.recurring.pop(key, None)
        if old is not None:
            if old.is_armed():
                self.recurrences.remove(old, old.position.next_ms)
            if old.position.held_ms:
                self.held.pop(old.last_id(), None)
                self.freed.pop(old, None)
        definition = self.documents[RECURRING].get(key)
        value = self.documents[RECURRED].get(key)
        if definition is None or value is None:
            return
        position = unpack_position(value)
        if old is not None and old.definition is definition:
            recurring = old
            recurring.position = position
        else:
            recurring = Recurring(key, definition, position)
        self.recurring[key] = recurring
        if recurring.is_armed():
            self.recurrences.add(recurring, position.next_ms)
        if position.held_ms:
            self.hold(recurring)

    def is_unfinished(self, job_id: bytes) -> bool:
        """Whether there is such a job that has not ended."""
        job = self.jobs.get(job_id)
        return job is not None and job.result is None

    def hold(self, recurring: Recurring) -> None:
        """Let the occurrence that waits be free when the job of the last one ends, or at once."""
        last_id = recurring.last_id()
        if self.is_unfinished(last_id):
            self.held[last_id] = recurring
        else:
            self.freed[recurring] = None

    def _set_options(self, queue: Queue, options: QueueOptions) -> None:
        """Leases in progress last as long as `options` say, counted from their beginning."""
        before = [(job, queue.ttr_ms(job.spec)) for job in queue.lists[LEASED]]
        queue.set_options(options)
        for job, ttr_ms in before:
            longer_ms = queue.ttr_ms(job.spec) - ttr_ms
            if longer_ms:
                self.extend(job, job.deadline_ms + longer_ms)

    def insert(self, job: Job, to: int, deadline_ms: int) -> None:
        """Take in `job`, whose state will be `to`, not GONE; `deadline_ms` goes with all but READY."""
        self.jobs.add(job)
        if job.seq >= self.next_seq:
            self.next_seq = job.seq + 1
        spec = job.spec
        if not spec.foreground:
            self.stored_bytes += len(spec.name) + len(job.payload)
            if job.extra is not None:
                self.stored_bytes += job.extra.size()
            expires_ms = job.expires_ms()
            if expires_ms != NEVER_MS:
                self.expiries.add(job, expires_ms)
        job.queue = self.queues.get(spec.name) or self.queue(spec.name)
        self._enter(job, to, deadline_ms)

    def move(self, job: Job, to: int, deadline_ms: int = 0) -> None:
        """Move `job` to the state `to`; `deadline_ms` goes with all but READY and GONE."""
        state = job.state
        if not _MAY_MOVE[state][to]:
            raise ImpossibleMove(f"{job!r} cannot become {STATE_NAMES[to]}")
        queue = job.queue
        queue.lists[state].remove(job, job, 1)
        if state == LEASED:
            self.deadlines.remove(job, job.deadline_ms)
        elif state == READY:
            queue.drop_ready(job)
        elif state == SCHEDULED:
            queue.drop_scheduled(job)
            self.deadlines.remove(job, job.deadline_ms)
        if to == GONE:
            self._leave(job)
        else:
            self._enter(job, to, deadline_ms)

    def lease(self, job: Job, deadline_ms: int) -> None:
        """Move `job` to LEASED. It is what `move` would do, without its questions: only a ready job is leased."""
        if job.state != READY:
            raise ImpossibleMove(f"{job!r} cannot become {STATE_NAMES[LEASED]}")
        queue = job.queue
        queue.lists[READY].remove(job, job, 1)
        queue.drop_ready(job)
        job.state = LEASED
        job.deadline_ms = deadline_ms
        queue.lists[LEASED].add(job)
        self.deadlines.add(job, deadline_ms)

    def lease_front(self, jobs: list[Job], at_ms: int) -> None:
        """Lease `jobs`, the first of their queue's `front`, which has no options: each as `Leased` does it."""
        queue = jobs[0].queue
        queue.drop_front(jobs)
        queue.lists[READY].move_all(jobs, queue.lists[LEASED])
        same: list[Job] = []  # those at hand that have the same deadline
        deadline_ms = 0
        for job in jobs:
            if job.state != READY:
                raise ImpossibleMove(f"{job!r} cannot become {STATE_NAMES[LEASED]}")
            job.state = LEASED
            job.attempts += 1
            job.deadline_ms = at_ms + job.spec.ttr_ms
            if job.deadline_ms != deadline_ms:
                self.deadlines.add_all(same, deadline_ms)
                same = []
                deadline_ms = job.deadline_ms
            same.append(job)
        self.deadlines.add_all(same, deadline_ms)

    def revive(self, job: Job) -> None:
        """Make `job`, which has failed, ready and new."""
        if job.state != FAILED:
            raise ImpossibleMove(f"{job!r} has not failed")
        self.stored_bytes -= len(job.result or b"")
        job.result = None
        job.fails = 0
        if job.attempts:
            job.more().spent = job.attempts
        self.move(job, READY)

    def extend(self, job: Job, deadline_ms: int) -> None:
        """Let the lease of `job` end at `deadline_ms`."""
        if job.state != LEASED:
            raise ImpossibleMove(f"{job!r} has no lease")
        self.deadlines.remove(job, job.deadline_ms)
        job.deadline_ms = deadline_ms
        self.deadlines.add(job, deadline_ms)

    def set_progress(self, job: Job, progress: bytes) -> None:
        """Let `job` have this progress, b"" for none."""
        extra = job.more()
        if not job.spec.foreground:
            self.stored_bytes += len(progress) - len(extra.progress)
        extra.progress = progress
        if extra.is_empty():
            job.extra = None

    def _enter(self, job: Job, to: int, deadline_ms: int) -> None:
        """Let `job` be in the state `to`, which is not GONE."""
        job.state = to
        queue = job.queue
        jobs = queue.lists[to]
        jobs.add(job)
        if to == READY:
            queue.push_ready(job)
            return
        job.deadline_ms = deadline_ms
        if to == LEASED:
            self.deadlines.add(job, deadline_ms)
        elif to == SCHEDULED:
            queue.push_scheduled(job)
            self.deadlines.add(job, deadline_ms)
        else:
            before = job.before
            if before is not None and before.deadline_ms > deadline_ms:
                jobs.is_sorted = False
            if not job.spec.foreground:
                self.stored_bytes += len(job.result or b"")
                if job.extra is not None and job.extra.meta:
                    self.finished.append(job)
            if self.held:
                self._free(job)

    def _free(self, job: Job) -> None:
        """`job` has ended: an occurrence that waited for it waits no more."""
        recurring = self.held.pop(job.job_id, None)
        if recurring is not None:
            self.freed[recurring] = None

    def _leave(self, job: Job) -> None:
        job.state = GONE
        self.jobs.remove(job)
        if self.held:
            self._free(job)
        if not job.spec.foreground:
            self.stored_bytes -= job.size()
            expires_ms = job.expires_ms()
            if expires_ms != NEVER_MS:
                self.expiries.remove(job, expires_ms)

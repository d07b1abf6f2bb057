"""An engine that lives through a generated history, and its clients."""

from tests.engine.replay import one_by_one
from tests.engine.steps import IDS, HangUp, OfOccurrence, Sleep, Stall, Step, about, at
from workq import commands as c
from workq.engine import Engine, Waiter
from workq.engine.events import Event
from workq.replies import Reply


class Life:
    """Every command comes from a new client, numbered from 1.

    waiting  the clients without a reply, longest first
    replies  who got which reply when, in order
    events   what the engine said for the log
    """

    def __init__(self, engine: Engine, now_ms: int) -> None:
        self.engine = engine
        self.now_ms = now_ms
        self.waiting: dict[int, Waiter] = {}
        self.replies: list[tuple[int, int, Reply]] = []
        self.events: list[Event] = []
        self.clients = 0

    def live(self, step: Step) -> None:
        """Let `step` happen."""
        if isinstance(step, Stall):
            self.tick(self.now_ms + step.ms)
        elif isinstance(step, Sleep):
            self.sleep(self.now_ms + step.ms)
        elif isinstance(step, HangUp):
            if self.waiting:
                self.hang_up(list(self.waiting)[step.which % len(self.waiting)])
        elif isinstance(step, OfOccurrence):
            command = about(step, [job_id for job_id in self.engine.state.jobs if job_id not in IDS])
            if command is not None:
                self.execute(command)
        else:
            self.execute(at(step, self.now_ms))
        self.events += one_by_one(self.engine.events)
        self.engine.events.clear()

    def execute(self, command: c.Command) -> Reply | None:
        """Give the reply, if there is one yet."""
        self.clients += 1
        client = self.clients

        def on_reply(reply: Reply) -> None:
            del self.waiting[client]
            self.replies.append((self.now_ms, client, reply))

        answer = self.engine.execute(command, self.now_ms, on_reply)
        if isinstance(answer, Waiter):
            self.waiting[client] = answer
            return None
        self.replies.append((self.now_ms, client, answer))
        return answer

    def hang_up(self, client: int) -> None:
        """The client goes away."""
        self.engine.cancel(self.waiting.pop(client))

    def tick(self, now_ms: int) -> None:
        """Let all happen that is due at `now_ms`."""
        self.now_ms = now_ms
        while self.engine.next_ms() <= now_ms:
            self.engine.tick(now_ms)

    def sleep(self, end_ms: int) -> None:
        """Let time pass until `end_ms`, with a tick whenever the engine asks for one, as in the server."""
        while (next_ms := self.engine.next_ms()) <= end_ms:
            self.tick(max(self.now_ms, next_ms))
        self.tick(end_ms)

    def everybody_leaves(self) -> None:
        """All clients that wait go away."""
        while self.waiting:
            self.hang_up(next(iter(self.waiting)))

"""`kill -9` in the midst of work, again and again: what was acknowledged is there, and nothing is there twice.

More rounds on request: WORKQ_TEST_KILLS=500.
"""

import os
import random
import threading
import uuid
from pathlib import Path
from random import Random
from typing import Final

from tests.server import Dialogue, ServerProcess

ROUNDS: Final = int(os.environ.get("WORKQ_TEST_KILLS", 20))
SEED: Final = int(os.environ.get("WORKQ_TEST_SEED", 0)) or random.SystemRandom().getrandbits(32)
CLIENTS: Final = 4
POLICIES: Final = ("always", "interval", "os")
STATES: Final = {"complete": "1", "fail": "2"}


class Job:
    """What a client knows of a job.

    asked     what it has asked the server to do with it: add, complete, fail, delete
    done      what of it was acknowledged
    attempts  leases it was told of
    """

    def __init__(self, job_id: str, queue: str) -> None:
        self.job_id = job_id
        self.queue = queue
        self.asked = {"add"}
        self.done: set[str] = set()
        self.attempts = 0

    @property
    def payload(self) -> str:
        return f"payload of {self.job_id}"

    @property
    def result(self) -> str:
        return f"result of {self.job_id}"

    def check(self, dialogue: Dialogue, stray_leases: int) -> int:
        """Compare with what the server knows, and know that from now on.

        Up to `stray_leases` attempts may have been made that nobody was told of; returns how many there were.
        """
        line = dialogue.ask(f"inspect job {self.job_id}\r\n".encode())
        if line == b"-NOT-FOUND":
            assert "add" not in self.done or "delete" in self.asked, f"{self.job_id} is lost"
            self.done = self.asked = {"add", "delete"}
            return 0
        assert line == b"+OK 1"
        count = int(dialogue.line().split(b" ")[1])
        seen = {key: value for key, _, value in [dialogue.line().decode().partition(" ") for _ in range(count)]}
        assert "delete" not in self.done, f"{self.job_id} is back"
        assert (seen["name"], seen["payload"]) == (self.queue, self.payload)
        self.done.add("add")
        for verb, state in STATES.items():
            assert verb not in self.done or seen["state"] == state, f"{self.job_id} has lost its result"
            if seen["state"] == state:
                assert verb in self.asked, f"{self.job_id} has a result from nowhere"
                self.done.add(verb)
                dialogue.send(f"result {self.job_id} 0\r\n".encode())
                success = int(verb == "complete")
                told = f"{self.job_id} {success} {len(self.result)}"
                dialogue.expect(b"+OK 1", told.encode(), self.result.encode())
        strays = int(seen["attempts"]) - self.attempts
        assert 0 <= strays <= stray_leases, f"{self.job_id} was leased {seen['attempts']} times, not {self.attempts}"
        self.attempts += strays
        return strays


class Client(threading.Thread):
    """Adds, leases, finishes and deletes jobs of a queue of its own, many requests at a time, until the server dies."""

    def __init__(self, server: ServerProcess, queue: str, seed: int, progress: threading.Semaphore) -> None:
        super().__init__()
        self.queue = queue
        self.jobs: dict[str, Job] = {}
        self.open_leases = 0  # asked for, not answered
        self._dialogue = server.connect()
        self._random = Random(seed)
        self._progress = progress

    def run(self) -> None:
        try:
            with self._dialogue:
                while True:
                    self._work()
        except OSError:
            pass  # the end

    def check(self, dialogue: Dialogue) -> None:
        """Compare all that is known with what the server knows."""
        for job in self.jobs.values():
            self.open_leases -= job.check(dialogue, self.open_leases)
        ready: list[str] = []
        while (reply := dialogue.ask(f"inspect jobs {self.queue} {len(ready)} 100\r\n".encode())) != b"+OK 0":
            if reply == b"-NOT-FOUND":
                break
            for _ in range(int(reply.split(b" ")[1])):
                job_id, count = dialogue.line().split(b" ")
                ready.append(job_id.decode())
                for _ in range(int(count)):
                    dialogue.line()
        assert len(ready) == len(set(ready)), "a job stands in its queue twice"
        assert set(ready) <= set(self.jobs), "a job stands in the queue of another"

    def _work(self) -> None:
        jobs = [Job(str(uuid.UUID(bytes=self._random.randbytes(16))), self.queue) for _ in range(8)]
        for job in jobs:
            self.jobs[job.job_id] = job
            self._send(f"add {job.job_id} {job.queue} 86400000 864000000 {len(job.payload)}", job.payload)
        for job in jobs:
            self._acknowledge(job, "add")

        self.open_leases += len(jobs)
        for _ in jobs:
            self._send(f"lease {self.queue} 0")
        finished = []
        for _ in jobs:
            self._dialogue.expect(b"+OK 1")
            job = self.jobs[self._dialogue.line().split(b" ")[0].decode()]
            self._dialogue.line()
            job.attempts += 1
            self.open_leases -= 1
            self._progress.release()
            finished.append((job, self._random.choice(("complete", "fail", *["delete"] * 6))))

        for job, verb in finished[1:]:  # one stays leased
            job.asked.add(verb)
            if verb == "delete":
                self._send(f"delete {job.job_id}")
            else:
                self._send(f"{verb} {job.job_id} {len(job.result)}", job.result)
        for job, verb in finished[1:]:
            self._acknowledge(job, verb)

    def _send(self, *lines: str) -> None:
        self._dialogue.send("".join([f"{line}\r\n" for line in lines]).encode())

    def _acknowledge(self, job: Job, verb: str) -> None:
        self._dialogue.expect(b"+OK")
        job.done.add(verb)
        self._progress.release()


def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(tmp_path: Path) -> None:
    print(f"to repeat: WORKQ_TEST_SEED={SEED}")
    rng = Random(SEED)
    clients: list[Client] = []
    for number in range(ROUNDS + 1):
        policy = POLICIES[number % len(POLICIES)]
        with ServerProcess(
            f"--data-dir={tmp_path}", f"--log-sync={policy}", "--log-sync-interval=0.01", "--log-segment-size=65536"
        ) as server:
            with server.connect() as dialogue:
                for client in clients if number == ROUNDS else clients[-CLIENTS:]:
                    client.check(dialogue)
            if number == ROUNDS:
                break
            progress = threading.Semaphore(0)
            started = [Client(server, f"r{number}-c{each}", rng.getrandbits(32), progress) for each in range(CLIENTS)]
            for client in started:
                client.start()
            for _ in range(rng.randrange(20, 1500)):
                assert progress.acquire(timeout=10), "nothing is acknowledged any more"
            server.kill()
            for client in started:
                client.join()
            clients += started
    assert sum([len(client.jobs) for client in clients]) > 40 * ROUNDS
    assert int(min(tmp_path.glob("*.seg")).stem) > 1, "nothing was compacted"

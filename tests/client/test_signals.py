"""What a worker process does when it is told to stop, and what becomes of the jobs of one that dies."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from datetime import datetime
from pathlib import Path
from typing import Self

import pytest

import workq

PATIENCE_S = 20


class WorkerProcess:
    """`workq worker tests.client.signalled:app` in a session of its own; killed at the end of the `with` block."""

    def __init__(self, url: str, *options: str, grace_s: float = 30) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workq.cli", "worker", "tests.client.signalled:app", "--server", url, *options],
            env={**os.environ, "GRACE": str(grace_s)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._log: list[str] = []
        self._grew = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def send_to_all(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    def insist(self, number: signal.Signals) -> int:
        """Send a signal until the process ends: two that come quickly are one to it."""
        for _ in range(PATIENCE_S * 10):
            self.send(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(0.1)
        pytest.fail("the process does not end")

    def logged(self, text: str) -> str:
        """Wait until the worker has said `text`; the line that says it."""
        with self._grew:
            if not self._grew.wait_for(lambda: text in "".join(self._log), PATIENCE_S):
                pytest.fail(f"{text!r} is missing in:\n{''.join(self._log)}")
            return next(line for line in self._log if text in line)

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                with self._grew:
                    self._log.append(line)
                    self._grew.notify_all()


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4()}"


def start_job(client: workq.Client, queue: str, name: str, **options: float) -> tuple[str, int]:
    """Add a job, wait until its function runs; its id and the id of the process it runs in."""
    job_id = client.add(queue, name, **options)  # type: ignore[arg-type]
    return job_id, int(client.lease(f"{name}.started", timeout=PATIENCE_S).payload)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("queue", ["thread", "async", "process"])
def test_a_signal_lets_running_jobs_finish(url: str, name: str, queue: str, number: signal.Signals) -> None:
    with workq.Client(url) as client, WorkerProcess(url) as worker:
        job_id, _ = start_job(client, queue, name)
        worker.send_to_all(number)  # as a terminal and most supervisors do, child processes included
        worker.logged(f"{number.name}: finishing what runs, for 30 s at most; a second signal ends the process at once")
        waiting = client.add(queue, f"{name}.second")
        client.add(f"{name}.go")
        assert worker.wait() == 0
        assert client.result(job_id, timeout=0).result == b"held"
        assert client.inspect_job(waiting).state is workq.JobState.NEW
        client.delete(waiting)


@pytest.mark.parametrize("queue", ["thread", "async", "process", "blocking"])
def test_two_signals_end_the_process_at_once(url: str, name: str, queue: str) -> None:
    with workq.Client(url) as client, WorkerProcess(url) as worker:
        job_id, pid = start_job(client, queue, name)
        worker.send(signal.SIGTERM)
        if queue != "blocking":  # nothing is logged while a function blocks the event loop
            worker.logged("finishing what runs")
        assert worker.insist(signal.SIGTERM) == -signal.SIGTERM
        assert client.inspect_job(job_id).state is workq.JobState.LEASED
        client.delete(job_id)  # or it comes back at the end of its TTR to the worker of another test
        while is_alive(pid):  # a process of the worker notices its end by itself
            pass


@pytest.mark.parametrize("queue", ["thread", "async", "process", "stubborn"])
def test_after_the_grace_time_the_rest_is_left_to_its_ttr(url: str, name: str, queue: str) -> None:
    with workq.Client(url) as client, WorkerProcess(url, grace_s=0.1) as worker:
        job_id, pid = start_job(client, queue, name)
        worker.send(signal.SIGTERM)
        worker.logged(f"{queue} {job_id} still runs after 0.1 s of grace: left to its TTR")
        assert worker.wait() == 0
        assert client.inspect_job(job_id).state is workq.JobState.LEASED
        client.delete(job_id)
        assert not is_alive(pid)


def test_the_job_of_a_worker_that_dies_comes_back_at_the_end_of_its_ttr(url: str, name: str) -> None:
    with workq.Client(url) as client, WorkerProcess(url) as worker:
        job_id, _ = start_job(client, "end", name, ttr=0.5)
        assert worker.wait() == 9
        assert client.lease("end", timeout=PATIENCE_S).id == job_id
        assert client.inspect_job(job_id).attempts == 2
        client.delete(job_id)  # or it ends the worker of the next test


def test_a_stop_without_work_is_quick(url: str) -> None:
    with WorkerProcess(url) as worker:
        worker.logged("working on")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        worker.logged("worker stopped")


def test_the_log_may_be_lines_of_json(url: str) -> None:
    with WorkerProcess(url, "--json") as worker:
        record = json.loads(worker.logged("working on"))
    assert (record["level"], record["message"].partition(": ")[0]) == ("INFO", url)
    assert datetime.fromisoformat(record["time"]).tzinfo is not None

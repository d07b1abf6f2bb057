"""The worker and the producer of the README work as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workq

README = Path(__file__).parent.parent.parent / "README.md"
PATIENCE_S = 60


def python_block(heading: str) -> str:
    """The Python under a heading of the README."""
    section = re.search(rf"^#+ {heading}$(.*?)(?=^#+ |\Z)", README.read_text(), re.M | re.S)
    assert section is not None, f"the README has no heading {heading!r}"
    block = re.search(r"^```python\n(.*?)^```$", section[1], re.M | re.S)
    assert block is not None, f"there is no Python under {heading!r}"
    return block[1]


@pytest.mark.parametrize(("heading", "lines"), [("Worker", 5), ("Producer", 3)])
def test_it_takes_no_more_lines_than_we_say(heading: str, lines: int) -> None:
    assert len([line for line in python_block(heading).splitlines() if line.strip()]) == lines


def test_the_producer_gets_its_result_from_the_worker(url: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(python_block("Worker"))
    environment = {**os.environ, "WORKQ_SERVER": url, "PYTHONPATH": str(README.parent)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "workq.cli", "worker", "tasks:worker"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", python_block("Producer")],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "b'hello world'\n", "")
    finally:
        worker.terminate()
        _, said = worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0, said


def test_the_care_of_queues_is_as_it_says(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with workq.Client(url) as client:
        job_id = client.add("greet")
        client.fail(job_id)
        exec(python_block("Care of queues"), {"client": client})
        assert re.fullmatch(r"\d+ deleted\n0\.0 s\n", capsys.readouterr().out)
        assert client.inspect_job(job_id).state is workq.JobState.NEW
        (recurring,) = client.inspect_recurring()
        client.delete(recurring.id)
        assert client.inspect_queue("mail").paused

"""The scripts that move jobs from an old server to this one work as the pages "Coming from ..." have them.

The old server is played by one of ours, through the same API.
"""

import re
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.http.client import HttpClient
from tests.http.hq.door import Hq
from tests.server import PATIENCE_S, ServerProcess
from tests.webworker import WebWorker

DOC = Path(__file__).parent.parent.parent / "doc"

pytestmark = pytest.mark.skipif(not (shutil.which("jq") and shutil.which("curl")), reason="needs jq and curl")


def flags(door: str) -> tuple[str, ...]:
    return ("--http", "off", f"--{door}-listen", "127.0.0.1:0")


def move(door: str, old: ServerProcess, new: ServerProcess, **variables: str) -> None:
    """Run the script of the page about `door`, with the addresses of these servers."""
    page = (DOC / f"coming-from-{door}.md").read_text()
    (script,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "$OLD" in block]
    values = {
        name: "http://{}:{}".format(*server.http_addresses[door]) for name, server in [("OLD", old), ("NEW", new)]
    }
    values |= variables
    script = re.sub(r"^OLD=.*$", "", script, flags=re.MULTILINE)
    given = "\n".join([f"{name}='{value}'" for name, value in values.items()])
    done = subprocess.run(
        ["bash", "-uc", f"{given}\n{script}"], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stderr == ""


def test_from_fireworq() -> None:
    # In another time zone than ours, which the times of jobs have to tell.
    with (
        ServerProcess(*flags("fireworq"), env={"TZ": "Asia/Kolkata"}) as old_server,
        ServerProcess(*flags("fireworq")) as new_server,
        HttpClient(old_server, "fireworq") as old,
        HttpClient(new_server, "fireworq") as new,
    ):
        old.put("/queue/a%20b", {"max_workers": 3, "max_dispatches_per_second": 2.5, "max_burst_size": 4})
        old.put("/routing/some/kind", {"queue_name": "a b"})
        jobs = [{"url": "http://127.0.0.1:9/", "payload": payload} for payload in ({"n": [1, "ü"]}, "text", None)]
        for job in jobs:
            old.post("/job/some/kind", {**job, "run_after": 7200, "max_retries": 4, "retry_delay": 9, "timeout": 8})
        told = old.get("/queue/a%20b/deferred?order=asc").json["jobs"]
        move("fireworq", old_server, new_server)
        assert new.get("/queues").json == old.get("/queues").json
        assert new.get("/routings").json == old.get("/routings").json
        assert old.get("/queue/a%20b/deferred").json["jobs"] == []
        # Delays are whole seconds, so jobs of the same second may change places.
        moved = sorted(new.get("/queue/a%20b/deferred").json["jobs"], key=lambda job: int(job["id"]))
        assert len(moved) == 3
        for before, after in zip(told, moved, strict=True):
            times = [datetime.fromisoformat(job.pop("next_try")) for job in (before, after)]
            assert abs((times[1] - times[0]).total_seconds()) < 60
            for job in (before, after):
                del job["created_at"]
            assert after == before


def test_from_messages() -> None:
    with (
        ServerProcess(*flags("messages")) as old_server,
        ServerProcess(*flags("messages")) as new_server,
        HttpClient(old_server, "messages") as old,
        HttpClient(new_server, "messages") as new,
    ):
        for client in (old, new):
            client.post("/queues?name=q&max_attempts=2&visibility_timeout_seconds=30")
        messages = [{"a": [1, "ü"]}, "text", None, 5]
        for body in (b'{"a": [1, "\xc3\xbc"]}', b'"text"', b"null", b"5"):
            old.post("/queues/q/enqueue", body=body)
        move("messages", old_server, new_server, Q="q")
        assert old.get("/queues/q/receive").json is None
        assert [new.get("/queues/q/receive").json["args"] for _ in messages] == messages
        assert new.get("/queues/q/receive").json is None


def test_from_hq(tmp_path: Path) -> None:
    config = tmp_path / "hq.toml"
    config.write_text("[hq]\ndispatchers = 1\n")
    with (
        WebWorker() as worker,
        ServerProcess(*flags("hq"), "--config", str(config)) as old_server,
        ServerProcess(*flags("hq")) as new_server,
        Hq(old_server) as old,
        Hq(new_server) as new,
    ):
        worker.behaviours["/hang"] = worker.hang
        old.wait_for(old.push(worker.url("/hang"))["id"], "running")
        given = {"name": "n", "comment": "it's", "payload": {"a": [1, "ü"]}, "headers": {"X-A": "b"}, "timeout": 5}
        waiting = old.push(worker.url("/there"), **given)
        move("hq", old_server, new_server)
        (moved,) = new.list()["jobs"]
        for key in ("url", *given):
            assert moved[key] == waiting[key]
        worker.wait_for_requests(2)

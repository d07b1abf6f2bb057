"""The examples of `doc/http.md` do what stands there, in order, and what it tables is there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.http.client import HttpClient
from tests.server import PATIENCE_S, ServerProcess

DOCUMENT = (Path(__file__).parent.parent.parent / "doc" / "http.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", DOCUMENT, re.M | re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.partition("\n")[0][:50] for block in BLOCKS])
def test_an_example(server: ServerProcess, block: str) -> None:
    host, port = server.http_addresses[""]
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M):
        here = command.replace("localhost:9923", f"{host}:{port}").replace("curl ", "curl -sS ", 1)
        done = subprocess.run(["sh", "-c", here], capture_output=True, text=True, timeout=PATIENCE_S)
        assert (done.returncode, done.stderr) == (0, ""), command
        pattern = re.escape(expected.strip()).replace(re.escape("..."), r"[\s\S]*")
        said = done.stdout.replace("\r", "").strip()
        assert re.fullmatch(pattern, said), f"{command}: {said!r} is not {expected!r}"


def test_all_operations_are_listed(http: HttpClient) -> None:
    table = DOCUMENT.partition("## Operations")[2].partition("**Fencing")[0]
    for path, methods in http.get("/v1/openapi.json").json["paths"].items():
        if path.endswith("/push"):
            continue  # is in doc/push.md
        ending = path.rpartition("/")[2]
        for method in methods:
            assert f"`{method.upper()} {path}`" in table or f"`…/{ending}`" in table, f"{method} {path}"


def test_all_metrics_are_listed(tmp_path: Path) -> None:
    with ServerProcess("--http", "127.0.0.1:0", f"--data-dir={tmp_path}") as server, HttpClient(server) as http:
        types = re.findall(r"^# TYPE (\w+) (\w+)$", http.get("/metrics").text, re.M)
    others = ("process_", "workq_dispatch", "workq_push", "workq_archive")
    for name, kind in types:
        if not name.startswith(others):
            assert re.search(rf"`{name}[`{{]", DOCUMENT), f"{kind} {name}"

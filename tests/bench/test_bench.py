"""The benchmark works: every scenario runs, failures are told, nothing is left behind. Figures are not looked at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest
from rich.console import Console

from bench import measure, report
from bench.chart import draw
from bench.errors import BenchError, NotMeasured
from bench.loadgen import LoadGenerator, RawFigures
from bench.measure import Measurement, Plan
from bench.results import Results, Row, Spread, load, save
from bench.scenarios import SCENARIOS, Load, Scenario
from bench.servers import RunningServer, Server, find_servers
from tests.server import PATIENCE_S

PROJECT = Path(__file__).parent.parent.parent

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="the load generator is a C program"
)


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)


# -- with real servers -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers() -> list[Server]:
    """One workq, and whatever else is installed here."""
    by_protocol = {server.protocol: server for server in find_servers()[0]}
    return list(by_protocol.values())


@needs_compiler
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_scenario_is_measured_on_every_server_that_can_do_it(scenario: Scenario, servers: list[Server]) -> None:
    jobs = 2 * scenario.load.connections * scenario.load.depth
    small = attrs.evolve(
        scenario,
        load=attrs.evolve(scenario.load, jobs=jobs),
        fill=scenario.fill and attrs.evolve(scenario.fill, jobs=jobs),
    )
    rows: list[Row] = []
    measurement = Measurement(servers, LoadGenerator(), Plan(rounds=1), lambda step: None)

    measurement.run([small], lambda _, row: rows.append(row))

    assert measurement.failures == []
    for server in servers:
        if server.protocol in scenario.missing:
            assert rows[0].outcomes[server.name] == scenario.missing[server.protocol]
            continue
        figures = rows[0].figures(server.name)
        commands = {"cycle": 3, "add": 1, "drain": 2, "blocked": 3, "run": 3}[scenario.load.kind] * jobs
        # The callers of `run` have their results while the replies to the last workers may still be under way.
        under_way = scenario.load.connections if scenario.load.kind == "run" else 0
        assert commands - under_way <= figures["operations"].median <= commands
        assert 0 < figures["p50_us"].median <= figures["p999_us"].median <= figures["max_us"].median
        assert ("job_bytes" in figures) == (scenario.fill is not None or scenario.load.kind == "add")


@needs_compiler
def test_a_run_prints_a_table_and_writes_what_a_later_run_compares_with(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    options = ("--quick", "--only=single", "--only=add", "--server=workq-pure")

    first = bench(*options, f"--json={file}")
    second = bench(*options, f"--compare={file}")

    assert (first.returncode, first.stderr) == (0, "")
    assert "1 connection, 1 in flight" in first.stdout
    assert "workq-pure" in first.stdout
    assert set(json.loads(file.read_text())["rows"]) == {"single", "add"}
    assert (second.returncode, second.stderr) == (0, "")
    assert "CPU before" in second.stdout


@needs_compiler
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_process_and_no_file(stop: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "--only=single", "--server=workq-pure", "--seconds=60"],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    children = wait_for_children(process.pid, "workq.server.main", "loadgen")
    assert list(tmp_path.iterdir()) != []

    process.send_signal(stop)

    assert process.wait(PATIENCE_S) != 0
    wait_until(lambda: not any([Path(f"/proc/{child}").exists() for child in children]))
    assert list(tmp_path.iterdir()) == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def wait_for_children(parent: int, *names: str) -> list[str]:
    """The process ids of the children of `parent` as soon as all of `names` are among their commands."""
    children: list[str] = []

    def all_there() -> bool:
        children[:] = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        text = " ".join([command_of(child) for child in children])
        return all([name in text for name in names])

    wait_until(all_there)
    return children


def command_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has just ended
        return ""


# -- what can go wrong -----------------------------------------------------------------------------------------------


def test_without_a_c_compiler_the_user_is_told_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BenchError, match=r"no C compiler found \(tried no-such-compiler\).* apt install gcc"):
        LoadGenerator(tmp_path)


def test_a_compiler_that_fails_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho broken: $1 >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(BenchError, match=r"cannot compile .*loadgen\.c:\nbroken: -O2"):
        LoadGenerator(tmp_path)


def test_servers_that_are_not_installed_are_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    servers, absent = find_servers()
    assert {server.protocol for server in servers} == {"workq"}
    assert "apt install beanstalkd" in absent["beanstalkd"]
    assert "apt install redis-server" in absent["redis"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--only=nonsense"], "bin/bench: --only nonsense: not one of single, conns-16, "),
        (["--server=nonsense"], "bin/bench: --server nonsense: not one of workq-"),
        (["--show=no/such/file"], "bin/bench: no/such/file: No such file or directory"),
        (
            ["--show={results}", "--chart=no/such/directory/chart.svg"],
            "bin/bench: no/such/directory/chart.svg: No such",
        ),
        (["--show=setup.cfg"], "bin/bench: setup.cfg: not the results of a benchmark"),
    ],
)
def test_a_mistake_is_told_in_one_line(arguments: list[str], error: str, tmp_path: Path) -> None:
    save(made_up(4), tmp_path / "results.json")
    done = bench(*[argument.format(results=tmp_path / "results.json") for argument in arguments])
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1


# -- rounds, with made-up servers and loads --------------------------------------------------------------------------


@attrs.define
class FakeGenerator(LoadGenerator):
    """Notes whom it measured; a server in `broken` fails in its second round."""

    broken: str = ""
    measured: list[str] = attrs.Factory(list)

    def measure(self, target: RunningServer, load: Load, *, seconds: float = 0, warmup: float = 0) -> RawFigures:
        name = target.server.name
        self.measured.append(f"{name} {load.kind}")
        if name == self.broken and self.measured.count(f"{name} {load.kind}") == 2:
            raise NotMeasured("no reply for 10 s")
        rounds_so_far = float(len(self.measured))
        return {"server_cpu_us": rounds_so_far, "rss_before_bytes": 0, "rss_after_bytes": 4000, "jobs_added": 10}


@pytest.fixture
def fake_servers(monkeypatch: pytest.MonkeyPatch) -> list[Server]:
    @contextmanager
    def running(server: Server, *, log: bool) -> Iterator[RunningServer]:
        yield RunningServer(server=server, port=1, pid=1, log_directory=None)

    monkeypatch.setattr(measure, "running", running)
    return [Server(name=name, version="1", protocol=name, command=lambda *_: []) for name in ("a", "b")]


def measured(
    servers: list[Server], generator: FakeGenerator, *scenarios: Scenario
) -> tuple[list[dict[str, dict[str, Spread] | str]], list[str]]:
    rows: list[Row] = []
    measurement = Measurement(servers, generator, Plan(rounds=3), lambda step: None)
    measurement.run(scenarios, lambda _, row: rows.append(row))
    return [row.outcomes for row in rows], measurement.failures


def scenario(name: str, **more: object) -> Scenario:
    return attrs.evolve(SCENARIOS[0], name=name, **more)


def test_rounds_of_the_servers_alternate_and_give_median_minimum_and_maximum(fake_servers: list[Server]) -> None:
    generator = FakeGenerator()
    outcomes, failures = measured(fake_servers, generator, scenario("one"))
    assert generator.measured == ["a cycle", "b cycle"] * 3
    assert outcomes[0]["a"]["server_cpu_us"] == Spread(3, 1, 5)
    assert failures == []


def test_a_server_that_fails_is_noted_and_the_others_go_on(fake_servers: list[Server]) -> None:
    generator = FakeGenerator(broken="a")
    outcomes, failures = measured(fake_servers, generator, scenario("one"))
    assert generator.measured == ["a cycle", "b cycle", "a cycle", "b cycle", "b cycle"]
    assert outcomes[0]["a"] == "no reply for 10 s"
    assert outcomes[0]["b"]["server_cpu_us"] == Spread(4, 2, 5)
    assert failures == ["no reply for 10 s"]


def test_neighbours_with_the_same_fill_share_it_and_know_the_memory_of_a_job(fake_servers: list[Server]) -> None:
    fill = Load(kind="add", jobs=10, payload_bytes=100)
    generator = FakeGenerator()
    outcomes, _ = measured(fake_servers, generator, scenario("one", fill=fill), scenario("two", fill=fill))
    assert generator.measured == ["a add", "b add"] + ["a cycle", "b cycle"] * 6
    assert outcomes[0]["b"]["job_bytes"] == outcomes[1]["b"]["job_bytes"] == Spread(300, 300, 300)


def test_a_server_that_keeps_no_log_is_not_compared_with_those_that_do(tmp_path: Path) -> None:
    server = Server(name="a", version="1", protocol="a", command=lambda *_: [])
    target = RunningServer(server=server, port=1, pid=1, log_directory=tmp_path)
    with pytest.raises(NotMeasured, match="wrote nothing"):
        target.check_log()
    (tmp_path / "segment").touch()
    target.check_log()


# -- results ---------------------------------------------------------------------------------------------------------


def made_up(workq_cpu_us: float) -> Results:
    def figures(cpu_us: float) -> dict[str, Spread]:
        names = ("operations_per_s", "server_user_us", "server_system_us", "p50_us", "p99_us", "p999_us", "max_us")
        spreads = {name: Spread(100, 90, 110) for name in (*names, "generator_share")}
        return {**spreads, "server_cpu_us": Spread(cpu_us, cpu_us * 0.9, cpu_us * 1.1)}

    outcomes = {"workq-pure": figures(workq_cpu_us), "beanstalkd": figures(8), "redis": "it has nothing like it"}
    header = {"date": "2030-01-01", "machine": "a machine & more", "system": "Linux", "commit": "c0ffee"}
    return Results(header=header, rows={"one": Row(title="One thing", detail="and its <detail>", outcomes=outcomes)})


def shown(print_it: Callable[..., None], *arguments: object) -> str:
    console = Console(width=140, file=StringIO())
    with console.capture() as capture:
        print_it(console, *arguments)
    return capture.get()


def test_results_are_the_same_after_writing_and_reading_them(tmp_path: Path) -> None:
    save(made_up(4), tmp_path / "deep" / "results.json")
    assert load(tmp_path / "deep" / "results.json") == made_up(4)


def test_the_table_gives_the_ratio_to_the_baseline_and_the_reason_for_what_is_missing() -> None:
    text = shown(report.print_row, made_up(4).rows["one"])
    assert "0.50x" in text
    assert "redis: it has nothing like it" in text


def test_a_comparison_says_how_much_the_figures_changed() -> None:
    text = shown(report.print_comparison, made_up(8), made_up(4))
    assert "Since c0ffee" in text
    assert "8.00" in text
    assert "-50%" in text


def test_the_summary_is_a_markdown_table_too() -> None:
    assert "| One thing, and its <detail> | 4.00 (0.50x) | 8.00 |  |" in report.markdown(made_up(4))


def test_the_chart_is_an_svg_that_shows_how_much_more_the_server_does() -> None:
    svg = ElementTree.fromstring(draw(made_up(4)))
    texts = ["".join(text.itertext()).strip() for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert "One thing" in texts
    assert any([text.startswith("2.0×") for text in texts])  # noqa: RUF001


def test_no_chart_is_drawn_of_results_without_the_baseline() -> None:
    row = Row(title="One thing", detail="", outcomes={"beanstalkd": "it did not start"})
    with pytest.raises(BenchError, match="a chart needs beanstalkd"):
        draw(attrs.evolve(made_up(4), rows={"one": row}))

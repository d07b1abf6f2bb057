"""The run: servers up, loads in interleaved rounds, servers down."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby

import attrs

from bench.errors import NotMeasured
from bench.loadgen import LoadGenerator, RawFigures
from bench.results import Outcome, Row, Spread
from bench.scenarios import Load, Scenario
from bench.servers import RunningServer, Server, running


@attrs.frozen(kw_only=True)
class Plan:
    """How thoroughly to measure. `scale` is applied to the number of jobs wherever a scenario gives one."""

    rounds: int = 5
    seconds: float = 0.5
    warmup: float = 0.15
    scale: float = 1.0


@attrs.frozen
class _Target:
    """A server that is ready for a scenario, and the memory of each job that it was filled with, if it was."""

    running: RunningServer
    job_bytes: float | None


class Measurement:
    """Measures scenarios on servers; tells `on_step` what comes next, and notes in `failures` what went wrong."""

    def __init__(
        self, servers: Sequence[Server], generator: LoadGenerator, plan: Plan, on_step: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._generator = generator
        self._plan = plan
        self._on_step = on_step
        self.failures: list[str] = []

    def run(self, scenarios: Iterable[Scenario], on_row: Callable[[Scenario, Row], None]) -> None:
        """Measure `scenarios`, each on fresh servers; tell `on_row` each outcome as soon as it is there.

        All servers of a scenario are up at the same time and measured in turn, A B A B: what disturbs the machine for
        a while disturbs all of them.
        """
        for group in _groups(scenarios):
            with ExitStack() as stack:
                targets = {server.name: self._start(stack, server, group) for server in self._servers}
                for scenario in group:
                    on_row(scenario, self._measure(scenario, targets))

    def _start(self, stack: ExitStack, server: Server, group: Sequence[Scenario]) -> _Target | str:
        """`server` made ready for `group` until `stack` is closed, or why it cannot be."""
        first = group[0]
        if all(server.protocol in scenario.missing for scenario in group):
            return first.missing[server.protocol]
        self._on_step(f"{first.title}: starting {server.name}")
        try:
            target = stack.enter_context(running(server, log=first.log))
            if first.fill is None:
                return _Target(target, None)
            self._on_step(f"{first.title}: filling {server.name}")
            fill = first.fill.scaled(self._plan.scale)
            return _Target(target, _job_bytes(self._generator.measure(target, fill), fill))
        except NotMeasured as reason:
            return self._failed(reason)

    def _measure(self, scenario: Scenario, targets: dict[str, _Target | str]) -> Row:
        rounds: dict[str, list[RawFigures]] = {name: [] for name in targets}
        failed: dict[str, str] = {}
        for number in range(1, self._plan.rounds + 1):
            for server in self._servers:
                target = targets[server.name]
                if isinstance(target, str):
                    failed[server.name] = target
                elif server.protocol in scenario.missing:
                    failed[server.name] = scenario.missing[server.protocol]
                elif server.name not in failed:
                    self._on_step(f"{scenario.title}: round {number} of {self._plan.rounds}, {server.name}")
                    try:
                        rounds[server.name].append(self._measure_once(scenario, target))
                    except NotMeasured as reason:
                        failed[server.name] = self._failed(reason)
        outcomes: dict[str, Outcome] = {name: failed.get(name) or _spreads(each) for name, each in rounds.items()}
        return Row(title=scenario.title, detail=scenario.detail, outcomes=outcomes)

    def _failed(self, reason: NotMeasured) -> str:
        self.failures.append(str(reason))
        return str(reason)

    def _measure_once(self, scenario: Scenario, target: _Target) -> RawFigures:
        load = scenario.load.scaled(self._plan.scale)
        seconds, warmup = self._plan.seconds, self._plan.warmup
        figures = self._generator.measure(target.running, load, seconds=seconds, warmup=warmup)
        target.running.check_log()
        if load.kind == "add":
            figures["job_bytes"] = _job_bytes(figures, load)
        elif target.job_bytes is not None:
            figures["job_bytes"] = target.job_bytes
        return figures


def _groups(scenarios: Iterable[Scenario]) -> Iterator[list[Scenario]]:
    """Scenarios that are to have the same servers: those with the same fill, if neighbours, and else each alone."""
    for _, group in groupby(scenarios, key=lambda scenario: scenario.fill or scenario.name):
        yield list(group)


def _job_bytes(figures: RawFigures, load: Load) -> float:
    growth = figures["rss_after_bytes"] - figures["rss_before_bytes"]
    return growth / figures["jobs_added"] - load.payload_bytes


def _spreads(rounds: Sequence[RawFigures]) -> dict[str, Spread]:
    return {name: Spread.of([figures[name] for figures in rounds]) for name in rounds[0]}

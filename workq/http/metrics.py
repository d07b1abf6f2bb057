"""Metrics for Prometheus, at `/metrics`: read from the figures of each room at the time of the question.

What each is called and means is in `doc/http.md`, "Metrics". A room with figures of its own (the dispatcher) adds a
collector: an object whose `collect` gives Prometheus's metrics.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workq.engine.job import STATE_NAMES
from workq.figures import Figures, Histogram, LogFigures
from workq.gateway import Gateway
from workq.http import web
from workq.http.application import Application

# The name for all queues that are not told apart. No queue can have it.
OTHERS: Final = "(others)"
# The route of requests that no route takes.
_NOWHERE: Final = "(nowhere)"
# How often the event loop is asked how late it is.
_LAG_SECONDS: Final = 1.0
_CONTENT_TYPE: Final = "text/plain; version=0.0.4"


class Metrics:
    """All metrics of a server."""

    def __init__(self, gateway: Gateway, http_connections: Callable[[], int]) -> None:
        self.requests = RequestMetrics()
        self._registry = CollectorRegistry()
        self._registry.register(_FiguresCollector(gateway, http_connections))
        self._registry.register(self.requests)
        self._lag = _Lag()
        self._registry.register(self._lag)
        ProcessCollector(registry=self._registry)

    def add(self, collector: Collector) -> None:
        """Let `collector` give metrics too."""
        self._registry.register(collector)

    def start(self) -> None:
        """Begin to watch the event loop."""
        self._lag.start()

    def stop(self) -> None:
        """End it."""
        self._lag.stop()

    def add_routes(self, application: Application) -> None:
        """Serve them at `/metrics` of `application`."""

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _CONTENT_TYPE})

        application.router.add_get("/metrics", metrics)


class RequestMetrics(Collector):
    """HTTP requests by route and outcome, and how long they took. Routes are few, and so are the rest."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, Histogram] = {}

    def count(self, request: web.Request, status: int, seconds: float) -> None:
        """Count a request that was answered with `status`; 0 for one whose client hung up."""
        route = request.route
        if route is None:
            route = method = _NOWHERE
        else:
            method = request.method
        key = (route, method, status)
        self._counts[key] = self._counts.get(key, 0) + 1
        histogram = self._seconds.get(route)
        if histogram is None:
            histogram = self._seconds[route] = Histogram()
        histogram.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """As Prometheus wants them."""
        text = "HTTP requests by route, method and status"
        requests = CounterMetricFamily("workq_http_requests", text, labels=["route", "method", "status"])
        for (route, method, status), count in self._counts.items():
            requests.add_metric([route, method, str(status) if status else "hung-up"], count)
        yield requests
        text = "Seconds from the head of an HTTP request to its answer, long polls included"
        seconds = HistogramMetricFamily("workq_http_request_seconds", text, labels=["route"])
        for route, histogram in self._seconds.items():
            add_histogram(seconds, [route], histogram)
        yield seconds


class _FiguresCollector(Collector):
    def __init__(self, gateway: Gateway, http_connections: Callable[[], int]) -> None:
        self._gateway = gateway
        self._http_connections = http_connections

    def collect(self) -> Iterator[Metric]:
        figures = self._gateway.figures()
        yield from _jobs(figures)
        yield _labelled("commands", "Commands executed, by kind", "kind", figures.commands.items(), CounterMetricFamily)
        waiters = {"job": figures.lease_waiters, "result": figures.result_waiters}
        yield _labelled("waiters", "Clients that wait", "for", waiters.items(), GaugeMetricFamily)
        connections = {"tcp": figures.connections, "http": self._http_connections()}
        yield _labelled("connections", "Clients that are connected", "door", connections.items(), GaugeMetricFamily)
        if figures.log is not None:
            yield from _log(figures.log)
        text = "Seconds from the first command to the last reply of a turn of the event loop, for one turn in 16"
        turns = HistogramMetricFamily("workq_turn_seconds", text)
        add_histogram(turns, [], figures.turns)
        yield turns
        accepting = GaugeMetricFamily("workq_accepting", "1 while commands that change something are accepted")
        accepting.add_metric([], 0 if self._gateway.trouble() else 1)
        yield accepting


def _jobs(figures: Figures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("workq_jobs", "Jobs by queue and state", labels=["queue", "state"])
    for queue in figures.queues:
        for state, count in enumerate(queue.jobs):
            jobs.add_metric([queue.name or OTHERS, STATE_NAMES[state]], count)
    yield jobs
    yield GaugeMetricFamily("workq_queues", "Queues that there are", value=figures.queue_count)
    text = "Bytes of names, payloads, results and what else is kept"
    yield GaugeMetricFamily("workq_stored_bytes", text, value=figures.stored_bytes)
    text = "Jobs whose TTL ended before they did"
    yield CounterMetricFamily("workq_evicted_jobs", text, value=figures.evicted_jobs)


def _log(figures: LogFigures) -> Iterator[Metric]:
    counters = [
        ("batches", "Batches of events written to the command log", figures.batches),
        ("batch_clients", "Clients whose replies waited for those batches", figures.clients),
        ("bytes", "Bytes written to the command log", figures.bytes),
    ]
    for name, text, value in counters:
        yield CounterMetricFamily(f"workq_log_{name}", text, value=value)
    syncs = HistogramMetricFamily("workq_log_sync_seconds", "Seconds from writing until it is on disk")
    add_histogram(syncs, [], figures.syncs)
    yield syncs


def _labelled(
    name: str,
    text: str,
    label: str,
    values: Iterable[tuple[str, float]],
    family: type[CounterMetricFamily] | type[GaugeMetricFamily],
) -> Metric:
    metric = family(f"workq_{name}", text, labels=[label])
    for key, value in values:
        metric.add_metric([key], value)
    return metric


def add_histogram(metric: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Add the values of `histogram` to `metric`."""
    buckets, seen = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        seen += count
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), seen))
    metric.add_metric(labels, buckets, histogram.total)


class _Lag(Collector):
    """How late the event loop is, asked once in a while."""

    def __init__(self) -> None:
        self._histogram = Histogram()
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self) -> None:
        self._due_s = time.monotonic() + _LAG_SECONDS
        self._timer = asyncio.get_running_loop().call_later(_LAG_SECONDS, self._on_timer)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _on_timer(self) -> None:
        self._histogram.observe(max(time.monotonic() - self._due_s, 0))
        self.start()

    def collect(self) -> Iterator[Metric]:
        metric = HistogramMetricFamily("workq_event_loop_lag_seconds", "Seconds that a timer came late")
        add_histogram(metric, [], self._histogram)
        yield metric

"""The dispatcher's figures for Prometheus."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workq.dispatch.dispatcher import Dispatcher

# Queues that are told apart; one line each and figure is enough for a dashboard, and more is too much for Prometheus.
_MOST_QUEUES: Final = 1_000


class DispatcherMetrics(Collector):
    """What is pushed, by queue."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def collect(self) -> Iterator[Metric]:
        """As Prometheus wants them."""
        tries = CounterMetricFamily("workq_push_tries", "Jobs sent, those sent again counted again", labels=["queue"])
        failures = CounterMetricFamily("workq_push_failed_tries", "Tries that failed", labels=["queue"])
        ended = CounterMetricFamily("workq_push_jobs", "Pushed jobs that ended", labels=["queue", "outcome"])
        text = "Seconds from the creation of a job to its end, summed up over pushed jobs that ended"
        seconds = CounterMetricFamily("workq_push_job_seconds", text, labels=["queue"])
        sending = GaugeMetricFamily("workq_push_sending", "Jobs that are being sent", labels=["queue"])
        for name, figures in list(self._dispatcher.all_figures().items())[:_MOST_QUEUES]:
            queue = name.decode()
            tries.add_metric([queue], figures.pops)
            failures.add_metric([queue], figures.failures)
            ended.add_metric([queue, "success"], figures.successes)
            ended.add_metric([queue, "failure"], figures.permanent_failures)
            seconds.add_metric([queue], figures.elapsed_ms / 1_000)
            sending.add_metric([queue], figures.sending)
        yield from (tries, failures, ended, seconds, sending)

"""The archive's figures for Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workq.archive.archive import Archive


class ArchiveMetrics(Collector):
    """How the moving of finished jobs goes."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def collect(self) -> Iterator[Metric]:
        """As Prometheus wants them."""
        text = "Finished jobs that went from the engine to the archive, or were forgotten"
        yield CounterMetricFamily("workq_archive_moved_jobs", text, value=self._archive.moved)
        text = "Finished jobs that are to go to the archive"
        yield GaugeMetricFamily("workq_archive_waiting_jobs", text, value=self._archive.waiting())
        writable = 0 if self._archive.trouble() else 1
        yield GaugeMetricFamily("workq_archive_writable", "1 while the archive can be written", value=writable)

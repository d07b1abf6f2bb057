"""Those who wait for the end of jobs, by job."""

from workq.engine.waiters import Watcher


class Watchers:
    """Finds the waiters of a job. Who watches nothing any more is forgotten.

    by_job  ids of jobs and who waits for them, longest first
    """

    __slots__ = ("by_job",)

    def __init__(self) -> None:
        self.by_job: dict[bytes, dict[Watcher, None]] = {}

    def __len__(self) -> int:
        return len({watcher for watchers in self.by_job.values() for watcher in watchers})

    def of(self, job_id: bytes) -> list[Watcher]:
        """Who waits for the job, longest first."""
        return list(self.by_job.get(job_id, ()))

    def add(self, watcher: Watcher) -> None:
        """`watcher` waits, from now on, for all that it watches."""
        for job_id in watcher.watched():
            self.by_job.setdefault(job_id, {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """`watcher` does not wait any more."""
        for job_id in watcher.watched():
            self.remove_from(job_id, watcher)

    def remove_from(self, job_id: bytes, watcher: Watcher) -> None:
        """`watcher` does not wait for this job any more."""
        watchers = self.by_job[job_id]
        del watchers[watcher]
        if not watchers:
            del self.by_job[job_id]

"""The durable, ordered history of events. It knows what happens to jobs, and no doors, clocks or event loops."""

from workq.log.errors import LogError
from workq.log.filelog import FileLog, open_log

__all__ = ["FileLog", "LogError", "open_log"]

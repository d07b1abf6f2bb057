"""The durable, ordered history of events. It knows what happens to jobs, and no doors, clocks or event loops."""

from workq.log.errors import LogError
from workq.log.filelog import FileLog, open_log
from workq.log.interface import Log

__all__ = ["FileLog", "Log", "LogError", "open_log"]

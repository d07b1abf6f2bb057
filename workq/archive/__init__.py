"""Finished jobs of doors that must stay listable for longer than they should stay in memory: an SQLite file.

`archive.py` moves them here from the engine and reads them for the doors, off the event loop; `store.py` is the file;
`jobs.py` says what is kept and what can be asked. `doc/archive.md` describes the table.
"""

from workq.archive.archive import Archive
from workq.archive.jobs import ArchivedJob, ArchiveError, Fate, Query
from workq.archive.patterns import Pattern, compile_pattern

__all__ = ["Archive", "ArchiveError", "ArchivedJob", "Fate", "Pattern", "Query", "compile_pattern"]

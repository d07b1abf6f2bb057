"""The SQLite file. Synchronous, and to be used in one thread at a time; errors are sqlite3's own.

Statements take many rows at once: for each step SQLite lets go of the interpreter's lock, and to get that back from a
busy event loop takes longer than the step.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from workq.archive.jobs import ArchivedJob, Order, Query

# Of the table, as `PRAGMA user_version`. A change of the table is a new number, and a step in `_migrate`.
VERSION: Final = 2

# Where there is some of it, SQLite's tools have written the file anew: a dump does not say the version.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
  row         INTEGER PRIMARY KEY,
  door        TEXT    NOT NULL,
  queue       TEXT    NOT NULL,
  number      INTEGER NOT NULL,
  job_id      BLOB    NOT NULL UNIQUE,
  name        TEXT    NOT NULL,
  created_ms  INTEGER NOT NULL,
  started_ms  INTEGER NOT NULL,
  finished_ms INTEGER NOT NULL,
  flags       INTEGER NOT NULL,
  url         TEXT    NOT NULL,
  data        BLOB    NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_number   ON jobs (door, queue, number);
CREATE INDEX        IF NOT EXISTS jobs_pushed   ON jobs (door, queue, created_ms, job_id);
CREATE INDEX        IF NOT EXISTS jobs_finished ON jobs (door, finished_ms, number);
CREATE TABLE IF NOT EXISTS numbers (
  door  TEXT    NOT NULL,
  queue TEXT    NOT NULL,
  last  INTEGER NOT NULL,
  PRIMARY KEY (door, queue)
);
"""
_COLUMNS: Final = "door, queue, number, job_id, name, created_ms, started_ms, finished_ms, flags, url, data"
_PLACES: Final = "(" + ", ".join("?" * 11) + ")"
_ROWS_AT_ONCE: Final = 256
# With what counts within a millisecond: a queue's ids sort in the order of its pushes, its numbers perhaps do not.
_ORDER_COLUMNS: Final[dict[Order, tuple[str, str]]] = {
    "number": ("number", "number"),
    "created": ("created_ms", "job_id"),
    "finished": ("finished_ms", "number"),
}

# What is read in one go, so that others have their turn: rows, and bytes of their data.
SLICE_ROWS: Final = 1_000
SLICE_BYTES: Final = 4_194_304


class Cursor:
    """How far a query has come: the next slice begins behind this row."""

    __slots__ = ("key", "row", "tie")

    def __init__(self, key: int, tie: int | bytes, row: int) -> None:
        self.key = key
        self.tie = tie
        self.row = row


class NewerVersion(Exception):
    """The file was written by a newer version of the server."""


class Store:
    """The archive's file."""

    def __init__(self, path: Path | None, *, durable: bool) -> None:
        """Open the file, which is made if there is none; without `path`, keep everything in memory.

        durable  whether what was committed must survive a power cut

        Raises `sqlite3.Error`, `NewerVersion`.
        """
        name = ":memory:" if path is None else str(path)
        self._db = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._migrate()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def put(self, jobs: Iterable[ArchivedJob]) -> None:
        """Keep `jobs`, all or none of them. One that is there already is replaced."""
        with self._transaction():
            rows = [self._row(job) for job in {job.job_id: job for job in jobs}.values()]
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                chunk = rows[start : start + _ROWS_AT_ONCE]
                places = ", ".join([_PLACES] * len(chunk))
                values = [value for row in chunk for value in row]
                self._db.execute(f"INSERT OR REPLACE INTO jobs ({_COLUMNS}) VALUES {places}", values)

    def get(self, door: str, queue: str, number: int) -> ArchivedJob | None:
        """The job `number`."""
        found = self._db.execute(
            f"SELECT {_COLUMNS} FROM jobs WHERE door = ? AND queue = ? AND number = ?", (door, queue, number)
        ).fetchone()
        return None if found is None else _job(found)

    def get_by_job_id(self, job_id: bytes) -> ArchivedJob | None:
        """The job with this id in the engine."""
        found = self._db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        return None if found is None else _job(found)

    def known(self, door: str, queue: str, numbers: Sequence[int]) -> list[int]:
        """Which of `numbers` there are."""
        found: list[int] = []
        for start in range(0, len(numbers), _ROWS_AT_ONCE):
            chunk = numbers[start : start + _ROWS_AT_ONCE]
            places = ", ".join("?" * len(chunk))
            rows = self._db.execute(
                f"SELECT number FROM jobs WHERE door = ? AND queue = ? AND number IN ({places})", (door, queue, *chunk)
            )
            found += [row[0] for row in rows]
        return found

    def delete(self, door: str, queue: str, number: int) -> ArchivedJob | None:
        """Remove the job `number`; return what it was."""
        with self._transaction():
            job = self.get(door, queue, number)
            if job is not None:
                self._db.execute("DELETE FROM jobs WHERE job_id = ?", (job.job_id,))
        return job

    def delete_queue(self, door: str, queue: str, limit: int) -> int:
        """Remove up to `limit` jobs of a queue; return how many."""
        return self._db.execute(
            "DELETE FROM jobs WHERE row IN (SELECT row FROM jobs WHERE door = ? AND queue = ? LIMIT ?)",
            (door, queue, limit),
        ).rowcount

    def delete_before(self, door: str, by: Order, before_ms: int, limit: int) -> int:
        """Remove up to `limit` jobs created (or finished) before a time; return how many."""
        column, _ = _ORDER_COLUMNS[by]
        # The queues are named so that the index by creation serves too.
        queues = "AND queue IN (SELECT DISTINCT queue FROM jobs WHERE door = ?1)" if by == "created" else ""
        return self._db.execute(
            f"DELETE FROM jobs WHERE row IN (SELECT row FROM jobs WHERE door = ?1 {queues} AND {column} < ?2 LIMIT ?3)",
            (door, before_ms, limit),
        ).rowcount

    def count(self, door: str, queue: str | None, created_since_ms: int) -> int:
        """How many jobs there are that were created at that time or later."""
        condition, values = "door = ?", [door]
        if queue is not None:
            condition, values = f"{condition} AND queue = ?", [door, queue]
        if created_since_ms <= 0:
            found = self._db.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values)
        else:
            found = self._db.execute(
                f"SELECT count(*) FROM jobs WHERE {condition} AND created_ms >= ?", [*values, created_since_ms]
            )
        return int(found.fetchone()[0])

    def slice(self, query: Query, behind: Cursor | None) -> tuple[list[ArchivedJob], Cursor | None]:
        """The next jobs that `query` asks for, from where the last slice ended, and where this one did.

        It may be empty though there are more: only without a cursor was it the last. The caller counts to `limit`.
        """
        column, tie = _ORDER_COLUMNS[query.order]
        later = "<" if query.descending else ">"
        direction = "DESC" if query.descending else "ASC"
        condition, values = "door = ?", [query.door]
        if query.queue is not None:
            condition, values = f"{condition} AND queue = ?", [*values, query.queue]
        marks: list[int | bytes] = []
        if behind is not None:
            condition += f" AND ({column}, {tie}, row) {later} (?, ?, ?)"
            marks = [behind.key, behind.tie, behind.row]
        elif isinstance(query.begin, tuple):
            condition += f" AND ({column}, {tie}) {later}= (?, ?)"
            time_ms, mark = query.begin
            marks = [_signed(time_ms), mark]
        elif query.begin is not None:
            condition += f" AND {column} {later}= ?"
            marks = [_signed(query.begin)]
        found = self._db.execute(
            f"SELECT row, {column}, {tie}, {_COLUMNS} FROM jobs WHERE {condition} "
            f"ORDER BY {column} {direction}, {tie} {direction}, row {direction} LIMIT {SLICE_ROWS}",
            [*values, *marks],
        )
        jobs: list[ArchivedJob] = []
        end: Cursor | None = None
        rows = size = 0
        for row in found:
            job = _job(row[3:])
            rows += 1
            size += len(job.data)
            if query.keep is None or query.keep(job):
                jobs.append(job)
            end = Cursor(row[1], row[2], row[0])
            if size >= SLICE_BYTES or len(jobs) == query.limit:
                return jobs, end
        return jobs, end if rows == SLICE_ROWS else None

    def _migrate(self) -> None:
        found: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NewerVersion(f"it is of version {found}, and this server knows {VERSION} at most")
        if found < VERSION:  # version 1 had another index; without a version it may be from a dump
            self._db.executescript(
                f"BEGIN; DROP INDEX IF EXISTS jobs_created; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;"
            )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    def _row(self, job: ArchivedJob) -> tuple[object, ...]:
        number = self._next_number(job) if job.number is None else job.number
        times = (job.created_ms, job.started_ms, job.finished_ms)
        return (job.door, job.queue, number, job.job_id, job.name, *times, job.flags, job.url, job.data)

    def _next_number(self, job: ArchivedJob) -> int:
        known = self._db.execute("SELECT number FROM jobs WHERE job_id = ?", (job.job_id,)).fetchone()
        if known is not None:
            return int(known[0])
        given = self._db.execute(
            "INSERT INTO numbers VALUES (?, ?, 1) "
            "ON CONFLICT (door, queue) DO UPDATE SET last = last + 1 RETURNING last",
            (job.door, job.queue),
        ).fetchone()
        return int(given[0])


class _Transaction:
    """All or nothing. (sqlite3's own begins none by itself in the mode that is used here.)"""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _job(row: tuple[Any, ...]) -> ArchivedJob:
    door, queue, number, job_id, name, created_ms, started_ms, finished_ms, flags, url, data = row
    return ArchivedJob(
        door=door,
        queue=queue,
        number=number,
        job_id=job_id,
        name=name,
        created_ms=created_ms,
        started_ms=started_ms,
        finished_ms=finished_ms,
        flags=flags,
        url=url,
        data=data,
    )


def _signed(value: int) -> int:
    """`value` as far as SQLite's numbers go: a client may ask for any."""
    return max(-(2**63), min(value, 2**63 - 1))

"""The `workq-log` command: look at the log in a data directory, repair it, copy it, take over an old one."""

import base64
import contextlib
import gc
import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from workq.engine.documents import AREA_NAMES
from workq.engine.events import Added, Carried, Counters, DocumentPut, Event, JobEvent, restated
from workq.engine.job import STATE_NAMES, Job
from workq.engine.state import State
from workq.log.cmdlog import read_cmdlog
from workq.log.errors import Damage, LogError
from workq.log.filelog import FileLog, open_files
from workq.log.files import Files
from workq.log.records import SYNCED, TRIMMED, TYPE_NAMES, BadRecord, Decoder, encode, unpack_synced, unpack_trimmed
from workq.log.replay import Recovered, Segment, is_torn, replay
from workq.log.salvage import salvage
from workq.log.segments import CHUNK_SIZE, Records, last_written, segment_name, segment_numbers
from workq.values import RetryPolicy
from workq.version import VERSION

T = TypeVar("T")

_SEGMENT_SIZE: Final = 64 * 2**20
_EVENTS_PER_BATCH: Final = 1000
_TRIES: Final = 10
# Segments that a repaired log must have names for: more than anybody writes.
_NUMBERS_LEFT: Final = 100_000_000

_DIRECTORY: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_NEW_DIRECTORY: Final = click.Path(path_type=Path)


class _Group(click.Group):
    """Turns what is wrong with a log into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click knows that this is no error
        except LogError as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        click.echo(f"workq-log: {message}", err=True)
        return ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="workq-log")
def workq_log() -> None:
    """Look after the command log in a server's data directory.

    \b
    Exit status:
      0 ok, 1 damaged or failed, 2 wrong usage
    """
    logging.basicConfig(format="workq-log: %(message)s")
    gc.disable()  # nothing here lives long enough to be worth a search


@workq_log.command()
@click.argument("directory", type=_DIRECTORY)
def check(directory: Path) -> None:
    """Read the log in DIRECTORY as a server would, and change nothing.

    A log that is in use may be checked; its end, which is being written, is then left out.
    """
    try:
        recovered, jobs = _while_it_lasts(directory, lambda: _replay(directory))
    except Damage as error:
        raise LogError(f"{directory}/{error}; workq-log repair {directory} keeps what can be read") from None
    if recovered is None:
        raise LogError(f"there is no log in {directory}")
    torn = recovered.torn
    if torn is not None and not torn.size:
        click.echo(f"the end of the log, {segment_name(torn.segment)}, is empty; a server will remove it")
    elif torn is not None:
        where = f"{segment_name(torn.segment)} from offset {torn.offset} on"
        click.echo(f"the last {torn.size} bytes, {where}, are not whole; a server will cut them off")
    size = sum(recovered.ends.values())
    click.echo(f"good; jobs: {jobs}, segments: {len(recovered.ends)}, bytes: {size}")


def _replay(directory: Path) -> tuple[Recovered | None, int]:
    """What replay finds out about the log, and the number of jobs."""
    state = State(0)
    return replay(Files(directory), state, _quietly, in_use=True), len(state.jobs)


def _while_it_lasts(directory: Path, read: Callable[[], T]) -> T:
    """Read a log that may be in use; again if the server removes a segment meanwhile that it does not need any more."""
    for _ in range(_TRIES):
        try:
            return read()
        except FileNotFoundError:
            continue
    raise LogError(f"{directory} changes too quickly; try again when the server is less busy")


@workq_log.command()
@click.argument("directory", type=_DIRECTORY)
def repair(directory: Path) -> None:
    """Keep all that can be read of the log in DIRECTORY, and say what is lost.

    What remains is written into a new segment; the old ones stay beside it as *.seg.damaged.
    """
    files = _SetAside(directory)
    numbers = segment_numbers(files.names())
    if not numbers:
        raise LogError(f"there is no log in {directory}")
    highest = segment_name(numbers[-1])
    if len(segment_name(numbers[-1] + _NUMBERS_LEFT)) > len(highest):  # nobody would find what is written there
        raise LogError(f"{directory / highest} leaves no names for new segments; give it a lower number first")
    lock_fd = files.lock()
    numbers = segment_numbers(files.names())
    state = State(0)
    salvaged = salvage(files, state)
    for loss in salvaged.losses:
        click.echo(f"lost: {loss}")
    log = FileLog(files, _SEGMENT_SIZE, lock_fd)
    log.replace(numbers, salvaged.history)
    counters = encode([Counters(state.next_seq, state.evicted_jobs)])
    log.begin_afresh(counters)
    _append_events(log, restated(state), counters)
    log.finish_afresh(counters)
    log.close()
    click.echo(f"repaired; records: {salvaged.records}, jobs: {len(state.jobs)}, losses: {len(salvaged.losses)}")


class _SetAside(Files):
    """Keeps the files that the log removes, under another name."""

    def remove(self, name: str) -> None:
        self.rename(name, f"{name}.damaged")


@workq_log.command()
@click.argument("directory", type=_DIRECTORY)
def dump(directory: Path) -> None:
    """Print the records of the log in DIRECTORY, one JSON object per line.

    Ids are UUIDs, times are Unix milliseconds. Payloads and results that are not UTF-8 are given in base64. Records of
    a batch are given with the offset of the batch.
    """
    files = Files(directory)
    decoder = Decoder()
    is_whole = True
    for number in segment_numbers(files.names()):
        segment = Segment(files, number)
        if segment.header is None:
            click.echo(f"{segment.name}: {segment.problem}", err=True)
            is_whole = False
        fd = files.open(segment.name)
        records = Records(files, fd, segment.size)
        for offset, body in records:
            record = {"segment": number, "offset": offset, "type": TYPE_NAMES.get(body[0], body[0])}
            click.echo(json.dumps(record | _description(decoder, body)))
        rest = last_written(files, fd, records.end, segment.size) - records.end
        if rest:
            say = f"{segment.name}: at offset {records.end}, {rest} bytes before the end, there is no whole record"
            click.echo(f"{say}; workq-log repair may find more behind it", err=True)
            is_whole = False
        files.close(fd)
    if not is_whole:
        raise click.exceptions.Exit(1)


def _description(decoder: Decoder, body: bytes) -> dict[str, object]:
    if body[0] == SYNCED:
        _, number, offset = unpack_synced(body)
        return {"durable_segment": number, "durable_offset": offset}
    if body[0] > SYNCED:
        return {"through_segment": unpack_trimmed(body)}
    try:
        event = decoder.decode(body)
    except BadRecord as error:
        return {"error": str(error)}
    if isinstance(event, Added):
        return _job(event.job)
    if isinstance(event, Carried):
        return _job(event.job) | _present(event.job)
    if isinstance(event, DocumentPut):
        return {"area": AREA_NAMES[event.area], **_text("key", event.key), **_text("value", event.value)}
    return _fields(event)


def _fields(event: Event) -> dict[str, object]:
    described: dict[str, object] = {}
    if isinstance(event, JobEvent):
        described["job_id"] = str(uuid.UUID(bytes=event.job_id))
    for name in event.__match_args__:
        value = getattr(event, name)
        if name in ("result", "progress"):
            described |= _text(name, value)
        elif name != "job_id":
            described[name] = value
    return described


def _job(job: Job) -> dict[str, object]:
    spec = job.spec
    return {
        "job_id": str(uuid.UUID(bytes=job.job_id)),
        "seq": job.seq,
        "name": spec.name.decode(),
        "ttr_ms": spec.ttr_ms,
        "ttl_ms": spec.ttl_ms,
        "priority": spec.priority,
        "max_attempts": spec.max_attempts,
        "max_fails": spec.max_fails,
        "created_ms": job.created_ms,
        "scheduled_ms": job.scheduled_ms,
        **_retry(spec.retry),
        **_text("payload", job.payload),
        **(_text("meta", job.meta) if job.meta else {}),
    }


def _retry(retry: RetryPolicy | None) -> dict[str, object]:
    if retry is None:
        return {}
    return {
        "retry_delay_ms": retry.delay_ms,
        "retry_backoff": retry.backoff_thousandths / 1000,
        "retry_max_delay_ms": retry.max_delay_ms,
    }


def _present(job: Job) -> dict[str, object]:
    present: dict[str, object] = {
        "state": STATE_NAMES[job.state],
        "attempts": job.attempts,
        "fails": job.fails,
        "deadline_ms": job.deadline_ms,
    }
    if job.spent:
        present["attempts_before_retry"] = job.spent
    if job.extra is not None and job.extra.progress:
        present |= _text("progress", job.extra.progress)
    return present if job.result is None else present | _text("result", job.result)


def _text(name: str, value: bytes) -> dict[str, object]:
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}


@workq_log.command()
@click.argument("directory", type=_DIRECTORY)
@click.argument("copy", type=_NEW_DIRECTORY)
def copy(directory: Path, copy: Path) -> None:
    """Copy the log in DIRECTORY, which may be in use, to the new directory COPY.

    The copy is the log as it was at one moment during the copying.
    """
    size = _while_it_lasts(directory, lambda: _copy_to(copy, Files(directory)))
    click.echo(f"copied; bytes: {size}")


def _copy_to(directory: Path, files: Files) -> int:
    with _new_directory(directory) as target:
        return _copy(files, target)


def _copy(files: Files, target: Files) -> int:
    """Copy each segment up to where its records end, the oldest first; return the bytes copied."""
    copied = end = trimmed = 0
    oldest = 1
    numbers = segment_numbers(files.names())
    if not numbers:
        raise LogError(f"there is no log in {files.directory}")
    for index, number in enumerate(numbers):
        segment = Segment(files, number)
        name = segment.name
        if index and number != numbers[index - 1] + 1:
            raise Damage(segment_name(number - 1), 0, "the file is missing")
        if segment.header is not None:
            oldest = max(oldest, segment.header.oldest)
            if index and not segment.header.afresh and segment.header.previous_end > end:
                raise Damage(segment_name(number - 1), end, "the file is too short")
        fd = files.open(name)
        try:
            may_lack_header = number == numbers[-1] and number != numbers[0]  # it may have just been begun
            if segment.header is None and not may_lack_header and last_written(files, fd, 0, segment.size):
                raise Damage(name, 0, segment.problem)
            records = Records(files, fd, segment.size)
            for _, body in records:
                if body[0] == TRIMMED:
                    trimmed = unpack_trimmed(body)
            end = records.end
            is_end = number == numbers[-1] and is_torn(files, segment, records.end)
            if not is_end and last_written(files, fd, records.end, segment.size) > records.end:
                raise Damage(name, records.end, "the CRC or the length of a record is wrong")
            target_fd = target.create(name)
            for offset in range(0, records.end, CHUNK_SIZE):
                target.write(target_fd, files.read(fd, min(CHUNK_SIZE, records.end - offset), offset), offset)
            target.sync(target_fd)
            target.close(target_fd)
        finally:
            files.close(fd)
        copied += records.end
    if numbers[0] > max(oldest, trimmed + 1):
        raise Damage(segment_name(numbers[0] - 1), 0, "the file is missing")
    target.sync_directory()
    return copied


@workq_log.command("import")
@click.argument("old", type=_DIRECTORY)
@click.argument("new", type=_NEW_DIRECTORY)
def import_cmdlog(old: Path, new: Path) -> None:
    """Read the command log of the Go server in OLD and write a log with its jobs to the new directory NEW."""
    imported = read_cmdlog(old, time.time_ns() // 1_000_000)
    for lost in imported.lost:
        click.echo(f"lost: {lost.name}: {lost.size} bytes from offset {lost.offset} on are no records", err=True)
    jobs = imported.jobs
    counters = encode([Counters(jobs[-1].seq + 1 if jobs else 1, 0)])
    with _new_directory(new) as files:
        log = open_files(files, _SEGMENT_SIZE, State(0), _quietly)
        _append_events(log, [Carried(job) for job in jobs], counters)
        log.append(counters, counters)
        log.close()
    click.echo(f"imported; jobs: {len(jobs)}, left behind because their TTL is over: {imported.expired}")


@contextlib.contextmanager
def _new_directory(directory: Path) -> Iterator[Files]:
    """Files that become those of the new directory `directory` at the end, if nothing goes wrong."""
    if directory.exists():
        raise LogError(f"{directory} exists already")
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=0o700)
    except FileNotFoundError:
        raise LogError(f"cannot make {directory}: the directory above it does not exist") from None
    try:
        yield Files(unfinished)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _append_events(log: FileLog, events: Sequence[Event], counters: bytes) -> None:
    for start in range(0, len(events), _EVENTS_PER_BATCH):
        log.append(encode(events[start : start + _EVENTS_PER_BATCH]), counters)


def _quietly(done: int, total: int) -> None:
    """Nobody watches."""


def main() -> None:
    """The entry point of the `workq-log` script."""
    workq_log(prog_name="workq-log")


if __name__ == "__main__":
    main()

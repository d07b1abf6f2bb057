"""The log in a directory: the newest segment, the head, grows; the oldest are removed when nobody needs them any more.

Room on the disk is taken before it is used (`extend`), so that a full disk is noticed while nothing has happened yet.

An `OSError` from `append` or `sync` means that the head may not hold what was written to it, and asking the system
again would not tell. The way on is `begin_afresh`, everything that is to be remembered, and `finish_afresh`: only then
is the log good again, and the segments from before are gone.
"""

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

from workq.engine.state import State
from workq.log.cmdlog import is_cmdlog
from workq.log.errors import Damage, LogError, UnknownFormat
from workq.log.files import Files
from workq.log.records import SYNCED_BYTES, synced
from workq.log.replay import OnProgress, Recovered, Torn, replay
from workq.log.segments import CHUNK_SIZE, Header, Records, segment_name, segment_numbers

# Room is taken in steps of an eighth of a segment, within these bounds.
_LEAST_STEP: Final = 4_096
_LARGEST_STEP: Final = 4_194_304
# Zeros that are written at a time, at most: they make one sync in so many last a little longer.
_MOST_ZEROS: Final = 65_536
# Read at a time in the event loop: little, so that a slow disk does not stop it for long.
_READ_SIZE: Final = 65_536

logger = logging.getLogger("workq.log")


class FileLog:
    """A log that is open for appending.

    `sync`, `trim` and the methods for writing afresh block for as long as the disk takes. While one of them is at work
    in another thread, `append` and `extend` may be called.
    """

    def __init__(self, files: Files, segment_size: int, lock_fd: int) -> None:
        self.files = files
        self.segment_size = segment_size
        self.step = max(_LEAST_STEP, min(segment_size // 8, _LARGEST_STEP))  # in which room is taken
        self.ends: dict[int, int] = {}  # of the segments before the head, in order: where their records end
        self.number = 0  # of the head
        self._history = os.urandom(8)
        self._lock_fd = lock_fd
        self._mutex = threading.Lock()
        self._kernel = files.kernel_sync()
        self._fd = -1
        self._end = 0
        self._allocated = 0
        self._zeros = bytes(min(self.step, _MOST_ZEROS))
        self._zeroed = 0  # where they end
        self._unsynced: list[int] = []  # segments before the head, open
        self._directory_unsynced = False
        self._durable = (0, 0)
        self._started = (0, 0)
        self._marked = (0, 0)
        self._afresh_from = 0
        self._removable: list[int] = []
        self._stuck = False

    # -- opening -------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a log where there is none."""
        self._create(1, 1, b"", 0)
        self.sync()

    def resume(self, recovered: Recovered) -> None:
        """Go on where the log that was found ends."""
        last = max(recovered.ends, default=0)
        self._cut(recovered.torn, last)
        self._removable = recovered.leftover
        self.trim(0)
        if not last:
            self.begin()
            return
        self._history = recovered.history
        durable_number, durable_end = recovered.durable
        for number, end in recovered.ends.items():
            if number >= durable_number:
                self._secure(number, durable_end if number == durable_number else 0, end)
        self.ends = recovered.ends
        self.number = last
        self._end = self._allocated = self.ends.pop(last)
        self._fd = self.files.open(segment_name(last), write=True)
        self.files.truncate(self._fd, self._end)
        self.sync()
        with contextlib.suppress(OSError):  # a full disk is a matter for whoever wants to append
            self.extend(self.step)

    def replace(self, numbers: list[int], history: bytes) -> None:
        """Prepare for `begin_afresh` in place of the segments `numbers`, whatever is in them.

        history  what the log called itself, if that is known: who stops half-way leaves files of one log
        """
        self._history = history or self._history
        self.ends = dict.fromkeys(numbers, 0)
        self.number = max(numbers)

    # -- appending -----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Bytes that can be appended without taking more from the disk."""
        with self._mutex:
            return self._allocated - self._end - SYNCED_BYTES

    @property
    def total_bytes(self) -> int:
        """Bytes of all segments."""
        with self._mutex:
            return sum(self.ends.values()) + self._end

    def extend(self, size: int) -> int:
        """Take room for `size` bytes more, at least; return by how much `room` has grown."""
        with self._mutex:
            taken = -(-size // self.step) * self.step
            self.files.allocate(self._fd, self._allocated, taken)
            self._allocated += taken
            return taken

    def append(self, batch: bytes, restated: bytes) -> None:
        """Write records at the end.

        `restated` are records that say what a segment has to begin with when `batch` has been applied; they are needed
        only if this batch `is_last_of_segment`.
        """
        durable = self._durable
        if durable != self._marked and not self._afresh_from:
            self._marked = durable
            self._must_have_name()
            batch = synced(self._history, *durable) + batch
        self.files.write(self._fd, batch, self._end)
        with self._mutex:
            self._end += len(batch)
        if restated and self._end >= self.segment_size:
            self._try_roll(restated)
        elif self.room < self.step:
            with contextlib.suppress(OSError):  # whoever needs the room will see the error
                self.extend(self.step)

    def is_last_of_segment(self, batch: bytes) -> bool:
        """Whether a new segment is due after `batch`."""
        return self._end + SYNCED_BYTES + len(batch) >= self.segment_size

    def sync(self, newest: bool = True) -> None:
        """Return when all that was appended before the call is durable; if not `newest`, what is in older segments."""
        with self._mutex:
            sealed, self._unsynced = self._unsynced, []
            directory_unsynced, self._directory_unsynced = self._directory_unsynced, False
            fd = self._fd
            position = (self.number, self._end if newest else 0)
        try:
            for each in sealed:
                self.files.sync(each)
            if newest:
                self.files.sync(fd)
            if directory_unsynced:
                self.files.sync_directory()
        finally:
            for each in sealed:
                self.files.close(each)
        self._durable = position

    @property
    def sync_fd(self) -> int:
        """Readable when what `start_sync` began is over; -1 where it begins nothing."""
        return -1 if self._kernel is None else self._kernel.fd

    def start_sync(self) -> bool:
        """Begin to make durable all that was appended; False where only `sync` can do that. `finish_sync` ends it."""
        if self._kernel is None or self._unsynced or self._directory_unsynced:
            return False
        self._started = (self.number, self._end)
        try:
            self._write_zeros()
            self._kernel.start(self._fd)
        except OSError:  # of the asking, not of the disk
            return False
        return True

    def _write_zeros(self) -> None:
        """Let there be zeros behind the end.

        Room that was only taken is, to the file system, not written yet. The first sync of what is written there has to
        write that down, too, and takes half as long again; on a busy machine it waits for more threads of the kernel.
        """
        with self._mutex:
            start = max(self._end, self._zeroed)
            size = len(self._zeros)
            if start - self._end < size // 4 and start + size <= self._allocated:
                self.files.write(self._fd, self._zeros, start)
                self._zeroed = start + size

    def is_sync_over(self) -> bool:
        """Whether there is a sync for `finish_sync`."""
        return self._kernel is not None and self._kernel.is_over()

    def finish_sync(self) -> None:
        """All that was appended before `start_sync` is durable. Raises `BlockingIOError` while it is not over."""
        assert self._kernel is not None
        self._kernel.finish()
        self._durable = self._started

    def close(self) -> None:
        """Write down that all is durable, give back the room that was not used, unlock the directory."""
        try:
            if not self._afresh_from:
                self.sync()
                record = synced(self._history, *self._durable)
                self.files.write(self._fd, record, self._end)
                self.files.truncate(self._fd, self._end + len(record))
                self.files.sync(self._fd)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the files as they are and unlock the directory."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
        self._close_all()
        self.files.close(self._lock_fd)

    # -- the other end -------------------------------------------------------------------------------------------

    @property
    def oldest(self) -> int:
        """Number of the oldest segment, 0 if there is none but the head."""
        return next(iter(self.ends), 0)

    @property
    def needs_sync(self) -> bool:
        """Whether there are segments before the head that are not durable yet."""
        return bool(self._unsynced)

    def read(self, number: int) -> Generator[bytes, None, None]:
        """The bodies of the records in a segment before the head; raises `Damage`."""
        name, end = segment_name(number), self.ends[number]
        fd = self.files.open(name)
        try:
            self.files.prefetch(fd)
            records = Records(self.files, fd, end, chunk=_READ_SIZE)
            for _, body in records:
                yield body
            if records.end < end:
                raise Damage(name, records.end, "the CRC or the length of a record is wrong")
        finally:
            self.files.close(fd)

    def trim(self, through: int) -> None:
        """Remove the segments up to `through`. That they are not needed must be in the log, and durable."""
        with self._mutex:
            self._removable += [number for number in self.ends if number <= through]
            for number in self._removable:
                self.ends.pop(number, None)
        try:
            while self._removable:
                with contextlib.suppress(FileNotFoundError):
                    self.files.remove(segment_name(self._removable[0]))
                self.files.sync_directory()  # in order, so that there is never a gap
                del self._removable[0]
        except OSError as error:  # they are in nobody's way but the disk's
            logger.warning("cannot remove %s: %s", segment_name(self._removable[0]), error.strerror)

    # -- after a failure -----------------------------------------------------------------------------------------

    def begin_afresh(self, restated: bytes) -> None:
        """Leave the segments there are behind. What is appended from here on counts only after `finish_afresh`.

        May be called again after a failure in between.
        """
        self._close_all()
        first = self._afresh_from
        if first == 0:
            self.ends.setdefault(self.number, self._end)
            first = self._afresh_from = self.number + 1
        for number in sorted([number for number in {*self.ends, self.number} if number >= first], reverse=True):
            with contextlib.suppress(FileNotFoundError):
                self.files.remove(segment_name(number))
            self.files.sync_directory()  # in order: while the last one is there, all must be
            self.ends.pop(number, None)
        oldest = self.oldest or first
        self._create(first, oldest, restated, self.ends.get(first - 1, 0))

    def finish_afresh(self, restated: bytes) -> None:
        """Return when what was appended since `begin_afresh` is durable, and all that the log consists of."""
        self.sync()
        first = self._afresh_from
        self._afresh_from = 0
        try:
            self._roll(restated, first)
            self.sync()
        except OSError:
            self._afresh_from = first
            raise
        self.trim(first - 1)

    # -- inside --------------------------------------------------------------------------------------------------

    def _must_have_name(self) -> None:
        """Raise if somebody has removed the head: the system would take all that is written to it, and keep nothing."""
        if self.files.is_removed(self._fd):
            raise self._removed()

    def _removed(self) -> FileNotFoundError:
        name = segment_name(self.number)
        return FileNotFoundError(errno.ENOENT, f"{name} has been removed by somebody else", name)

    def _try_roll(self, restated: bytes) -> None:
        """Begin a new segment if that can be done; a head that is too long is still a good one."""
        try:
            self._roll(restated, self.oldest or self.number)
        except FileNotFoundError:  # the head is gone, or the directory
            raise
        except OSError as error:
            if not self._stuck:
                logger.warning("cannot begin a new segment, so %s grows: %s", segment_name(self.number), error.strerror)
            self._stuck = True
        else:
            self._stuck = False

    def _roll(self, restated: bytes, oldest: int) -> None:
        """Begin a new segment. The room promised before is there after it.

        Raises `FileNotFoundError` if the head is not in the directory any more, or another file is in its place: a log
        without it could not be read.
        """
        if not self.files.is_named(self._fd, segment_name(self.number)):
            raise self._removed()
        with self._mutex:
            fd, end, allocated = self._fd, self._end, self._allocated
            self._create(self.number + 1, oldest, restated, end, allocated - end)
            self.ends[self.number - 1] = end
            self._unsynced.append(fd)
        with contextlib.suppress(OSError):  # only gives back room
            self.files.truncate(fd, end)

    def _create(self, number: int, oldest: int, restated: bytes, previous_end: int, room: int = 0) -> None:
        """Make `number` the head. After an error nothing has changed."""
        begin = Header(self._history, number, oldest, previous_end, self._afresh_from > 0).pack() + restated
        allocated = len(begin) + max(room, self.step)
        fd = self.files.create(segment_name(number))
        try:
            self.files.allocate(fd, 0, allocated)
            self.files.write(fd, begin, 0)
        except OSError:
            self.files.close(fd)
            with contextlib.suppress(OSError):
                self.files.remove(segment_name(number))
            raise
        self._directory_unsynced = True
        self._fd = fd
        self.number = number
        self._end = len(begin)
        self._allocated = allocated
        self._zeroed = 0

    def _cut(self, torn: Torn | None, last: int) -> None:
        """Remove the segments behind the last one in use, which is cut off when it is opened."""
        if torn is not None and not torn.size:
            logger.warning("the end of the log, %s, is empty: removed", segment_name(torn.segment))
        elif torn is not None:
            logger.warning(
                "the last %d bytes of the log were not written to their end, from offset %d in %s on: cut off",
                torn.size,
                torn.offset,
                segment_name(torn.segment),
            )
        for number in reversed(segment_numbers(self.files.names())):
            if number > last:
                self.files.remove(segment_name(number))
                self.files.sync_directory()  # in order, so that there is never a gap

    def _secure(self, number: int, start: int, end: int) -> None:
        """Write again what may be in the system's memory only, after a sync that failed in an earlier life."""
        fd = self.files.open(segment_name(number), write=True)
        try:
            for offset in range(start, end, CHUNK_SIZE):
                self.files.write(fd, self.files.read(fd, min(CHUNK_SIZE, end - offset), offset), offset)
            self.files.sync(fd)
        finally:
            self.files.close(fd)

    def _close_all(self) -> None:
        for fd in (*self._unsynced, self._fd):
            if fd >= 0:
                self.files.close(fd)
        self._unsynced.clear()
        self._fd = -1


def open_log(directory: Path, segment_size: int, state: State, on_progress: OnProgress) -> FileLog:
    """Open the log in `directory`, which is made if need be, and bring `state`, which is empty, to where it ends.

    Raises `LogError` and `OSError`.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    return open_files(Files(directory), segment_size, state, on_progress)


def open_files(files: Files, segment_size: int, state: State, on_progress: OnProgress) -> FileLog:
    """`open_log`, with the file operations to use."""
    lock_fd = files.lock()
    try:
        recovered = replay(files, state, on_progress)
        for queue in state.queues.values():
            queue.put_in_order()
        if recovered is None and is_cmdlog(files.names()):
            raise UnknownFormat(
                f"{files.directory} holds a command log of the old server; to take it over: "
                f"workq-log import {files.directory} NEW"
            )
        log = FileLog(files, segment_size, lock_fd)
        if recovered is None:
            log.begin()
        else:
            log.resume(recovered)
        return log
    except Damage as error:
        files.close(lock_fd)
        where = files.directory
        raise LogError(
            f"{where}/{error}; look at it with workq-log check {where} or dump {where}, and "
            f"workq-log repair {where} keeps what can be read"
        ) from None
    except BaseException:
        files.close(lock_fd)
        raise

"""The file operations of the log. All that can fail, be lost in a power cut or be injected goes through here."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from workq.log.errors import DirectoryInUse
from workq.log.kernelsync import KernelSync

LOCK_NAME: Final = "lock"

# Where there is no fdatasync, fsync does the same and more.
_sync = getattr(os, "fdatasync", os.fsync)
_allocate = getattr(os, "posix_fallocate", None)


class Files:
    """The files of one directory, by name. Every method raises `OSError` as the system gives it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> list[str]:
        """The names of all files."""
        return os.listdir(self.directory)

    def size(self, name: str) -> int:
        """The length of a file in bytes."""
        return os.stat(self.directory / name).st_size

    def create(self, name: str) -> int:
        """Open a new, empty file for reading and writing. One that is there already is emptied."""
        return os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, name: str, write: bool = False) -> int:
        """Open a file that exists."""
        return os.open(self.directory / name, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Close an open file. What was written stays written, and no more durable than before."""
        with contextlib.suppress(OSError):  # reports of lost writes belong to sync
            os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes, fewer only at the end of the file."""
        return os.pread(fd, size, offset)

    def prefetch(self, fd: int) -> None:
        """Have the system read a file from the disk ahead, if it can, so that `read` does not wait."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data`; after an error any part of it may be there."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        """Take room on the disk for a part of a file, so that writing there cannot fail for want of it.

        The file grows by it and reads as zeros there. Where the system cannot promise room, nothing happens.
        """
        if _allocate is None:
            return
        try:
            _allocate(fd, offset, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file off."""
        os.ftruncate(fd, size)

    def is_removed(self, fd: int) -> bool:
        """Whether an open file has no name any more, so that it ends with this process."""
        return os.fstat(fd).st_nlink == 0

    def is_named(self, fd: int, name: str) -> bool:
        """Whether an open file is the one with this name in the directory."""
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.directory / name))
        except FileNotFoundError:
            return False

    def sync(self, fd: int) -> None:
        """Return when what was written to a file, and its length, are durable."""
        _sync(fd)

    def kernel_sync(self) -> KernelSync | None:
        """What does the same as `sync` and nobody waits for, where the system has that."""
        try:
            return KernelSync()
        except OSError:
            return None

    def sync_directory(self) -> None:
        """Return when the creation and removal of files are durable."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name."""
        os.rename(self.directory / name, self.directory / new_name)

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self.directory / name)

    def lock(self) -> int:
        """Keep other processes out until the file returned is closed; raise `DirectoryInUse` if one is in."""
        fd = os.open(self.directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise DirectoryInUse(f"{self.directory} is in use by a running server") from None
            raise
        return fd

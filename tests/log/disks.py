"""Disks that fail, disks that remember what was durable, so that a power cut can be played, and what it leaves."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from workq.log.files import Files
from workq.log.kernelsync import KernelSync

SECTOR = 512


def segment_files(directory: Path) -> list[str]:
    """The names of the segments in a directory, in order."""
    return sorted([name for name in os.listdir(directory) if name.endswith(".seg")])


class Note(NamedTuple):
    """Something that the test wants to find again among the operations."""

    value: object


class Create(NamedTuple):
    name: str
    inode: int


class Remove(NamedTuple):
    name: str


class Write(NamedTuple):
    inode: int
    offset: int
    data: bytes


class Resize(NamedTuple):
    """The file is `size` long from now on; only grown if `grow`."""

    inode: int
    size: int
    grow: bool


class Sync(NamedTuple):
    inode: int


class SyncFailed(NamedTuple):
    """What was pending may be lost, and no later sync brings it back."""

    inode: int


class SyncDirectory(NamedTuple):
    pass


class QuickFiles(Files):
    """Real files, for tests in which no power is cut."""

    def sync(self, fd: int) -> None:
        pass

    def kernel_sync(self) -> None:
        pass

    def sync_directory(self) -> None:
        pass


class MemoryFiles(Files):
    """Files that are nowhere but here: `contents`, by name. Nobody else can have them, so they are not locked."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        super().__init__(Path("memory"))
        self._contents = {name: bytearray(content) for name, content in contents.items()}
        self._open: dict[int, bytearray] = {}
        self._last_fd = 0

    @classmethod
    def read_from(cls, directory: Path) -> Self:
        """The segments in a directory, as they are now."""
        return cls({name: (directory / name).read_bytes() for name in segment_files(directory)})

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: bytes(content) for name, content in self._contents.items()}

    def names(self) -> list[str]:
        return list(self._contents)

    def size(self, name: str) -> int:
        return len(self._existing(name))

    def create(self, name: str) -> int:
        self._contents.setdefault(name, bytearray()).clear()
        return self.open(name)

    def open(self, name: str, write: bool = False) -> int:
        self._last_fd += 1
        self._open[self._last_fd] = self._existing(name)
        return self._last_fd

    def close(self, fd: int) -> None:
        self._open.pop(fd, None)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return bytes(self._open[fd][offset : offset + size])

    def prefetch(self, fd: int) -> None:
        pass

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self.allocate(fd, offset, len(data))
        self._open[fd][offset : offset + len(data)] = data

    def allocate(self, fd: int, offset: int, size: int) -> None:
        content = self._open[fd]
        content.extend(bytes(max(0, offset + size - len(content))))

    def truncate(self, fd: int, size: int) -> None:
        del self._open[fd][size:]

    def is_removed(self, fd: int) -> bool:
        return False

    def is_named(self, fd: int, name: str) -> bool:
        return True

    def sync(self, fd: int) -> None:
        pass

    def kernel_sync(self) -> KernelSync | None:
        return None

    def sync_directory(self) -> None:
        pass

    def rename(self, name: str, new_name: str) -> None:
        self._contents[new_name] = self._contents.pop(name)

    def remove(self, name: str) -> None:
        self._existing(name)
        del self._contents[name]

    def lock(self) -> int:
        return 0

    def _existing(self, name: str) -> bytearray:
        if name not in self._contents:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._contents[name]


class Kernel(KernelSync):
    """Syncs in no thread, but on the files of the test, and when the test lets it."""

    def __init__(self, files: "RecordingFiles") -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.may_sync = True
        self.may_tell = True
        self.started: list[int] = []  # files whose sync is not over
        self.syncs = 0
        self._files = files
        self._error: OSError | None = None
        self._is_over = False

    def start(self, fd: int) -> None:
        self.started.append(fd)
        if self.may_sync:
            self.sync()

    def sync(self) -> None:
        """What was started is over."""
        self.syncs += 1
        self._error = None
        try:
            self._files.sync(self.started.pop())
        except OSError as error:
            self._error = error
        self._is_over = True
        if self.may_tell:
            os.eventfd_write(self.fd, 1)

    def is_over(self) -> bool:
        return self._is_over

    def finish(self) -> None:
        if not self._is_over:
            raise BlockingIOError
        self._is_over = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        os.close(self.fd)


class RecordingFiles(Files):
    """Real file operations, and a record of them. What is in the directory at first counts as durable.

    operations  in order; the first `settled` of them made what was there before
    broken      names of operations that fail from now on
    kernel      syncs what needs no thread, if there is one
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.operations: list[object] = []
        self.broken: set[str] = set()
        self.kernel: Kernel | None = None
        self._inodes: dict[str, int] = {}
        self._open: dict[int, int] = {}
        for name in segment_files(directory):
            inode = self._inodes[name] = len(self.operations)
            content = (directory / name).read_bytes()
            self.operations += [Create(name, inode), Write(inode, 0, content), Sync(inode)]
        self.operations.append(SyncDirectory())
        self.settled = len(self.operations)

    def _may_fail(self, operation: str) -> None:
        if operation in self.broken:
            raise _disk_error()

    def create(self, name: str) -> int:
        self._may_fail("create")
        fd = super().create(name)
        inode = self._inodes[name] = len(self.operations)
        self._open[fd] = inode
        self.operations.append(Create(name, inode))
        return fd

    def open(self, name: str, write: bool = False) -> int:
        fd = super().open(name, write)
        self._open[fd] = self._inodes[name]
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        fails = "write" in self.broken  # asked once: the test may mend the disk while a thread is here
        if fails:
            data = data[: len(data) // 2]
        self.operations.append(Write(self._open[fd], offset, data))
        super().write(fd, data, offset)
        if fails:
            raise _disk_error()

    def allocate(self, fd: int, offset: int, size: int) -> None:
        self._may_fail("allocate")
        self.operations.append(Resize(self._open[fd], offset + size, grow=True))
        super().allocate(fd, offset, size)

    def truncate(self, fd: int, size: int) -> None:
        self.operations.append(Resize(self._open[fd], size, grow=False))
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        if "sync" in self.broken:
            self.operations.append(SyncFailed(self._open[fd]))
            raise _disk_error()
        self.operations.append(Sync(self._open[fd]))

    def kernel_sync(self) -> KernelSync | None:
        return self.kernel

    def sync_directory(self) -> None:
        self._may_fail("sync_directory")
        self.operations.append(SyncDirectory())

    def remove(self, name: str) -> None:
        self._may_fail("remove")
        self.operations.append(Remove(name))
        super().remove(name)


def _disk_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


class _File:
    """A file on a disk: what is durable, and what has happened to it since."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[Write | Resize] = []

    def after_cut(self, random: Random) -> bytes:
        """What a power cut leaves: of what was not synced any part, sector by sector; lengths in order."""
        keep = random.choice((0.0, 0.5, 0.9, 1.0))
        sizes = [operation for operation in self.pending if isinstance(operation, Resize)]
        writes = [operation for operation in self.pending if isinstance(operation, Write)]
        content = bytearray(self.durable)
        size = len(content)
        for operation in sizes[: random.randint(0, len(sizes))]:
            size = max(size, operation.size) if operation.grow else operation.size
        pieces = [piece for write in writes for piece in _sectors(write)]
        kept = [piece for piece in pieces if random.random() < keep]
        for offset, data in kept:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
        if random.random() < 0.5:  # the length that the writes gave it became durable, too
            size = max([size, *[offset + len(data) for offset, data in kept]])
        content.extend(bytes(max(0, size - len(content))))
        return bytes(content[:size])

    def sync(self) -> None:
        content = bytearray(self.durable)
        for operation in self.pending:
            if isinstance(operation, Write):
                end = operation.offset + len(operation.data)
                content.extend(bytes(max(0, end - len(content))))
                content[operation.offset : end] = operation.data
            elif operation.size > len(content):
                content.extend(bytes(operation.size - len(content)))
            elif not operation.grow:
                del content[operation.size :]
        self.durable = bytes(content)
        self.pending.clear()


def _sectors(write: Write) -> list[tuple[int, bytes]]:
    pieces = []
    offset, data = write.offset, write.data
    while data:
        length = SECTOR - offset % SECTOR
        pieces.append((offset, data[:length]))
        offset += length
        data = data[length:]
    return pieces


def cut_power(operations: list[object], random: Random) -> dict[str, bytes]:
    """The contents of the files that a power cut after `operations` may leave, by name."""
    files: dict[int, _File] = {}
    durable_names: dict[str, int] = {}
    pending_names: list[Create | Remove] = []
    for operation in operations:
        match operation:
            case Create(_, inode):
                files[inode] = _File()
                pending_names.append(operation)
            case Remove():
                pending_names.append(operation)
            case Write(inode) | Resize(inode):
                files[inode].pending.append(operation)
            case Sync(inode):
                files[inode].sync()
            case SyncFailed(inode):
                files[inode].durable = files[inode].after_cut(random)
                files[inode].pending.clear()
            case SyncDirectory():
                _change(durable_names, pending_names)
                pending_names.clear()
    keep = random.choice((0.0, 0.5, 1.0))
    _change(durable_names, [change for change in pending_names if random.random() < keep])
    return {name: files[inode].after_cut(random) for name, inode in durable_names.items()}


def kill_process(operations: list[object], random: Random) -> dict[str, bytes]:
    """The contents of the files that a process leaves that is killed in the last of `operations`, by name."""
    *done, last = operations
    files: dict[int, _File] = {}
    names: dict[str, int] = {}
    if isinstance(last, Write):
        last = last._replace(data=last.data[: random.randint(0, len(last.data))])
    for operation in [*done, last]:
        match operation:
            case Create(_, inode):
                files[inode] = _File()
                _change(names, [operation])
            case Remove():
                _change(names, [operation])
            case Write(inode) | Resize(inode):
                files[inode].pending.append(operation)
                files[inode].sync()
    return {name: files[inode].durable for name, inode in names.items()}


def _change(names: dict[str, int], changes: list[Create | Remove]) -> None:
    for change in changes:
        if isinstance(change, Create):
            names[change.name] = change.inode
        else:
            names.pop(change.name, None)

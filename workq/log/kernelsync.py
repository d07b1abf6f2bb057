"""Syncs that the kernel does by itself: asked for with a system call, and over when a descriptor becomes readable.

A thread that waits for the disk has to take the interpreter from the event loop, twice for each sync, which costs more
than many disks take. Linux does it without since 5.4, see io_uring(7); no library for Python does. The older way,
io_submit(2), has the work done on the processor that asked for it, which is the event loop's: a loop that is busy then
learns of a sync of 0.2 ms when its time slice ends, after 4 ms.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import sys
from struct import Struct
from typing import Final

# The numbers are those of every architecture, see syscall(2), <linux/io_uring.h>.
_SETUP: Final = 425
_ENTER: Final = 426
_FSYNC: Final = 3
_DATA_ONLY: Final = 1
_WAIT: Final = 1
_ONE_MAPPING: Final = 1
_SUBMISSIONS_OFFSET: Final = 0x10000000

# `struct io_uring_sqe`: opcode, flags, priority, fd, offset, buffer, size, flags of the sync.
_SUBMISSION: Final = Struct("<BBHiQQII")
_SUBMISSION_BYTES: Final = 64
# `struct io_uring_cqe`: data, result, flags.
_COMPLETION: Final = Struct("<QiI")


class _Parameters(ctypes.Structure):
    """`struct io_uring_params`. What ends in `_at` are offsets in the memory shared with the kernel."""

    _fields_ = (
        ("submissions", ctypes.c_uint32),
        ("completions", ctypes.c_uint32),
        ("flags", ctypes.c_uint32 * 3),
        ("features", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 4),
        ("submission_head_at", ctypes.c_uint32),
        ("submission_tail_at", ctypes.c_uint32),
        ("submission_others", ctypes.c_uint32 * 4),
        ("submission_array_at", ctypes.c_uint32),
        ("submission_reserved", ctypes.c_uint32 * 3),
        ("completion_head_at", ctypes.c_uint32),
        ("completion_tail_at", ctypes.c_uint32),
        ("completion_others", ctypes.c_uint32 * 3),
        ("completions_at", ctypes.c_uint32),
        ("completion_reserved", ctypes.c_uint32 * 4),
    )


class KernelSync:
    """Has the kernel sync files, one at a time. All methods raise `OSError` as the system gives it.

    fd  readable when a sync is over
    """

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.byteorder != "little":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        parameters = _Parameters()
        self.fd = self._call(_SETUP, 1, ctypes.byref(parameters))
        try:
            self._map(parameters)
        except OSError:
            os.close(self.fd)
            raise
        self._submit = _integers(_ENTER, self.fd, 1, 0, 0, 0, 0)

    def _map(self, parameters: _Parameters) -> None:
        """Share memory with the kernel: a ring with what is asked for, and one with what is over."""
        if not parameters.features & _ONE_MAPPING:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        completions_end = parameters.completions_at + parameters.completions * _COMPLETION.size
        rings = mmap.mmap(self.fd, max(completions_end, parameters.submission_array_at + 4))
        # There is room for one submission, so `submission_array` stays as it is: the next one is number 0.
        self._submission = mmap.mmap(self.fd, _SUBMISSION_BYTES, offset=_SUBMISSIONS_OFFSET)
        self._asked = ctypes.c_uint32.from_buffer(rings, parameters.submission_tail_at)
        self._taken = ctypes.c_uint32.from_buffer(rings, parameters.completion_head_at)
        self._over = ctypes.c_uint32.from_buffer(rings, parameters.completion_tail_at)
        self._completions = memoryview(rings)[parameters.completions_at : completions_end]

    def start(self, fd: int) -> None:
        """Begin to make durable what was written to a file."""
        _SUBMISSION.pack_into(self._submission, 0, _FSYNC, 0, 0, fd, 0, 0, 0, _DATA_ONLY)
        self._asked.value += 1
        if self._syscall(*self._submit) < 0:
            self._asked.value -= 1
            raise _system_error()

    def is_over(self) -> bool:
        """Whether what was begun is over."""
        return bool(self._taken.value != self._over.value)

    def finish(self) -> None:
        """What was begun is over, and durable if nothing is raised; `BlockingIOError` if it is not over yet."""
        over = self._over.value
        if over == self._taken.value:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        # The place follows from `over`: so no processor reads what is there before it knows that it is.
        _, result, _ = _COMPLETION.unpack_from(
            self._completions, (over - 1) * _COMPLETION.size % len(self._completions)
        )
        self._taken.value = over
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def close(self) -> None:
        """Wait for what was begun, and be of no more use."""
        while self._asked.value != self._over.value:
            with contextlib.suppress(InterruptedError):  # by a signal
                self._call(_ENTER, self.fd, 0, 1, _WAIT, 0, 0)
        os.close(self.fd)

    def _call(self, *arguments: object) -> int:
        result: int = self._syscall(*_integers(*arguments))
        if result < 0:
            raise _system_error()
        return result


def _integers(*arguments: object) -> list[object]:
    """`arguments`, with integers as wide as a system call wants them."""
    return [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]


def _system_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))

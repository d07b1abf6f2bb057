"""Syncs that the kernel does by itself: asked for with a system call, and over when a descriptor becomes readable.

A thread that waits for the disk has to take the interpreter from the event loop, twice for each sync, which costs more
than many disks take. Linux does it without since 4.18, see io_submit(2), `IOCB_CMD_FDSYNC`; no library for Python does.
"""

import ctypes
import errno
import os
import platform
import sys
from typing import Final

# io_setup, io_destroy, io_getevents, io_submit: their numbers, where integers lie in memory as `_Request` has them.
_CALLS: Final = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
_FDSYNC: Final = 3
_TELL_BY_EVENTFD: Final = 1


class _Request(ctypes.Structure):
    """`struct iocb`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Outcome(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """Has the kernel sync files, one at a time. All methods raise `OSError` as the system gives it.

    fd  readable when a sync is over
    """

    def __init__(self) -> None:
        calls = _CALLS.get(platform.machine()) if sys.platform == "linux" and sys.maxsize > 2**32 else None
        if calls is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        setup, self._destroy, self._getevents, self._submit = calls
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._call(setup, 1, ctypes.byref(self._context))
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._request = _Request(opcode=_FDSYNC, flags=_TELL_BY_EVENTFD, eventfd=self.fd)
        self._requests = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))
        self._outcome = _Outcome()

    def start(self, fd: int) -> None:
        """Begin to make durable what was written to a file. `EINVAL` if kernel or file system cannot do it so."""
        self._request.fd = fd
        self._call(self._submit, self._context, ctypes.c_long(1), self._requests)

    def finish(self) -> None:
        """What was begun is over, and durable if nothing is raised; `BlockingIOError` if it is not over yet."""
        os.eventfd_read(self.fd)
        one = ctypes.c_long(1)
        self._call(self._getevents, self._context, one, one, ctypes.byref(self._outcome), None)
        if self._outcome.result < 0:
            raise OSError(-self._outcome.result, os.strerror(-self._outcome.result))

    def close(self) -> None:
        """Wait for what was begun, and be of no more use."""
        self._call(self._destroy, self._context)
        os.close(self.fd)

    def _call(self, number: int, *arguments: object) -> None:
        if self._syscall(ctypes.c_long(number), *arguments) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

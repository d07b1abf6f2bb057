"""What the kernel syncs by itself. Whether it is durable then is the kernel's word; that it is told is tested here."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import PATIENCE_S
from workq.log.files import Files
from workq.log.kernelsync import KernelSync


@pytest.fixture
def kernel() -> Iterator[KernelSync]:
    try:
        kernel = KernelSync()
    except OSError as error:
        pytest.skip(f"this system has no such thing: {error}")
    yield kernel
    kernel.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    files = Files(tmp_path)
    fd = files.create("a")
    yield fd
    files.close(fd)


def test_it_tells_when_it_is_over(kernel: KernelSync, file: int) -> None:
    for _ in range(3):
        os.write(file, b"x" * 10_000)
        kernel.start(file)
        assert select.select([kernel.fd], [], [], PATIENCE_S)[0]
        kernel.finish()
        assert not select.select([kernel.fd], [], [], 0)[0]


def test_what_is_not_over_is_not_waited_for(kernel: KernelSync) -> None:
    with pytest.raises(BlockingIOError):
        kernel.finish()


def test_one_at_a_time(kernel: KernelSync, file: int) -> None:
    kernel.start(file)
    select.select([kernel.fd], [], [], PATIENCE_S)
    kernel.finish()
    kernel.start(file)  # and closing waits for it


def test_what_cannot_be_synced_is_told_at_once(kernel: KernelSync) -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.start(reading)
    os.close(reading)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.start(reading)
    os.close(writing)

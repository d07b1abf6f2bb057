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


def wait(kernel: KernelSync) -> None:
    assert select.select([kernel.fd], [], [], PATIENCE_S)[0]


def test_it_tells_when_it_is_over(kernel: KernelSync, file: int) -> None:
    for _ in range(3):
        os.write(file, b"x" * 10_000)
        kernel.start(file)
        wait(kernel)
        kernel.finish()
        assert not select.select([kernel.fd], [], [], 0)[0]


def test_what_is_not_over_is_not_waited_for(kernel: KernelSync) -> None:
    assert not kernel.is_over()
    with pytest.raises(BlockingIOError):
        kernel.finish()


def test_one_at_a_time(kernel: KernelSync, file: int) -> None:
    kernel.start(file)
    wait(kernel)
    assert kernel.is_over()
    kernel.finish()
    assert not kernel.is_over()
    kernel.start(file)  # and closing waits for it


def test_what_cannot_be_synced_is_told_at_the_end(kernel: KernelSync, file: int) -> None:
    pipe, other_end = os.pipe()
    os.close(other_end)
    kernel.start(pipe)
    wait(kernel)
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.finish()
    os.close(pipe)
    kernel.start(pipe)
    wait(kernel)
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.finish()
    kernel.start(file)
    wait(kernel)
    kernel.finish()

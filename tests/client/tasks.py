"""Functions at the top of a module, as processes need them."""

import asyncio
import os
import signal
import sys
import time

import pytest

import workq


def upper(payload: bytes) -> bytes:
    return payload.upper()


def own_process(_: bytes) -> bytes:
    return str(os.getpid()).encode()


def context(_: bytes) -> str:
    job = workq.current_job()
    return f"{job.id} {job.name} {job.ttr:g} {job.attempt}"


def explode(payload: bytes) -> None:
    raise ValueError(payload.decode())


def leave(_: bytes) -> None:
    sys.exit(3)


def fail_as_pytest_does(_: bytes) -> None:
    pytest.fail("a BaseException")


def end_process(payload: bytes) -> bytes:
    if payload == b"exit":
        os._exit(7)
    if payload == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return b"survived"


def sleep_for_ever(_: bytes) -> None:
    while True:
        time.sleep(3600)


def retry_once(_: bytes) -> str:
    attempt = workq.current_job().attempt
    if attempt == 1:
        raise workq.Retry("not yet", delay=0.01)
    return f"attempt {attempt}"


def take_seconds(seconds: bytes) -> str:
    time.sleep(float(seconds))
    return f"attempt {workq.current_job().attempt}"


async def await_seconds(seconds: bytes) -> str:
    await asyncio.sleep(float(seconds))
    return f"attempt {workq.current_job().attempt}"


def wait_with_progress(path: bytes) -> None:
    for progress in ("little", "half"):
        workq.report_progress(progress)
    while not os.path.exists(path):
        time.sleep(0.01)


async def await_with_progress(path: bytes) -> None:
    for progress in ("little", b"half"):
        workq.report_progress(progress)
    while not os.path.exists(path):
        await asyncio.sleep(0.01)

"""A worker for the tests that send signals to it: `workq worker tests.client.signalled:app`.

A function says through the server that it runs, by a job in the queue named by its payload with ``.started`` behind it,
and goes on when it gets one from ``.go``.
"""

import asyncio
import contextlib
import os
import time

import workq

app = workq.Worker(grace=float(os.environ.get("GRACE", "30")))


def report(payload: bytes) -> None:
    with workq.Client() as client:
        client.add(f"{payload.decode()}.started", str(os.getpid()))


def hold(payload: bytes) -> bytes:
    report(payload)
    with workq.Client() as client:
        client.lease(f"{payload.decode()}.go", timeout=60)
    return b"held"


app.job("thread")(hold)
app.job("process", processes=True)(hold)


@app.job("async")
async def hold_async(payload: bytes) -> bytes:
    report(payload)
    async with workq.AsyncClient() as client:
        await client.lease(f"{payload.decode()}.go", timeout=60)
    return b"held"


@app.job("stubborn")
async def stubborn(payload: bytes) -> None:
    report(payload)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


@app.job("blocking")
async def blocking(payload: bytes) -> None:
    report(payload)
    time.sleep(60)


@app.job("end")
def end(payload: bytes) -> None:
    report(payload)
    os._exit(9)

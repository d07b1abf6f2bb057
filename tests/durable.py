"""An engine with a log on disk, without a server around it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from workq.broker import Broker, Clock
from workq.commit import GroupCommit
from workq.engine import Engine
from workq.gateway import Gateway
from workq.log.filelog import open_files
from workq.log.files import Files


@contextlib.asynccontextmanager
async def durable(files: Files) -> AsyncIterator[tuple[Engine, Gateway]]:
    """The engine, and what a door talks to; each change is synced before it is told."""
    loop = asyncio.get_running_loop()
    engine = Engine(Clock().now_ms())
    log = open_files(files, 1_048_576, engine.state, lambda *_: None)
    broker = Broker(engine, Clock(), loop, GroupCommit(engine, log, "always", 1.0, loop))
    yield engine, Gateway(broker)
    await broker.close()

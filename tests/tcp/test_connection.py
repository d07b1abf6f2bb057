"""What a connection does by itself, without a socket."""

import asyncio
import socket
from typing import cast

from workq.broker import Broker, Clock
from workq.engine import Engine
from workq.tcp import Connection, HangupWatch

ADD = b"add 00000000-0000-4000-8000-000000000001 mail 5000 60000 5\r\nhello\r\n"


class Transport:
    family = socket.AF_UNIX

    def get_extra_info(self, name: str) -> object:
        return self

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return True


async def test_who_is_gone_has_nothing_more_executed() -> None:
    clock = Clock()
    engine = Engine(clock.now_ms())
    loop = asyncio.get_running_loop()
    broker = Broker(engine, clock, loop)
    connection = Connection(broker, HangupWatch(loop))
    connection.connection_made(cast(asyncio.Transport, Transport()))
    connection.pause_writing()
    connection.data_received(ADD)
    await asyncio.sleep(0)  # the turn ends
    connection.connection_lost(None)

    connection.resume_writing()

    await asyncio.sleep(0)
    assert len(engine.state.jobs) == 0
    await broker.close()

"""Who sends, and who is sent to."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.dispatch.pushing import now_ms
from tests.webworker import WebWorker
from workq.dispatch.addresses import AddressRules
from workq.dispatch.sender import Sender
from workq.run_queue import RunQueue, nobody_else


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(AddressRules(), now_ms, RunQueue(nobody_else))
    yield made
    made.close()


@pytest.fixture
def worker() -> Iterator[WebWorker]:
    with WebWorker() as made:
        yield made

"""Who sends, and who is sent to."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.dispatch.pushing import now_ms
from tests.server import PATIENCE_S
from tests.webworker import WebWorker
from workq.dispatch.addresses import AddressRules
from workq.dispatch.sender import Sender
from workq.run_queue import RunQueue, nobody_else


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are kept for longer than a machine stands still between two pushes."""
    monkeypatch.setattr("workq.dispatch.http_client._IDLE_S", PATIENCE_S)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender(AddressRules(), now_ms, RunQueue(nobody_else))
    yield made
    made.close()


@pytest.fixture
def worker() -> Iterator[WebWorker]:
    with WebWorker() as made:
        yield made

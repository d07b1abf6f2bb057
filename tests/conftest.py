"""What all tests share."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import forking
from tests.server import Dialogue, ServerProcess

# A test must not fail because the machine is busy.
settings.register_profile("workq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("workq")


def pytest_collection_finish() -> None:
    """Spare the collector the four thousand tests: they stay to the end."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def stop_forking() -> Iterator[None]:
    """No process outlives the tests."""
    yield
    forking.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a module share: each uses queues and ids of its own."""
    with ServerProcess() as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Dialogue]:
    """A connection to `server`."""
    with server.connect() as dialogue:
        yield dialogue


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No cyclic garbage collector, as in the server. `gc.collect()` looks at nothing that was there before."""
    gc.freeze()
    gc.disable()
    yield
    gc.enable()

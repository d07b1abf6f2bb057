"""The TCP door is the same on both event loops."""

import os
from collections.abc import Iterator

import pytest

from tests.server import ServerProcess


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that the tests of a module share, with uvloop and without."""
    environment = {}
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    else:
        directory = tmp_path_factory.mktemp("without-uvloop")
        (directory / "uvloop.py").write_text("raise ImportError('a server without uvloop is wanted')\n")
        environment["PYTHONPATH"] = os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])
    with ServerProcess(env=environment) as process:
        yield process

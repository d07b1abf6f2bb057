"""What the tests of the HTTP APIs share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.http.browser import chromium, tab
from tests.http.client import HttpClient
from tests.server import ServerProcess

HTTP = ("--http", "127.0.0.1:0")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that the tests of a module share: each uses queues and ids of its own."""
    with ServerProcess(*HTTP) as process:
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[HttpClient]:
    """A connection to the HTTP listener of `server`."""
    with HttpClient(server) as client:
        yield client


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that the tests of a module share."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of it with nothing of other tests in it."""
    with tab(browser) as page:
        yield page

"""What the tests of the HTTP APIs share."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.http.browser import chromium, tab, watched
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


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    """A tab of it: making one takes longer than most of what is done in it."""
    with tab(browser) as page:
        yield page


@pytest.fixture
def page(shared_page: Page) -> Iterator[Page]:
    """A tab that is empty. Our pages keep nothing in the browser, so nothing of other tests is in it."""
    with watched(shared_page):
        yield shared_page
    assert shared_page.context.storage_state() == {"cookies": [], "origins": []}
    shared_page.goto("about:blank")

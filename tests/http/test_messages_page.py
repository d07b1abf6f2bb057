"""The page of the messages door, and what it asks for."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.http.browser import tab
from tests.http.client import HttpClient
from tests.http.test_messages import MESSAGES, create, enqueue, receive, until
from tests.server import ServerProcess

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*MESSAGES) as process:
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[HttpClient]:
    with HttpClient(server, "messages") as client:
        yield client


def latest(http: HttpClient) -> list[dict[str, Any]]:
    answer = http.get("/web/messages")
    assert (answer.status, answer.type) == (200, "application/json")
    messages: list[dict[str, Any]] = answer.json
    return messages


def set_times(message: dict[str, Any]) -> set[str]:
    times = {key for key, value in message.items() if key.endswith("_at") and value is not None}
    assert all(re.fullmatch(TIME, message[key]) for key in times)
    return times


def test_the_last_to_change_come_first_from_all_queues_and_states(http: HttpClient) -> None:
    assert latest(http) == []
    for name in ("a", "b"):
        create(http, name)
    completed, failed, locked = [enqueue(http, "a", {"n": number}) for number in range(3)]
    for message_id in (completed, failed, locked):
        assert receive(http, "a")["id"] == message_id
    http.put(f"/messages/{completed}/complete")
    http.put(f"/messages/{failed}/fail")
    ready = enqueue(http, "b", "x" * 5_000)
    messages = {message["id"]: message for message in latest(http)}
    assert set(messages) == {completed, failed, locked, ready}
    assert set_times(messages[completed]) == {"inserted_at", "completed_at", "updated_at"}
    assert set_times(messages[failed]) == {"inserted_at", "failed_at", "updated_at"}
    assert set_times(messages[locked]) == {"inserted_at", "locked_at", "updated_at"}
    assert set_times(messages[ready]) == {"inserted_at", "updated_at"}
    assert [messages[locked][key] for key in ("queue", "args", "attempts")] == ["a", '{"n": 2}', 1]
    assert messages[ready]["args"] == '"' + "x" * 999 + "…"
    many = [enqueue(http, "b", number) for number in range(20)]
    assert [message["queue"] for message in latest(http)] == ["b"] * 10
    assert {message["id"] for message in latest(http)} == set(many[-10:])
    updated = [message["updated_at"] for message in latest(http)]
    assert updated == sorted(updated, reverse=True)


def test_a_lock_of_the_longest_time_is_shown(http: HttpClient) -> None:
    create(http, "a", visibility_timeout_seconds=2**63 - 1)
    enqueue(http, "a", 1)
    receive(http, "a")
    (message,) = latest(http)
    assert set_times(message) == {"inserted_at", "locked_at", "updated_at"}
    assert message["locked_at"] >= message["inserted_at"]


def test_a_message_whose_lock_ran_out_is_there_again(http: HttpClient, server: ServerProcess) -> None:
    create(http, "a", visibility_timeout_seconds=3600)
    message_id = enqueue(http, "a", 1)
    receive(http, "a")
    (message,) = latest(http)
    assert message["locked_at"]
    http.put("/queues/a?visibility_timeout_seconds=1")
    (message,) = until(lambda: [each for each in latest(http) if each["locked_at"] is None] or None, server)
    assert (message["id"], message["attempts"], message["updated_at"]) == (message_id, 1, None)


@pytest.mark.parametrize("place", [("messages", ""), ("", "/messages")])
def test_the_page_shows_them_as_they_change(browser: Browser, server: ServerProcess, place: tuple[str, str]) -> None:
    listener, prefix = place
    host, port = server.http_addresses[listener]
    with HttpClient(server, *place) as http, tab(browser, width=380) as page:
        answer = http.get("/web")
        assert (answer.status, answer.type) == (200, "text/html; charset=utf-8")
        assert "<title>hq web ui</title>" in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        page.goto(f"http://{host}:{port}{prefix}/web")
        expect(page.get_by_text("No messages yet.")).to_be_visible()
        create(http, "a" * 200)
        message_id = enqueue(http, "a" * 200, {"html": HOSTILE * 5})
        row = page.locator(f'tr[data-id="{message_id}"]')
        expect(row).to_contain_text("ready")
        expect(row).to_contain_text(json.dumps({"html": HOSTILE * 5}))
        assert page.locator("main img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
        receive(http, "a" * 200)
        expect(row).to_contain_text("locked")
        http.put(f"/messages/{message_id}/complete")
        expect(row).to_contain_text("completed")

"""Queues, routings, settings, versions, errors: what can be asked without a job."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.durable import durable
from tests.http.client import HttpClient
from tests.http.fireworq.conftest import FLAGS
from tests.http.fireworq.workers import Fireworq
from tests.server import ServerProcess
from tests.webworker import WebWorker
from workq.commands import ListDocuments
from workq.dispatch.dispatcher import Dispatcher
from workq.http.fireworq.definitions import Definitions
from workq.http.fireworq.structs import QueueRequest
from workq.http.names import queue_name
from workq.log.files import Files
from workq.replies import Documents
from workq.server.config import load_settings
from workq.version import VERSION

# All that Fireworq has.
SETTINGS = {
    *("bind", "pid", "shutdown_timeout", "keep_alive", "config_refresh_interval", "driver"),
    *("queue_default", "queue_default_polling_interval", "queue_default_max_workers"),
    *("dispatch_keep_alive", "dispatch_max_conns_per_host", "dispatch_idle_conn_timeout", "dispatch_user_agent"),
    *("access_log", "access_log_tag", "error_log", "error_log_level", "queue_log", "queue_log_tag", "queue_log_level"),
    *("mysql_dsn", "queue_mysql_dsn", "repository_mysql_dsn"),
}


def name() -> str:
    return f"q-{uuid.uuid4()}"


class TestServer:
    @pytest.mark.parametrize("path", ["/", "/version"])
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    def test_it_says_its_version_whatever_the_method(self, http: HttpClient, path: str, method: str) -> None:
        answer = http.ask(method, path)
        assert (answer.status, answer.text) == (200, f"Fireworq {VERSION}\n")

    def test_settings_are_strings_under_their_names_of_old(self, http: HttpClient) -> None:
        settings = http.get("/settings").json
        assert settings["queue_default"] == "default"
        assert settings["queue_default_max_workers"] == "20"
        assert settings["queue_default_polling_interval"] == "200"
        assert settings["keep_alive"] == settings["dispatch_keep_alive"] == "false"
        assert settings["dispatch_user_agent"] == f"Fireworq/{VERSION}"
        assert (settings["bind"], settings["shutdown_timeout"]) == ("127.0.0.1:0", "10")
        assert (settings["error_log_level"], settings["driver"]) == ("info", "in-memory")
        assert set(settings) == SETTINGS
        assert {type(value) for value in settings.values()} == {str}

    def test_figures_of_the_process(self, http: HttpClient) -> None:
        answer = http.get("/stats")
        assert (answer.status, answer.type) == (200, "application/json")
        assert min(answer.json[key] for key in ("time", "cpu_num", "memory_sys")) > 0

    @pytest.mark.parametrize("path", ["/nope", "/queue", "/queue/x/y", "/queues/x", "/job", "/job/", "/routing/"])
    def test_an_unknown_path_is_404(self, http: HttpClient, path: str) -> None:
        answer = http.get(path)
        assert (answer.status, answer.text, answer.type) == (
            404,
            "404 page not found\n",
            "text/plain; charset=utf-8",
        )

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", "/version", None, 200),
            ("PUT", "/queue/x", b"{", 400),
            ("POST", "/job/x", b"{", 400),
            ("GET", "/job/x", None, 405),
            ("GET", "/routing/nosuch", None, 404),
            ("GET", "/nosuch", None, 404),
        ],
    )
    def test_connections_are_closed_unless_told_otherwise(
        self, http: HttpClient, method: str, path: str, body: bytes | None, status: int
    ) -> None:
        answer = http.ask(method, path, body=body)
        assert (answer.status, answer.headers["Connection"]) == (status, "close")


class TestQueues:
    def test_a_new_queue_has_defaults(self, http: HttpClient) -> None:
        queue = name()
        expected = {"name": queue, "polling_interval": 200, "max_workers": 20}
        answer = http.put(f"/queue/{queue}", {})
        assert (answer.status, answer.type, answer.json) == (200, "application/json", expected)
        assert http.get(f"/queue/{queue}").json == expected
        assert expected in http.get("/queues").json

    def test_what_is_not_given_goes_back_to_its_default(self, http: HttpClient) -> None:
        queue = name()
        http.put(f"/queue/{queue}", {"polling_interval": 50, "max_workers": 3, "name": "other", "more": 1})
        assert http.get(f"/queue/{queue}").json == {"name": queue, "polling_interval": 50, "max_workers": 3}
        http.put(f"/queue/{queue}", {"max_workers": 4})
        assert http.get(f"/queue/{queue}").json == {"name": queue, "polling_interval": 200, "max_workers": 4}

    @pytest.mark.parametrize("body", [b"null", b"{}", b'{"polling_interval": 0, "max_workers": null}'])
    def test_nothing_nought_and_null_are_the_default(self, http: HttpClient, body: bytes) -> None:
        queue = name()
        answer = http.put(f"/queue/{queue}", body=body, Content_Type="application/x-www-form-urlencoded")
        assert answer.json == {"name": queue, "polling_interval": 200, "max_workers": 20}

    def test_a_throttled_queue_says_so(self, http: HttpClient) -> None:
        queue = name()
        asked = {"polling_interval": 7, "max_dispatches_per_second": 2.5, "max_burst_size": 5}
        expected = {"name": queue, "max_workers": 20, **asked, "polling_interval": 100}
        assert http.put(f"/queue/{queue}", asked).json == expected
        assert http.get(f"/queue/{queue}").json == expected

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            ('{"max_dispatches_per_second": 1}', "max_dispatches_per_second needs max_burst_size"),
            ('{"max_burst_size": 1}', "max_burst_size needs max_dispatches_per_second"),
            ('{"max_dispatches_per_second": -1, "max_burst_size": 1}', "$.max_dispatches_per_second"),
            ('{"max_workers": -1}', "$.max_workers"),
            ('{"max_workers": 1.5}', "$.max_workers"),
            ('{"max_workers": "1"}', "$.max_workers"),
            ('{"polling_interval": true}', "$.polling_interval"),
            ("[]", "Expected `object | null`"),
            ("{", "Invalid JSON"),
            ("", "Invalid JSON"),
        ],
    )
    def test_a_wrong_definition_is_refused_and_not_stored(self, http: HttpClient, body: str, text: str) -> None:
        queue = name()
        answer = http.put(f"/queue/{queue}", body=body.encode())
        assert (answer.status, answer.type) == (400, "text/plain; charset=utf-8")
        assert answer.text.startswith("400 Bad Request\n\n")
        assert text in answer.text
        assert http.get(f"/queue/{queue}").status == 404

    def test_names_may_have_spaces_and_more(self, http: HttpClient) -> None:
        queue = f"ä b%{name()}"
        assert http.put(f"/queue/{quote(queue)}", {}).json["name"] == queue
        assert http.get(f"/queue/{quote(queue)}").json["name"] == queue

    def test_names_may_have_1000_bytes(self, fireworq: Fireworq) -> None:
        http = fireworq.http
        longest = name().ljust(998) + "é"
        assert http.put(f"/queue/{quote(longest)}", {}).status == 200
        assert http.put(f"/routing/{quote(longest)}", {"queue_name": longest}).status == 200
        assert fireworq.push(longest)["id"] == 1
        text = "400 Bad Request\n\nInvalid {}: it has 1001 bytes, at most 1000 are allowed\n"
        answer = http.put(f"/queue/{quote(longest + 'x')}", {})
        assert (answer.status, answer.text) == (400, text.format("queue name"))
        answer = http.put(f"/routing/{quote(longest + 'x')}", {"queue_name": longest})
        assert (answer.status, answer.text) == (400, text.format("category"))

    def test_queues_are_sorted_by_name(self, http: HttpClient) -> None:
        ending = name()
        for first in "cab":
            http.put(f"/queue/{first}{ending}", {})
        names = [queue["name"] for queue in http.get("/queues").json if queue["name"].endswith(ending)]
        assert names == [first + ending for first in "abc"]

    def test_a_deleted_queue_is_answered_and_gone(self, http: HttpClient) -> None:
        queue = name()
        defined = http.put(f"/queue/{queue}", {"max_workers": 2}).json
        answer = http.delete(f"/queue/{queue}")
        assert (answer.status, answer.json) == (200, defined)
        assert http.delete(f"/queue/{queue}").status == 404
        for path in ("", "/node", "/stats", "/grabbed", "/waiting", "/deferred", "/failed", "/job/1", "/failed/1"):
            answer = http.get(f"/queue/{queue}{path}")
            assert (answer.status, answer.text) == (404, f"404 Not Found\n\nNo such queue: {queue}\n")

    def test_the_default_queue_is_always_there(self, http: HttpClient) -> None:
        assert http.get("/queue/default").json["name"] == "default"
        assert http.delete("/queue/default").status == 200
        assert http.get("/queue/default").json["name"] == "default"

    def test_a_queue_has_a_node_and_figures(self, http: HttpClient) -> None:
        queue = name()
        http.put(f"/queue/{queue}", {"max_workers": 3})
        node = http.get(f"/queue/{queue}/node").json
        assert node["id"]
        assert node["host"]
        stats = http.get(f"/queue/{queue}/stats").json
        assert len(stats) == 13
        assert {key for key, value in stats.items() if value} == {"total_workers", "idle_workers", "active_nodes"}
        assert stats == http.get("/queues/stats").json[queue]

    def test_other_methods_are_like_get(self, http: HttpClient) -> None:
        queue = name()
        defined = http.put(f"/queue/{queue}", {}).json
        assert http.post(f"/queue/{queue}", {"max_workers": 9}).json == defined
        assert http.ask("DELETE", "/queues").json == http.get("/queues").json


class TestRoutings:
    def test_a_category_is_routed(self, http: HttpClient) -> None:
        queue, category = name(), f"a/b c/{uuid.uuid4()}"
        http.put(f"/queue/{queue}", {})
        routing = {"queue_name": queue, "job_category": category}
        path = f"/routing/{quote(category)}"
        assert http.put(path, {"queue_name": queue, "job_category": "other"}).json == routing
        assert http.get(path).json == routing
        assert routing in http.get("/routings").json
        assert http.delete(path).json == routing
        assert http.get(path).status == http.delete(path).status == 404

    def test_routings_are_sorted_by_queue(self, http: HttpClient) -> None:
        ending = name()
        for first, category in (("b", "1"), ("a", "2")):
            http.put(f"/queue/{first}{ending}", {})
            http.put(f"/routing/{category}{ending}", {"queue_name": first + ending})
        queues = [each["queue_name"] for each in http.get("/routings").json if each["queue_name"].endswith(ending)]
        assert queues == [f"a{ending}", f"b{ending}"]

    @pytest.mark.parametrize(
        ("body", "status", "text"),
        [
            ({"queue_name": "nosuch"}, 404, "No such queue: nosuch"),
            ({}, 400, "Missing field: queue_name"),
            ({"queue_name": 5}, 400, "$.queue_name"),
            ([], 400, "Expected `object | null`"),
        ],
    )
    def test_a_wrong_routing_is_refused(self, http: HttpClient, body: object, status: int, text: str) -> None:
        answer = http.put("/routing/wrong", body=json.dumps(body).encode())
        assert answer.status == status
        assert text in answer.text
        assert http.get("/routing/wrong").status == 404


class TestSettings:
    def test_variables_of_old_count(self) -> None:
        env = {
            "FIREWORQ_BIND": "127.0.0.1:0",
            "FIREWORQ_QUEUE_DEFAULT": "elsewhere",
            "FIREWORQ_QUEUE_DEFAULT_MAX_WORKERS": "7",
            "FIREWORQ_KEEP_ALIVE": "true",
            "FIREWORQ_MYSQL_DSN": "tcp(db:3306)/fireworq",
            "FIREWORQ_PID": "/run/fireworq.pid",
        }
        with ServerProcess(env=env) as server, HttpClient(server, "fireworq") as http:
            assert http.get("/queue/elsewhere").json["max_workers"] == 7
            answer = http.get("/settings")
            assert answer.json["dispatch_keep_alive"] == "true"
            assert answer.json["mysql_dsn"] == "", "what has no effect is not in force"
            assert "Connection" not in answer.headers
            assert "Connection" not in http.put("/queue/x", body=b"{").headers
            assert "mysql_dsn has no effect: it is said for the whole server" in server.log()
            assert "pid has no effect: there is nothing like it here" in server.log()

    def test_what_web_workers_are_told_is_a_setting(self) -> None:
        env = {
            "FIREWORQ_BIND": "127.0.0.1:0",
            "FIREWORQ_QUEUE_DEFAULT_POLLING_INTERVAL": "50",
            "FIREWORQ_DISPATCH_KEEP_ALIVE": "true",
            "FIREWORQ_DISPATCH_USER_AGENT": "somebody/1",
        }
        with WebWorker() as worker, ServerProcess(env=env) as server, HttpClient(server, "fireworq") as http:
            assert http.get("/queue/default").json["polling_interval"] == 50
            assert http.post("/job/foo", {"url": worker.url("/")}).headers["Connection"] == "close"
            (request,) = worker.wait_for_requests(1)
            assert request.values("User-Agent") == ["somebody/1"]
            assert "close" not in request.values("Connection")

    def test_a_table_of_the_toml_file_counts(self, tmp_path: Path) -> None:
        config = tmp_path / "workq.toml"
        config.write_text('[fireworq]\nqueue_default = ""\nshutdown_timeout = 30\n')
        with ServerProcess(*FLAGS, "--config", str(config)) as server, HttpClient(server, "fireworq") as http:
            assert http.get("/queues").json == []
            answer = http.post("/job/foo", {"url": "http://localhost/"})
            assert (answer.status, "No routing for category: foo" in answer.text) == (500, True)


def test_definitions_survive_a_kill(tmp_path: Path) -> None:
    flags = (*FLAGS, "--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        http.put("/queue/q", {"max_workers": 2, "max_dispatches_per_second": 5, "max_burst_size": 1})
        http.put("/routing/c", {"queue_name": "q"})
        before = http.get("/queues").json, http.get("/routings").json
        server.kill()
    with ServerProcess(*flags) as server, HttpClient(server, "fireworq") as http:
        assert (http.get("/queues").json, http.get("/routings").json) == before


def test_a_queue_that_is_not_pushed_any_more_is_when_it_is_put_again(tmp_path: Path, worker: WebWorker) -> None:
    """As a crash may leave it, or somebody who wanted to pull its jobs for a while."""
    with ServerProcess(*FLAGS) as server, HttpClient(server, "fireworq") as http, HttpClient(server) as own:
        fireworq = Fireworq(http, worker)
        queue = fireworq.queue()
        assert own.delete(f"/v1/queues/fireworq.{queue}/push").status == 204
        fireworq.push(queue)
        assert http.put(f"/queue/{queue}", {}).status == 200
        worker.wait_for_requests(1)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[tuple[Definitions, Dispatcher]]:
    nobody: Any = None
    async with durable(Files(tmp_path)) as (_, gateway):
        dispatcher = Dispatcher(gateway, lambda: nobody)
        definitions = Definitions(gateway, dispatcher, load_settings([], {}).fireworq)
        await definitions.start()
        yield definitions, dispatcher
        await dispatcher.stop(0)


async def test_a_name_that_no_queue_can_have_is_not_remembered(house: tuple[Definitions, Dispatcher]) -> None:
    """Four thousand that fill a request line were a quarter of a gigabyte."""
    definitions, _ = house
    before = queue_name.cache_info().currsize
    assert await definitions.delete_queue("x" * 1_001) is None
    assert queue_name.cache_info().currsize == before


class TestClientsThatHangUp:
    """What was begun for a client that is gone is done to its end."""

    async def hang_up(self, change: Callable[[], Awaitable[object]], when: Callable[[], bool]) -> None:
        task = asyncio.ensure_future(change())
        while not when() and not task.done():
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def test_a_queue_is_pushed_if_it_is_defined(self, house: tuple[Definitions, Dispatcher]) -> None:
        definitions, dispatcher = house
        # The first job of all: its queue is made by the way.
        await self.hang_up(lambda: definitions.queue_of("any"), lambda: "default" in definitions._kept)
        assert (await definitions.queue_of("any")).name == "default"
        assert dispatcher.is_pushed(queue_name("fireworq", "default"))

    async def test_a_queue_is_not_pushed_if_it_is_deleted(self, house: tuple[Definitions, Dispatcher]) -> None:
        definitions, dispatcher = house
        await definitions.put_queue("q", QueueRequest())
        await self.hang_up(lambda: definitions.delete_queue("q"), lambda: definitions.queue("q") is None)
        assert await definitions.delete_queue("q") is None
        assert not dispatcher.is_pushed(queue_name("fireworq", "q"))

    async def test_what_is_stored_is_known(self, house: tuple[Definitions, Dispatcher]) -> None:
        definitions, _ = house
        await definitions.put_queue("q", QueueRequest())
        stored = ListDocuments(b"fireworq/routing/")
        await self.hang_up(
            lambda: definitions.put_routing("c", "q"), lambda: definitions._gateway.post(stored) != Documents([])
        )
        await definitions.put_routing("other", "q")  # the log has what came before
        assert [routing.job_category for routing in definitions.routings()] == ["c", "other"]

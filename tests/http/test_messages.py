"""The messages door, as clients of the old server use it."""

import asyncio
import contextlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.durable import durable
from tests.http.client import Answer, HttpClient
from tests.http.client import until as wait_until
from tests.server import ServerProcess, reserved_port
from workq.archive import Archive
from workq.commands import Add, ListDocuments, PutDocument
from workq.http.messages import MessagesDoor
from workq.http.web import Headers, Request, Response
from workq.log.files import Files
from workq.replies import Documents
from workq.server.config import load_settings
from workq.values import JobSpec

MESSAGES = ("--messages-listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(*MESSAGES) as process:
        yield process


@pytest.fixture(params=["root", "mounted"])
def http(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[HttpClient]:
    """The door at the root of its own listener, and below the path that it has beside our own API."""
    place = ("messages", "") if request.param == "root" else ("", "/messages")
    with HttpClient(server, *place) as client:
        yield client


@pytest.fixture
def queue(http: HttpClient) -> str:
    """A new queue whose messages can be received twice, each time for half a minute."""
    name = f"q-{uuid.uuid4()}"
    assert create(http, name).status == 200
    return name


def create(http: HttpClient, name: str, max_attempts: object = 2, visibility_timeout_seconds: object = 30) -> Answer:
    options = f"max_attempts={max_attempts}&visibility_timeout_seconds={visibility_timeout_seconds}"
    return http.post(f"/queues?name={quote(name, safe='')}&{options}")


def enqueue(http: HttpClient, queue: str, args: object) -> str:
    answer = http.post(f"/queues/{quote(queue, safe='')}/enqueue", body=json.dumps(args).encode())
    assert answer.status == 200
    assert list(answer.json) == ["message_id"]
    return str(answer.json["message_id"])


def receive(http: HttpClient, queue: str) -> Any:
    answer = http.get(f"/queues/{quote(queue, safe='')}/receive")
    assert (answer.status, answer.type) == (200, "application/json")
    return answer.json


def new_id() -> bytes:
    return str(uuid.uuid4()).encode()


def is_empty_ok(answer: Answer) -> bool:
    return (answer.status, answer.body) == (200, b"")


def until(ask: Callable[[], Any], server: ServerProcess) -> Any:
    """What `ask` answers as soon as that is not None. It is asked again whenever the server has done something else."""
    with server.connect() as idle:
        while True:
            answer = ask()
            if answer is not None:
                return answer
            idle.ask(b"lease nobody-adds-here 20\r\n")


class TestQueues:
    def test_a_queue_is_created_shown_and_listed(self, http: HttpClient, queue: str) -> None:
        answer = http.get(f"/queues/{queue}")
        shown = answer.json
        assert answer.type == "application/json"
        assert list(shown) == ["name", "max_attempts", "visibility_timeout_seconds", "inserted_at", "updated_at"]
        assert (shown["name"], shown["max_attempts"], shown["visibility_timeout_seconds"]) == (queue, 2, 30)
        assert re.fullmatch(TIME, shown["inserted_at"])
        assert shown["updated_at"] == shown["inserted_at"]
        assert shown in http.get("/queues").json

    def test_queues_are_listed_by_the_bytes_of_their_names(self, http: HttpClient) -> None:
        ending = str(uuid.uuid4())
        for first in ("b", "ä", "a", "B"):
            create(http, first + ending)
        names = [each["name"] for each in http.get("/queues").json if each["name"].endswith(ending)]
        assert names == [first + ending for first in ("B", "a", "b", "ä")]

    @pytest.mark.parametrize("name", ["two words", "größe", "a/b", "%", "a.b-c_d", "x" * 300])
    def test_any_name_will_do(self, http: HttpClient, name: str) -> None:
        name += str(uuid.uuid4())
        assert is_empty_ok(create(http, name))
        assert http.get(f"/queues/{quote(name, safe='')}").json["name"] == name
        message_id = enqueue(http, name, 1)
        assert receive(http, name) == {"id": message_id, "args": 1, "queue": name, "attempts": 1}

    def test_a_name_may_have_1000_bytes(self, http: HttpClient) -> None:
        longest = str(uuid.uuid4()).ljust(998) + "é"
        assert is_empty_ok(create(http, longest))
        message_id = enqueue(http, longest, 1)
        assert receive(http, longest)["id"] == message_id
        assert is_empty_ok(http.delete(f"/queues/{quote(longest)}"))
        longer = longest.replace(" ", "x", 1) + "x"
        answer = create(http, longer)
        assert (answer.status, answer.text) == (
            400,
            "Invalid queue name: it has 1001 bytes, at most 1000 are allowed\n",
        )
        for name in (longer, longer * 2):
            assert http.get(f"/queues/{quote(name)}").json is None
            assert receive(http, name) is None
            assert is_empty_ok(http.delete(f"/queues/{quote(name)}"))

    @pytest.mark.parametrize(
        ("query", "status", "text"),
        [
            ("", 400, "name is missing"),
            ("name=&max_attempts=1&visibility_timeout_seconds=1", 400, "name is empty"),
            ("name=x", 400, "max_attempts is missing"),
            ("name=x&max_attempts=1", 400, "visibility_timeout_seconds is missing"),
            ("name=x&max_attempts=two&visibility_timeout_seconds=1", 400, "'two' is not a whole number"),
            ("name=x&max_attempts=1.5&visibility_timeout_seconds=1", 400, "'1.5' is not a whole number"),
            ("name=x&max_attempts=1&visibility_timeout_seconds=", 400, "'' is not a whole number"),
            (f"name=x&max_attempts={2**63}&visibility_timeout_seconds=1", 400, "is not a whole number"),
            ("name=x&max_attempts=0&visibility_timeout_seconds=0", 422, "max_attempts must be >= 1"),
            ("name=x&max_attempts=1&visibility_timeout_seconds=-1", 422, "visibility_timeout_seconds must be >= 1"),
        ],
    )
    def test_a_wrong_option_is_named_and_nothing_created(
        self, http: HttpClient, query: str, status: int, text: str
    ) -> None:
        answer = http.post(f"/queues?{query}")
        assert (answer.status, answer.type) == (status, "text/plain; charset=utf-8")
        assert text in answer.text
        assert {"x", ""}.isdisjoint([each["name"] for each in http.get("/queues").json])

    def test_the_largest_options_are_taken(self, http: HttpClient) -> None:
        name = str(uuid.uuid4())
        assert is_empty_ok(create(http, name, 2**63 - 1, 2**63 - 1))
        enqueue(http, name, {})
        assert receive(http, name)["attempts"] == 1

    def test_a_name_is_unique(self, http: HttpClient, queue: str) -> None:
        answer = create(http, queue, 9)
        assert answer.status == 409
        assert answer.text.startswith("Error: queue name must be unique")
        assert http.get(f"/queues/{queue}").json["max_attempts"] == 2

    def test_of_those_who_create_a_queue_at_once_one_does(self, http: HttpClient) -> None:
        name = str(uuid.uuid4())
        clients = [http.another() for _ in range(8)]
        for attempts, client in enumerate(clients, 1):
            client.send("POST", f"/queues?name={name}&visibility_timeout_seconds=30&max_attempts={attempts}")
        statuses = [client.answer().status for client in clients]
        assert sorted(statuses) == [200, *[409] * 7]
        assert http.get(f"/queues/{name}").json["max_attempts"] == statuses.index(200) + 1
        for client in clients:
            client.close()

    def test_options_are_changed_one_or_both(self, http: HttpClient, queue: str) -> None:
        def options() -> tuple[int, int]:
            shown = http.get(f"/queues/{queue}").json
            return shown["max_attempts"], shown["visibility_timeout_seconds"]

        assert is_empty_ok(http.put(f"/queues/{queue}?max_attempts=7"))
        assert options() == (7, 30)
        assert is_empty_ok(http.put(f"/queues/{queue}?visibility_timeout_seconds=8"))
        assert options() == (7, 8)
        assert is_empty_ok(http.put(f"/queues/{queue}?max_attempts=3&visibility_timeout_seconds=4"))
        assert options() == (3, 4)
        assert is_empty_ok(http.put(f"/queues/{queue}"))
        assert options() == (3, 4)

    def test_a_change_is_dated(self, http: HttpClient, queue: str) -> None:
        before = http.get(f"/queues/{queue}").json

        def is_later() -> bool:
            http.put(f"/queues/{queue}?max_attempts=7")
            return bool(http.get(f"/queues/{queue}").json["updated_at"] > before["updated_at"])

        wait_until(is_later)
        assert http.get(f"/queues/{queue}").json["inserted_at"] == before["inserted_at"]

    def test_a_wrong_change_changes_nothing(self, http: HttpClient, queue: str) -> None:
        assert http.put(f"/queues/{queue}?max_attempts=0&visibility_timeout_seconds=9").status == 422
        assert http.put(f"/queues/{queue}?max_attempts=x").status == 400
        shown = http.get(f"/queues/{queue}").json
        assert (shown["max_attempts"], shown["visibility_timeout_seconds"]) == (2, 30)

    def test_what_is_not_there_is_null_or_quietly_left_alone(self, http: HttpClient) -> None:
        assert http.get("/queues/nosuch").body == b"null"
        assert http.get("/queues/nosuch/receive").body == b"null"
        assert is_empty_ok(http.put("/queues/nosuch?max_attempts=3"))
        assert is_empty_ok(http.delete("/queues/nosuch"))
        assert http.get("/queues/nosuch").json is None

    def test_a_deleted_queue_takes_its_messages_along(self, http: HttpClient, queue: str) -> None:
        enqueue(http, queue, "waits")
        enqueue(http, queue, "held")
        held = receive(http, queue)
        assert is_empty_ok(http.delete(f"/queues/{queue}"))
        assert http.get(f"/queues/{queue}").json is None
        assert is_empty_ok(http.put(f"/messages/{held['id']}/complete"))
        create(http, queue)
        assert receive(http, queue) is None

    def test_a_deleted_queue_leaves_no_options(self, http: HttpClient, server: ServerProcess, queue: str) -> None:
        assert is_empty_ok(http.delete(f"/queues/{queue}"))
        with server.connect() as client:
            client.send(b"inspect queue messages.%b\r\n" % queue.encode())
            client.expect(b"+OK 1", b"messages.%b 25" % queue.encode())
            said = dict([client.line().split(b" ") for _ in range(25)])
        assert (said[b"ttr"], said[b"max-attempts"], said[b"returned"]) == (b"0", b"0", b"front")

    def test_a_queue_that_is_still_being_deleted_is_created_after_that(
        self, http: HttpClient, server: ServerProcess, queue: str
    ) -> None:
        with server.connect() as producer:  # enough to be deleted in several goes
            adds = [b"add %b messages.%b 1000 900000 1\r\n1\r\n" % (new_id(), queue.encode()) for _ in range(5_000)]
            producer.send(b"".join(adds))
            producer.expect(*[b"+OK"] * len(adds))
        with http.another() as deleting:
            deleting.send("DELETE", f"/queues/{queue}")
            wait_until(lambda: http.get(f"/queues/{queue}").json is None)
            assert create(http, queue).status == 200
            assert receive(http, queue) is None
            assert deleting.answer().status == 200

    def test_a_slash_at_the_end_is_fine(self, http: HttpClient, queue: str) -> None:
        assert queue in [each["name"] for each in http.get("/queues/").json]
        assert http.get(f"/queues/{queue}/").json["name"] == queue


class TestMessages:
    @pytest.mark.parametrize("args", [{"a": 1, "b": [None, True]}, [], "text", 9_007_199_254_740_993, None, "ü", 0.5])
    def test_any_json_comes_back(self, http: HttpClient, queue: str, args: object) -> None:
        message_id = enqueue(http, queue, args)
        assert uuid.UUID(message_id).version == 4
        assert receive(http, queue) == {"id": message_id, "args": args, "queue": queue, "attempts": 1}

    @pytest.mark.parametrize("type", ["application/x-www-form-urlencoded", "text/plain", "nonsense"])
    def test_the_content_type_is_not_looked_at(self, http: HttpClient, queue: str, type: str) -> None:
        assert http.post(f"/queues/{queue}/enqueue", body=b'{"a": 1}', Content_Type=type).status == 200
        assert receive(http, queue)["args"] == {"a": 1}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"{} {}",
            b"nul",
            b"\xff",
            b"{'a': 1}",
            b"NaN",
            b"[" * 10_000 + b"]" * 10_000,
        ],
    )
    def test_what_is_not_json_is_refused(self, http: HttpClient, queue: str, body: bytes) -> None:
        answer = http.post(f"/queues/{queue}/enqueue", body=body)
        assert answer.status == 400
        assert answer.text.startswith("Something went wrong: the message is not JSON")
        assert receive(http, queue) is None

    def test_half_a_character_becomes_the_one_for_such(self, http: HttpClient, queue: str) -> None:
        assert http.post(f"/queues/{queue}/enqueue", body=rb'"cut \ud83d"').status == 200
        assert receive(http, queue)["args"] == "cut \N{REPLACEMENT CHARACTER}"

    def test_nesting_has_a_limit(self, http: HttpClient, queue: str) -> None:
        answer = http.post(f"/queues/{queue}/enqueue", body=b"[" * 501 + b"]" * 501)
        assert answer.status == 400
        assert answer.text.startswith("Something went wrong: it is nested too deeply: 500 levels")
        message_id = http.post(f"/queues/{queue}/enqueue", body=b"[" * 500 + b"]" * 500).json["message_id"]
        receive(http, queue)
        assert is_empty_ok(http.put(f"/messages/{message_id}/complete"))
        assert http.get("/web/messages").json[0]["args"] == "[" * 500 + "]" * 500

    def test_an_unknown_queue_takes_no_message(self, http: HttpClient) -> None:
        answer = http.post("/queues/nosuch/enqueue", body=b"1")
        assert (answer.status, answer.text) == (404, "Something went wrong: there is no queue 'nosuch'\n")

    def test_no_link_from_elsewhere_receives(self, http: HttpClient, queue: str) -> None:
        message_id = enqueue(http, queue, 1)
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert http.get(f"/queues/{queue}/receive", **link).status == 403
        assert http.get(f"/queues/{queue}", **link).status == 200
        assert receive(http, queue)["id"] == message_id

    def test_a_full_queue_takes_no_message(self, server: ServerProcess, http: HttpClient, queue: str) -> None:
        with server.connect() as tcp:
            assert tcp.ask(f"queue messages.{queue} -max-len=1\r\n".encode()) == b"+OK"
        enqueue(http, queue, 1)
        answer = http.post(f"/queues/{queue}/enqueue", body=b"2")
        assert (answer.status, answer.text) == (503, "The job cannot be taken now: Queue full\n")
        assert answer.headers["Retry-After"] == "1"

    def test_messages_have_a_longest_length(self, http: HttpClient, queue: str) -> None:
        longest = b'"' + b"x" * (2 * 2**20 - 2) + b'"'
        assert http.post(f"/queues/{queue}/enqueue", body=longest).status == 200
        answer = http.post(f"/queues/{queue}/enqueue", body=longest + b" ")
        assert (answer.status, "2097152 bytes are allowed" in answer.text) == (413, True)
        assert len(receive(http, queue)["args"]) == len(longest) - 2

    def test_the_first_in_is_the_first_out_and_nobody_gets_a_held_one(self, http: HttpClient, queue: str) -> None:
        ids = [enqueue(http, queue, number) for number in range(5)]
        assert [receive(http, queue)["id"] for _ in ids] == ids
        assert receive(http, queue) is None

    @pytest.mark.parametrize("ending", ["complete", "fail"])
    def test_a_held_message_is_ended_for_good(self, http: HttpClient, queue: str, ending: str) -> None:
        message_id = enqueue(http, queue, 1)
        receive(http, queue)
        assert is_empty_ok(http.put(f"/messages/{message_id}/{ending}"))
        assert is_empty_ok(http.put(f"/messages/{message_id}/{ending}")), "and ended again without a word"
        assert receive(http, queue) is None

    @pytest.mark.parametrize("ending", ["complete", "fail"])
    def test_who_does_not_hold_a_message_cannot_end_it(self, http: HttpClient, queue: str, ending: str) -> None:
        message_id = enqueue(http, queue, 1)
        assert is_empty_ok(http.put(f"/messages/{message_id}/{ending}"))
        assert is_empty_ok(http.put(f"/messages/{uuid.uuid4()}/{ending}"))
        assert receive(http, queue)["id"] == message_id

    @pytest.mark.parametrize("message_id", ["5", "x", "7aab413c-d164-468e-ab3b"])
    def test_what_is_no_id_is_refused(self, http: HttpClient, message_id: str) -> None:
        answer = http.put(f"/messages/{message_id}/complete")
        assert (answer.status, f"'{message_id}' is not a UUID" in answer.text) == (400, True)

    def test_only_messages_can_be_ended(self, server: ServerProcess, http: HttpClient) -> None:
        job_id = str(uuid.uuid4())
        with server.connect() as worker:
            assert worker.ask(f"add {job_id} other{job_id} 60000 60000 1\r\n1\r\n".encode()) == b"+OK"
            assert worker.ask(f"lease other{job_id} 0\r\n".encode()) == b"+OK 1"
        assert is_empty_ok(http.put(f"/messages/{job_id}/fail"))
        with server.connect() as other:
            assert other.inspect(f"job {job_id}")["state"] == "4"


class TestTime:
    def test_a_message_comes_back_until_its_attempts_are_used_up(self, server: ServerProcess, http: HttpClient) -> None:
        name = str(uuid.uuid4())
        create(http, name, max_attempts=2, visibility_timeout_seconds=1)
        message_id = enqueue(http, name, "again")
        assert receive(http, name)["attempts"] == 1
        second = until(lambda: receive(http, name), server)
        assert (second["id"], second["attempts"]) == (message_id, 2)
        last = enqueue(http, name, "later")
        with server.connect() as look:
            while look.inspect(f"queue messages.{name}")["leased-len"] != "0":
                look.ask(b"lease nobody-adds-here 20\r\n")
        http.put(f"/queues/{name}?visibility_timeout_seconds=3600")
        assert receive(http, name)["id"] == last, "the one whose attempts are used up holds up nobody"
        assert receive(http, name) is None

    def test_a_message_whose_lock_ran_out_goes_to_the_back(self, server: ServerProcess, http: HttpClient) -> None:
        name = str(uuid.uuid4())
        create(http, name, max_attempts=5, visibility_timeout_seconds=1)
        first, second = [enqueue(http, name, number) for number in (1, 2)]
        assert receive(http, name)["id"] == first
        with server.connect() as look:
            while look.inspect(f"queue messages.{name}")["ready-len"] != "2":
                look.ask(b"lease nobody-adds-here 20\r\n")
        assert [receive(http, name)["id"] for _ in range(2)] == [second, first]

    def test_a_new_timeout_counts_for_held_messages_at_once(self, server: ServerProcess, http: HttpClient) -> None:
        name = str(uuid.uuid4())
        create(http, name, max_attempts=5, visibility_timeout_seconds=3600)
        message_id = enqueue(http, name, 1)
        receive(http, name)
        http.put(f"/queues/{name}?visibility_timeout_seconds=1")
        again = until(lambda: receive(http, name), server)
        assert (again["id"], again["attempts"]) == (message_id, 2)

    def test_lowered_attempts_count_for_messages_that_wait(self, http: HttpClient, server: ServerProcess) -> None:
        name = str(uuid.uuid4())
        create(http, name, max_attempts=5, visibility_timeout_seconds=1)
        enqueue(http, name, 1)
        receive(http, name)
        until(lambda: receive(http, name), server)
        http.put(f"/queues/{name}?max_attempts=1")
        fresh = enqueue(http, name, 2)
        with server.connect() as look:
            while look.inspect(f"queue messages.{name}")["leased-len"] != "0":
                look.ask(b"lease nobody-adds-here 20\r\n")
        assert receive(http, name)["id"] == fresh
        assert receive(http, name) is None


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path"),
        [("PATCH", "/queues"), ("POST", "/queues/x"), ("GET", "/queues/x/enqueue"), ("POST", "/queues/x/receive")],
    )
    def test_a_wrong_method_is_405(self, http: HttpClient, method: str, path: str) -> None:
        assert http.ask(method, path).status == 405

    @pytest.mark.parametrize("path", ["/", "/queue", "/queues/x/y", "/messages/x"])
    def test_an_unknown_path_is_404(self, server: ServerProcess, path: str) -> None:
        with HttpClient(server, "messages") as http:
            assert http.get(path).status == 404

    def test_a_slow_request_is_408(self, tmp_path: Path) -> None:
        config = tmp_path / "workq.toml"
        config.write_text("[messages]\nrequest_timeout = 0.05\n")
        with ServerProcess(*MESSAGES, "--config", str(config)) as server:
            with HttpClient(server, "messages") as http:
                create(http, "q")
            host, port = server.http_addresses["messages"]
            with server.connect((host, port)) as slow:
                slow.send(b"POST /queues/q/enqueue HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
                assert slow.line().startswith(b"HTTP/1.1 408 ")


class TestSettings:
    def test_a_variable_of_old_counts(self) -> None:
        with (
            ServerProcess(*MESSAGES, env={"REQUEST_TIMEOUT": "0.05"}) as server,
            server.connect(server.http_addresses["messages"]) as slow,
        ):
            slow.send(b"POST /queues/q/enqueue HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
            assert slow.line().startswith(b"HTTP/1.1 408 ")

    def test_a_port_and_a_database_may_stay_in_the_file(self, tmp_path: Path) -> None:
        config = tmp_path / "workq.toml"
        with reserved_port("") as port:
            config.write_text(f'[messages]\nport = {port}\ndatabase = "/var/lib/hq.db"\n')
            with ServerProcess("--config", str(config)) as server:
                assert server.http_addresses["messages"] == ("0.0.0.0", port)
                assert "[messages]: database has no effect: messages are kept in --data-dir" in server.log()


def test_everything_is_there_after_a_kill(tmp_path: Path) -> None:
    flags = (*MESSAGES, "--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, HttpClient(server, "messages") as http:
        create(http, "q", max_attempts=3, visibility_timeout_seconds=3600)
        done, held, waits = [enqueue(http, "q", number) for number in range(3)]
        receive(http, "q")
        http.put(f"/messages/{done}/complete")
        receive(http, "q")
        before = http.get("/queues/q").json
        server.kill()
    with ServerProcess(*flags) as server, HttpClient(server, "messages") as http:
        assert http.get("/queues").json == [before]
        assert receive(http, "q")["id"] == waits
        assert receive(http, "q") is None, "the lock is held over the restart"
        http.put(f"/messages/{held}/fail")
        http.put("/queues/q?visibility_timeout_seconds=1")
        assert until(lambda: receive(http, "q"), server) == {"id": waits, "args": 2, "queue": "q", "attempts": 2}


def test_a_queue_that_was_being_deleted_at_a_kill_starts_empty(tmp_path: Path) -> None:
    flags = (*MESSAGES, "--data-dir", str(tmp_path))
    with ServerProcess(*flags) as server, HttpClient(server, "messages") as http, server.connect() as producer:
        create(http, "q")
        ended = enqueue(http, "q", "ended")
        assert receive(http, "q")["id"] == ended
        assert http.put(f"/messages/{ended}/complete").status == 200
        adds = [b"add %b messages.q 1000 900000 1\r\n1\r\n" % new_id() for _ in range(5_000)]
        producer.send(b"".join(adds))
        producer.expect(*[b"+OK"] * len(adds))
        with http.another() as deleting:
            deleting.send("DELETE", "/queues/q")
            wait_until(lambda: http.get("/queues/q").json is None)
            assert producer.ask(b"add %b other 1000 900000 0\r\n\r\n" % new_id()) == b"+OK"  # so the log has both
            server.kill()
    with ServerProcess(*flags) as server, HttpClient(server, "messages") as http:
        assert http.get("/queues").json == []
        assert create(http, "q").status == 200
        assert receive(http, "q") is None
        assert http.get("/web/messages").json == []


async def test_a_queue_is_deleted_with_its_messages_though_its_client_is_gone(tmp_path: Path) -> None:
    new_queue = "/queues?name=q&max_attempts=2&visibility_timeout_seconds=30"
    async with durable(Files(tmp_path)) as (_, gateway):
        archive = Archive(None, gateway)
        door = MessagesDoor(gateway, archive, load_settings([], {}).messages).application()

        async def ask(method: str, target: str, body: bytes = b"") -> Response:
            request = Request(method, target, Headers({}), "")
            request.body = body
            return await door.answer(request)

        assert (await ask("POST", new_queue)).status == 200
        assert (await ask("POST", "/queues/q/enqueue", b"1")).status == 200
        deleting = asyncio.create_task(ask("DELETE", "/queues/q"))
        while gateway.post(ListDocuments(b"messages/queue/")) != Documents([]):
            await asyncio.sleep(0)
        deleting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await deleting
        assert (await ask("POST", new_queue)).status == 200
        assert (await ask("GET", "/queues/q/receive")).body == b"null"
        await archive.stop()


async def test_what_a_crash_left_of_deleted_queues_is_removed_at_the_start(tmp_path: Path) -> None:
    async with durable(Files(tmp_path)) as (engine, gateway):
        archive = Archive(None, gateway)
        for name in (b"gone", b"kept"):
            await gateway.execute(Add(uuid.uuid4().bytes, JobSpec(b"messages." + name, 1000, 900_000), b"1"))
            await gateway.execute(PutDocument(b"messages/gone/" + name, b"null"))
        kept = b'{"max_attempts":1,"visibility_timeout_seconds":1,"inserted_ms":1,"updated_ms":1}'
        await gateway.execute(PutDocument(b"messages/queue/kept", kept))
        await MessagesDoor(gateway, archive, load_settings([], {}).messages).start()
        assert [job.spec.name for job in engine.state.jobs.values()] == [b"messages.kept"]
        await archive.stop()


def test_messages_are_ordinary_jobs(server: ServerProcess) -> None:
    with HttpClient(server, "messages") as http, server.connect() as worker:
        create(http, "for tcp")
        message_id = enqueue(http, "for tcp", {"a": 1})
        worker.send(b"lease messages.for_20tcp 0\r\n")
        worker.expect(b"+OK 1", f"{message_id} messages.for_20tcp 30000 8".encode(), b'{"a": 1}')
        assert receive(http, "for tcp") is None

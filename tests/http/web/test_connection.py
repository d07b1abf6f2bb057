"""What the HTTP server promises to a client, and what it takes from one: real sockets, raw bytes."""

import asyncio
import logging
import socket
import struct

import pytest

from tests.http.web.sites import LARGEST_BODY, Served, serving, until
from workq.http import web
from workq.http.web.connection import LARGEST_HEAD, READ_AHEAD


def get(path: str, *lines: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def post(body: bytes, *lines: str, path: str = "/echo") -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


def chunked(*chunks: bytes) -> bytes:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]) + b"0\r\n\r\n"


class TestAnswers:
    async def test_what_is_in_each(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/", "X-Request-Id: mine"))
            status, headers, body = await client.answer()
        assert (status, body) == (200, b"hello")
        assert headers.pop("date").endswith(" GMT")
        assert headers == {
            "content-type": "text/plain; charset=utf-8",
            "content-length": "5",
            "x-request-id": "mine",
            "server": "workq",
        }

    async def test_head_is_get_without_a_body(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get("/"))
            status, headers, _ = await client.answer(head_only=True)
            assert (status, headers["content-length"]) == (200, "5")
            assert (await client.answer())[2] == b"hello"

    async def test_a_method_that_is_not_allowed(self) -> None:
        async with serving() as served:
            client = await served.client()
            for target in (b"/", b"*"):
                await client.send(b"OPTIONS %b HTTP/1.1\r\nHost: x\r\n\r\n" % target)
                status, headers, _ = await client.answer()
                assert (status, headers["allow"]) == (405, "GET,HEAD")

    async def test_a_target_may_be_a_whole_url(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("http://example.com/?a=b") + get("http://example.com"))
            assert await client.statuses(2) == [200, 200]

    async def test_a_mistake_of_ours_is_500_and_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/fails", "X-Request-Id: r1") + get("/"))
            status, _, body = await client.answer()
            assert (status, body) == (500, b"The server failed; its log says more at request r1\n")
            assert (await client.answer())[0] == 200
        assert "request r1 (GET /fails) failed" in caplog.text
        assert "a mistake of ours" in caplog.text

    @pytest.mark.parametrize("line_end", ["%0d%0a", "%0a", "%0d", "%00"])
    async def test_nobody_can_write_a_header_of_his_own(self, line_end: str, caplog: pytest.LogCaptureFixture) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get(f"/injects?to=/a{line_end}X-Mine:1") + get("/injects?to=/b"))
            status, headers, _ = await client.answer()
            assert (status, "location" in headers, "x-mine" in headers) == (500, False, False)
            status, headers, _ = await client.answer()
            assert (status, headers["location"]) == (200, "/b")
        assert "is no header" in caplog.text

    async def test_in_pieces(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/pieces") + get("/"))
            _, headers, _ = await client.answer()
            assert headers["transfer-encoding"] == "chunked"
            assert "content-length" not in headers
            assert await client.read(26) == b"2\r\n0;\r\n2\r\n1;\r\n2\r\n2;\r\n0\r\n\r\n"
            assert (await client.answer())[2] == b"hello"

    async def test_in_pieces_for_a_client_that_knows_no_chunks(self) -> None:
        async with serving() as served:
            answered = await served.ask(get("/pieces", "Connection: keep-alive", version="1.0"))
        head, _, body = answered.partition(b"\r\n\r\n")
        assert body == b"0;1;2;"
        assert b"Connection: close" in head
        assert b"chunked" not in head

    async def test_in_pieces_to_head(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(b"HEAD /pieces HTTP/1.1\r\nHost: x\r\n\r\n" + get("/"))
            await client.answer()
            assert (await client.answer())[2] == b"hello"
            assert served.site.pieces_made == 0

    async def test_pieces_that_break_off_have_no_end(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving() as served:
            answered = await served.ask(get("/breaks", "X-Request-Id: r2"))
        assert not answered.endswith(b"0\r\n\r\n")
        assert "request r2 (GET /breaks) failed" in caplog.text


class TestKeepAlive:
    async def test_many_requests_on_a_connection(self) -> None:
        async with serving() as served:
            client = await served.client()
            for number in range(100):
                await client.send(post(b"%d" % number))
                assert (await client.answer())[2] == b"%d" % number

    async def test_pipelined_ones_are_answered_in_order(self) -> None:
        async with serving() as served:
            client = await served.client()
            bodies = [b"%d" % number * number for number in range(1, 300)]
            await client.send(get("/wait") + b"".join([post(body) for body in bodies]))
            await until(lambda: served.site.waiting)
            served.site.free.set()
            assert (await client.answer())[2] == b"done"
            assert [(await client.answer())[2] for _ in bodies] == bodies

    async def test_only_one_is_served_at_a_time(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/wait") * 5)
            await until(lambda: served.site.waiting)
            await served.ask(get("/", "Connection: close"))
            assert served.site.waiting == 1
            served.site.free.set()
            assert await client.statuses(5) == [200] * 5

    async def test_what_is_sent_ahead_is_bounded(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/wait"))
            await until(lambda: served.site.waiting)
            ahead = post(bytes(9_000)) * 2_000  # more than both ends' sockets hold, too
            sending = asyncio.create_task(client.send(ahead))
            (connection,) = served.server._listeners[0][1].connections
            await until(lambda: connection._read_paused)
            # What one more read may bring comes on top.
            assert READ_AHEAD < len(connection._unparsed) <= READ_AHEAD + 262_144
            assert not sending.done()
            served.site.free.set()
            assert await client.statuses(2_001) == [200] * 2_001
            await sending

    async def test_close_when_asked_to(self) -> None:
        async with serving() as served:
            answered = await served.ask(get("/", "Connection: close") + get("/"))
        assert answered.count(b"HTTP/1.1 200") == 1
        assert b"Connection: close\r\n" in answered

    async def test_close_when_the_handler_wants_it(self) -> None:
        async with serving() as served:
            answered = await served.ask(get("/closes") + get("/"))
        assert answered.count(b"HTTP/1.1 200") == 1
        assert b"Connection: close\r\n" in answered

    async def test_http_1_0_closes_unless_it_asks_for_more(self) -> None:
        async with serving() as served:
            answered = await served.ask(b"GET / HTTP/1.0\r\n\r\n")
            assert answered.endswith(b"\r\n\r\nhello")
            client = await served.client()
            for _ in range(3):
                await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                _, headers, body = await client.answer()
                assert (headers["connection"], body) == ("keep-alive", b"hello")

    async def test_who_would_rather_speak_another_protocol_is_answered_in_this_one(self) -> None:
        lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
        async with serving() as served:
            client = await served.client()
            await client.send(post(b"body", *lines) + get("/", *lines) + post(b"x") + get("/"))
            assert [(await client.answer())[2] for _ in range(4)] == [b"body", b"hello", b"x", b"hello"]
            for byte in post(b"body", *lines) + get("/"):
                await client.send(bytes([byte]))
            assert [(await client.answer())[2] for _ in range(2)] == [b"body", b"hello"]
            upgrading = chunked(b"ab", b"c").replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 1)
            await client.send(upgrading + get("/"))
            assert [(await client.answer())[2] for _ in range(2)] == [b"abc", b"hello"]


class TestBodies:
    async def test_in_chunks(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(chunked(b"a", b"bc" * 500, b"d") + chunked() + get("/"))
            assert [(await client.answer())[2] for _ in range(3)] == [b"a" + b"bc" * 500 + b"d", b"", b"hello"]

    async def test_what_follows_the_last_chunk_is_no_header(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(chunked(b"a")[:-2] + b"X-Request-Id: mine\r\n\r\n" + get("/"))
            _, headers, body = await client.answer()
            assert (headers["x-request-id"] != "mine", body) == (True, b"a")
            assert (await client.answer())[2] == b"hello"

    async def test_the_longest(self) -> None:
        async with serving() as served:
            client = await served.client()
            body = bytes(range(250)) * (LARGEST_BODY // 250)
            await client.send(post(body) + chunked(body) + chunked(*[body[i : i + 1] for i in range(len(body))]))
            assert [(await client.answer())[2] for _ in range(3)] == [body] * 3

    @pytest.mark.parametrize(
        "request_bytes",
        [
            pytest.param(post(bytes(LARGEST_BODY + 1)), id="of a length"),
            pytest.param(chunked(bytes(LARGEST_BODY + 1)), id="in a chunk"),
            pytest.param(chunked(*[b"x" * 10] * (LARGEST_BODY // 10 + 1)), id="in chunks"),
            pytest.param(post(b"").replace(b"Length: 0", b"Length: 10000000000"), id="only said to be"),
            pytest.param(chunked(b"x" * 200_000), id="far longer"),
        ],
    )
    async def test_one_that_is_too_long(self, request_bytes: bytes) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(request_bytes)
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert body == b"The body is too long: at most 10000 bytes are allowed\n"
            assert await client.rest() == b""
            assert served.site.answered == [("/echo", 413)]

    async def test_endless_headers_behind_a_body(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(chunked(b"a")[:-2])
            await client.send(b"A: b\r\n" * (LARGEST_HEAD // 6))
            assert (await client.answer())[0] == 431

    async def test_endless_punctuation(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(chunked(b"a")[:-5] + b"1;" + b"x" * 4 * LARGEST_HEAD)
            assert (await client.answer())[0] == 413

    @pytest.mark.parametrize("body", [b"some", b""])
    async def test_one_that_is_asked_for(self, body: bytes) -> None:
        request = post(body, "Expect: 100-continue")
        async with serving() as served:
            client = await served.client()
            for _ in range(2):
                await client.send(get("/") + request[: len(request) - len(body)])
                assert (await client.answer())[2] == b"hello"
                if body:
                    assert await client.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
                    await client.send(body)
                assert (await client.answer())[2] == body
            await client.send(request)  # who does not wait for the word need not be told
            assert (await client.answer())[2] == body

    async def test_one_that_is_too_long_is_not_asked_for(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(
                b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10001\r\n\r\n"
            )
            assert (await client.answer())[0] == 413

    async def test_other_expectations(self) -> None:
        async with serving() as served:
            assert b" 417 " in (await served.ask(post(b"", "Expect: more"), b""))[:20]


class TestWrongRequests:
    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            pytest.param(b"junk\r\n\r\n", 400, id="junk"),
            pytest.param(b"\x16\x03\x01\x02\x00", 400, id="tls"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="http 2"),
            pytest.param(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, id="http 2.0"),
            pytest.param(b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, id="http 0.9"),
            pytest.param(b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="no target"),
            pytest.param(b"GET \xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="no ascii"),
            pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="a proxy"),
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two hosts"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400, id="space in a header"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, id="a folded header"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400, id="a bare CR"),
            pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", 400, id="bare LFs"),
        ],
    )
    async def test_is_told_what_is_wrong_and_closed(self, request_bytes: bytes, status: int) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/") + request_bytes + get("/"))
            assert (await client.answer())[2] == b"hello"
            found, headers, body = await client.answer()
            assert (found, headers["connection"]) == (status, "close")
            assert body.endswith(b"\n")
            assert len(body) > 20
            assert await client.rest() == b""

    @pytest.mark.parametrize(
        "lines",
        [
            ("Content-Length: 3", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 3"),
            ("Content-Length: 3", "Content-Length: 4"),
            ("Content-Length: 3, 4",),
            ("Content-Length: +3",),
            ("Content-Length: 0x3",),
            ("Content-Length: 99999999999999999999999",),
            ("Transfer-Encoding: xchunked",),
            ("Transfer-Encoding: gzip, chunked",),
            ("Transfer-Encoding: chunked, identity",),
            ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ],
    )
    async def test_a_length_that_others_could_understand_otherwise(self, lines: tuple[str, ...]) -> None:
        """Else a proxy before us could be made to take a part of one request for another (request smuggling)."""
        head = "\r\n".join(["POST /echo HTTP/1.1", "Host: x", *lines, "", ""]).encode()
        async with serving() as served:
            answered = await served.ask(head + b"3\r\nabc\r\n0\r\n\r\n" + get("/"))
            assert answered[9:12] in (b"400", b"501")
            assert answered.count(b"HTTP/1.1 ") == 1
            assert served.site.answered == []

    async def test_chunks_in_http_1_0(self) -> None:
        async with serving() as served:
            answered = await served.ask(chunked(b"abc").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answered.startswith(b"HTTP/1.1 501 ")

    async def test_the_longest_head(self) -> None:
        async with serving() as served:
            client = await served.client()
            room = LARGEST_HEAD - len("/?") - len("Host: x\r\n") - len("A: \r\n")
            await client.send(get("/?" + "x" * (room - 10), "A: " + "b" * 10))
            assert (await client.answer())[0] == 200
            await client.send(get("/?" + "x" * 10, "A: " + "b" * (room - 10)))
            assert (await client.answer())[0] == 200
            await client.send(get("/?" + "x" * 10, "A: " + "b" * (room - 9)))
            assert (await client.answer())[0] == 431

    @pytest.mark.parametrize("end", [b"", b" HTTP/1.1\r\nHost: x\r\n\r\n"])
    async def test_an_endless_target(self, end: bytes) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(b"GET /" + b"x" * 2 * LARGEST_HEAD + end)
            status, _, body = await client.answer()
            assert (status, body) == (414, b"The request line is too long: at most 65536 bytes are allowed\n")

    @pytest.mark.parametrize(
        "line", [b"A: " + b"b" * 2 * LARGEST_HEAD, b"A:" + b" " * 2 * LARGEST_HEAD, b"A: b\r\n" * 30_000]
    )
    async def test_endless_headers(self, line: bytes) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + line)
            assert (await client.answer())[0] == 431

    async def test_who_is_refused_while_he_sends_can_read_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.http.web.connection.LINGER_S", 60.0)  # longer than he takes
        async with serving() as served:
            client = await served.client()
            await client.send(post(b"").replace(b"Length: 0", b"Length: 10000000000"))
            for _ in range(100):
                await client.send(bytes(100_000))
            assert (await client.answer())[0] == 413
            client.socket.close()
            await until(lambda: served.server.connections() == 0)


class TestTime:
    async def test_who_sends_nothing_is_closed(self) -> None:
        async with serving(idle_s=0.5) as served:
            ends = await asyncio.gather(served.ask(), served.ask(b"GET / HTTP/1.1\r\nHo"))
            assert ends == [b"", b""]
            answered = await served.prompt_client(get("/")).rest()
            assert answered.endswith(b"hello")

    async def test_who_dribbles_a_head_is_closed(self) -> None:
        async with serving(idle_s=0.2) as served:
            client = await served.client()

            async def dribble() -> None:
                await client.send(b"GET / HTTP/1.1\r\nA: ")
                while True:
                    await client.send(b"b")
                    await asyncio.sleep(0.01)

            dribbling = asyncio.create_task(dribble())
            assert await client.rest() == b""
            dribbling.cancel()

    async def test_a_body_that_does_not_come_is_408(self) -> None:
        async with serving(body_s=0.05) as served:
            client = await served.client()
            await client.send(post(b"body")[:-1])
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert body == b"The body did not come within 0.05 s\n"
            assert served.site.answered == [("/echo", 408)]

    async def test_a_handler_may_take_longer(self) -> None:
        async with serving(idle_s=0.5, body_s=0.5) as served:
            client = served.prompt_client(get("/wait"))
            await until(lambda: served.site.waiting)
            await asyncio.gather(*[served.ask() for _ in range(3)])  # each is closed for being idle
            served.site.free.set()
            assert (await client.answer())[2] == b"done"

    async def test_who_does_not_read_is_closed(self) -> None:
        async with serving(idle_s=0.5) as served:
            clients = [await served.client(small_window=True) for _ in range(3)]
            for client, path in zip(clients, ("/large", "/pieces?large&count=1000", "/closes"), strict=True):
                await client.send((get(path) if path != "/closes" else get("/large") + get("/closes")) * 3)
            await until(lambda: served.server.connections() == 0)
            assert served.site.pieces_made < 1_000

    async def test_lingering_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.http.web.connection.LINGER_S", 0.05)
        async with serving() as served:
            client = await served.client()
            await client.send(b"junk\r\n\r\n")
            assert (await client.answer())[0] == 400
            await until(lambda: served.server.connections() == 0)


class TestSlowReaders:
    async def test_requests_of_who_does_not_read_wait(self) -> None:
        async with serving() as served:
            client = await served.client(small_window=True)
            await client.send(get("/large") * 5)
            (connection,) = await _connections(served, 1)
            await until(lambda: connection._writable is not None)
            assert await served.ask(get("/", "Connection: close"))
            assert len(served.site.answered) < 5
            for _ in range(5):
                assert len((await client.answer())[2]) == 2_000_000

    async def test_pieces_are_made_as_they_are_read(self) -> None:
        async with serving() as served:
            client = await served.client(small_window=True)
            await client.send(get("/pieces?large&count=60"))
            (connection,) = await _connections(served, 1)
            await until(lambda: connection._writable is not None)
            assert await served.ask(get("/", "Connection: close"))
            assert served.site.pieces_made < 60
            await client.answer()
            size = len(b"186a0\r\n") + 100_000 + 2
            assert len(await client.read(60 * size + 5)) == 60 * size + 5
            assert served.site.pieces_made == 60


class TestHangUps:
    async def test_cancel_what_they_waited_for(self) -> None:
        async with serving() as served:
            for path in ("/wait", "/poll"):
                client = await served.client()
                await client.send(get(path))
                await until(lambda: served.site.waiting)
                client.socket.close() if path == "/poll" else _reset(client.socket)
                await until(lambda: not served.site.waiting)
                await until(lambda: served.server.connections() == 0)
            assert served.site.cancelled == 2
            await until(lambda: served.site.answered == [("/wait", 0), ("/poll", 0)])

    async def test_at_once(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/poll"))
            client.socket.close()
            await until(lambda: served.server.connections() == 0 and served.site.answered == [("/poll", 0)])

    @pytest.mark.parametrize("before", [b"", get("/"), get("/wait"), get("/") * 3])
    async def test_before_their_turn_came(self, before: bytes) -> None:
        async with serving() as served:
            client = await served.client()
            loop = asyncio.get_running_loop()
            (connection,) = await _connections(served, 1)
            # In one turn of the loop, as may happen, and over a socket hardly ever does.
            loop.call_soon(connection.data_received, before + get("/poll"))
            loop.call_soon(connection.eof_received)
            served.site.free.clear()
            if b"wait" in before:
                await until(lambda: served.site.waiting)
                served.site.free.set()
                served.site.free.clear()
            await until(lambda: served.server.connections() == 0 and served.site.answered[-1:] == [("/poll", 0)])
            assert (await client.rest()).count(b"HTTP/1.1 200 OK") == before.count(b"GET")

    async def test_in_the_middle_of_pieces(self) -> None:
        async with serving() as served:
            client = await served.client(small_window=True)
            await client.send(get("/pieces?large&count=100000"))
            await client.answer()
            _reset(client.socket)
            await until(lambda: served.server.connections() == 0 and served.site.answered == [("/pieces", 0)])

    async def test_who_only_sends_no_more_is_answered(self) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(get("/") + get("/wait") + get("/"))
            client.socket.shutdown(socket.SHUT_WR)
            await until(lambda: served.site.waiting)
            served.site.free.set()
            assert await client.statuses(3) == [200] * 3
            assert await client.rest() == b""

    @pytest.mark.parametrize("part", [b"", b"GET / HT", post(b"body")[:-1]])
    async def test_in_the_middle_of_a_request(self, part: bytes) -> None:
        async with serving() as served:
            client = await served.client()
            await client.send(part)
            client.socket.close()
            await until(lambda: served.server.connections() == 0)
            assert served.site.answered == []


class TestStopping:
    async def test_idle_connections_are_closed_at_once(self) -> None:
        async with serving(drain_s=60) as served:
            client, silent = await served.client(), await served.client()
            await client.send(get("/"))
            await client.answer()
            await served.server.stop()
            assert (await client.rest(), await silent.rest()) == (b"", b"")

    async def test_requests_are_answered_also_those_half_sent(self) -> None:
        async with serving(drain_s=60) as served:
            waiting, sending = await served.client(), await served.client()
            await waiting.send(get("/wait") * 2)
            await sending.send(post(b"body")[:-1])
            await until(lambda: served.site.waiting and served.server.connections() == 2)
            connections = served.server._listeners[0][1].connections
            await until(lambda: any([each._parsed_size for each in connections]))
            stopping = asyncio.create_task(served.server.stop())
            await asyncio.sleep(0)
            await sending.send(b"y")
            status, headers, body = await sending.answer()
            assert (status, headers["connection"], body) == (200, "close", b"body"[:-1] + b"y")
            served.site.free.set()
            _, headers, body = await waiting.answer()
            assert (headers["connection"], body) == ("close", b"done")
            assert await waiting.rest() == b""
            await stopping

    async def test_what_takes_too_long_is_given_up(self, caplog: pytest.LogCaptureFixture) -> None:
        async with serving(drain_s=0.05) as served:
            client = await served.client()
            await client.send(get("/wait"))
            await until(lambda: served.site.waiting)
            with caplog.at_level(logging.WARNING):
                await served.server.stop()
            assert served.site.answered == [("/wait", 0)]
            assert await client.rest() == b""
        assert "closing HTTP connections whose requests took more than 0.05 s" in caplog.text


async def _connections(served: Served, count: int) -> list[web.Connection]:
    """The server's ends of as many connections."""
    await until(lambda: served.server.connections() == count)
    return list(served.server._listeners[0][1].connections)


def _reset(connection: socket.socket) -> None:
    """Close, and not in good order: what was received and not read makes it a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

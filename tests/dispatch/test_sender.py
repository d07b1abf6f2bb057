"""One push at a time, to web workers good and bad."""

import asyncio
import gc
import gzip
import random
import socket
import zlib
from typing import Any

import pytest
import uvloop

from tests.dispatch.pushing import listening, now_ms, push, read_head, send
from tests.webworker import Request, WebWorker, answer
from workq.dispatch import PushTarget
from workq.dispatch.addresses import AddressRules, Rule
from workq.dispatch.answer import OUTPUT_LIMIT, READ_LIMIT
from workq.dispatch.request import first_request, redirected
from workq.dispatch.sender import MAX_REDIRECTS, Sender
from workq.run_queue import RunQueue, nobody_else


class TestRequest:
    async def test_what_the_web_worker_gets(self, sender: Sender, worker: WebWorker) -> None:
        result = await push(sender, worker, "/a/b?c=d%20e", b'{ "a" : 1 }', user_agent="HQ/1.1")
        assert (result.outcome, result.status_code) == ("success", 200)
        (request,) = worker.requests
        assert (request.method, request.path, request.body) == ("POST", "/a/b?c=d%20e", b'{ "a" : 1 }')
        assert dict(request.headers) == {
            "host": f"127.0.0.1:{worker.port}",
            "user-agent": "HQ/1.1",
            "content-type": "application/json",
            "content-length": "11",
            "accept-encoding": "gzip",
        }

    async def test_an_empty_body_has_a_length_too(self, sender: Sender, worker: WebWorker) -> None:
        await push(sender, worker, body=b"")
        (request,) = worker.requests
        assert request.values("content-length") == ["0"]
        assert request.values("content-type") == ["application/json"]

    async def test_headers_are_added(self, sender: Sender, worker: WebWorker) -> None:
        given = (("X-A", "1"), ("x-a", "2"), ("Content-Type", "text/x"), ("X-Ü", "é"))
        await push(sender, worker, headers=given[:3])
        (request,) = worker.requests
        assert request.values("x-a") == ["1", "2"]
        assert request.values("content-type") == ["application/json", "text/x"]

    @pytest.mark.parametrize("name", ["Host", "content-length", "Transfer-Encoding", "Connection", "User-Agent"])
    async def test_headers_that_are_ours_stay_ours(self, sender: Sender, worker: WebWorker, name: str) -> None:
        await push(sender, worker, headers=((name, "7"),))
        assert "7" not in [value for _, value in worker.requests[0].headers]

    @pytest.mark.parametrize(
        "given",
        [
            {"headers": (("X-A", "1\r\nX-B: 2"),)},
            {"headers": (("X-A", "1\n"),)},
            {"headers": (("X-A", "\x00"),)},
            {"headers": (("X A", "1"),)},
            {"headers": (("X-A\r\nX-B", "1"),)},
            {"headers": (("", "1"),)},
            {"headers": (("X-Ü", "1"),)},
            {"content_type": "a\r\nX-B: 2"},
            {"user_agent": "a\r\nX-B: 2"},
        ],
    )
    async def test_no_header_makes_another(self, sender: Sender, worker: WebWorker, given: Any) -> None:
        result = await push(sender, worker, **given)
        assert (result.outcome, result.error_kind) == ("failure", "no-url")
        assert result.error.startswith("cannot make the request: ")
        assert worker.requests == []

    async def test_connections_are_used_again_or_not(self, sender: Sender, worker: WebWorker) -> None:
        for _ in range(3):
            await push(sender, worker)
        assert worker.connections == 1
        for _ in range(3):
            await push(sender, worker, keep_alive=False)
        assert worker.requests[-1].values("connection") == ["close"]
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == 3)

    async def test_a_request_to_the_byte(self, sender: Sender, worker: WebWorker) -> None:
        """Headers in their order and spelling; one write, however long it is."""
        heads: list[bytes] = []

        def serve(connection: socket.socket) -> None:
            heads.append(read_head(connection))
            connection.sendall(answer())

        with listening(serve) as port:
            target = PushTarget(
                f"http://localhost:{port}?a=b#c", headers=(("X-B", "1"), ("x-a", "é"), ("X-B", "")), user_agent="me"
            )
            await send(sender, target, b"[1]")
        assert heads == [
            f"POST /?a=b HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: me\r\nContent-Type: application/json\r\n"
            "Accept-Encoding: gzip\r\nX-B: 1\r\nx-a: é\r\nX-B: \r\nContent-Length: 3\r\n\r\n[1]".encode()
        ]

    @pytest.mark.parametrize("size", [16_384, 16_385, 1_048_576])
    async def test_bodies_of_all_sizes_come_whole(self, sender: Sender, worker: WebWorker, size: int) -> None:
        body = random.Random(size).randbytes(size)
        assert (await push(sender, worker, body=body)).outcome == "success"
        assert worker.requests[0].body == body

    @pytest.mark.parametrize(
        ("headers", "credentials"),
        [
            ((), "Basic bWU6c8OpY3JldA=="),
            ((("authorization", "Bearer x"),), "Bearer x"),
        ],
    )
    async def test_credentials_in_the_url(
        self, sender: Sender, worker: WebWorker, headers: Any, credentials: str
    ) -> None:
        url = worker.url().replace("http://", "http://me:s%C3%A9cret@")
        await send(sender, PushTarget(url, headers=headers), b"")
        assert worker.requests[0].values("authorization") == [credentials]

    @pytest.mark.parametrize(
        ("url", "host"),
        [("http://LOCALHOST:80/", "localhost"), ("http://bücher.example:81/", "xn--bcher-kva.example:81")],
    )
    def test_hosts_are_as_the_standards_want_them(self, url: str, host: str) -> None:
        assert f"\r\nHost: {host}\r\n".encode() in first_request(PushTarget(url), b"").head

    @pytest.mark.parametrize(
        ("pushed", "sent"),
        [
            ("/a?sig=x%3Ay%2Fz%7E", "/a?sig=x%3Ay%2Fz%7E"),
            ("/a/../b/./c#d", "/a/../b/./c"),
            ("/q?", "/q?"),
            ("?", "/?"),
            ("?a=/?b??#", "/?a=/?b??"),
            ("//x", "//x"),
            ("", "/"),
            ("/%zz", "/%25zz"),
            ("/\u017f", "/%C5%BF"),
            ("/ä b?x|y", "/%C3%A4%20b?x%7Cy"),
            ("/a\r\nX: 1", "/aX:%201"),
        ],
    )
    def test_path_and_query_are_as_they_were_pushed_if_they_can_be(self, pushed: str, sent: str) -> None:
        for url in (f"http://localhost{pushed}", f"HTTPS://me:x@localhost:81{pushed}"):
            request = first_request(PushTarget(url), b"")
            assert request.head.startswith(f"POST {sent} HTTP/1.1\r\nHost: localhost".encode())

    @pytest.mark.parametrize(
        ("location", "sent"),
        [
            ("http://localhost/?s=%7E", "/?s=%7E"),
            ("//localhost?s=%7E", "/?s=%7E"),
            ("/x?s=%7E#y", "/x?s=%7E"),
            ("?s=%7E", "/here/now?s=~"),
            ("../%7E", "/~"),
            ("", "/here/now?q"),
        ],
    )
    def test_so_are_those_of_redirects(self, location: str, sent: str) -> None:
        request = first_request(PushTarget("http://localhost/here/now?q"), b"")
        head = redirected(request, location, see_other=False).head
        assert head.startswith(f"POST {sent} HTTP/1.1\r\nHost: localhost\r\n".encode())

    async def test_cookies_are_not_kept(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: answer(200, b"", "Set-Cookie: a=b")
        for _ in range(2):
            await push(sender, worker)
        assert worker.requests[1].values("cookie") == []


class TestVerdicts:
    @pytest.mark.parametrize(
        ("verdict", "status", "outcome", "error"),
        [
            ("200", 200, "success", ""),
            ("200", 201, "failure", "201 Created"),
            ("200", 204, "failure", "204 No Content"),
            ("200", 599, "failure", "599"),
            ("2xx", 200, "success", ""),
            ("2xx", 204, "success", ""),
            ("2xx", 304, "failure", "304 Not Modified"),
            ("2xx", 302, "failure", "302 Found"),  # without Location
            ("2xx", 500, "failure", "500 Internal Server Error"),
        ],
    )
    async def test_by_status(
        self, sender: Sender, worker: WebWorker, verdict: Any, status: int, outcome: str, error: str
    ) -> None:
        worker.behaviours["/"] = lambda *_: answer(status)
        result = await push(sender, worker, verdict=verdict)
        assert (result.outcome, result.status_code, result.error) == (outcome, status, error)
        assert result.error_kind == (None if outcome == "success" else "status")

    @pytest.mark.parametrize(
        ("body", "outcome", "error"),
        [
            (b'{"status": "success"}', "success", ""),
            (b'{"status": "success", "message": "fine", "code": 7}', "success", "fine"),
            (b'{"status": "failure", "message": "later"}', "failure", "later"),
            (b'{"status": "permanent-failure", "message": "no"}', "permanent-failure", "no"),
            (b'{"status": "success", "message": null}', "success", ""),
            (b'{"status": "success", "message": "cut \\ud83d"}', "success", "cut \N{REPLACEMENT CHARACTER}"),
            (b'{"status": "success", "message": "cut \xf0\x9f"}', "success", "cut \ufffd"),
            (b'{"status": "success", "data": "\\ud83d\xff"}', "success", ""),
            (b'{"status": "success\\ud83d"}', "failure", "Invalid result status: "),
            (b'{"status": null}', "failure", "Invalid result status: ''"),
            (b'{"status": "success", "d": NaN}', "failure", "Cannot parse body as JSON: "),
            (b'{"status": "success", "message": 1, "d": "\xff"}', "failure", "Cannot parse body as JSON: "),
            (b'{"status": "perhaps"}', "failure", 'Invalid result status: \'perhaps\': {"status": "perhaps"}'),
            (b"{}", "failure", "Invalid result status: '': {}"),
            (b'{"status": "success", "message": 1}', "failure", "Cannot parse body as JSON: "),
            (b'"success"', "failure", "Cannot parse body as JSON: "),
            (b"", "failure", "Cannot parse body as JSON: "),
            (b"<html>\xff</html>", "failure", "Cannot parse body as JSON: "),
            (
                b'{"status": "success", "d": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
                "failure",
                "Cannot parse body as JSON: it is nested too deeply: ",
            ),
            (
                b'{"status": "success", "d": "' + b"x" * OUTPUT_LIMIT + b'"}',
                "failure",
                "Cannot parse body as JSON: it has more than 1048576 bytes, of which no more are looked at: ",
            ),
        ],
    )
    @pytest.mark.parametrize("status", [200, 500])
    async def test_by_words(
        self, sender: Sender, worker: WebWorker, body: bytes, outcome: str, error: str, status: int
    ) -> None:
        worker.behaviours["/"] = lambda *_: answer(status, body)
        result = await push(sender, worker, verdict="json-status")
        assert (result.outcome, result.status_code) == (outcome, status)
        assert result.error.startswith(error)
        assert result.error_kind == (None if outcome == "success" else "answer")

    async def test_a_long_answer_is_quoted_in_short(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: answer(200, "é".encode() * 100_000)
        result = await push(sender, worker, verdict="json-status")
        assert len(result.error) < 700


class TestRedirects:
    @pytest.mark.parametrize(
        ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
    )
    async def test_they_are_followed(self, sender: Sender, worker: WebWorker, status: int, method: str) -> None:
        worker.behaviours["/"] = lambda *_: answer(status, b"moved", "Location: /there?x=1")
        worker.behaviours["/there"] = lambda *_: answer(200, b"here")
        result = await push(sender, worker, body=b"abc", headers=(("X-A", "1"),))
        assert (result.outcome, result.output) == ("success", "here")
        second = worker.requests[1]
        assert (second.method, second.path) == (method, "/there?x=1")
        assert second.body == (b"abc" if method == "POST" else b"")
        assert second.values("content-type") == (["application/json"] if method == "POST" else [])
        assert second.values("x-a") == ["1"]

    async def test_the_last_answer_decides(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: answer(307, b"", "Location: /there")
        worker.behaviours["/there"] = lambda *_: answer(404)
        assert (await push(sender, worker)).status_code == 404

    async def test_so_many_and_no_more(self, sender: Sender, worker: WebWorker) -> None:
        def next_one(request: Request, _: socket.socket) -> bytes:
            hop = int(request.path.partition("?")[2])
            return answer(307, b"", f"Location: /?{hop - 1}") if hop else answer(200)

        worker.behaviours["/"] = next_one
        assert (await push(sender, worker, f"/?{MAX_REDIRECTS}")).outcome == "success"
        result = await push(sender, worker, f"/?{MAX_REDIRECTS + 1}")
        assert (result.error_kind, result.status_code) == ("connection", None)
        assert result.error == "more than 10 redirects, the last one to '/?0'"

    @pytest.mark.parametrize("location", ["ftp://localhost/", "http://[", "file:///etc/passwd"])
    async def test_one_that_leads_nowhere(self, sender: Sender, worker: WebWorker, location: str) -> None:
        worker.behaviours["/"] = lambda *_: answer(302, b"", f"Location: {location}")
        result = await push(sender, worker)
        assert result.error == f"redirected to '{location}', which is no http or https URL"
        assert result.error_kind == "connection"

    async def test_secrets_do_not_follow_to_another_host(self, sender: Sender, worker: WebWorker) -> None:
        with WebWorker() as other:
            worker.behaviours["/"] = lambda *_: answer(307, b"", "Location: /again")
            worker.behaviours["/again"] = lambda *_: answer(307, b"", f"Location: {other.url()}")
            await push(sender, worker, headers=(("Authorization", "secret"), ("X-A", "1")))
            assert worker.requests[1].values("authorization") == ["secret"]
            assert other.requests[0].values("authorization") == []
            assert other.requests[0].values("x-a") == ["1"]


class TestAddresses:
    @pytest.mark.parametrize(
        "location",
        [
            "http://169.254.169.254/latest/meta-data/",
            "http://[fe80::1%25lo]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
        ],
    )
    async def test_neither_urls_nor_redirects_lead_to_metadata(
        self, sender: Sender, worker: WebWorker, location: str
    ) -> None:
        direct = await send(sender, PushTarget(location), b"")
        worker.behaviours["/"] = lambda *_: answer(302, b"", f"Location: {location}")
        redirected = await push(sender, worker)
        for result in (direct, redirected):
            assert (result.outcome, result.error_kind) == ("failure", "connection")
            assert "is a link-local or cloud metadata address" in result.error

    @pytest.mark.parametrize(
        "host", ["2852039166", "169.16689662", "0251.254.169.254", "0xa9fea9fe", "0xa9.254.169.254"]
    )
    async def test_nor_do_other_spellings(self, sender: Sender, host: str) -> None:
        result = await send(sender, PushTarget(f"http://{host}/"), b"")
        assert "metadata" in result.error or "is not an IP address as they are written" in result.error

    async def test_names_are_checked_when_they_are_resolved(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(*_: object, **__: object) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        result = await send(sender, PushTarget("http://innocent.example/"), b"")
        assert result.error.startswith("innocent.example (169.254.169.254) is a link-local or cloud metadata address")

    def test_no_name_is_remembered_that_is_longer_than_any(self) -> None:
        """A thousand of a megabyte were a gigabyte."""
        rules = AddressRules()
        for host in ("a.example", "a" * 255, "a" * 256, "a" * 1_000_000):
            rules.check_host(host)
        assert sum(map(len, rules._good)) == 264

    async def test_an_address_that_is_denied_is_left_out_of_several(
        self, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(*_: object, **__: object) -> Any:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("169.254.169.254", 80)), (*kind, ("127.0.0.1", 80))]

        sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else))
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        result = await send(sender, PushTarget(f"http://both.example:{worker.port}/"), b"")
        assert result.outcome == "success"
        sender.close()

    async def test_a_redirect_to_a_name_is_checked_too(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(*_: object, **__: object) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

        worker.behaviours["/"] = lambda *_: answer(307, b"", "Location: http://innocent.example/")
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        result = await push(sender, worker)
        assert result.error.startswith("innocent.example (169.254.169.254) is a link-local or cloud metadata address")

    async def test_the_address_that_was_checked_is_the_one_that_is_used(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even if the name server says something else the next time, and says it at once."""
        answers = ["127.0.0.1", "169.254.169.254"]

        def resolve(*_: object, **__: object) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), 80))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        result = await send(sender, PushTarget(f"http://changing.example:{worker.port}/"), b"")
        assert result.outcome == "success"
        assert answers == ["169.254.169.254"]

    @pytest.mark.parametrize(
        ("allow", "deny", "host", "reason"),
        [
            ([], [], "localhost", ""),
            ([], ["127.0.0.0/8", "::1"], "localhost", "is denied by --dispatch-deny"),
            ([], ["localhost"], "LOCALHOST", "localhost is denied by --dispatch-deny localhost"),
            ([], ["localhost"], "127.0.0.1", ""),
            ([], ["*.example.com"], "a.example.com", "a.example.com is denied by --dispatch-deny *.example.com"),
            ([], ["127.0.0.1"], "[::ffff:127.0.0.1]", "is denied by --dispatch-deny 127.0.0.1"),
            (["localhost"], [], "localhost", ""),
            (["localhost"], [], "127.0.0.1", "127.0.0.1 is not among what --dispatch-allow names"),
            (["127.0.0.0/8", "::1"], [], "localhost", ""),
            (["127.0.0.0/8"], ["127.0.0.1"], "127.0.0.1", "is denied by --dispatch-deny 127.0.0.1"),
            (["*.example.com"], [], "localhost", "is not among what --dispatch-allow names"),
        ],
    )
    async def test_rules(self, worker: WebWorker, allow: list[str], deny: list[str], host: str, reason: str) -> None:
        rules = AddressRules([Rule.parse(text) for text in allow], [Rule.parse(text) for text in deny])
        sender = Sender(rules, now_ms, RunQueue(nobody_else))
        result = await send(sender, PushTarget(f"http://{host}:{worker.port}/"), b"")
        assert reason in result.error
        assert (result.outcome == "success") == (reason == "")
        sender.close()

    def test_metadata_may_be_allowed_by_its_address_only(self) -> None:
        AddressRules([Rule.parse("169.254.169.254")]).check_address("metadata", "169.254.169.254")
        with pytest.raises(OSError, match="cloud metadata"):
            AddressRules([Rule.parse("metadata")]).check_address("metadata", "169.254.169.254")

    @pytest.mark.parametrize("text", ["", "*", "a b", "10.0.0.0/33", "1.2.3", "http://a/", "a..b", ":::"])
    def test_what_is_no_rule(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  # the settings word it
            Rule.parse(text)


class TestBadUrls:
    @pytest.mark.parametrize(
        ("url", "kind", "error"),
        [
            ("", "no-url", "the job has no URL"),
            ("http://[", "no-url", "cannot parse the URL 'http://['"),
            ("http://localhost:99999/", "no-url", "cannot parse the URL"),
            (f"http://{'é.' * 4_096}", "no-url", "cannot parse the URL"),
            ("hello", "connection", "the URL 'hello' begins neither with http:// nor with https://"),
            ("file:///etc/passwd", "connection", "the URL 'file:///etc/passwd' begins neither"),
            ("http:///path", "connection", "the URL 'http:///path' has no host"),
            (f"http://{'x' * 64}.invalid/", "connection", "cannot find the host "),
            ("http://a..b/", "connection", "cannot find the host "),
            ("http://does.not.exist.invalid/", "connection", "cannot find the host 'does.not.exist.invalid': "),
        ],
    )
    async def test_they_are_told(self, sender: Sender, url: str, kind: str, error: str) -> None:
        result = await send(sender, PushTarget(url), b"")
        assert (result.outcome, result.status_code, result.error_kind) == ("failure", None, kind)
        assert result.error.startswith(error)


class TestBadWorkers:
    async def test_nobody_listens(self, sender: Sender) -> None:
        with socket.socket() as bound:  # and nobody else can be
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            result = await send(sender, PushTarget(f"http://localhost:{port}/"), b"")
        assert (result.outcome, result.status_code, result.error_kind) == ("failure", None, "connection")
        assert result.error.startswith(f"cannot connect to localhost:{port}: ")

    async def test_it_hangs(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        while not worker.requests:  # the time may be over before there is a connection
            result = await push(sender, worker, timeout_ms=50)
            assert (result.outcome, result.status_code, result.error_kind) == ("failure", None, "timeout")
            assert result.error == "no answer within 50 ms"
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == worker.connections)

    async def test_it_answers_after_the_timeout(self, sender: Sender, worker: WebWorker) -> None:
        """And the late answer is not taken for that of the next request."""

        def late(request: Request, connection: socket.socket) -> bytes:
            worker.hang(request, connection)
            return answer(200, b"late")

        worker.behaviours["/"] = late
        assert (await push(sender, worker, timeout_ms=50)).error_kind == "timeout"
        worker.behaviours["/"] = lambda *_: answer(201, b"mine")
        assert (await push(sender, worker)).output == "mine"

    async def test_its_body_hangs(self, sender: Sender, worker: WebWorker) -> None:
        def half(request: Request, connection: socket.socket) -> None:
            connection.sendall(answer(200, b"half", length=8))
            worker.hang(request, connection)

        worker.behaviours["/"] = half
        for timeout_ms in (200, 10_000):  # in which the head has to come, even if the machine stands still for a while
            result = await push(sender, worker, timeout_ms=timeout_ms)
            if result.status_code is not None:
                break
        assert (result.outcome, result.status_code, result.error_kind) == ("failure", 200, "body")
        assert result.error == f"the answer's body did not end within {timeout_ms} ms"
        assert result.output == ""

    async def test_its_body_breaks_off(self, sender: Sender, worker: WebWorker) -> None:
        def half(_: Request, connection: socket.socket) -> None:
            connection.sendall(answer(200, b"half", length=8))

        worker.behaviours["/"] = half
        result = await push(sender, worker)
        assert (result.outcome, result.status_code, result.error_kind) == ("failure", 200, "body")
        assert result.error.startswith("the answer's body broke off after 4 bytes: ")

    async def test_it_closes_at_once(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: None
        result = await push(sender, worker)
        assert result.error == f"127.0.0.1:{worker.port} closed the connection without an answer"
        assert result.error_kind == "connection"

    @pytest.mark.parametrize(
        "junk",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x00" * 1_000,
        ],
    )
    async def test_it_speaks_no_http(self, sender: Sender, worker: WebWorker, junk: bytes) -> None:
        worker.behaviours["/"] = lambda *_: junk
        result = await push(sender, worker, timeout_ms=5_000)
        assert (result.outcome, result.error_kind) in (("failure", "connection"), ("failure", "body"))
        assert len(result.error) < 1_000
        assert "\n" not in result.error

    async def test_tls_where_there_is_none(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workq.dispatch.http_client.CONNECT_S", 0.2)
        worker.behaviours["/"] = worker.hang
        result = await send(sender, PushTarget(worker.url().replace("http", "https")), b"")
        assert result.error_kind == "connection"
        assert result.error.startswith(f"cannot connect to 127.0.0.1:{worker.port}")

    async def test_it_answers_a_gigabyte(self, sender: Sender, worker: WebWorker) -> None:
        sent = 0

        def gigabyte(_: Request, connection: socket.socket) -> None:
            nonlocal sent
            connection.sendall(answer(200, length=2**30))
            for _mebibyte in range(1_024):
                connection.sendall(b"x" * 2**20)
                sent += 1

        worker.behaviours["/"] = gigabyte
        result = await push(sender, worker)
        assert (result.outcome, result.status_code) == ("success", 200)
        assert result.output == "x" * OUTPUT_LIMIT
        assert result.output_cut
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == 1)
        assert sent < 64

    async def test_it_answers_a_gigabyte_in_a_small_gzip(self, sender: Sender, worker: WebWorker) -> None:
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        bomb = b"".join([packer.compress(b"x" * 2**20) for _ in range(1_024)]) + packer.flush()
        worker.behaviours["/"] = lambda *_: answer(200, bomb, "Content-Encoding: gzip")
        result = await push(sender, worker)
        assert (result.outcome, len(result.output), result.output_cut) == ("success", OUTPUT_LIMIT, True)

    async def test_an_answer_as_long_as_may_be_is_kept_whole(self, sender: Sender, worker: WebWorker) -> None:
        for size, cut in [(OUTPUT_LIMIT, False), (OUTPUT_LIMIT + 1, True)]:
            worker.behaviours["/"] = lambda *_, size=size: answer(200, b"x" * size)  # type: ignore[misc]
            result = await push(sender, worker)
            assert (result.output, result.output_cut) == ("x" * OUTPUT_LIMIT, cut)
        assert READ_LIMIT > OUTPUT_LIMIT
        assert worker.connections == 1  # what was not kept was read all the same

    async def test_gzip_is_unpacked_and_junk_is_text(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: answer(200, gzip.compress(b"hello \xff"), "Content-Encoding: gzip")
        assert (await push(sender, worker)).output == "hello \ufffd"

    async def test_gzip_that_is_none(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = lambda *_: answer(200, b"hello", "Content-Encoding: gzip")
        result = await push(sender, worker)
        assert (result.outcome, result.error_kind) == ("failure", "body")


class TestStopping:
    async def test_a_push_that_is_cancelled_drops_the_connection(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        task = asyncio.create_task(push(sender, worker))
        await asyncio.to_thread(worker.wait_for_requests, 1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == 1)


@pytest.mark.usefixtures("no_collector")
class TestMemory:
    @pytest.mark.parametrize(
        "path",
        ["/", "/404", "/closed", "/redirected", "/denied", "/late", "/refused", "/unknown", "/junk", "/body", "/gzip"],
    )
    @pytest.mark.parametrize("keep_alive", [True, False])
    def test_nothing_is_left_to_the_garbage_collector(self, worker: WebWorker, path: str, keep_alive: bool) -> None:
        """It is off in the server."""
        worker.behaviours |= {
            "/junk": lambda *_: b"junk\r\n\r\n",
            "/body": lambda *_: b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
            "/gzip": lambda *_: answer(200, b"junk", "Content-Encoding: gzip"),
            "/404": lambda *_: answer(404),
            "/closed": lambda *_: None,
            "/redirected": lambda *_: answer(307, b"", "Location: /"),
            "/denied": lambda *_: answer(307, b"", "Location: http://169.254.169.254/"),
            "/late": worker.hang,
        }
        urls = {"/refused": "http://127.0.0.1:1/", "/unknown": "http://unknown.invalid/"}
        target = PushTarget(
            urls.get(path, worker.url(path)), timeout_ms=20 if path == "/late" else 0, keep_alive=keep_alive
        )

        async def left() -> int:
            sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else))
            for _ in range(3):
                await send(sender, target, b"")
            gc.collect()
            try:
                for _ in range(20):
                    await send(sender, target, b"")
                return gc.collect()
            finally:
                sender.close()

        assert uvloop.run(left()) < 20

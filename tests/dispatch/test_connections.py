"""Connections to web workers: kept, dropped, and secured."""

import asyncio
import contextlib
import gc
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trustme
import uvloop

from tests.dispatch.pushing import listening, now_ms, push, read_head, send
from tests.server import PATIENCE_S
from tests.webworker import Request, WebWorker, answer
from workq.dispatch import PushResult, PushTarget
from workq.dispatch.addresses import AddressDenied, AddressRules, Rule
from workq.dispatch.resolver import CheckedResolver
from workq.dispatch.sender import Sender
from workq.run_queue import RunQueue, nobody_else


async def heard(sender: Sender) -> None:
    """Return when the loop has heard that all kept connections are closed."""
    async with asyncio.timeout(PATIENCE_S):
        while any([connection.is_open() for idle in sender.pool._idle.values() for connection in idle]):
            await asyncio.sleep(0.001)


def target(port: int, path: str = "/", **options: Any) -> PushTarget:
    return PushTarget(f"http://127.0.0.1:{port}{path}", **options)


class TestKeptConnections:
    async def test_they_are_kept_by_host_and_port(self, sender: Sender, worker: WebWorker) -> None:
        with WebWorker() as other:
            for _ in range(3):
                await push(sender, worker)
                await push(sender, other)
                await send(sender, PushTarget(f"http://localhost:{worker.port}/"), b"")
            assert (worker.connections, other.connections) == (2, 1)

    async def test_each_push_at_a_time_has_its_own(self, sender: Sender, worker: WebWorker) -> None:
        for _ in range(2):
            await asyncio.gather(*[push(sender, worker) for _ in range(5)])
        assert worker.connections == 5

    async def test_they_are_closed_when_nobody_needs_them(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workq.dispatch.http_client._IDLE_S", 0.05)
        await asyncio.gather(*[push(sender, worker) for _ in range(3)])
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == 3)
        assert sender.pool._idle == {}
        assert sender.pool._sweeper is None
        await push(sender, worker)
        assert worker.connections == 4

    async def test_one_that_was_idle_for_too_long_is_not_used(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await push(sender, worker)
        monkeypatch.setattr("workq.dispatch.http_client._IDLE_S", -1.0)  # before the timer has seen to it
        await push(sender, worker)
        assert worker.connections == 2
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed >= 1)

    async def test_one_that_the_web_worker_closed_is_not_used(self, sender: Sender, worker: WebWorker) -> None:
        def answer_and_close(_: Request, connection: socket.socket) -> None:
            connection.sendall(answer())

        worker.behaviours["/"] = answer_and_close
        for count in range(1, 4):
            assert (await push(sender, worker)).outcome == "success"
            await asyncio.to_thread(worker.wait_for, lambda count=count: worker.closed == count)
            await heard(sender)
        assert worker.connections == 3

    async def test_closing_the_sender_closes_them(self, worker: WebWorker) -> None:
        sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else))
        await push(sender, worker)
        sender.close()
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == 1)

    @pytest.mark.parametrize(
        "reply",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    async def test_after_some_answers_they_are_not_kept(self, sender: Sender, worker: WebWorker, reply: bytes) -> None:
        worker.behaviours["/"] = lambda *_: reply
        for _ in range(2):
            assert (await push(sender, worker)).outcome == "success"
        assert worker.connections == 2

    async def test_what_nobody_asked_for_closes_one(self, sender: Sender) -> None:
        """It is never taken for the answer to the next request."""
        connections = []
        spoke = threading.Event()

        def serve(connection: socket.socket) -> None:
            connections.append(connection)
            read_head(connection)
            connection.sendall(answer())
            go_on.wait(PATIENCE_S)
            with contextlib.suppress(ConnectionError):  # the second one is closed as soon as it has answered
                connection.sendall(answer(500))
                spoke.set()
                connection.recv(1)

        go_on = threading.Event()
        with listening(serve) as port:
            assert (await send(sender, target(port), b"")).outcome == "success"
            go_on.set()
            assert await asyncio.to_thread(spoke.wait, PATIENCE_S)
            await heard(sender)
            assert (await send(sender, target(port), b"")).outcome == "success"
        assert len(connections) == 2


class TestRequestsThatAreLost:
    """A kept connection may be closed just when a request is on its way."""

    async def test_a_job_is_not_sent_twice(self, sender: Sender) -> None:
        requests = []

        def serve(connection: socket.socket) -> None:
            for reply in (answer(), b""):
                requests.append(read_head(connection))
                connection.sendall(reply)

        with listening(serve) as port:
            assert (await send(sender, target(port), b"")).outcome == "success"
            result = await send(sender, target(port), b"")
        assert (result.error_kind, result.status_code) == ("connection", None)
        assert result.error == f"127.0.0.1:{port} closed the connection without an answer"
        assert len(requests) == 2

    async def test_a_get_after_a_redirect_is(self, sender: Sender) -> None:
        requests = []

        def serve(connection: socket.socket) -> None:
            while head := read_head(connection):
                requests.append(head.partition(b"\r\n")[0])
                if len(requests) == 2:
                    return
                connection.sendall(answer(200) if head.startswith(b"GET") else answer(303, b"", "Location: /there"))

        with listening(serve) as port:
            assert (await send(sender, target(port), b"")).outcome == "success"
        assert requests == [b"POST / HTTP/1.1", b"GET /there HTTP/1.1", b"GET /there HTTP/1.1"]

    async def test_but_not_for_ever(self, sender: Sender) -> None:
        requests = []

        def serve(connection: socket.socket) -> None:
            while head := read_head(connection):
                requests.append(head)
                if head.startswith(b"GET"):
                    return
                connection.sendall(answer(303, b"", "Location: /there"))

        with listening(serve) as port:
            result = await send(sender, target(port), b"")
        assert result.error == f"127.0.0.1:{port} closed the connection without an answer"
        assert len(requests) == 3


class TestAnswersInPieces:
    @pytest.mark.parametrize(
        ("pieces", "output"),
        [
            ([b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"P/1.1 200 OK\r\nContent-Len", b"gth: 3\r\n\r\na", b"bc"], "abc"),
            ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r", b"\na\r\n", b"0\r\n\r\n"], "a"),
            ([b"HTTP/1.1 200 OK\r\n\r\nuntil ", b"the end"], "until the end"),
            ([b"HTTP/1.1 204 No Content\r\n\r\n"], ""),
        ],
        ids=["a length", "chunks", "until the end", "nothing"],
    )
    async def test_they_are_put_together(self, sender: Sender, pieces: list[bytes], output: str) -> None:
        def serve(connection: socket.socket) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            read_head(connection)
            for piece in pieces:
                connection.sendall(piece)

        with listening(serve) as port:
            result = await send(sender, target(port), b"{}")
        assert (result.outcome, result.output) == ("success", output)

    async def test_a_redirect_is_followed_before_its_body_has_come(self, sender: Sender) -> None:
        connections = []

        def serve(connection: socket.socket) -> None:
            connections.append(connection)
            if b"/there" in read_head(connection):
                connection.sendall(answer(200, b"there"))
            else:
                connection.sendall(answer(307, b"half", "Location: /there", length=8))
            connection.recv(1)

        with listening(serve) as port:
            assert (await send(sender, target(port), b"{}")).output == "there"
        assert len(connections) == 2

    async def test_one_that_breaks_off_by_a_reset(self, sender: Sender) -> None:
        def reset(connection: socket.socket) -> None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

        def in_head(connection: socket.socket) -> None:
            read_head(connection)
            reset(connection)

        def in_body(connection: socket.socket) -> None:
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the")
            assert has_come.wait(PATIENCE_S)  # what comes before a reset may be lost with it
            reset(connection)

        with listening(in_head) as port:
            result = await send(sender, target(port), b"{}")
            assert (result.error_kind, result.error) == ("connection", f"127.0.0.1:{port}: Connection reset by peer")
        has_come = threading.Event()
        with listening(in_body) as port:
            result_of: asyncio.Future[PushResult] = asyncio.get_running_loop().create_future()
            sending = sender.send(target(port), b"{}", result_of.set_result)
            async with asyncio.timeout(PATIENCE_S):
                while sending._connection is None or not sending._connection.status_code():
                    await asyncio.sleep(0.001)
                has_come.set()
                result = await result_of
            assert (result.error_kind, result.status_code) == ("body", 200)
            assert result.error == "the answer's body broke off after 9 bytes: Connection reset by peer"


class TestEarlyAnswers:
    async def test_before_the_request_was_read(self, sender: Sender) -> None:
        """A worker need not read a long payload to refuse it."""
        answered, closed = threading.Event(), threading.Event()

        def serve(connection: socket.socket) -> None:
            connection.recv(1)
            connection.sendall(answer(413, b"too long"))
            answered.wait(PATIENCE_S)
            with contextlib.suppress(OSError):
                while connection.recv(65_536):
                    pass
            closed.set()

        with listening(serve) as port:
            result = await send(sender, target(port), bytes(8_000_000))
            assert (result.status_code, result.output) == (413, "too long")
            assert sender.pool._idle == {}
            answered.set()
            assert await asyncio.to_thread(closed.wait, PATIENCE_S)

    async def test_before_there_was_a_request(self, sender: Sender) -> None:
        def serve(connection: socket.socket) -> None:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            connection.recv(1)

        with listening(serve) as port:
            result = await send(sender, target(port), b"{}")
        assert result.error_kind == "connection"
        assert result.error.startswith(f"127.0.0.1:{port} does not answer in HTTP: ")

    async def test_by_a_worker_who_reads_slowly(self, sender: Sender) -> None:
        body = bytes(range(256)) * 4_096

        def serve(connection: socket.socket) -> None:
            received = b""
            while len(received) - received.find(b"\r\n\r\n") - 4 < len(body):
                received += connection.recv(3_000)
            got.append(received[-len(body) :])
            connection.sendall(answer())

        got: list[bytes] = []
        with listening(serve) as port:
            assert (await send(sender, target(port), body)).outcome == "success"
        assert got == [body]


class TestConnecting:
    async def test_nobody_answers(self, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.dispatch.http_client.CONNECT_S", 0.1)
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(3)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            result = await send(sender, target(port), b"")
            assert (result.error_kind, result.status_code) == ("connection", None)
            assert result.error == f"cannot connect to 127.0.0.1:{port}: no answer within 0.1 s"
            monkeypatch.setattr("workq.dispatch.http_client.CONNECT_S", 30.0)
            result = await send(sender, target(port, timeout_ms=50), b"")
            assert (result.error_kind, result.error) == ("timeout", "no answer within 50 ms")
            for each in waiting:
                each.close()

    async def test_of_several_addresses_one_that_answers_is_used(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resolve(*_: object, **__: object) -> Any:
            kind = (socket.SOCK_STREAM, 6, "")
            return [(socket.AF_INET6, *kind, ("::1", 80, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", 80))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        for _ in range(2):
            result = await send(sender, PushTarget(f"http://both.example:{worker.port}/", keep_alive=False), b"")
            assert result.outcome == "success"


class TestResolving:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names that were asked for. One that begins with "none" has no address."""
        asked: list[str] = []

        def resolve(host: str, *_: object, **__: object) -> Any:
            asked.append(host)
            if host.startswith("none"):
                raise socket.gaierror(-2, "Name or service not known")
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (f"127.0.0.{number}", 0)) for number in (1, 2, 3)]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        return asked

    async def test_an_answer_is_used_for_a_while_and_its_addresses_in_turn(
        self, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolver = CheckedResolver(AddressRules())
        found = [[address for _, address in await resolver.resolve("a.example")] for _ in range(4)]
        assert found[0] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        assert [addresses[0] for addresses in found] == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.1"]
        assert asked == ["a.example"]
        monkeypatch.setattr("workq.dispatch.resolver._REMEMBERED_S", -1.0)
        await resolver.resolve("b.example")
        await resolver.resolve("b.example")
        assert asked == ["a.example", "b.example", "b.example"]

    async def test_who_asks_at_the_same_time_shares_the_answer(self, asked: list[str]) -> None:
        resolver = CheckedResolver(AddressRules())
        await asyncio.gather(*[resolver.resolve("a.example") for _ in range(10)])
        assert asked == ["a.example"]

    async def test_failures_are_not_remembered(self, asked: list[str]) -> None:
        resolver = CheckedResolver(AddressRules())
        for _ in range(2):
            with pytest.raises(OSError, match="Name or service not known"):
                await resolver.resolve("none.example")
        assert len(asked) == 2

    async def test_what_is_denied_is_left_out(self, asked: list[str]) -> None:
        some = CheckedResolver(AddressRules(deny=[Rule.parse("127.0.0.2/31")]))
        assert await some.resolve("a.example") == [(socket.AF_INET, "127.0.0.1")]
        none = CheckedResolver(AddressRules(deny=[Rule.parse("127.0.0.0/8")]))
        with pytest.raises(AddressDenied, match=r"a\.example \(127\.0\.0\.3\) is denied by --dispatch-deny"):
            await none.resolve("a.example")

    async def test_so_many_names_are_remembered(self, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("workq.dispatch.resolver._MOST_REMEMBERED", 2)
        resolver = CheckedResolver(AddressRules())
        for name in ("a", "b", "c", "b", "a"):
            await resolver.resolve(name)
        assert asked == ["a", "b", "c", "a"]

    async def test_names_that_hang_hold_up_no_other(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()
        resolve = socket.getaddrinfo

        def hang(host: str, *rest: Any, **more: Any) -> Any:
            if host.startswith("slow"):
                go_on.wait(PATIENCE_S)
            return resolve("127.0.0.1", *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        slow = [
            asyncio.create_task(send(sender, PushTarget(f"http://slow{n}.example:{worker.port}/"), b""))
            for n in range(20)
        ]
        late = await send(sender, PushTarget("http://slow0.example/", timeout_ms=20), b"")
        assert late.error_kind == "timeout"
        assert (await send(sender, PushTarget(f"http://quick.example:{worker.port}/"), b"")).outcome == "success"
        assert not any([task.done() for task in slow])
        go_on.set()
        assert {(await task).outcome for task in slow} == {"success"}

    async def test_more_than_there_are_threads_wait_for_their_turn(
        self, asked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("workq.dispatch.resolver._MOST_THREADS", 2)
        resolver = CheckedResolver(AddressRules())
        await asyncio.gather(*[resolver.resolve(f"{number}.example") for number in range(20)])
        assert len(asked) == 20


class TestTls:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def serve(self, authority: trustme.CA) -> Iterator[Callable[[str], int]]:
        """Listens with a certificate for a name; the port. `self.names` are those that clients asked for."""
        self.names: list[str | None] = []
        with WebWorker() as worker:

            def secure(connection: socket.socket, context: ssl.SSLContext) -> None:
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        worker._serve(secured)
                except (ssl.SSLError, OSError):
                    pass  # the client does not trust us

            def begin(name: str) -> int:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.sni_callback = lambda _, asked, __: self.names.append(asked)
                authority.issue_cert(name).configure_cert(context)
                ports.append(listening(lambda connection: secure(connection, context)))
                return ports[-1].__enter__()

            ports: list[Any] = []
            yield begin
            for port in ports:
                port.__exit__(None, None, None)

    @pytest.fixture
    async def trusting(self, authority: trustme.CA) -> AsyncIterator[Sender]:
        def make_tls() -> ssl.SSLContext:
            self.made += 1
            context = ssl.create_default_context()
            authority.configure_trust(context)
            return context

        self.made = 0
        sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else), make_tls)
        yield sender
        sender.close()

    async def test_who_can_prove_who_he_is_gets_the_job(self, trusting: Sender, serve: Callable[[str], int]) -> None:
        port = serve("localhost")
        for _ in range(3):
            result = await send(trusting, PushTarget(f"https://localhost:{port}/"), b"x" * 500_000)
            assert (result.outcome, result.error) == ("success", "")
        assert self.names == ["localhost"]  # once: the connection is kept
        assert self.made == 1

    async def test_an_address_may_have_a_certificate_too(self, trusting: Sender, serve: Callable[[str], int]) -> None:
        port = serve("127.0.0.1")
        assert (await send(trusting, PushTarget(f"https://127.0.0.1:{port}/"), b"")).outcome == "success"

    async def test_others_do_not(self, sender: Sender, trusting: Sender, serve: Callable[[str], int]) -> None:
        for who, name, complaint in [
            (sender, "localhost", "unable to get local issuer certificate"),
            (trusting, "example.com", "Hostname mismatch"),
        ]:
            port = serve(name)
            result = await send(who, PushTarget(f"https://localhost:{port}/"), b"")
            assert result.error_kind == "connection"
            assert result.error.startswith(f"cannot connect to localhost:{port} with TLS: ")
            assert complaint in result.error

    async def test_certificates_that_cannot_be_read(self, worker: WebWorker) -> None:
        def make_tls() -> ssl.SSLContext:
            return ssl.create_default_context(cafile="/nowhere")

        sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else), make_tls)
        result = await send(sender, PushTarget(f"https://localhost:{worker.port}/"), b"")
        assert result.error == f"cannot connect to localhost:{worker.port}: No such file or directory"

    @pytest.mark.usefixtures("no_collector")
    @pytest.mark.parametrize("keep_alive", [True, False])
    def test_nothing_is_left_to_the_garbage_collector(
        self, authority: trustme.CA, serve: Callable[[str], int], keep_alive: bool
    ) -> None:
        def make_tls() -> ssl.SSLContext:
            context = ssl.create_default_context()
            authority.configure_trust(context)
            return context

        async def left() -> int:
            sender = Sender(AddressRules(), now_ms, RunQueue(nobody_else), make_tls)
            where = PushTarget(f"https://localhost:{serve('localhost')}/", keep_alive=keep_alive)
            for _ in range(3):
                await send(sender, where, b"")
            gc.collect()
            try:
                for _ in range(20):
                    await send(sender, where, b"")
                return gc.collect()
            finally:
                sender.close()

        assert uvloop.run(left()) < 20


class TestStopping:
    async def test_a_push_that_is_cancelled_while_it_connects(self, sender: Sender, worker: WebWorker) -> None:
        worker.behaviours["/"] = worker.hang
        for turns in range(12):
            results: list[object] = []
            sending = sender.send(PushTarget(worker.url(), keep_alive=False), b"", results.append)
            for _ in range(turns):
                await asyncio.sleep(0)
            sending.cancel()
            await asyncio.sleep(0.005)
            assert results == []
        await asyncio.to_thread(worker.wait_for, lambda: worker.closed == worker.connections)

    async def test_a_fault_of_ours_is_told_and_ends_the_push(
        self, sender: Sender, worker: WebWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr("workq.dispatch.sender.judge", fail)
        result = await push(sender, worker)
        assert (result.outcome, result.error_kind) == ("failure", "connection")
        assert result.error == "a fault of the server, whose log says more: RuntimeError"
        assert "a fault" in caplog.text

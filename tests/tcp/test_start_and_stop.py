"""The server process: where it listens, why it does not start, how it stops."""

import asyncio
import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forking import ForkedServer
from tests.server import PATIENCE_S, Dialogue, ServerProcess, run_server
from workq.server.config import load_settings
from workq.server.main import Server
from workq.version import VERSION

ID = b"00000000-0000-4000-8000-000000000001"


# -- start -----------------------------------------------------------------------------------------------------------


def is_spoken_to(server: ServerProcess, address: tuple[str, int] | str) -> bool:
    with server.connect(address) as client:
        return client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_it_listens_on_loopback_alone_unless_told_otherwise(server: ServerProcess) -> None:
    assert len(server.addresses) == 1
    assert server.address[0] == "127.0.0.1"


@needs_ipv6
def test_it_listens_on_ipv6() -> None:
    with ServerProcess("--host", "::1") as server:
        assert server.address[0] == "::1"
        assert is_spoken_to(server, server.address)


def test_it_listens_in_many_places(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    flags = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--unix", str(path)]
    with ServerProcess(*flags, *(["--listen", "[::1]:0"] if has_ipv6() else [])) as server:
        assert server.addresses[0][0] == "127.0.0.1"
        assert server.addresses[1][0] == "127.0.0.2"
        assert server.addresses[-1] == str(path)
        assert all([is_spoken_to(server, address) for address in server.addresses])


def test_jobs_are_the_same_wherever_a_client_comes_in(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with ServerProcess("--unix", str(path)) as server, server.connect() as one, server.connect(str(path)) as two:
        two.send(b"lease mail 60000\r\n")
        assert one.ask(b"add %b mail 5000 60000 5\r\nhello\r\n" % ID) == b"+OK"
        two.expect(b"+OK 1", b"%b mail 5000 5" % ID, b"hello")


def test_settings_come_from_flags_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "workq.toml"
    file.write_text('listen = ["127.0.0.1:0", "127.0.0.2:0"]\nlog-level = "warning"\n')
    with ServerProcess("--listen", "127.0.0.3:0", "--config", str(file), env={"WORKQ_LOG_LEVEL": "info"}) as server:
        assert [address[0] for address in server.addresses] == ["127.0.0.3"]


def test_a_port_in_use(server: ServerProcess) -> None:
    host, port = server.tcp_address
    ended = run_server("--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"workq-server: cannot listen on {host}:{port}: Address already in use\n")
    assert "Traceback" not in ended.stderr


def test_a_second_place_that_cannot_be_listened_on(server: ServerProcess) -> None:
    ended = run_server("--listen", "127.0.0.1:0", "--listen", "192.0.2.1:0")
    assert ended.returncode == 1
    assert "workq-server: cannot listen on 192.0.2.1:0: " in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("flags", "variables", "error"),
    [
        (["--port", "65536"], {}, "--port: '65536' is not "),
        (["--port"], {}, "argument --port: expected one argument"),
        (["--prot", "1"], {}, "--prot: no such setting; did you mean --port?"),
        (["9922"], {}, "'9922': not a flag"),
        (["--listen", "nowhere"], {}, "--listen: 'nowhere' is not "),
        (["--config", "/nowhere/workq.toml"], {}, "--config: cannot read /nowhere/workq.toml: No such file"),
        ([], {"WORKQ_PORT": "many"}, "WORKQ_PORT: 'many' is not "),
        ([], {"WORKQ_LOG_LEVLE": "info"}, "WORKQ_LOG_LEVLE: no such setting; did you mean WORKQ_LOG_LEVEL?"),
    ],
)
def test_wrong_settings_are_told_in_one_line(flags: list[str], variables: dict[str, str], error: str) -> None:
    ended = run_server(*flags, env=variables)
    assert ended.returncode == 2
    assert ended.stderr.startswith("workq-server: ")
    assert ended.stderr.count("\n") == 1
    assert error in ended.stderr


def test_a_wrong_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "workq.toml"
    for text, error in [
        ("prot = 9922\n", "'prot': no such setting; did you mean port?"),
        ("port = true\n", "port: 'True' is not "),
        ("port = \n", "not a TOML file: "),
    ]:
        file.write_text(text)
        ended = run_server("--config", str(file))
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"workq-server: {file}: {error}")
        assert ended.stderr.count("\n") == 1


def test_version_and_help() -> None:
    assert run_server("--version").stdout.startswith(f"workq-server {VERSION} (")
    assert "--port PORT" in run_server("--help").stdout


# -- the Unix socket -------------------------------------------------------------------------------------------------


def test_the_socket_file_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with ServerProcess("--unix", str(path)) as killed:
        killed.kill()
        assert path.exists()
    with ServerProcess("--unix", str(path)) as server:
        assert is_spoken_to(server, str(path))
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not path.exists()


def test_the_socket_file_of_a_running_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with ServerProcess("--unix", str(path)) as server:
        ended = run_server("--port", "0", "--unix", str(path))
        assert ended.returncode == 1
        assert f"cannot listen on unix:{path}: " in ended.stderr
        assert is_spoken_to(server, str(path))


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    ended = run_server("--port", "0", "--unix", str(path))
    assert ended.returncode == 1
    assert f"cannot listen on unix:{path}: " in ended.stderr
    assert path.read_text() == "data"


# -- stop ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_server() -> Iterator[ServerProcess]:
    """A server to be stopped."""
    with ServerProcess() as process:
        yield process


def stop(server: ServerProcess, idle: Dialogue, number: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal; the end of the idle connection tells that it was heard."""
    server.signal(number)
    idle.expect_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_idle_clients_are_closed(own_server: ServerProcess, number: signal.Signals) -> None:
    with own_server.connect() as client, own_server.connect() as used:
        assert used.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        stop(own_server, client, number)
        used.expect_end()
        assert own_server.wait() == 0
    assert "Traceback" not in own_server.log()


def test_a_signal_to_rotate_logs_does_no_harm(own_server: ServerProcess) -> None:
    own_server.signal(signal.SIGUSR1)
    with own_server.connect() as client:
        assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"


def test_who_is_to_outlive_a_terminal_does() -> None:
    with ServerProcess(under=("nohup",)) as server:
        server.signal(signal.SIGHUP)
        with server.connect() as client:
            assert client.ask(b"inspect queue nothing\r\n") == b"-NOT-FOUND"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_server_without_clients_stops(own_server: ServerProcess) -> None:
    own_server.signal(signal.SIGTERM)
    assert own_server.wait() == 0


def test_clients_that_wait_are_closed_without_a_reply(own_server: ServerProcess) -> None:
    """And without executing what stands behind."""
    requests = [
        b"lease mail 60000\r\n",
        b"lease mail 60000\r\ninspect queue nothing\r\n",
        b"lease mail 60000\r\nlease mail 60000\r\n",
        b"lease mail 60000\r\nhalf",
        b"lease mail 60000\r\n" + b"inspect queue nothing\r\n" * 50_000,
        b"run %b call 5000 60000 5\r\nhello\r\n" % ID,
        b"result %b 60000\r\ninspect queue nothing\r\n" % ID.replace(b"1", b"2"),
    ]
    with contextlib.ExitStack() as clients, own_server.connect() as client:
        assert client.ask(b"add %b post 5000 60000 5\r\nhello\r\n" % ID.replace(b"1", b"2")) == b"+OK"
        waiting = [clients.enter_context(own_server.connect()) for _ in requests]
        for each, request in zip(waiting, requests, strict=True):
            each.send(request)
            assert not each.has_input(own_server)
        stop(own_server, client)
        for each in waiting:
            each.expect_end()
        assert own_server.wait() == 0


@pytest.mark.parametrize(("begun", "rest"), [(b"\r\nse", b"nt\r\n"), (b"\r\n", b"sent\r\n"), (b"", b"\r\nsent\r\n")])
def test_a_half_sent_command_may_be_finished(own_server: ServerProcess, begun: bytes, rest: bytes) -> None:
    """The port is free by then, the idle are gone, but a worker can hand in its result."""
    with own_server.connect() as client, own_server.connect() as worker:
        assert client.ask(b"add %b mail 5000 60000 5\r\nhello\r\n" % ID) == b"+OK"
        worker.send(b"complete %b 4" % ID + begun)
        assert not worker.has_input(own_server)
        stop(own_server, client)
        with pytest.raises(ConnectionRefusedError):
            own_server.connect()
        assert worker.ask(rest) == b"+OK"
        worker.expect_end()
        assert own_server.wait() == 0


def test_replies_that_were_not_read_yet_arrive(own_server: ServerProcess) -> None:
    with own_server.connect() as client, own_server.connect() as slow:
        size = 1_000_000
        assert client.ask(b"add %b big 5000 60000 %d\r\n%b\r\n" % (ID, size, b"x" * size)) == b"+OK"
        slow.send(b"inspect job %b\r\n" % ID * 20)
        slow.has_input(own_server)
        stop(own_server, client)
        for _ in range(20):
            slow.expect(b"+OK 1", b"%b 12" % ID)
            assert [len(slow.line()) for _ in range(12)][4] == len(b"payload ") + size
        slow.expect_end()
        assert own_server.wait() == 0


def test_a_half_sent_command_is_not_waited_for_for_ever(own_server: ServerProcess) -> None:
    with own_server.connect() as client, own_server.connect() as worker:
        worker.send(b"comp")
        assert not worker.has_input(own_server)
        stop(own_server, client)
        worker.expect_end()
        assert own_server.wait() == 0
    assert "closing those that did not finish their command in 5 s: 1" in own_server.log()


def test_a_second_signal_ends_it_at_once(own_server: ServerProcess) -> None:
    with own_server.connect() as client, own_server.connect() as worker:
        worker.send(b"comp")
        assert not worker.has_input(own_server)
        stop(own_server, client)
        own_server.signal(signal.SIGINT)
        assert own_server.wait() == 128 + signal.SIGINT
        worker.expect_end()


async def test_the_log_is_closed_whatever_else_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(["--port", "0", "--http", "off", "--data-dir", str(tmp_path)], {})
    server = Server(settings, asyncio.get_running_loop())
    await server.start()

    async def fail() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(server, "_drain", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        await server.stop()
    again = Server(settings, asyncio.get_running_loop())  # nobody has the directory any more
    await again.stop()


def test_a_log_that_nobody_reads_holds_up_neither_clients_nor_the_end() -> None:
    unread, stderr = os.pipe()
    flags = ("--port", "0", "--http", "off", "--log-level", "info")
    with open(unread, "rb", buffering=0) as log, open(stderr, "wb", buffering=0) as full:
        server = ForkedServer(flags, os.environ, full.fileno(), full.fileno())
        text = b""
        while b" is ready on " not in text or not text.endswith(b"\n"):
            text += log.read(65_536)
        while select.select([], [full], [], 0)[1]:
            full.write(bytes(select.PIPE_BUF))
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_who_closes_its_standard_files_gets_a_server_all_the_same(closed: str) -> None:
    flags = ("--port", "0", "--http", "127.0.0.1:0", "--access-log", "text")
    with ServerProcess(*flags, under=("sh", "-c", f'exec "$@" {closed}', "sh")) as server:
        assert is_spoken_to(server, server.address)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_server_that_cannot_say_why_it_does_not_start() -> None:
    ended = run_server("--port", "many", under=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "")

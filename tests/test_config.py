"""The server's settings: three sources, one precedence, and an error line for every mistake."""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from workq.build import is_compiled
from workq.dispatch.addresses import Rule
from workq.server.config import ROWS, Settings, load_settings
from workq.settings import Address, ConfigError, Row
from workq.version import VERSION

BUILD = "compiled" if is_compiled() else "pure"

# For each setting three values as a user writes them, and what they become.
EXAMPLES: dict[str, list[tuple[str, Any]]] = {
    "host": [("::1", "::1"), ("localhost", "localhost"), ("0.0.0.0", "0.0.0.0")],
    "port": [("0", 0), ("1", 1), ("65535", 65535)],
    "listen": [
        ("127.0.0.1:1", (Address("127.0.0.1", 1),)),
        ("[::1]:9922", (Address("::1", 9922),)),
        ("localhost:0", (Address("localhost", 0),)),
    ],
    "unix": [("a.sock", Path("a.sock")), ("/run/b.sock", Path("/run/b.sock")), ("c d", Path("c d"))],
    "log_level": [("debug", "debug"), ("warning", "warning"), ("error", "error")],
    "data_dir": [("a", Path("a")), ("/var/lib/b", Path("/var/lib/b")), ("c d", Path("c d"))],
    "log_sync": [("interval", "interval"), ("os", "os"), ("always", "always")],
    "log_sync_interval": [("0.001", 0.001), ("2", 2.0), ("3600", 3600.0)],
    "log_segment_size": [("4KiB", 4096), ("1GiB", 2**30), ("1000000", 1_000_000)],
    "http": [("off", None), ("127.0.0.1:0", Address("127.0.0.1", 0)), ("[::1]:80", Address("::1", 80))],
    "hq_listen": [("off", None), ("0.0.0.0:19900", Address("0.0.0.0", 19900)), ("[::]:1", Address("::", 1))],
    "fireworq_listen": [("off", None), ("0.0.0.0:8080", Address("0.0.0.0", 8080)), ("[::]:1", Address("::", 1))],
    "messages_listen": [("off", None), ("0.0.0.0:9999", Address("0.0.0.0", 9999)), ("[::]:1", Address("::", 1))],
    "http_idle_timeout": [("0.1", 0.1), ("75", 75.0), ("86400", 86_400.0)],
    "dispatch_allow": [
        ("10.0.0.0/8", (Rule.parse("10.0.0.0/8"),)),
        ("hooks.example.com", (Rule.parse("hooks.example.com"),)),
        ("::1", (Rule.parse("::1"),)),
    ],
    "dispatch_deny": [
        ("*.example.com", (Rule.parse("*.example.com"),)),
        ("127.0.0.1", (Rule.parse("127.0.0.1"),)),
        ("fe80::/10", (Rule.parse("fe80::/10"),)),
    ],
    "dispatch_shutdown_timeout": [("0", 0.0), ("10", 10.0), ("86400", 86_400.0)],
    "access_log": [("text", "text"), ("json", "json"), ("off", "off")],
    "access_log_file": [("a", Path("a")), ("/var/log/b", Path("/var/log/b")), ("c d", Path("c d"))],
}

every_setting = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.fixture
def toml(tmp_path: Path):
    """A function that writes a TOML file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "workq.toml"
        path.write_text(text)
        return str(path)

    return write


def error(argv: list[str], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(argv, environ or {})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_given_the_server_listens_on_loopback_port_9922():
    settings = load_settings([], {})
    assert settings == Settings()
    assert settings.addresses == (Address("127.0.0.1", 9922),)
    assert settings.unix is None
    assert settings.log_level == "info"
    assert settings.data_dir is None
    assert (settings.log_sync, settings.log_sync_interval) == ("always", 1.0)
    assert settings.log_segment_size == 64 * 2**20


def test_without_anything_given_our_http_api_listens_on_loopback_port_9923_and_no_other_door_does():
    settings = load_settings([], {})
    assert settings.http == Address("127.0.0.1", 9923)
    assert (settings.hq_listen, settings.fireworq_listen, settings.messages_listen) == (None, None, None)
    assert (settings.access_log, settings.access_log_file, settings.http_idle_timeout) == ("off", None, 75.0)
    assert (settings.dispatch_allow, settings.dispatch_deny, settings.dispatch_shutdown_timeout) == ((), (), 10.0)
    assert settings.listens_on_http
    assert not load_settings(["--http", "off"], {}).listens_on_http
    assert load_settings(["--http", "off", "--hq-listen", "localhost:1"], {}).listens_on_http


@every_setting
def test_each_setting_is_a_flag_a_variable_and_a_toml_key(row: Row, toml):
    for text, value in EXAMPLES[row.name]:
        assert getattr(load_settings([row.flag, text], {}), row.name) == value
        assert getattr(load_settings([f"{row.flag}={text}"], {}), row.name) == value
        assert getattr(load_settings([], {row.variable: text}), row.name) == value
        assert getattr(load_settings(["--config", toml(f"{row.key} = {json.dumps(text)}")], {}), row.name) == value


@every_setting
def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(row: Row, toml):
    (in_file, file_value), (in_environ, environ_value), (as_flag, flag_value) = EXAMPLES[row.name]
    path = toml(f"{row.key} = {json.dumps(in_file)}")
    environ = {"WORKQ_CONFIG": path}
    assert getattr(load_settings([], environ), row.name) == file_value
    environ[row.variable] = in_environ
    assert getattr(load_settings([], environ), row.name) == environ_value
    assert getattr(load_settings([row.flag, as_flag], environ), row.name) == flag_value


def test_a_listener_of_a_door_wins_over_its_own_file_also_when_it_is_off(toml):
    path = toml('[hq]\naddr = "127.0.0.1:1"\n[fireworq]\nbind = "127.0.0.1:2"\n[messages]\nport = 3')
    settings = load_settings(
        ["--config", path, "--hq-listen=off", "--fireworq-listen=off", "--messages-listen=off"], {}
    )
    assert (settings.hq_address, settings.fireworq_address, settings.messages_address) == (None, None, None)
    settings = load_settings(["--config", path, "--hq-listen=127.0.0.1:4"], {})
    assert settings.hq_address == Address("127.0.0.1", 4)
    assert settings.fireworq_address == Address("127.0.0.1", 2)


def test_the_names_of_a_setting_follow_from_one_name():
    row = next(row for row in ROWS if row.name == "log_segment_size")
    assert (row.flag, row.variable, row.key) == ("--log-segment-size", "WORKQ_LOG_SEGMENT_SIZE", "log-segment-size")


def test_toml_numbers_need_no_quotes(toml):
    path = toml("port = 7000\nlog-sync-interval = 0.5\nlog-segment-size = 1_000_000")
    settings = load_settings(["--config", path], {})
    assert (settings.port, settings.log_sync_interval, settings.log_segment_size) == (7000, 0.5, 1_000_000)


def test_the_config_flag_wins_over_the_config_variable(tmp_path: Path, toml):
    other = tmp_path / "other.toml"
    other.write_text("port = 1")
    assert load_settings(["--config", toml("port = 2")], {"WORKQ_CONFIG": str(other)}).port == 2


def test_variables_of_other_programs_are_not_looked_at():
    assert load_settings([], {"PORT": "1", "PATH": "/bin", "XWORKQ_PORT": "x", "WORKQ": "1"}) == Settings()


def test_variables_of_the_client_of_the_build_and_of_kubernetes_do_not_stop_the_server():
    others = ["WORKQ_SERVER", "WORKQ_PURE", "WORKQ_SERVICE_HOST", "WORKQ_SERVICE_PORT_TCP", "WORKQ_PORT_9922_TCP_ADDR"]
    assert load_settings([], dict.fromkeys(others, "tcp://10.0.0.1:9922")) == Settings()


class TestListen:
    def test_may_be_given_several_times_in_each_source(self, toml):
        both = (Address("127.0.0.1", 1), Address("::1", 2))
        assert load_settings(["--listen", "127.0.0.1:1", "--listen", "[::1]:2"], {}).addresses == both
        assert load_settings([], {"WORKQ_LISTEN": "127.0.0.1:1, [::1]:2"}).addresses == both
        path = toml('listen = ["127.0.0.1:1", "[::1]:2"]')
        assert load_settings(["--config", path], {}).addresses == both

    def test_replaces_host_and_port_of_the_same_and_of_weaker_sources(self, toml):
        addresses = (Address("localhost", 1),)
        assert load_settings(["--listen", "localhost:1", "--host", "::1"], {}).addresses == addresses
        path = toml('host = "::1"')
        assert load_settings(["--listen", "localhost:1", "--config", path], {"WORKQ_PORT": "5"}).addresses == addresses

    def test_gives_way_to_a_host_or_port_of_a_stronger_source(self, toml):
        path = toml('listen = ["[::1]:1", "[::1]:2"]')
        assert load_settings(["--config", path, "--port", "7"], {}).addresses == (Address("127.0.0.1", 7),)
        assert load_settings(["--config", path], {"WORKQ_HOST": "::1"}).addresses == (Address("::1", 9922),)
        assert load_settings(["--port", "7"], {"WORKQ_LISTEN": "[::1]:1"}).addresses == (Address("127.0.0.1", 7),)

    @pytest.mark.parametrize("text", ["[::1]:9922", "[fe80::1%lo]:1", "127.0.0.1:0", "a-host.example:65535"])
    def test_is_printed_as_it_is_written(self, text: str):
        (address,) = load_settings(["--listen", text], {}).addresses
        assert str(address) == text

    @pytest.mark.parametrize(
        "text",
        ["", "9922", ":9922", "localhost", "localhost:", "localhost:x", "localhost:65536", "localhost:-1", "a b:1"],
    )
    def test_that_is_not_an_address_is_refused(self, text: str):
        self.check_refused(text)

    @pytest.mark.parametrize("text", ["::1:9922", "[::1]", "[::1]9922", "[localhost]:1", "[]:1", "[::g]:1"])
    def test_with_ipv6_needs_brackets_around_the_address_only(self, text: str):
        self.check_refused(text)

    def check_refused(self, text: str):
        assert error(["--listen", text]) == (
            f"--listen: '{text}' is not HOST:PORT, such as 127.0.0.1:9922 or [::1]:9922"
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("row_name", "text", "allowed"),
        [
            ("host", "", "a host name or an IP address"),
            ("host", "a host", "a host name or an IP address"),
            ("host", "[::1]", "a host name or an IP address"),
            ("host", ":::1", "a host name or an IP address"),
            ("port", "", "a whole number from 0 to 65535"),
            ("port", "65536", "a whole number from 0 to 65535"),
            ("port", "-1", "a whole number from 0 to 65535"),
            ("port", "1.5", "a whole number from 0 to 65535"),
            ("port", "http", "a whole number from 0 to 65535"),
            ("unix", "", "a path"),
            ("log_level", "loud", "one of debug, info, warning, error"),
            ("log_level", "INFO", "one of debug, info, warning, error"),
            ("data_dir", "", "a path"),
            ("log_sync", "never", "one of always, interval, os"),
            ("log_sync_interval", "0", "a number of seconds from 0.001 to 3600"),
            ("log_sync_interval", "3601", "a number of seconds from 0.001 to 3600"),
            ("log_sync_interval", "nan", "a number of seconds from 0.001 to 3600"),
            ("log_sync_interval", "1s", "a number of seconds from 0.001 to 3600"),
            ("http", "on", "off or HOST:PORT, such as 127.0.0.1:9923 or [::1]:9923"),
            ("http", "9923", "off or HOST:PORT, such as 127.0.0.1:9923 or [::1]:9923"),
            ("hq_listen", "", "off or HOST:PORT, such as 127.0.0.1:9923 or [::1]:9923"),
            ("http_idle_timeout", "0", "a number of seconds from 0.1 to 86400"),
            (
                "dispatch_deny",
                "10.0.0.0/33",
                "a host such as hooks.example.com or *.example.com, an address or a network such as 10.0.0.0/8",
            ),
            ("dispatch_shutdown_timeout", "-1", "a number of seconds from 0 to 86400"),
            ("access_log", "xml", "one of off, text, json"),
            ("log_segment_size", "4095", "a size from 4096 to 4294967296 bytes, such as 8388608, 512KiB or 64MiB"),
            ("log_segment_size", "5GiB", "a size from 4096 to 4294967296 bytes, such as 8388608, 512KiB or 64MiB"),
            ("log_segment_size", "64MB", "a size from 4096 to 4294967296 bytes, such as 8388608, 512KiB or 64MiB"),
            ("log_segment_size", "MiB", "a size from 4096 to 4294967296 bytes, such as 8388608, 512KiB or 64MiB"),
        ],
    )
    def test_a_bad_value_is_told_with_its_place_and_what_is_allowed(self, row_name, text, allowed, toml):
        row = next(row for row in ROWS if row.name == row_name)
        assert error([f"{row.flag}={text}"]) == f"{row.flag}: '{text}' is not {allowed}"
        assert error([], {row.variable: text}) == f"{row.variable}: '{text}' is not {allowed}"
        path = toml(f"{row.key} = {json.dumps(text)}")
        assert error(["--config", path]) == f"{path}: {row.key}: '{text}' is not {allowed}"

    @every_setting
    @pytest.mark.parametrize("value", ["true", "1979-05-27", "{ a = 1 }"])
    def test_a_toml_value_of_the_wrong_type_is_refused(self, row: Row, value: str, toml):
        path = toml(f"{row.key} = {value}")
        message = error(["--config", path])
        assert message.startswith(f"{path}: {row.key}: '")
        assert message.endswith(f"' is not {row.kind.allowed}")

    def test_a_toml_array_is_refused_where_one_value_is_allowed(self, toml):
        path = toml("port = [1, 2]")
        assert error(["--config", path]) == f"{path}: port: '[1, 2]' is not a whole number from 0 to 65535"

    def test_one_bad_value_among_several_is_the_one_told(self, toml):
        allowed = "HOST:PORT, such as 127.0.0.1:9922 or [::1]:9922"
        assert error(["--listen", "a:1", "--listen", "b"]) == f"--listen: 'b' is not {allowed}"
        assert error([], {"WORKQ_LISTEN": "a:1,b"}) == f"WORKQ_LISTEN: 'b' is not {allowed}"
        path = toml('listen = ["a:1", 5]')
        assert error(["--config", path]) == f"{path}: listen: '5' is not {allowed}"

    def test_a_bad_value_is_told_even_where_a_stronger_source_has_a_good_one(self):
        assert error(["--port", "1"], {"WORKQ_PORT": "x"}).startswith("WORKQ_PORT: 'x' is not ")

    def test_a_value_cannot_break_the_line(self):
        assert error(["--host", "a\nb\x1b[2J"]) == r"--host: 'a\nb\x1b[2J' is not a host name or an IP address"

    def test_an_unknown_name_is_told_with_the_likely_one(self, toml):
        assert error(["--prot", "1"]) == "--prot: no such setting; did you mean --port?"
        assert error(["--prot=1"]) == "--prot: no such setting; did you mean --port?"
        assert error(["--log_sync", "os"]) == "--log_sync: no such setting; did you mean --log-sync?"
        assert error(["--verison"]) == "--verison: no such setting; did you mean --version?"
        assert error([], {"WORKQ_PROT": "1"}) == "WORKQ_PROT: no such setting; did you mean WORKQ_PORT?"
        path = toml('log_sync = "os"')
        assert error(["--config", path]) == f"{path}: 'log_sync': no such setting; did you mean log-sync?"

    def test_an_unknown_name_that_is_near_no_other_points_to_the_help(self, toml):
        assert error(["--quux"]) == "--quux: no such setting; see --help"
        assert error([], {"WORKQ_QUUX": ""}) == "WORKQ_QUUX: no such setting; see --help"
        path = toml("[server]\nport = 1\n")
        assert error(["--config", path]) == f"{path}: 'server': no such setting; see --help"

    def test_flags_cannot_be_shortened(self):
        assert error(["--por", "1"]) == "--por: no such setting; did you mean --port?"

    def test_a_flag_without_its_value_is_told(self):
        assert error(["--port"]) == "argument --port: expected one argument"

    def test_an_argument_that_is_no_flag_is_told(self):
        assert error(["9922"]) == "'9922': not a flag; see --help"

    def test_a_file_that_cannot_be_read_is_told_with_who_named_it(self, tmp_path: Path):
        absent = str(tmp_path / "absent.toml")
        assert error(["--config", absent]) == f"--config: cannot read {absent}: No such file or directory"
        assert error([], {"WORKQ_CONFIG": absent}) == f"WORKQ_CONFIG: cannot read {absent}: No such file or directory"
        assert error(["--config", str(tmp_path)]) == f"--config: cannot read {tmp_path}: Is a directory"

    def test_a_file_that_is_not_toml_is_told_with_the_place(self, toml, tmp_path: Path):
        path = toml("port = 1\nport\n")
        message = error(["--config", path])
        assert message.startswith(f"{path}: not a TOML file: ")
        assert "line 2" in message
        Path(path).write_bytes(b"host = '\xff'")
        assert error(["--config", path]).startswith(f"{path}: not a TOML file: 'utf-8' codec can't decode byte 0xff")


def test_help_lists_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        load_settings(["--help"], {})
    assert stop.value.code == 0
    words = capsys.readouterr().out.split()
    for row in ROWS:
        assert row.flag in words
        assert row.default is None or f"{row.default})" in words


def test_version_names_the_server_its_python_and_its_event_loop(capsys):
    uvloop = pytest.importorskip("uvloop")
    with pytest.raises(SystemExit) as stop:
        load_settings(["--version"], {})
    assert stop.value.code == 0
    expected = f"workq-server {VERSION} ({BUILD}, Python {platform.python_version()}, uvloop {uvloop.__version__})\n"
    assert capsys.readouterr().out == expected


def test_version_names_asyncio_where_uvloop_cannot_be_imported(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(SystemExit):
        load_settings(["--version"], {})
    assert capsys.readouterr().out == f"workq-server {VERSION} ({BUILD}, Python {platform.python_version()}, asyncio)\n"

"""Tables of settings: how one is written, and what is said about a mistake in it."""

from pathlib import Path

import attrs
import pytest

from workq.server.config import load_settings
from workq.settings import (
    SWITCH,
    TEXT,
    ConfigError,
    read_toml,
    repeatable_setting,
    rows,
    seconds,
    setting,
    whole_number,
)
from workq.values import Range

NUMBER = whole_number(Range("server_id", 0, 1023))


@attrs.frozen(kw_only=True)
class Table:
    server_id: int = setting("a number", NUMBER, "0", variable="OLD_SERVER_ID")
    timeout: float = setting("a time", seconds(0.5, 10), "1")
    ui: bool = setting("a switch", SWITCH, "true")
    name: str | None = setting("a text", TEXT)
    epoch: tuple[int, ...] = repeatable_setting("numbers", NUMBER, variable="OLD_EPOCH")


def test_a_door_s_table_keeps_the_names_of_its_fields():
    table = {row.name: row for row in rows(Table)}
    assert table["server_id"].key == "server_id"
    assert (table["server_id"].variable, table["timeout"].variable) == ("OLD_SERVER_ID", None)


def test_values_come_from_toml_with_their_types_or_as_text():
    given = {"server_id": 7, "timeout": 2, "ui": False, "name": "x", "epoch": [20, 1]}
    assert Table(**read_toml(rows(Table), "f", given)) == Table(
        server_id=7, timeout=2.0, ui=False, name="x", epoch=(20, 1)
    )
    given = {"server_id": "7", "timeout": "2.5", "ui": "true", "epoch": 3}
    assert Table(**read_toml(rows(Table), "f", given)) == Table(server_id=7, timeout=2.5, epoch=(3,))


def test_values_come_from_variables_too():
    table = {row.name: row for row in rows(Table)}
    assert table["epoch"].parse_variable("OLD_EPOCH", "1, 2") == (1, 2)
    with pytest.raises(ConfigError, match=r"^OLD_SERVER_ID: 'x' is not a whole number from 0 to 1023$"):
        table["server_id"].parse_variable("OLD_SERVER_ID", "x")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"server_id": 1024}, "f: [t]: server_id: '1024' is not a whole number from 0 to 1023"),
        ({"server_id": True}, "f: [t]: server_id: 'True' is not a whole number from 0 to 1023"),
        ({"server_id": [1]}, "f: [t]: server_id: '[1]' is not a whole number from 0 to 1023"),
        ({"timeout": 11}, "f: [t]: timeout: '11' is not a number of seconds from 0.5 to 10"),
        ({"ui": "yes"}, "f: [t]: ui: 'yes' is not true or false"),
        ({"ui": 1}, "f: [t]: ui: '1' is not true or false"),
        ({"epoch": [1, "x"]}, "f: [t]: epoch: 'x' is not a whole number from 0 to 1023"),
        ({"servr_id": 1}, "f: [t]: 'servr_id': no such setting; did you mean server_id?"),
    ],
)
def test_a_mistake_is_told_with_key_value_and_what_is_allowed(given: dict[str, object], error: str):
    with pytest.raises(ConfigError) as caught:
        read_toml(rows(Table), "f: [t]", given)
    assert str(caught.value) == error


def test_each_door_has_a_table_in_the_file(tmp_path: Path):
    path = tmp_path / "workq.toml"
    for door in ("hq", "fireworq", "messages"):
        path.write_text(f"[{door}]\n")
        assert load_settings(["--config", str(path)], {}) == load_settings([], {})
        path.write_text(f"{door} = 1\n")
        with pytest.raises(ConfigError, match=f"{door}: '1' is not a table; begin it with \\[{door}\\]"):
            load_settings(["--config", str(path)], {})
        path.write_text(f"[{door}]\nquux = 1\n")
        with pytest.raises(ConfigError, match=f"\\[{door}\\]: 'quux': no such setting"):
            load_settings(["--config", str(path)], {})

"""What `pip install .` gives: the whole of `workq`, typed, with its commands, and nothing else."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import distribution as metadata_of
from pathlib import Path

import pytest

from workq.version import VERSION

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory):
    """The project as a wheel, built from a copy without the network, and not compiled."""
    source = tmp_path_factory.mktemp("source")
    for path in PROJECT.iterdir():
        if path.is_file() and path.suffix != ".so":
            shutil.copy(path, source)
    for name in ("workq", "tests"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    build = subprocess.run(
        [*pip, "-w", source, source], env={**os.environ, "WORKQ_PURE": "1"}, capture_output=True, text=True
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (built,) = source.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(f"workq-{VERSION}.dist-info/METADATA").decode())


def test_it_holds_every_file_of_workq_and_nothing_else(wheel: zipfile.ZipFile):
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "workq").rglob("*")
        if path.suffix in (".py", ".html", ".css", ".js") or path.name == "py.typed"
    }
    assert packed == files
    assert "workq/py.typed" in packed


def test_it_carries_the_license(wheel: zipfile.ZipFile):
    (name,) = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(name).decode() == (PROJECT / "LICENSE").read_text()


def test_the_version_is_stated_once(metadata: Message):
    assert metadata["Version"] == VERSION


def test_it_installs_on_python_3_11_and_newer_only(metadata: Message):
    assert metadata["Requires-Python"] == ">=3.11"


def test_each_command_it_installs_has_a_script_in_the_checkout(wheel: zipfile.ZipFile):
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(f"workq-{VERSION}.dist-info/entry_points.txt").decode())
    commands = set(entry_points["console_scripts"])
    assert commands == {"workq", "workq-log", "workq-server"}
    scripts = {path.name for path in (PROJECT / "bin").iterdir() if os.access(path, os.X_OK)}
    assert scripts == commands | {"bench", "test"}


def test_no_interpreted_class_inherits_from_a_compiled_one():
    """It could not be made where the hot rooms are compiled; where they are not, nobody would notice."""
    compiled = compiled_modules()
    native = {
        f"{module_of(path)}.{node.name}"
        for path in compiled
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
    }
    assert "workq.record.Record" in native
    bad = []
    for path in set((PROJECT / "workq").rglob("*.py")) - compiled:
        nodes = list(ast.walk(parsed(path)))
        imported = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in nodes:
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                first, _, rest = ast.unparse(base).split("[")[0].partition(".")
                whole = f"{imported[first]}.{rest}".rstrip(".") if first in imported else ""
                package, _, name = whole.rpartition(".")
                # A package may pass on what one of its modules has.
                bad += [(node.name, each) for each in native if each.startswith(package) and each.endswith(f".{name}")]
    assert bad == []


def test_what_building_requires_is_enough_to_compile(tmp_path: Path):
    """On a fresh machine nothing else is installed when pip builds; what mypy does not see there has no types."""
    venv.create(tmp_path, symlinks=True)
    (packages,) = tmp_path.glob("lib/python3*/site-packages")
    for requirement in tomllib.loads((PROJECT / "pyproject.toml").read_text())["build-system"]["requires"]:
        files = metadata_of(re.split("[<>=]", requirement)[0]).files or []
        for name in {path.parts[0] for path in files} - {"..", "__pycache__"}:
            (packages / name).symlink_to(sysconfig.get_path("purelib") + "/" + name)
    options = ast.literal_eval(assigned("OPTIONS"))
    mypy = [sys.executable, "-m", "mypy", f"--python-executable={tmp_path}/bin/python", f"--cache-dir={tmp_path}/cache"]
    checked = subprocess.run(
        [*mypy, *options, *map(str, sorted(compiled_modules()))], cwd=PROJECT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def compiled_modules() -> set[Path]:
    listed = {PROJECT / node.value for node in ast.walk(assigned("HOT")) if isinstance(node, ast.Constant)}
    return {path for path in listed if path.exists()} | set((PROJECT / "workq" / "engine").glob("[a-z]*.py"))


def assigned(name: str) -> ast.expr:
    """What setup.py gives to a name of its own."""
    (value,) = [
        node.value
        for node in parsed(PROJECT / "setup.py").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    ]
    return value


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())

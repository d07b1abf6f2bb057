"""The scripts in `bin/`: the first use sets up `.venv`, later uses start at once, and what goes wrong is told.

A made-up Python stands in for the real one: its venv and pip put small scripts in place, and every call is noted.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent

PYTHON = """\
#!/bin/sh
if [ "$1" = -c ]; then exec {real} -c 'import sys; sys.executable = sys.argv[1]; exec(sys.argv[3])' "$0" "$@"; fi
for last; do :; done
case $2 in
venv)
    echo venv >>{here}/calls
    rm -rf "$last" && mkdir -p "$last/bin" && ln -s "$0" "$last/bin/python" ;;
pip)
    echo "pip $last" >>{here}/calls
    if [ -e {here}/pip-fails ]; then cat {here}/pip-fails && exit 1; fi
    if [ "${{WORKQ_PURE:-}}" != 1 ] && [ ! -e {here}/cc-fails ]; then touch workq/engine/engine.so; fi
    for name in workq workq-server workq-log ruff mypy pytest; do
        [ -e "$(dirname "$0")/$name" ] || cp {here}/program "$(dirname "$0")/$name"
    done ;;
pytest)
    shift 2
    exec pytest "$@" ;;
esac
"""

PROGRAM = """\
#!/bin/sh
name=$(basename "$0")
echo "$name $*" >>{here}/calls
echo "${{WORKQ_PURE:-0}}" >{here}/is-pure
echo "this is $name"
[ ! -e {here}/$name-fails ]
"""

OLD_PYTHON = """\
#!/bin/sh
exec {real} -c 'import sys; sys.version_info = (3, 10, 13); sys.version = "3.10.13 (main)"; exec(sys.argv[2])' "$@"
"""

SHIM = """\
#!/bin/sh
echo "shim: command not found" >&2
exit 127
"""


class Checkout:
    """A copy of `bin/` with the files it looks at, and the made-up Python."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "a checkout"
        self.stand_ins = tmp_path / "stand-ins"
        self.venv = self.root / ".venv"
        shutil.copytree(PROJECT / "bin", self.root / "bin")
        for name in ("setup.cfg", "pyproject.toml", "setup.py"):
            shutil.copy(PROJECT / name, self.root / name)
        self.source = self.root / "workq" / "engine" / "engine.py"
        self.compiled = self.source.with_suffix(".so")
        self.source.parent.mkdir(parents=True)
        self.source.write_text("pass")
        self.stand_ins.mkdir()
        self.python = self.make_program("python", PYTHON)
        self.make_program("program", PROGRAM)

    def make_program(self, name: str, text: str) -> str:
        path = self.stand_ins / name
        path.write_text(text.format(real=sys.executable, here=self.stand_ins))
        path.chmod(0o755)
        return str(path)

    def calls(self) -> list[str]:
        """What was called since the last look."""
        path = self.stand_ins / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.rstrip() for line in lines]

    def is_pure(self) -> bool:
        """Whether what was called last was not to use compiled modules."""
        return (self.stand_ins / "is-pure").read_text() == "1\n"

    def break_program(self, name: str, text: str = "") -> Path:
        """Make `name` print `text` and fail, until the file returned is unlinked."""
        path = self.stand_ins / f"{name}-fails"
        path.write_text(text)
        return path

    def start(self, script: Path | str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.root / "bin" / script, *arguments],
            env={"PATH": os.environ["PATH"], "PYTHON": self.python, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: Path | str, *arguments: str, **variables: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        with self.start(script, *arguments, **variables) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def error(self, script: str, **variables: str) -> list[str]:
        """The lines on standard error of a script that has to fail."""
        status, out, err = self.run(script, **variables)
        assert (status, out) == (1, "")
        return err.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


class TestSetUp:
    def test_happens_on_the_first_use_only(self, checkout: Checkout):
        status, out, err = checkout.run("workq-server", "--port", "0")
        assert (status, out) == (0, "this is workq-server\n")
        assert len(err.splitlines()) == 1
        assert err.startswith(f"workq: setting up {checkout.venv} with {checkout.python}; ")
        assert checkout.calls() == ["venv", "pip .", "workq-server --port 0"]

        assert checkout.run("workq-server") == (0, "this is workq-server\n", "")
        assert checkout.run("workq", "inspect") == (0, "this is workq\n", "")
        assert checkout.run("workq-log") == (0, "this is workq-log\n", "")
        assert checkout.calls() == ["workq-server", "workq inspect", "workq-log"]

    def test_says_how_long_it_takes(self, checkout: Checkout):
        minutes = "; takes a few minutes, as it compiles the sources (WORKQ_PURE=1 does without), and needs the network"
        assert minutes in checkout.run("workq-server", CC=checkout.python)[2]
        shutil.rmtree(checkout.venv)
        for variables in ({"CC": "no-such-compiler"}, {"CC": checkout.python, "WORKQ_PURE": "1"}):
            assert "; takes a minute and needs the network" in checkout.run("workq-server", **variables)[2]
            shutil.rmtree(checkout.venv)

    def test_works_through_a_symbolic_link_from_any_directory(self, checkout: Checkout, tmp_path: Path, monkeypatch):
        link = tmp_path / "elsewhere" / "server"
        link.parent.mkdir()
        link.symlink_to(checkout.root / "bin" / "workq-server")
        monkeypatch.chdir(link.parent)
        for _ in range(2):
            assert checkout.run(link)[:2] == (0, "this is workq-server\n")
        assert checkout.calls() == ["venv", "pip .", "workq-server", "workq-server"]

    def test_keeps_the_exit_status_of_the_program(self, checkout: Checkout):
        checkout.break_program("workq-server")
        assert checkout.run("workq-server")[0] == 1

    @pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml"])
    def test_is_repeated_when_the_dependencies_may_have_changed(self, checkout: Checkout, name: str):
        checkout.run("workq")
        with open(checkout.root / name, "a") as file:
            file.write("# changed\n")
        checkout.run("workq")
        checkout.run("workq")
        assert checkout.calls() == ["venv", "pip .", "workq", "venv", "pip .", "workq", "workq"]

    def test_is_repeated_when_the_checkout_was_moved(self, checkout: Checkout, tmp_path: Path):
        checkout.run("workq")
        checkout.root = checkout.root.rename(tmp_path / "moved")
        checkout.run("workq")
        assert checkout.calls() == ["venv", "pip .", "workq", "venv", "pip .", "workq"]

    def test_is_repeated_for_another_python_only_when_it_is_asked_for(self, checkout: Checkout):
        other = checkout.make_program("other-python", PYTHON)
        checkout.run("workq")
        checkout.run("workq", PYTHON="")
        assert checkout.calls() == ["venv", "pip .", "workq", "workq"]
        checkout.run("workq", PYTHON=other)
        assert os.path.realpath(checkout.venv / "bin" / "python") == other
        checkout.run("workq", PYTHON="")
        assert checkout.calls() == ["venv", "pip .", "workq", "workq"]

    def test_adds_what_tests_need_to_what_is_there(self, checkout: Checkout):
        checkout.run("workq")
        checkout.run("test", "-x")
        checkout.run("workq")
        assert checkout.calls() == ["venv", "pip .", "workq", "pip .[dev]", "pytest -x", "workq"]

    def test_for_tests_serves_the_server_too(self, checkout: Checkout):
        checkout.run("test", "-x")
        checkout.run("workq")
        assert checkout.calls() == ["venv", "pip .[dev]", "pytest -x", "workq"]

    def test_happens_once_when_two_start_together(self, checkout: Checkout):
        with open(f"{checkout.venv}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            starts = [checkout.start("workq"), checkout.start("workq-log")]
            waiting = [start.stderr.readline() for start in starts if start.stderr is not None]
            calls_while_waiting = checkout.calls()
        for start in starts:
            start.communicate(timeout=60)
        assert waiting == ["workq: waiting for another start that is setting up\n"] * 2
        assert calls_while_waiting == []
        assert [start.returncode for start in starts] == [0, 0]
        calls = checkout.calls()
        assert calls[:2] == ["venv", "pip ."]
        assert sorted(calls[2:]) == ["workq", "workq-log"]


class TestCompiling:
    def test_happens_again_when_a_source_has_changed(self, checkout: Checkout):
        checkout.run("workq-server")
        checkout.calls()
        checkout.source.write_text("changed")
        status, _, err = checkout.run("workq-server")
        assert status == 0
        assert err.startswith("workq: compiling the sources")
        assert checkout.calls() == ["pip .", "workq-server"]
        assert checkout.run("workq-server") == (0, "this is workq-server\n", "")

    def test_that_fails_leaves_no_compiled_module_beside_a_changed_source_and_tells_it_once(self, checkout: Checkout):
        checkout.run("workq-server")
        assert checkout.compiled.exists()
        checkout.break_program("cc")
        checkout.source.write_text("changed")
        status, _, err = checkout.run("workq-server")
        assert status == 0
        assert err.splitlines()[-1].startswith("workq: not compiled ")
        assert not checkout.compiled.exists()
        assert checkout.run("workq-server") == (0, "this is workq-server\n", "")

    def test_is_not_done_for_who_asks_for_the_pure_build(self, checkout: Checkout):
        checkout.run("workq-server")
        checkout.source.write_text("changed")
        assert checkout.run("workq-server", WORKQ_PURE="1") == (0, "this is workq-server\n", "")

    @pytest.mark.parametrize("tool", ["workq", "workq-log"])
    def test_is_not_done_by_tools_which_run_on_the_sources_then(self, checkout: Checkout, tool: str):
        checkout.run("workq-server")
        assert checkout.run(tool, "-x") == (0, f"this is {tool}\n", "")
        assert checkout.calls() == ["venv", "pip .", "workq-server", f"{tool} -x"]
        assert checkout.is_pure() is False
        checkout.source.write_text("changed")
        assert checkout.run(tool, "-x") == (0, f"this is {tool}\n", "")
        assert checkout.calls() == [f"{tool} -x"]
        assert checkout.is_pure() is True
        assert checkout.run("workq-server")[2].startswith("workq: compiling the sources")
        assert checkout.calls() == ["pip .", "workq-server"]

    @pytest.mark.parametrize("tool", ["workq", "workq-log"])
    def test_is_left_to_the_server_when_a_tool_is_used_first(self, checkout: Checkout, tool: str):
        assert checkout.run(tool)[0] == 0
        assert not checkout.compiled.exists()
        assert checkout.run("workq-server")[0] == 0
        assert checkout.compiled.exists()


class TestMistakes:
    def test_a_python_that_is_too_old(self, checkout: Checkout):
        old = checkout.make_program("old", OLD_PYTHON)
        assert checkout.error("workq-server", PYTHON=old) == [
            f"workq: no Python 3.11 or newer found; tried: {old} ({old} is 3.10.13)",
            "workq: install one, or say where one is: "
            f"PYTHON=/path/to/python3.12 {checkout.root / 'bin' / 'workq-server'}",
        ]
        assert not checkout.venv.exists()

    def test_a_python_that_is_not_there(self, checkout: Checkout):
        assert checkout.error("workq", PYTHON="/nowhere/python")[0] == (
            "workq: no Python 3.11 or newer found; tried: /nowhere/python"
        )

    def test_no_python_at_all(self, checkout: Checkout):
        path = self.path_of_system_tools(checkout)
        assert checkout.error("workq", PYTHON="", PATH=str(path))[0] == (
            "workq: no Python 3.11 or newer found; tried: python3.13 python3.12 python3.11 python3"
        )

    def test_shims_that_do_not_run_and_an_old_python_are_passed_over(self, checkout: Checkout):
        path = self.path_of_system_tools(checkout)
        (path / "python3.13").symlink_to(checkout.make_program("shim", SHIM))
        (path / "python3").symlink_to(checkout.make_program("old", OLD_PYTHON))
        assert checkout.error("workq", PYTHON="", PATH=str(path))[0] == (
            "workq: no Python 3.11 or newer found; tried: python3.13 python3.12 python3.11 python3 (python3 is 3.10.13)"
        )
        (path / "python3.11").symlink_to(checkout.python)
        assert checkout.run("workq", PYTHON="", PATH=str(path))[:2] == (0, "this is workq\n")

    def path_of_system_tools(self, checkout: Checkout) -> Path:
        directory = checkout.stand_ins / "path"
        directory.mkdir()
        tools = ["sh", "basename", "cat", "cksum", "cp", "dirname", "grep", "ln", "mkdir", "readlink", "rm", "tail"]
        for tool in tools:
            found = shutil.which(tool)
            assert found is not None
            (directory / tool).symlink_to(found)
        return directory

    def test_a_python_without_the_venv_module(self, checkout: Checkout):
        (checkout.stand_ins / "ensurepip.py").write_text("raise ImportError('Debian ships it in python3-venv')")
        assert checkout.error("workq", PYTHONPATH=str(checkout.stand_ins))[-1] == (
            f"workq: {checkout.python} has no venv module; on Debian and Ubuntu it comes with: apt install python3-venv"
        )

    def test_no_network_and_the_next_use_begins_anew(self, checkout: Checkout):
        failure = checkout.break_program(
            "pip",
            "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution\n",
        )
        for _ in range(2):
            assert checkout.error("workq")[1:] == [
                "workq: the Python package index cannot be reached; is the network there?",
                f"workq: all that pip said is in {checkout.venv / 'pip.log'}",
            ]
        assert "NewConnectionError" in (checkout.venv / "pip.log").read_text()
        failure.unlink()
        assert checkout.run("workq")[0] == 0
        assert checkout.calls() == ["venv", "pip ."] * 3 + ["workq"]

    def test_another_failure_of_pip(self, checkout: Checkout):
        checkout.break_program("pip", "Collecting uvloop\nERROR: No space left on device\nhint: see above\n")
        assert checkout.error("workq")[1:] == [
            "workq: pip failed: ERROR: No space left on device",
            f"workq: all that pip said is in {checkout.venv / 'pip.log'}",
        ]

    def test_tests_that_cannot_be_set_up_leave_the_server_usable(self, checkout: Checkout):
        checkout.run("workq")
        checkout.break_program("pip")
        assert checkout.run("test")[0] == 1
        assert checkout.run("workq") == (0, "this is workq\n", "")
        assert checkout.calls() == ["venv", "pip .", "workq", "pip .[dev]", "workq"]


class TestTest:
    PARALLEL = f"-n {os.sysconf('SC_NPROCESSORS_ONLN') + 1} --dist worksteal"
    ALL = ("ruff check", "ruff format --check", "mypy", *[f"pytest {PARALLEL}"] * 2)  # pure and compiled

    def checks(self, checkout: Checkout) -> list[str]:
        """What was called to check a new checkout. The modules are compiled beside the first checks."""
        calls = checkout.calls()
        calls.remove("pip .")
        assert calls[:2] == ["venv", "pip .[dev]"]
        return calls[2:]

    def test_runs_every_check(self, checkout: Checkout):
        assert checkout.run("test")[0] == 0
        assert self.checks(checkout) == list(self.ALL)

    def test_compiles_nothing_that_is_compiled(self, checkout: Checkout):
        checkout.run("test")
        checkout.calls()
        assert checkout.run("test")[0] == 0
        assert checkout.calls() == list(self.ALL)

    def test_tells_when_there_is_no_compiled_build_to_test(self, checkout: Checkout):
        checkout.break_program("cc")
        status, _, err = checkout.run("test", CC="a-compiler-that-is-not-there")
        assert status == 0
        assert err.splitlines()[-1] == "workq: not compiled: the tests ran on the pure build only"
        assert self.checks(checkout) == list(self.ALL[:-1])

    def test_fails_when_a_compiler_that_is_there_did_not_compile(self, checkout: Checkout):
        checkout.break_program("cc")
        status, _, err = checkout.run("test", CC=checkout.make_program("a-compiler", "#!/bin/sh"))
        assert status == 1
        assert err.splitlines()[-2:] == [
            f"workq: not compiled, although there is a C compiler: see {checkout.venv / 'pip.log'}",
            "failed: compile",
        ]

    def test_runs_only_pytest_when_given_arguments(self, checkout: Checkout):
        assert checkout.run("test", "tests/test_config.py", "-k", "a or b")[0] == 0
        assert checkout.calls()[2:] == ["pytest tests/test_config.py -k a or b"]

    def test_runs_the_rest_after_a_failure_and_tells_what_failed(self, checkout: Checkout):
        checkout.break_program("ruff")
        checkout.break_program("pytest")
        status, _, err = checkout.run("test")
        assert status == 1
        failed = [
            "ruff check",
            "ruff format --check",
            f"env WORKQ_PURE=1 python -m pytest {self.PARALLEL}",
            f"python -m pytest {self.PARALLEL}",
        ]
        assert err.splitlines()[-1] == f"failed: {'; '.join(failed)}"
        assert self.checks(checkout) == list(self.ALL)

    def test_fails_when_pytest_with_arguments_fails(self, checkout: Checkout):
        checkout.break_program("pytest")
        assert checkout.run("test", "-x")[0] == 1

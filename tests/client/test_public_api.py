"""The names users may rely on: which they are, what their documentation holds, what a type checker makes of them."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api as mypy

import workq
from workq import client

SAMPLE_PROJECT = Path(__file__).parent / "sample_project"
# Method by method, the two clients have the same names.
METHODS = sorted([name for name in vars(workq.Client) if not name.startswith("_") and name != "close"])


def test_the_public_names_are_listed_once_and_for_all() -> None:
    assert list(workq.__all__) == list(client.__all__) == sorted(workq.__all__)
    assert {name for name in dir(workq) if not name.startswith("_")} >= set(workq.__all__)


def test_a_name_we_do_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'workq' has no attribute 'Wroker'"):
        workq.Wroker  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", workq.__all__)
def test_a_public_name_is_documented_with_errors_and_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(workq, name)) or ""
    assert "Example::" in text
    assert "aise" in text or issubclass(getattr(workq, name), workq.WorkqError)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_same_for_both_clients_and_documented(name: str) -> None:
    blocking, asynchronous = getattr(workq.Client, name), getattr(workq.AsyncClient, name)
    assert inspect.signature(blocking) == inspect.signature(asynchronous)
    assert inspect.iscoroutinefunction(asynchronous)
    text = inspect.getdoc(blocking) or ""
    assert text == inspect.getdoc(asynchronous)
    assert "Example::" in text
    assert "Raises" in text or "errors are those of" in text or "errors and" in text


def test_importing_workq_costs_nothing_that_is_not_used() -> None:
    assert modules_after("import workq") & {"asyncio", "socket", "click", "rich", "workq.client"} == set()
    assert modules_after("from workq import Client, Worker") & {"click", "rich", "workq.engine", "workq.cli"} == set()


def modules_after(code: str) -> set[str]:
    code = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the type checker keeps what it knows of `workq`."""
    return str(tmp_path_factory.mktemp("checked"))


def test_a_strict_type_checker_accepts_a_project_that_uses_the_api(checked: str) -> None:
    out, problems, status = mypy.run(["--strict", "--cache-dir", checked, str(SAMPLE_PROJECT / "good.py")])
    assert (status, problems) == (0, ""), out


def test_a_strict_type_checker_finds_mistakes_in_a_project_that_misuses_the_api(checked: str) -> None:
    """Each line of the sample that ends in ``# wrong`` has a mistake, and no other has."""
    file = SAMPLE_PROJECT / "wrong.py"
    out, _, _ = mypy.run(["--strict", "--cache-dir", checked, str(file)])
    found = {int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line}
    assert found == {number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# wrong")}

"""The OpenAPI description: every command is in it, and it is true of a live server."""

import inspect
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.http.client import HttpClient
from tests.server import ServerProcess
from workq import commands
from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway
from workq.http.native import operations
from workq.http.native.openapi import describe
from workq.http.native.structs import DEFAULT_WAIT_MS
from workq.values import WAIT_TIMEOUT

OPERATIONS = operations(cast(Gateway, None), cast(Dispatcher, None))  # only described, not used
SCHEMA = schemathesis.openapi.from_dict(describe(OPERATIONS))
# What doors of other systems keep beside jobs is nobody else's business, and what is about connections is HTTP's own.
INTERNAL = {
    commands.PutDocument,
    commands.GetDocument,
    commands.ListDocuments,
    commands.InspectJobIds,
    commands.InspectLatest,
    commands.Ping,
    commands.Quit,
}


def test_every_command_is_there():
    all_of_them = {
        each for _, each in inspect.getmembers(commands, inspect.isclass) if issubclass(each, commands.Command)
    }
    offered = {command for operation in OPERATIONS for command in operation.commands}
    assert offered == all_of_them - INTERNAL - {commands.Command}


def test_it_is_served(http: HttpClient):
    answer = http.get("/v1/openapi.json")
    assert answer.type == "application/json"
    assert answer.json == describe(OPERATIONS)
    assert answer.json["openapi"] == "3.1.0"


def test_operations_have_names_of_their_own():
    names = [each["operationId"] for path in describe(OPERATIONS)["paths"].values() for each in path.values()]
    assert len(names) == len(set(names))
    assert "post_queues_name_lease" in names


# Why a request may be refused although it fits the schema.
BEYOND_A_SCHEMA = (
    "Invalid Time: time and TTL together are in the past",
    "are both given, one is allowed",
    "Invalid rule: ",
    "is for jobs with a url",
    "is nothing without retry_delay_ms",
    "is not from 0001-01-01T00:00:00Z",
)


def tamed(options: Any, default_wait_ms: int | None = None) -> Any:
    """Let no request wait long, and no job leave this machine.

    And write whole numbers as such, though a schema takes 1.0 for one too.
    """
    if not isinstance(options, dict):
        return options
    options = {
        key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in options.items()
    }
    if re.match(r"https?://[^/?#\s]", str(options.get("url"))):
        options["url"] = "http://127.0.0.1:1/"
    wait_ms = options.get("wait_ms", default_wait_ms)
    if str(wait_ms).isdigit() and int(str(wait_ms)) <= WAIT_TIMEOUT.highest:
        options["wait_ms"] = type(wait_ms)(1)
    return options


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that are used again, and no look into the environment for each request."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


@SCHEMA.parametrize()
@settings(max_examples=20, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_the_server_keeps_to_it(case: schemathesis.Case, server: ServerProcess, session: requests.Session):
    case.query = tamed(case.query)
    case.body = tamed(case.body, DEFAULT_WAIT_MS if case.operation.path == "/v1/run" else None)
    host, port = server.http_addresses[""]
    response = case.call(base_url=f"http://{host}:{port}", session=session)
    excluded: list[Any] = []
    if response.status_code == 400 and any([text in response.text for text in BEYOND_A_SCHEMA]):
        excluded.append(positive_data_acceptance)
    if response.request.body is None:  # what was to be wrong was the body
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)

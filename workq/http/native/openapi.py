"""The OpenAPI 3.1 description of the API, made from the operations and their structs."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from workq.http import web
from workq.http.native.answers import RAW
from workq.http.native.operations import JSON, Operation
from workq.http.native.structs import JobId, QueueName
from workq.http.problem import CONTENT_TYPE, Problem
from workq.version import VERSION

_REF: Final = "#/components/schemas/{name}"
# What the path may name.
_PATH_TYPES: Final[dict[str, Any]] = {"id": JobId, "name": QueueName}
_ERRORS: Final = {
    "400": "An option is missing, wrong or unknown.",
    "404": "There is no such job or queue.",
    "408": "The body did not come in time.",
    "409": "There is such a job already, or it has finished.",
    "413": "The body or the payload is too long.",
    "415": "The body is neither JSON nor bytes.",
    "503": "The server cannot do it now: its log has failed, its disk is full, or it is stopping.",
}


def serve(operations: Sequence[Operation]) -> web.Handler:
    """A handler that answers with the description of `operations`."""
    body = msgspec.json.encode(describe(operations))

    async def openapi(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=JSON)

    return openapi


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The description as JSON types."""
    structs: set[type[msgspec.Struct]] = {operation.request for operation in operations}
    structs |= {answer for operation in operations for answer in operation.answers.values() if answer is not None}
    in_order = sorted({*structs, Problem}, key=str)
    _, schemas = msgspec.json.schema_components(in_order, ref_template=_REF)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "workq", "version": VERSION, "description": "The HTTP API of a workq server."},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = schemas[operation.request.__name__]
    described: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "parameters": [_path_parameter(name) for name in re.findall(r"{(\w+)}", operation.path)],
        "responses": _responses(operation),
    }
    if not operation.takes_body:
        described["parameters"] += _query_parameters(schema)
    elif schema["properties"]:
        content: dict[str, Any] = {JSON: {"schema": {"$ref": _REF.format(name=operation.request.__name__)}}}
        if operation.raw is not None and not schema.get("required"):
            content[RAW] = {}
        described["requestBody"] = {"content": content, "required": bool(schema.get("required"))}
    return described


def _operation_id(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path.removeprefix("/v1"))
    return "_".join([operation.method.lower(), *words])


def _path_parameter(name: str) -> dict[str, Any]:
    schema = msgspec.json.schema(_PATH_TYPES[name])
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": described}
        for name, described in schema["properties"].items()
    ]


def _responses(operation: Operation) -> dict[str, Any]:
    problem = {CONTENT_TYPE: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
    responses: dict[str, Any] = {}
    for status, struct in operation.answers.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if struct is not None:
            content: dict[str, Any] = {JSON: {"schema": {"$ref": _REF.format(name=struct.__name__)}}}
            if operation.raw_answer:
                content[RAW] = {}
            responses[str(status)]["content"] = content
    for code, description in _ERRORS.items():
        responses[code] = {"description": description, "content": problem}
    return responses

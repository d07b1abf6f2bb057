"""Our own API, under `/v1`: each command of the text protocol as JSON.

structs.py     what requests and answers look like; the OpenAPI description is made from the same
operations.py  one `Operation` per method and path, and how its request is read
answers.py     replies of the engine as answers
jobs.py, recurring.py, queues.py, push.py, server.py   the operations
openapi.py     the description
"""

from workq.dispatch.dispatcher import Dispatcher
from workq.gateway import Gateway
from workq.http.application import Application
from workq.http.native import jobs, openapi, push, queues, recurring, server
from workq.http.native.operations import Operation


def operations(gateway: Gateway, dispatcher: Dispatcher) -> list[Operation]:
    """All operations of the API."""
    return [
        *jobs.operations(gateway, push.JobsWithUrls(gateway, dispatcher)),
        *recurring.operations(gateway),
        *queues.operations(gateway),
        *push.operations(gateway, dispatcher),
        *server.operations(gateway),
    ]


def add_routes(application: Application, gateway: Gateway, dispatcher: Dispatcher) -> None:
    """Add the API to `application`."""
    all_of_them = operations(gateway, dispatcher)
    for operation in all_of_them:
        if operation.method == "GET":
            application.router.add_get(operation.path, operation.handle)  # and HEAD
        else:
            application.router.add_route(operation.method, operation.path, operation.handle)
    application.router.add_get("/v1/openapi.json", openapi.serve(all_of_them))

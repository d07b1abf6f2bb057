"""Remote procedure calls: `run` hands a call to whichever worker is free, and waits for its answer.

    .venv/bin/python examples/rpc.py

Here the worker is a thread of the same program; any number of them may run, on any machine.
"""

import sys
import threading
from typing import Any

import workq

worker = workq.Worker(codec="json")


@worker.job("rpc.add", concurrency=4)
def add(arguments: list[float]) -> float:
    """Add numbers."""
    return sum(arguments)


@worker.job("rpc.divide", concurrency=4)
def divide(arguments: list[float]) -> float:
    """Divide the first number by the second."""
    dividend, divisor = arguments
    return dividend / divisor


class RemoteError(Exception):
    """The procedure failed; the text is the worker's."""


def call(client: workq.Client, procedure: str, *arguments: Any, timeout: float = 10) -> Any:
    """Call a procedure by its name; raise `RemoteError` if it fails, `workq.Timeout` if nobody answers."""
    outcome = client.run(f"rpc.{procedure}", arguments, timeout=timeout)
    if not outcome.success:
        raise RemoteError(outcome.error)
    return outcome.result


def main() -> None:
    """Make some calls."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        with workq.Client(codec="json") as client:
            print("2 + 3 + 4 =", call(client, "add", 2, 3, 4))
            print("10 / 4 =", call(client, "divide", 10, 4))
            try:
                call(client, "divide", 1, 0)
            except RemoteError as error:
                print("1 / 0:", error)
    finally:
        worker.stop()
        thread.join()


if __name__ == "__main__":
    try:
        main()
    except workq.WorkqError as error:
        sys.exit(f"rpc.py: {error}")

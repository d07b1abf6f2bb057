"""Resolves the names of web workers.

Only addresses that may be used are given to the connector, so what was checked is what is connected to, whatever the
owner of the name answers the next time.
"""

import asyncio
import contextlib
import socket
import threading
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from workq.dispatch.addresses import AddressDenied, AddressRules

# Names that do not resolve take a thread for half a minute each; as many may hang before one that does has to wait.
_MOST_THREADS: Final = 64


class CheckedResolver(AbstractResolver):
    """Resolves names as the system does, to the addresses that `rules` let through.

    Each look-up is a daemon thread (the answers are kept for a while, so there are few): the loop's own threads would
    be used up by names that do not resolve, and those of an executor would hold up the end of the process.
    """

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._slots = asyncio.Semaphore(_MOST_THREADS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises `AddressDenied` if none of them may be used, `OSError` if there are none."""
        async with self._slots:
            found = await _look_up_in_thread(host, port, family)
        allowed: list[ResolveResult] = []
        denied = ""
        for each in found:
            try:
                self._rules.check_address(host, each["host"])
                allowed.append(each)
            except AddressDenied as error:
                denied = str(error)
        if not allowed and denied:
            raise AddressDenied(denied)
        return allowed

    async def close(self) -> None:
        """Nothing to do: threads that still wait for a name server keep nobody from stopping."""


def _look_up_in_thread(host: str, port: int, family: socket.AddressFamily) -> asyncio.Future[list[ResolveResult]]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[ResolveResult]] = loop.create_future()

    def tell(found: list[ResolveResult] | OSError) -> None:
        if future.done():
            return  # cancelled
        if isinstance(found, OSError):
            future.set_exception(found)
        else:
            future.set_result(found)

    def run() -> None:
        found: list[ResolveResult] | OSError
        try:
            found = _look_up(host, port, family)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a name that DNS could have
            found = OSError(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=run, name=f"resolve {host}", daemon=True).start()
    return future


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=f"{address[0]}",
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
        if kind in (socket.AF_INET, socket.AF_INET6)
    ]

"""Resolves the names of web workers.

Only addresses that may be used are given to the connector, so what was checked is what is connected to, whatever the
owner of the name answers the next time.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from workq.dispatch.addresses import AddressDenied, AddressRules

# Names that do not resolve take a thread for half a minute each; as many may hang before one that does has to wait.
_RESOLVERS: Final = 64


class CheckedResolver(AbstractResolver):
    """Resolves names as the system does, in threads of its own, to the addresses that `rules` let through."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(_RESOLVERS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises `AddressDenied` if none of them may be used, `OSError` if there are none."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        allowed: list[ResolveResult] = []
        denied: AddressDenied | None = None
        for each in found:
            try:
                self._rules.check_address(host, each["host"])
                allowed.append(each)
            except AddressDenied as error:
                denied = error
        if not allowed and denied is not None:
            raise denied
        return allowed

    async def close(self) -> None:
        """Forget the threads; those that still wait for a name server end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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

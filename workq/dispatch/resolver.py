"""Resolves the names of web workers.

Only addresses that may be used are given away, so what was checked is what is connected to, whatever the owner of the
name answers the next time.
"""

import asyncio
import contextlib
import socket
import threading
from collections import OrderedDict, deque
from typing import Final, TypeAlias

from workq.dispatch.addresses import AddressDenied, AddressRules

# Names that do not resolve take a thread for half a minute each; as many may hang before one that does has to wait.
_MOST_THREADS: Final = 64
# How long an answer is used again, and how many are remembered: more than a server pushes to in a while.
_REMEMBERED_S: Final = 10.0
_MOST_REMEMBERED: Final = 1_000

# The family and the text of an address.
Address: TypeAlias = tuple[socket.AddressFamily, str]


class CheckedResolver:
    """Resolves names as the system does, to the addresses that `rules` let through.

    Each look-up is a daemon thread (there are few): the loop's own threads would be used up by names that do not
    resolve, and those of an executor would hold up the end of the process.
    """

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asked: dict[str, asyncio.Future[list[Address] | OSError]] = {}
        self._to_ask: deque[str] = deque()
        self._threads = 0

    async def resolve(self, host: str) -> list[Address]:
        """The addresses of `host`, each time beginning with another, so that all get their share.

        Raises `AddressDenied` if none of them may be used, `OSError` if there are none.
        """
        loop = asyncio.get_running_loop()
        known = self._known.get(host)
        if known is None or known.until_s < loop.time():
            asked = self._asked.get(host)
            if asked is None:
                asked = self._asked[host] = loop.create_future()
                self._to_ask.append(host)
                self._ask(loop)
            found = await asyncio.shield(asked)  # others may wait for it, too
            if isinstance(found, OSError):
                raise type(found)(*found.args)
            known = self._known[host] = _Known(found, loop.time() + _REMEMBERED_S)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)
        return known.next()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._to_ask and self._threads < _MOST_THREADS:
            host = self._to_ask.popleft()
            self._threads += 1
            look_up = threading.Thread(target=self._look_up, args=(host, loop), name=f"resolve {host}", daemon=True)
            look_up.start()

    def _look_up(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        found: list[Address] | OSError
        try:
            found = _addresses(host)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a name that DNS could have
            found = OSError(getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._on_found, host, found, loop)

    def _on_found(self, host: str, found: list[Address] | OSError, loop: asyncio.AbstractEventLoop) -> None:
        self._threads -= 1
        self._asked.pop(host).set_result(found if isinstance(found, OSError) else self._checked(host, found))
        self._ask(loop)

    def _checked(self, host: str, found: list[Address]) -> list[Address] | OSError:
        """Those that may be used."""
        allowed: list[Address] = []
        denied = ""
        for family, address in found:
            try:
                self._rules.check_address(host, address)
                allowed.append((family, address))
            except AddressDenied as error:
                denied = str(error)
        if allowed:
            return allowed
        return AddressDenied(denied) if denied else OSError("it has no address")


class _Known:
    """The addresses of a host."""

    __slots__ = ("addresses", "until_s")

    def __init__(self, addresses: list[Address], until_s: float) -> None:
        self.addresses = addresses
        self.until_s = until_s

    def next(self) -> list[Address]:
        addresses = self.addresses
        self.addresses = [*addresses[1:], addresses[0]]
        return addresses


def _addresses(host: str) -> list[Address]:
    found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        (family, f"{address[0]}") for family, _, _, _, address in found if family in (socket.AF_INET, socket.AF_INET6)
    ]

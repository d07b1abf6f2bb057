"""Where pushes may go: rules about hosts and networks. `resolver.py` holds what is connected to against them."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

import attrs

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Link-local addresses, and those at which clouds tell their machines secrets (AWS, Alibaba, Azure, Oracle; the rest use
# link-local ones): no web worker lives there, but whoever may name a URL could read them through us.
_ALWAYS_DENIED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
    )
)
# IPv6 addresses that are IPv4 ones in disguise end with these, behind such a network (NAT64).
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

# Hosts that are known to pass: more than a server pushes to in a while.
_MOST_REMEMBERED: Final = 1_000
# The longest name that DNS can have; a URL may have a megabyte in its place.
_LONGEST_REMEMBERED: Final = 255


class AddressDenied(OSError):
    """The rules do not let us connect there. The text says to what, and which setting says so."""


@attrs.frozen
class Rule:
    """A host, by its name, with or without all below it; or a network, or an address, which is a small network."""

    text: str
    network: Network | None
    name: str
    with_subdomains: bool

    @staticmethod
    def parse(text: str) -> "Rule":
        """Read ``hooks.example.com``, ``*.example.com``, ``10.0.0.0/8``, ``10.1.2.3``, ``::1``; raises `ValueError`."""
        if re.fullmatch(r"[0-9./]+|[0-9a-fA-F:./]*:[0-9a-fA-F:./]*", text):
            return Rule(text, ipaddress.ip_network(text, strict=False), "", False)
        name = text.removeprefix("*.")
        if re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", name) is None:
            raise ValueError(text)
        return Rule(text, None, name.lower(), name != text)

    def covers_name(self, name: str) -> bool:
        """Whether the rule is about this host."""
        if self.network is not None:
            return False
        return name == self.name if not self.with_subdomains else name.endswith(f".{self.name}")

    def covers(self, address: IPAddress) -> bool:
        """Whether the rule is about this address."""
        return self.network is not None and address in self.network


class AddressRules:
    """Which hosts and addresses may be connected to.

    What `deny` covers may not. Where there is an `allow`, what it does not cover, by name or by address, may not
    either. Link-local and cloud metadata addresses may not unless `allow` covers their address.
    """

    def __init__(self, allow: Sequence[Rule] = (), deny: Sequence[Rule] = ()) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._good: set[str] = set()  # hosts that passed, so that not each push is a search

    def check_host(self, host: str) -> None:
        """Check a host as a URL has it, as far as that goes without resolving it. Raises `AddressDenied`."""
        if host in self._good:
            return
        name = host.lower().rstrip(".")
        if is_literal(host):
            self.check_address(host, host)
        for rule in self._deny:
            if rule.covers_name(name):
                raise AddressDenied(f"{host} is denied by --dispatch-deny {rule.text}")
        if len(host) <= _LONGEST_REMEMBERED:
            if len(self._good) >= _MOST_REMEMBERED:
                self._good.clear()
            self._good.add(host)

    def check_address(self, host: str, text: str) -> None:
        """Check an address of `host`. Raises `AddressDenied`."""
        shown = host if host == text else f"{host} ({text})"
        try:
            address = _plain(ipaddress.ip_address(text))
        except ValueError:
            raise AddressDenied(f"{shown} is not an IP address as they are written") from None
        for rule in self._deny:
            if rule.covers(address):
                raise AddressDenied(f"{shown} is denied by --dispatch-deny {rule.text}")
        if any([rule.covers(address) for rule in self._allow]):
            return
        if any([address in network for network in _ALWAYS_DENIED]):
            raise AddressDenied(
                f"{shown} is a link-local or cloud metadata address, which --dispatch-allow does not name"
            )
        name = host.lower().rstrip(".")
        if self._allow and not any([rule.covers_name(name) for rule in self._allow]):
            raise AddressDenied(f"{shown} is not among what --dispatch-allow names")


def is_literal(host: str) -> bool:
    """Whether `host` is used as an address, without being resolved."""
    return ":" in host or host.replace(".", "").isdigit()


def _plain(address: IPAddress) -> IPAddress:
    """`address`, or the IPv4 address that it stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or ipaddress.IPv6Address(int(address))  # without a scope
    return address

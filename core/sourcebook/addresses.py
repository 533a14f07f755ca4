"""Which addresses we connect to on a user's word, and a connection backend that holds to it.

A name is resolved once, every answer must be allowed, and the connection goes to the address that was checked: what a
second look-up would say does not matter (DNS rebinding), nor how the host was spelt (`127.1`, `2130706433`). The
backend sits below the HTTP client, so it sees every connection, after redirects too.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from sourcebook.errors import UpstreamError

if TYPE_CHECKING:
    import httpcore

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses as text."""

MAX_ATTEMPTS = 4
"""Addresses of one name that are tried, in the resolver's order."""


def _networks(*names: str) -> tuple[Network, ...]:
    return tuple(ip_network(name) for name in names)


# IANA special-purpose address registries. `ipaddress.is_global` is not enough: on Python 3.11 it says True for
# 64:ff9b::/96, 2002::/16, fec0::/10, ::/96 and multicast, and its answers change with patch releases.
_SPECIAL_V4 = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_GLOBAL_UNICAST_V6 = ip_network("2000::/3")  # all that IANA has given out; NAT64, site-local and ::/96 are outside
_SPECIAL_V6 = _networks("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

# What `allow_private` opens: networks that an operator's own pages live in.
_PRIVATE = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7",
)  # fmt: skip
# Cloud metadata services that stand inside those: they hand out credentials, so nothing opens them.
_METADATA = _networks("100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")


class AddressGuard:
    """Says which addresses may be connected to: public ones that are not this machine's own.

    `allow_private` adds private networks and this machine itself; `deny` takes further networks away, such as the
    public range in front of a NAT. Link-local addresses and cloud metadata services are never allowed.
    """

    def __init__(
        self, *, allow_private: bool = False, deny: Iterable[str] = (), resolver: Resolver | None = None
    ) -> None:
        self._allow_private = allow_private
        self._deny = (*_METADATA, *_networks(*deny))
        self._resolver = resolver or _resolve

    def allows(self, address: str) -> bool:
        """Whether this address, as text, may be connected to. What is not an address is not allowed."""
        try:
            parsed: Address = ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, IPv6Address):
            if parsed.scope_id is not None:
                return False
            parsed = parsed.ipv4_mapped or parsed
        if any(parsed in network for network in self._deny):
            return False
        if self._allow_private and any(parsed in network for network in _PRIVATE):
            return True
        return _is_public(parsed) and (self._allow_private or not _is_own(parsed))

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Resolve `host` once and return its addresses, all of them allowed.

        Raises `UpstreamError`: code `upstream_blocked` if any is not, `upstream_unreachable` if there are none.
        """
        try:
            found = await self._resolver(host, port)
        except OSError as error:
            raise UpstreamError(
                f"The name {host} could not be resolved.", code="upstream_unreachable", transient=True
            ) from error
        if not found:
            raise UpstreamError(f"The name {host} has no address.", code="upstream_unreachable")
        if not all(self.allows(address) for address in found):
            # The address itself is not named: it would tell a stranger what our resolver knows.
            raise UpstreamError(
                f"The host {host} is not at a public address, so it is not connected to.",
                remedy="Use an address on the public internet, or ask the operator to allow private ones.",
                code="upstream_blocked",
            )
        return found


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _SPECIAL_V4)
    if address not in _GLOBAL_UNICAST_V6 or not address.is_global:
        return False
    return not any(address in network for network in _SPECIAL_V6)


def _is_own(address: Address) -> bool:
    """Whether the address is one of this machine's: then, and only then, the kernel would send from it to itself.

    Connecting a datagram socket asks the routing table and sends nothing.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return bool(ip_address(probe.getsockname()[0]) == address)
    except OSError:
        return False  # no route there: then it is not ours


async def _resolve(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def guarded_backend(guard: AddressGuard) -> httpcore.AsyncNetworkBackend:
    """A backend for httpcore's connection pool that connects only where `guard` allows."""
    import httpcore

    from sourcebook.sockets import Backend

    class Guarded(Backend):
        """Resolves, checks and connects; TLS and the Host header keep the name that was asked for."""

        async def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: str | None = None,
            socket_options: Iterable[Any] | None = None,
        ) -> httpcore.AsyncNetworkStream:
            loop = asyncio.get_running_loop()
            end = loop.time() + (timeout if timeout is not None else 60.0)
            try:
                async with asyncio.timeout_at(end):
                    addresses = (await guard.addresses(host, port))[:MAX_ATTEMPTS]
            except TimeoutError as error:
                raise httpcore.ConnectTimeout(f"resolving {host}") from error
            failure: Exception = httpcore.ConnectError("no address")
            for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
                share = max((end - loop.time()) / left, 0.01)
                try:
                    return await super().connect_tcp(address, port, share, local_address, socket_options)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                    failure = error
            raise failure

        async def connect_unix_socket(
            self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
        ) -> httpcore.AsyncNetworkStream:
            raise httpcore.ConnectError("a guarded client does not open local sockets")

    return Guarded()

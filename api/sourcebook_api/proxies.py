"""Who is really asking, where a proxy in front asks for them.

uvicorn's own reading of `X-Forwarded-For` sees one line of several, takes whatever a proxy writes for an address, and
is fixed at the start; limits and the audit log hang on this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

from sourcebook.settings import Server

_HOP = re.compile(r"\[(?P<six>[^\]]*)\](?::\d+)?|(?P<four>\d+\.\d+\.\d+\.\d+)(?::\d+)?|(?P<bare>[0-9A-Fa-f:.]+)")


class Proxies:
    """The proxies that one server trusts, and what they say of the client behind them."""

    def __init__(self, server: Server) -> None:
        self.change(server)

    def change(self, server: Server) -> None:
        """Go by these from now on."""
        self._networks = tuple(ip_network(text) for text in server.trusted_proxies)

    def resolve(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Put the client's address into `scope`: the last hop that no trusted proxy vouches for is the client.

        Whoever asks can write what they like to the left of it, and a proxy that is not trusted anything at all.
        """
        peer = (scope.get("client") or ("",))[0]
        if not self._networks or not self._trusted(client := _address(peer)):
            return
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            found = _address(hop.strip())
            if found is None:  # nobody knows who that was: the proxy that said so is all that is sure
                break
            client = found
            if not self._trusted(found):
                break
        scope["client"] = (str(client), 0)

    def _trusted(self, address: IPv4Address | IPv6Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as proxies write it: with or without a port; None where it is none."""
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    try:
        found = ip_address(match["six"] or match["four"] or match["bare"])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found

"""Which names this server answers to, and which pages may call it from a browser.

A browser can be made to send requests here by any page, also to a loopback address (DNS rebinding); what it cannot do
is to lie in `Host` and `Origin`.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from sourcebook.settings import Server

_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?")
_ANY = {"", "0.0.0.0", "::"}  # noqa: S104 - these are recognised, not bound


def host_name(value: str) -> str | None:
    """The name in a `Host` header, lower case, without port and brackets; None where it is malformed."""
    match = _HOST.fullmatch(value.strip().lower())
    return (match["six"] or match["name"].removesuffix(".")) if match else None


def is_loopback(name: str) -> bool:
    """Whether only this machine can reach `name`: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


class Hosts:
    """The allow-lists of one server. Loopback names are always answered."""

    def __init__(self, server: Server) -> None:
        self.change(server)

    def change(self, server: Server) -> None:
        """Go by these from now on."""
        named = [*server.allowed_hosts, *(() if server.host in _ANY else (server.host,))]
        self._names = {host_name(n) or n.lower() for n in named}
        self._origins = {o.rstrip("/").lower() for o in server.allowed_origins}
        self.only_loopback = is_loopback(server.host) and all(map(is_loopback, self._names))
        """Nobody but this machine can be talking to us: only then may a server be used without keys."""

    def allowed(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = host_name(host)
        return name is not None and (name in self._names or is_loopback(name))

    def listed(self, origin: str) -> bool:
        """Whether pages of this origin may read our answers."""
        return origin.lower() in self._origins

    def may_change(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may change anything: our own, or one that is listed."""
        return self.listed(origin) or (origin != "null" and urlsplit(origin).netloc.lower() == host.strip().lower())

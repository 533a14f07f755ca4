"""What single settings may say, beyond what their types know. Each raises `ValueError` with what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeVar

Named = TypeVar("Named", bound=Mapping[str, object])
Weighed = TypeVar("Weighed", bound=Mapping[str, float])

DRIVERS: Mapping[str, str] = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}
"""What a database's URL may begin with, and the driver behind it."""

NAME = r"^[a-z][a-z0-9_]*$"
MOUNT = r"^/[^?#]*$"
ADDRESS = r"^(https?://[^\s@]+)?$"
# What `limits` can count in without waiting.
COUNTERS = r"^(memory|memcached|mongodb(\+srv)?|rediss|valkeys|(redis|valkey)(\+unix|\+cluster|\+sentinel)?)://"
PATTERNS: Mapping[str, str] = {
    NAME: "a name is small letters, digits and underscores, and begins with a letter",
    MOUNT: "write a path that begins with a slash, such as /page",
    ADDRESS: "write an address that begins with http:// or https://, or leave it empty",
    COUNTERS: "write memory://, or the address of a server that several count in, such as redis://host:6379",
}
"""What a text has to look like (editors are told so too), in words."""

_DATABASE = "write postgresql://user:password@host/name, or leave it empty for SQLite in the data folder"
_ORIGIN = "write an origin as browsers send it, such as https://notes.example.org"
_PORTS = {"http": ":80", "https": ":443"}


def check_database(url: str) -> str:
    """Nothing, or the URL of a database that we run on; it is not quoted, as it may hold a password."""
    scheme, colon, rest = url.partition("://")
    if url and not colon:
        raise ValueError(f"this is no database URL: {_DATABASE}")
    if url and scheme not in DRIVERS:
        raise ValueError(f"Sourcebook runs on PostgreSQL and SQLite, not on {scheme[:40]!r}: {_DATABASE}")
    if scheme.startswith("sqlite") and rest.strip("/") in ("", ":memory:"):
        raise ValueError(f"an SQLite database in memory is another one for each connection: {_DATABASE}")
    return url


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Scheme, host and, where it is not the scheme's own, port: nothing else is ever compared to one."""
    for origin in origins:
        scheme, colon, rest = origin.partition("://")
        rest = rest.rstrip("/")
        if not scheme or not colon:
            raise ValueError(f"{origin!r} has no scheme: {_ORIGIN}")
        if not rest or set(rest) & set("/?#@* \t"):
            raise ValueError(f"{origin!r} is no origin, which is a scheme and a host alone: {_ORIGIN}")
        if (port := _PORTS.get(scheme.lower())) and rest.endswith(port):
            raise ValueError(f"{origin!r} names the port that browsers leave out: take away {port!r}")
    return origins


def check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names or addresses, each written out."""
    for host in hosts:
        if not host or set(host) & set("/*@ \t"):
            raise ValueError(f"{host!r} is no host's name: write each out, such as notes.example.org, without a scheme")
    return hosts


def check_file_types(parsers: Named) -> Named:
    """Each is a media type, or an extension without its dot, in small letters: as files are looked up."""
    for key in parsers:
        if "/" in key:
            kind = key.partition(";")[0].strip().lower()
            if key != kind or "*" in key or key.count("/") > 1 or key.startswith("/") or key.endswith("/"):
                raise ValueError(f"{key!r} is no media type: write one, in small letters, such as application/pdf")
        elif key != (extension := key.rpartition(".")[2].lower()) or not key:
            example = extension or "pdf"
            raise ValueError(
                f"{key!r} is no extension as files are looked up by: write it as {example!r}, without dots"
            )
    return parsers


def check_weights(weights: Weighed) -> Weighed:
    """None of them is under 0, where it would do nothing, or no number."""
    for leg, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{weight} for {leg!r} is out of bounds: write a number from 0 on")
    return weights


def near(name: str, known: Iterable[str]) -> str:
    """What to write in place of a name that there is not."""
    names: Sequence[str] = sorted(known)
    found = get_close_matches(name, names, 1)
    return f"did you mean {found[0]!r}?" if found else f"there are: {', '.join(names) or 'none'}"

"""Fetches pages and files from the web, for addresses that users give: nothing but public hosts, on every hop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any, BinaryIO, ClassVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from pydantic import Field, field_validator

from sourcebook import Fetched, Fetcher, hookimpl
from sourcebook.addresses import AddressGuard
from sourcebook.errors import FetchError, UpstreamError
from sourcebook.http import Http, HttpStream, Timeouts
from sourcebook.interfaces import ComponentSettings
from sourcebook.upstream import retry_after

MAX_REDIRECTS = 5
MAX_URL = 8192
_REDIRECTS = (301, 302, 303, 307, 308)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class WebSettings(ComponentSettings):
    """`allow_private` opens the operator's own networks and this machine; `deny` shuts further ones (CIDR).

    `total` is the deadline for one fetch in seconds, with all its redirects.
    """

    ports: tuple[int, ...] = (80, 443)
    allow_private: bool = False
    deny: tuple[str, ...] = ()
    max_bytes: int = Field(default=50 * 1024 * 1024, ge=1)
    total: float = Field(default=60.0, gt=0)
    user_agent: str = "Sourcebook"

    @field_validator("deny")
    @classmethod
    def _networks(cls, deny: tuple[str, ...]) -> tuple[str, ...]:
        for network in deny:
            ip_network(network)
        return deny


class Web(Fetcher[WebSettings]):
    """http and https, without credentials, cookies or scripts; at most five redirects, each checked like the first."""

    name = "web"
    schemes = ("http", "https")
    Settings: ClassVar[type[ComponentSettings]] = WebSettings

    def __init__(self, settings: WebSettings, instance: str = "", guard: AddressGuard | None = None) -> None:
        super().__init__(settings, instance)
        guard = guard or AddressGuard(allow_private=settings.allow_private, deny=settings.deny)
        # Its own client: the one in `context` may connect anywhere.
        self._http = Http(guard=guard)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch(self, url: str, file: BinaryIO) -> Fetched:
        """See `Fetcher.fetch`. Codes: `fetch_blocked`, `fetch_failed`, `fetch_too_large`."""
        end = asyncio.get_running_loop().time() + self.settings.total
        try:
            for _ in range(MAX_REDIRECTS + 1):
                parts = self._checked(url)
                async with self._http.stream(
                    "GET", url, headers={"user-agent": self.settings.user_agent}, timeouts=self._left(end)
                ) as answer:
                    if answer.status not in _REDIRECTS:
                        await self._save(answer, file)
                        return _fetched(url, parts, answer.headers)
                    url = _next(url, answer.headers)
        except FetchError:
            raise
        except UpstreamError as error:
            raise _translated(error) from error
        raise _error("fetch_failed", f"The page redirects more than {MAX_REDIRECTS} times.")

    def _checked(self, url: str) -> SplitResult:
        """What can be said before a connection; the addresses are checked below, where it is made."""
        try:
            parts = urlsplit(url)
            port = _DEFAULT_PORTS.get(parts.scheme.lower()) if parts.port is None else parts.port
        except ValueError:
            raise _error("fetch_blocked", "The address is not a valid URL.") from None
        # Parsers differ on backslashes and control characters; the host that is checked must be the host that is asked.
        if len(url) > MAX_URL or "\\" in url or any(c <= " " or c == "\x7f" for c in url):
            raise _error("fetch_blocked", "The address is not a valid URL.")
        if parts.scheme.lower() not in self.schemes or not parts.hostname:
            raise _error("fetch_blocked", "Only http:// and https:// addresses are fetched.")
        if parts.username is not None or parts.password is not None:
            raise _error("fetch_blocked", "Addresses with a user name or password are not fetched.")
        if port not in self.settings.ports:
            raise _error("fetch_blocked", f"Port {port} is not one that pages are fetched from.")
        return parts

    def _left(self, end: float) -> Timeouts:
        left = max(end - asyncio.get_running_loop().time(), 0.001)
        return Timeouts(connect=min(5.0, left), first_byte=min(30.0, left), gap=min(30.0, left), total=left)

    async def _save(self, answer: HttpStream, file: BinaryIO) -> None:
        if not 200 <= answer.status < 300:
            raise _error(
                "fetch_failed",
                f"The server answered {answer.status}.",
                transient=answer.status == 429 or answer.status >= 500,
                retry_after=retry_after(answer.headers),
                status=answer.status,
            )
        limit = self.settings.max_bytes
        declared = answer.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            file.write(chunk)  # into the page cache, 256 KiB at most


def _next(url: str, headers: Mapping[str, str]) -> str:
    location = headers.get("location", "")
    if not location:
        raise _error("fetch_failed", "The page redirects to nowhere.")
    try:
        # Header bytes were read as latin-1; servers send UTF-8 there.
        location = location.encode("latin-1").decode("utf-8", "replace")
        return urljoin(url, location)
    except ValueError:
        raise _error("fetch_blocked", "The page redirects to an address that is not a valid URL.") from None


def _fetched(url: str, parts: SplitResult, headers: Mapping[str, str]) -> Fetched:
    media_type, _, rest = headers.get("content-type", "").partition(";")
    metadata = {"fetched_from": parts.hostname or ""}
    for name in ("last-modified", "etag", "content-language"):
        if name in headers:
            metadata[name.replace("-", "_")] = headers[name]
    charset = _parameter(rest, "charset")
    if charset:
        metadata["charset"] = charset
    name = _clean(_disposition(headers)) or _clean(unquote(parts.path).rstrip("/")) or (parts.hostname or "page")
    return Fetched(url, media_type.strip().lower() or "application/octet-stream", name, metadata)


def _parameter(rest: str, wanted: str) -> str:
    for part in rest.split(";"):
        name, _, value = part.partition("=")
        if name.strip().lower() == wanted:
            return value.strip().strip("\"'")[:80]
    return ""


def _disposition(headers: Mapping[str, str]) -> str:
    """The file name in Content-Disposition (RFC 6266, with RFC 5987's encoding)."""
    value = headers.get("content-disposition", "")
    if not value:
        return ""
    from email.message import Message

    message = Message()
    message["content-disposition"] = value.encode("latin-1", "replace").decode("utf-8", "replace")
    try:
        return message.get_filename("") or ""
    except (LookupError, ValueError):  # an unknown charset in it
        return ""


def _clean(name: str) -> str:
    """The last part of a path that a stranger wrote, without what a file name must not hold."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    last = "".join(c for c in last if c.isprintable()).strip(" .")
    return last[:200]


def _translated(error: UpstreamError) -> FetchError:
    code = error.problem_code
    if code == "upstream_blocked" or code == "upstream_bad_request":
        return _error("fetch_blocked", error.detail, remedy=error.remedy)
    return _error("fetch_failed", error.detail, transient=error.transient, cause=code)


def _too_large(limit: int) -> FetchError:
    return _error("fetch_too_large", f"The page is over {limit} bytes.", remedy="Raise `max_bytes` of the fetcher.")


def _error(code: str, detail: str, **more: Any) -> FetchError:
    return FetchError(detail, code=code, **more)


@hookimpl
def register_fetchers() -> list[type[Fetcher[Any]]]:
    """Pages by http and https."""
    return [Web]

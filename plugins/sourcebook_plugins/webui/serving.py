"""The page's files over HTTP: held in memory, told apart by their ETag, under a policy that allows nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from sourcebook import RouteHost
from sourcebook.errors import NotFound

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types sourcebook"
)
"""`trusted-types`: a string becomes HTML in one function of the page, which makes this policy, and nowhere else."""

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_READS = ("GET", "HEAD")


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, its media type and its strong ETag."""

    body: bytes
    media_type: str
    etag: str


def assets() -> Mapping[str, Asset]:
    """Every file of the page by its path below `static/`."""
    return dict(_below(files(__package__) / "static", ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _below(entry, name + "/")
        elif (media_type := TYPES.get("." + entry.name.rpartition(".")[2])) is not None:
            body = entry.read_bytes()
            yield name, Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


class ForBrowsers(APIRoute):
    """A route for those that ask for a page by name: whoever takes anything gets what else stands at the address."""

    def matches(self, scope: Scope) -> tuple[Match, Any]:
        """As any route, for requests that accept HTML."""
        accepts = (value for name, value in scope.get("headers", ()) if name == b"accept")
        if any(b"text/html" in value.lower() for value in accepts):
            return super().matches(scope)
        return Match.NONE, {}


def add_to(host: RouteHost) -> None:
    """The page and its files, for everybody: they hold nothing of anyone, and what they show they ask the API for."""
    held = assets()
    mount = host.app.settings.plugins.mount.get(host.plugin, f"/api/v1/x/{host.plugin}").rstrip("/")

    async def page(request: Request) -> Response:
        """The page."""
        return _answer(held["index.html"], request, {"Vary": "Accept"})

    async def asset(request: Request, name: str) -> Response:
        """One of the page's files."""
        if name not in held:
            raise NotFound(f"The page has no file {name}.")
        return _answer(held[name], request)

    async def to_page() -> Response:
        """Its files are named relative to it, so its address ends in a slash."""
        return RedirectResponse(f"{mount}/", 308)

    hidden: dict[str, Any] = {"include_in_schema": False, "response_model": None}
    methods = list(_READS)
    host.router.add_api_route("/", page, methods=methods, route_class_override=ForBrowsers, **hidden)
    host.router.add_api_route("/static/{name:path}", asset, methods=methods, **hidden)
    if mount:
        host.router.add_api_route("", to_page, methods=methods, **hidden)
    for method in _READS:
        for path in ("/", "/static/{name:path}", *([""] if mount else ())):
            host.needs(None, method, path)


def _answer(asset: Asset, request: Request, more: Mapping[str, str] | None = None) -> Response:
    headers = {**HEADERS, "ETag": asset.etag, **(more or {})}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if asset.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)

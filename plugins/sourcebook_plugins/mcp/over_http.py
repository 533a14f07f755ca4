"""Streamable HTTP, stateless: every request is whole, so that any worker can answer it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sourcebook import Caller, RouteHost
from sourcebook.app import Sourcebook

if TYPE_CHECKING:
    from mcp.server import Server

    from sourcebook_plugins.mcp.calling import Call

_CALLER = "sourcebook.caller"
_MESSAGE = {
    "type": "object",
    "description": "A JSON-RPC 2.0 message.",
    "properties": {
        "jsonrpc": {"const": "2.0", "type": "string"},
        "id": {"type": ["string", "integer"]},
        "method": {"type": "string"},
        "params": {"type": "object"},
    },
    "required": ["jsonrpc"],
}
_PING = {"ping": {"value": {"jsonrpc": "2.0", "id": 1, "method": "ping"}}}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _MESSAGE, "examples": _PING}}}}
_MESSAGES = {"application/json": {"schema": _MESSAGE}, "text/event-stream": {"schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, after what is told on the way.", "content": _MESSAGES},
    202: {"description": "A notification was taken."},
    406: {"description": "The client must accept JSON and events."},
}


class Door:
    """Opens the SDK with the first request, and in a thread: its import takes half a second."""

    def __init__(self, book: Sourcebook) -> None:
        self._book = book
        self._server: Server[Any] | None = None
        self._opening = asyncio.Lock()

    async def server(self) -> Server[Any]:
        """The SDK's server."""
        async with self._opening:
            if self._server is None:
                self._server = await asyncio.to_thread(_made, self._book)
            return self._server


def _made(book: Sourcebook) -> Server[Any]:
    from mcp.server import streamable_http_manager

    from sourcebook_plugins.mcp.calling import Call
    from sourcebook_plugins.mcp.server import make_server, teller

    # It would tell of the beginning and the end of every request.
    logging.getLogger(streamable_http_manager.__name__).setLevel(logging.WARNING)

    async def call_of(context: Any) -> Call:
        request: Request = context.request
        return Call(request.scope[_CALLER], teller(context), f"{request.url.scheme}://{request.url.netloc}")

    return make_server(book, call_of)


class Exchange(Response):
    """One request and its answer, handed to the SDK."""

    def __init__(self, door: Door, caller: Caller, most: int) -> None:
        super().__init__()
        self._door = door
        self._caller = caller
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. What still runs for a client that is gone is cancelled with this."""
        server = await self._door.server()
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        # Host and Origin are the gate's to check, which has let this pass.
        manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=self._most)
        async with manager.run():
            await manager.handle_request({**scope, _CALLER: self._caller}, receive, send)


def add_to(host: RouteHost) -> None:
    """The one route. A key needs `read` for it; a tool that writes asks for `write` itself."""
    door, most = Door(host.app), host.app.settings.server.max_body

    async def exchange(request: Request, caller: Any = host.caller) -> Response:
        """A message of the Model Context Protocol: one request, or a notification."""
        return Exchange(door, caller, most)

    for path in ("", "/"):
        host.router.add_api_route(
            path,
            exchange,
            methods=["POST"],
            response_model=None,
            responses={**_RESPONSES, **host.problems(413)},
            openapi_extra=_BODY,
            include_in_schema=not path,
        )
        host.needs("read", "POST", path)

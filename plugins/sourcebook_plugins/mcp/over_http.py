"""Streamable HTTP, stateless: every request is whole, so that any worker can answer it."""

from __future__ import annotations

import logging
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sourcebook import Caller, RouteHost
from sourcebook_plugins.mcp.calling import Call
from sourcebook_plugins.mcp.server import make_server, teller

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


class Exchange(Response):
    """One request and its answer, handed to the SDK."""

    def __init__(self, server: Server[Any], caller: Caller, most: int) -> None:
        super().__init__()
        self._server = server
        self._caller = caller
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. What still runs for a client that is gone is cancelled with this."""
        # Host and Origin are the gate's to check, which has let this pass.
        manager = StreamableHTTPSessionManager(self._server, stateless=True, max_request_body_size=self._most)
        async with manager.run():
            await manager.handle_request({**scope, _CALLER: self._caller}, receive, send)


def add_to(host: RouteHost) -> None:
    """The one route. A key needs `read` for it; a tool that writes asks for `write` itself."""
    # It would tell of the beginning and the end of every request.
    logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)
    most = host.app.settings.server.max_body

    async def call_of(context: Any) -> Call:
        request: Request = context.request
        return Call(request.scope[_CALLER], teller(context), f"{request.url.scheme}://{request.url.netloc}")

    server = make_server(host.app, call_of)

    async def exchange(request: Request, caller: Any = host.caller) -> Response:
        """A message of the Model Context Protocol: one request, or a notification."""
        return Exchange(server, caller, most)

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

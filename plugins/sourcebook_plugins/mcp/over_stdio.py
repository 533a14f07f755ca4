"""On stdin and stdout, for one client that started this process."""

from __future__ import annotations

import os
from typing import Any

from mcp.server.stdio import stdio_server

from sourcebook import CommandHost
from sourcebook.app import Sourcebook
from sourcebook_plugins.mcp.calling import Call
from sourcebook_plugins.mcp.server import make_server, teller


def run(host: CommandHost, owner: str, workers: int | None) -> None:
    """Serve until stdin ends. Raises `Unauthenticated` for a key that is not valid, before the first message."""
    key = os.environ.get("SOURCEBOOK_KEY", "")

    async def work(book: Sourcebook) -> None:
        first = await host.caller(book, owner, key)

        async def call_of(context: Any) -> Call:
            # A key may be revoked while this runs.
            caller = await host.caller(book, key=key) if key else first
            return Call(caller, teller(context))

        server = make_server(book, call_of)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    host.run(work, workers=workers)

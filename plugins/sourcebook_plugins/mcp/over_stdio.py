"""On stdin and stdout, for one client that started this process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from mcp.server.stdio import stdio_server

from sourcebook import CommandHost
from sourcebook.app import Sourcebook
from sourcebook_plugins.mcp.calling import Call
from sourcebook_plugins.mcp.server import make_server, teller

_PIECE = 64 * 1024


def run(host: CommandHost, owner: str, workers: int | None) -> None:
    """Serve until stdin ends or a signal comes. Raises `Unauthenticated` for a key that is not valid, before all."""
    key = os.environ.get("SOURCEBOOK_KEY", "")

    async def work(book: Sourcebook) -> None:
        first = await host.caller(book, owner, key)

        async def call_of(context: Any) -> Call:
            # A key may be revoked while this runs.
            caller = await host.caller(book, key=key) if key else first
            return Call(caller, teller(context))

        server = make_server(book, call_of)
        stdin: Any = _lines()
        async with stdio_server(stdin) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    async def until_told(book: Sourcebook) -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with suppress(asyncio.CancelledError):  # a signal; all is closed as it is at the end of stdin
            await work(book)

    host.run(until_told, workers=workers)


async def _lines() -> AsyncIterator[str]:
    """Stdin's lines. The SDK's own reader cannot be left while it waits for a line, so a signal would not be heard."""
    loop, found = asyncio.get_running_loop(), asyncio.Queue[bytes]()
    source = _taken(sys.stdin.fileno())

    def read() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            while piece := os.read(source, _PIECE):
                loop.call_soon_threadsafe(found.put_nowait, piece)
            loop.call_soon_threadsafe(found.put_nowait, b"")

    threading.Thread(target=read, name="stdin", daemon=True).start()
    rest = b""
    while piece := await found.get():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _taken(stdin: int) -> int:
    """Stdin under another number: whatever else reads it from now on finds it empty."""
    source, nothing = os.dup(stdin), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, stdin)
    os.close(nothing)
    return source

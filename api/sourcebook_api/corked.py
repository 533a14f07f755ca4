"""Writes of one turn of the event loop leave together: each by itself is a call of the kernel, and wakes the client.

uvicorn writes a response's head, its body and its end one by one.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST = 16 * 1024  # bytes that are held; what is more is sent at once, so that a slow client is felt as ever


class Corked:
    """A transport that sends what is written to it at the end of the turn. All else is its own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send it soon, in order."""
        if not data:
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST:
            self._flush()

    def close(self) -> None:
        """When what was written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(H11Protocol):
    """uvicorn's, with such a transport."""

    def connection_made(self, transport: Any) -> None:
        """As asyncio tells it."""
        super().connection_made(Corked(transport))  # type: ignore[arg-type]  # it has all that is asked of it

"""Server-sent events: frames that are bytes already, sent as they come.

A plain ASGI response. Whoever leaves is noticed at once, also while nothing is being sent, and the generator behind the
stream is closed before the response returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

_BEAT = b": keep-alive\n\n"


class EventStream(Response):
    """Streams `frames`; a comment goes out after every `heartbeat` seconds of silence.

    All that can be refused has been refused before this is made: from here on the status is 200. `location` is where
    the same frames can be had again.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], heartbeat: float, *, location: str = "") -> None:
        self._frames = frames
        self._heartbeat = heartbeat
        self._sent_at = 0.0
        self.status_code = 200
        self.background = None
        self.body = b""
        where = {"content-location": location} if location else {}
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **where})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the frames end or the client has gone."""
        headers = [h for h in self.raw_headers if h[0] != b"content-length"]
        self._sent_at = asyncio.get_running_loop().time()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # Tasks begin in this order: the frames are being followed before anybody can be found to have gone.
        pump = asyncio.create_task(self._pump(send))
        others: list[asyncio.Task[Any]] = [asyncio.create_task(gone(receive)), asyncio.create_task(self._beats(send))]
        try:
            await asyncio.wait([pump, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _stopped(pump, *others)
        if not pump.cancelled():
            pump.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
                self._sent_at = loop.time()

    async def _beats(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            left = self._sent_at + self._heartbeat - loop.time()
            if left > 0:
                await asyncio.sleep(left)
                continue
            await send({"type": "http.response.body", "body": _BEAT, "more_body": True})
            self._sent_at = loop.time()


async def gone(receive: Receive) -> None:
    """Return when the client has closed the connection. The body has been read already."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None where the client leaves first: `work` is cancelled then."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(gone(receive))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stopped(working, leaving)
    return None if working.cancelled() else working.result()


async def _stopped(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Both directions of one request, as the gate wraps them: the body is counted, every response gets our headers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Message, Receive, Scope, Send

from sourcebook.errors import TooLarge
from sourcebook_api.places import Place
from sourcebook_api.problems import ProblemResponse

# A closed connection with unread bytes is reset, and the client may lose the answer that it has not read yet: so a
# refused body is read on for a little, and no further.
_LINGER_BYTES = 256 * 1024
_LINGER_SECONDS = 1.0
_SMALL = 16 * 1024  # bytes of a body that mostly came with its head
_NO_SCOPE: Scope = {"type": "http"}

_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)


def too_large(limit: int) -> TooLarge:
    """The error for a body over `limit` bytes."""
    return TooLarge(f"The body is larger than {limit:,} bytes.", limit=limit)


class Incoming:
    """Counts the body, and raises `TooLarge` at the first byte over `limit`."""

    def __init__(self, receive: Receive, limit: int, place: Place | None = None) -> None:
        self.source = receive
        self.limit = limit
        self._place = place
        self._size = 0
        self.over = False

    async def receive(self) -> Message:
        """The next message of the client."""
        # Behind the body only the client's leaving can come: that is not waited for.
        message = await (self._place.client(self.source()) if self._place is not None else self.source())
        if not message.get("more_body", False):
            self._place = None
        self._size += len(message.get("body", b""))
        if self._size > self.limit:
            # Remembered too, since what reads the body may turn the exception into one of its own.
            self.over = True
            raise too_large(self.limit)
        return message


class Outgoing:
    """Adds our headers, and knows whether a response has begun, and how many bytes of a body were sent."""

    def __init__(self, send: Send, request_id: str, cors: Mapping[bytes, bytes]) -> None:
        self._send = send
        self._extra = [(b"x-request-id", request_id.encode()), *_SECURITY, *cors.items()]
        self.started = False
        self.streams = False
        self.busy = False  # there was no room for the request
        self.status = 0
        self.bytes = 0
        self.incoming: Incoming | None = None
        self.place: Place | None = None

    def add(self, headers: Mapping[bytes, bytes]) -> None:
        """More headers for the answer."""
        self._extra.extend(headers.items())

    async def send(self, message: Message) -> None:
        """Pass a message on. Nothing of an answer to a body that was cut off: the gate gives that one."""
        if self.incoming is not None and self.incoming.over and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = list(message.get("headers", ()))
            self.streams = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
            for name, value in self._extra:
                if all(name != given for given, _ in headers):
                    headers.append((name, value))
            message = {**message, "headers": headers}
            if self.streams and self.place is not None and not self.place.held:
                self.place.leave()
        else:
            self.bytes += len(message.get("body", b""))
        if self.place is None or self.streams:
            await self._send(message)
        else:
            await self.place.client(self._send(message))


def _is_small(headers: Mapping[str, str]) -> bool:
    """Whether the server reads what there is of a body by the way, before the next request."""
    length = headers.get("content-length", "0")
    waits = "transfer-encoding" in headers or "expect" in headers
    return not waits and length.isdecimal() and int(length) <= _SMALL


async def refuse(answer: ProblemResponse, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
    """Answer before the body was read. Where it is not there yet, or large, the connection ends: nobody wants the rest.

    `headers` are the request's. A connection that is kept costs a refused client, and us, a small part of a new one.
    """
    if _is_small(headers):
        await answer(_NO_SCOPE, receive, send)
        return
    raw = [*answer.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    left = _LINGER_BYTES
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b""})

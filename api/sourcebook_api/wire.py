"""HTTP/1.1 on the wire: uvicorn's protocol on llhttp, with a bound on what stands before a body.

A part of a stream costs an eighth of what it costs through h11. That one stopped at 64 KiB of headers by itself, and
served who would rather speak another protocol as if they had not said so: llhttp has to be told both.
"""

from __future__ import annotations

import secrets
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sourcebook_api.problems import problem

_HEAD_BYTES = 64 * 1024
_HEAD_SECONDS = 30.0


class Wire(HttpToolsProtocol):
    """One connection."""

    head_seconds = _HEAD_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: int | None = 0  # bytes of a request's head so far; None between a head and the next
        self._late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            self._stay(data[asked.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")
        if self._head is not None and not self.transport.is_closing():
            self._head += len(data)  # of the one before, too, where that ended in here: at most one read too many
            if self._head > _HEAD_BYTES:
                what = f"The request line and the headers are over {_HEAD_BYTES} bytes."
                self._refuse(431, "head_too_large", "The headers are too large", what)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Whatever is no HTTP is answered with a problem like all else."""
        if not self.transport.is_closing():
            self._refuse(400, "bad_request", "The request cannot be read", "This is no HTTP/1.1 request.")

    def _stay(self, rest: bytes) -> None:
        """Who asks for an upgrade, as Java's client does for HTTP/2, is served without: the parser begins anew.

        It would leave the body to the other protocol.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        kept = [(name, value) for name, value in self.headers if name not in (b"connection", b"upgrade")]
        if any(name == b"connection" and b"close" in value.lower() for name, value in self.headers):
            kept.append((b"connection", b"close"))
        lines = [b"%s: %s" % header for header in kept]
        head = b"\r\n".join([b"%s %s HTTP/1.1" % (method, self.url), *lines, b"", b""])
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)

    def _begin_head(self) -> None:
        self._end_head()
        self._head = 0
        self._late = self.loop.call_later(self.head_seconds, self.transport.close)

    def _end_head(self) -> None:
        self._head = None
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, code: str, title: str, detail: str) -> None:
        """Answer and hang up; inside another answer, only hang up: this would become part of it."""
        if self.cycle is None or self.cycle.response_complete:
            request_id = f"req_{secrets.token_hex(12)}"
            body = orjson.dumps(problem(status, request_id, code=code, title=title, detail=detail))
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/problem+json\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()

"""httpcore's connections, without a deadline of their own around every piece that is read or written.

Ours are on `Watch`, one timer for a whole answer; anyio's, which httpcore opens although it is given none, cost as much
as reading a token does.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Stream(httpcore.AsyncNetworkStream):
    """One connection. Where httpcore does give a deadline, it is kept."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._stream: anyio.abc.ByteStream = inner._stream
        self._socket: Any = None
        self._ready = select.poll()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore."""
        if timeout is not None:
            return bytes(await self._inner.read(max_bytes, timeout))
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""
        except _BROKEN as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        if timeout is not None:
            await self._inner.write(buffer, timeout)
        elif buffer:
            try:
                await self._stream.send(buffer)
            except _BROKEN as error:
                raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """See httpcore."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """See httpcore. Whether an idle one is readable, its pool asks of each with every request."""
        if info != "is_readable":
            return self._inner.get_extra_info(info)
        if self._socket is None:
            self._socket = self._inner.get_extra_info("socket")
            self._ready.register(self._socket.fileno(), select.POLLIN)
        return self._socket.fileno() < 0 or bool(self._ready.poll(0))


class Backend(httpcore.AsyncNetworkBackend):
    """httpcore's own, which makes such connections."""

    def __init__(self) -> None:
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._inner.sleep(seconds)

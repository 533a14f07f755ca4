"""The connections of the HTTP client: as httpcore's own, and deadlines are kept where there are some."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpcore
import pytest

from sourcebook.sockets import Backend

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def connected(serve: Serve, test: Callable[[httpcore.AsyncNetworkStream], Awaitable[None]]) -> None:
    ended = asyncio.Event()

    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(whole, "127.0.0.1", 0)
    async with server:
        stream = await Backend().connect_tcp("127.0.0.1", server.sockets[0].getsockname()[1], timeout=10)
        await test(stream)
        await stream.aclose()
        await asyncio.wait_for(ended.wait(), 10)


def test_what_is_written_is_read_up_to_the_end() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))

    async def test(stream: httpcore.AsyncNetworkStream) -> None:
        await stream.write(b"")
        await stream.write(b"hel")
        await stream.write(b"lo", timeout=10)
        assert await stream.read(2) + await stream.read(100, timeout=10) == b"hello"
        assert (await stream.read(100), stream.get_extra_info("server_addr")[0]) == (b"", "127.0.0.1")

    asyncio.run(connected(echo, test))


def test_a_deadline_is_kept_and_what_breaks_is_httpcores_error() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        at_once = struct.pack("ii", 1, 0)  # a reset, where a close would be an end
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    async def test(stream: httpcore.AsyncNetworkStream) -> None:
        with pytest.raises(httpcore.ReadTimeout):
            await stream.read(1, timeout=0.01)
        await stream.write(b"now")
        with pytest.raises(httpcore.ReadError):
            await stream.read(1)
        await stream.aclose()
        with pytest.raises(httpcore.ReadError):
            await stream.read(1)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"x")

    asyncio.run(connected(silent, test))

"""A client that costs little: what is measured through it is the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any


class Connection:
    """One client's connection, kept from request to request. A library's pool of 200 takes more of the processor than
    the server that is measured beside it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body, read to the end. Raises `OSError` and `EOFError` (asyncio's are of these kinds)."""
        reader, writer = self._streams or await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        self._streams = None  # until the answer has been read, it is nothing to go on with
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        got = await (_chunks(reader) if "transfer-encoding" in headers else _rest(reader, headers))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._streams = reader, writer
        return int(first.split()[1]), headers, got

    def close(self) -> None:
        """End it."""
        if self._streams is not None:
            self._streams[1].close()


async def _rest(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    return await reader.readexactly(int(headers.get("content-length", "0")))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)

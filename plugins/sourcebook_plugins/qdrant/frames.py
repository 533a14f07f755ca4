"""What the index process and its clients say to each other: length-prefixed frames over a Unix socket.

    frame = u32 size of the rest | u32 size of the JSON | JSON (UTF-8, one object) | raw bytes

Integers are big-endian. Vectors travel in the raw part: float32 in this machine's own byte order, rows of one space
after the other, as the JSON's `vectors` = [[space, dimensions], ...] announces them.

A client sends `{"hello": PROTOCOL}` first and is told `{"hello": PROTOCOL, "pid": ...}`. These two keep their form in
every version, so that two that do not fit can say so. Then every request `{"id", "op", ...}` is answered by one frame
with its `id` and either `result` or `error` = {"kind", "detail"}.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson

PROTOCOL = 3

MAX_FRAME = 128 * 1024 * 1024
"""Bytes. Far over any batch that a client sends: what is larger is not one of our frames."""

_HEAD = struct.Struct("!II")


def pack(message: Mapping[str, Any], raw: bytes = b"") -> bytes:
    """One frame. A lone surrogate, which UTF-8 cannot carry, becomes a question mark."""
    try:
        text = orjson.dumps(message)
    except TypeError:  # it refuses lone surrogates
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"".join((_HEAD.pack(4 + len(text) + len(raw), len(text)), text, raw))


async def receive(reader: asyncio.StreamReader) -> tuple[dict[str, Any], memoryview]:
    """The next frame. Raises `ConnectionError` at the end of the stream, and for what is not a frame."""
    try:
        size, text_size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if not 4 + text_size <= size <= MAX_FRAME:
            raise ConnectionError("What came over the index's socket is not a frame.")
        body = memoryview(await reader.readexactly(size - 4))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("The other end of the index's socket closed it.") from error
    try:
        message = orjson.loads(body[:text_size])
    except ValueError as error:
        raise ConnectionError("What came over the index's socket is not a frame.") from error
    if not isinstance(message, dict):
        raise ConnectionError("What came over the index's socket is not a frame.")
    return message, body[text_size:]


def unpacked(file: BinaryIO) -> tuple[dict[str, Any], memoryview] | None:
    """The next frame of a file that `pack` wrote; None at its end."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    size, text_size = _HEAD.unpack(head)
    body = memoryview(file.read(size - 4))
    return orjson.loads(body[:text_size]), body[text_size:]

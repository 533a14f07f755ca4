"""Frames arrive as they were sent, and what is no frame is refused."""

from __future__ import annotations

import asyncio
import struct
from array import array

import pytest

from sourcebook_plugins.qdrant.frames import MAX_FRAME, pack, receive


def read(data: bytes) -> tuple[dict[str, object], bytes]:
    async def run() -> tuple[dict[str, object], bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        message, raw = await receive(reader)
        return message, bytes(raw)

    return asyncio.run(run())


def test_a_message_and_its_raw_bytes_arrive_as_they_were_sent() -> None:
    raw = array("f", [1.5, -2.0]).tobytes()
    message = {"id": 7, "text": "Straße 图书馆 \x00 😀"}
    assert read(pack(message, raw)) == (message, raw)


def test_a_lone_surrogate_is_replaced() -> None:
    assert read(pack({"text": "a\ud800b"}))[0] == {"text": "a?b"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        pack({"id": 1})[:-1],
        struct.pack("!II", MAX_FRAME + 1, 2) + b"{}",
        struct.pack("!II", 4, 2) + b"{}",
        struct.pack("!II", 6, 2) + b"[]",
        struct.pack("!II", 6, 2) + b"{!",
    ],
)
def test_what_is_no_whole_frame_is_a_connection_error(data: bytes) -> None:
    with pytest.raises(ConnectionError):
        read(data)

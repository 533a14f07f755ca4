"""What is written in one turn of the event loop leaves in one piece."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sourcebook_api.corked import Corked


class Line:
    """A transport that remembers what was done to it."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str) -> Any:
        return name


def corked() -> tuple[Line, Corked]:
    line = Line()
    return line, Corked(cast(asyncio.Transport, line))


def test_writes_of_one_turn_leave_together_and_in_order() -> None:
    async def main() -> None:
        line, transport = corked()
        for turn in range(2):
            for data in (b"head", b"", b"body"):
                transport.write(data)
            assert line.done == [b"headbody"] * turn
            await asyncio.sleep(0)
        assert line.done == [b"headbody"] * 2
        assert transport.get_extra_info("peername") == "peername"

    asyncio.run(main())


def test_much_is_sent_at_once_and_closing_sends_what_is_left() -> None:
    async def main() -> None:
        line, transport = corked()
        transport.write(b"x" * 20_000)
        assert [len(data) for data in line.done] == [20_000]
        transport.write(b"last")
        transport.close()
        assert (line.done[1:], line.closed) == ([b"last"], True)
        transport.write(b"too late")
        await asyncio.sleep(0)
        assert len(line.done) == 2

    asyncio.run(main())

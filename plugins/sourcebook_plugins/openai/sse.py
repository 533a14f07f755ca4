"""A decoder for server-sent events: bytes in, events out, however the bytes were cut.

WHATWG HTML, section 9.2.6, with what real servers need on top: the last event counts without its blank line, and a line
that begins with a brace is data (some gateways forget the field name, above all in errors). It works on bytes, so a
split code point cannot matter, and only CR and LF end a line: U+2028 and its like are data.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_LINE = 1024 * 1024
MAX_EVENT = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """`name` is empty for the default type; `data` is the data lines, joined by LF, never empty."""

    name: bytes
    data: bytes


class TooLong(ValueError):
    """A line over `MAX_LINE` bytes or an event over `MAX_EVENT`."""


class Decoder:
    """Feed it chunks, then `close` it; both return the events that became whole. Raises `TooLong`."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # pieces of a line that has no end yet
        self._line_size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._data_size = 0
        self._after_cr = False
        self._head: bytes | None = b""  # the first bytes, until they are a BOM or are not

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that end in this chunk."""
        if self._head is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            # A CR ends its line now; an LF that follows in the next chunk belongs to it.
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line, self._line_size = [], 0
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
            if self._line_size > MAX_LINE:
                raise TooLong(f"a line of the event stream is over {MAX_LINE} bytes")
        events: list[ServerEvent] = []
        for line in lines:
            self._take(line, events)
        return events

    def close(self) -> list[ServerEvent]:
        """The last event, if the stream ended without the blank line or even without the line's end."""
        events: list[ServerEvent] = []
        head, self._head = self._head, None
        if last := (head or b"") + b"".join(self._line):
            self._take(last, events)
        self._line, self._line_size = [], 0
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerEvent]) -> None:
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                if data:  # an empty one is a heartbeat
                    events.append(ServerEvent(self._name, data))
                self._data, self._data_size = [], 0
            self._name = b""
            return
        if len(line) > MAX_LINE:
            raise TooLong(f"a line of the event stream is over {MAX_LINE} bytes")
        if line.startswith(b"data:"):
            self._add(line[6:] if line.startswith(b" ", 5) else line[5:])
        elif line.startswith(b"event:"):
            self._name = line[6:].strip()
        elif line.startswith(b"{") and not self._data:
            events.append(ServerEvent(self._name, line))
        elif line == b"data":
            self._add(b"")
        # Comments, `id`, `retry` and unknown fields change nothing here.

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._data_size += len(data) + 1
        if self._data_size > MAX_EVENT:
            raise TooLong(f"an event is over {MAX_EVENT} bytes")

    def _without_bom(self, chunk: bytes) -> bytes:
        head = (self._head or b"") + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

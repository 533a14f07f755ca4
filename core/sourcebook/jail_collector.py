"""Puts a document together from the frames of a jailed child, and trusts none of them."""

from __future__ import annotations

from sourcebook.documents import MAX_TEXT, SEGMENT, Block, Chunk, Locator, Segment, check_chunks
from sourcebook.jail_frames import (
    MAX_FRAME,
    RAW,
    Blocks,
    Chunks,
    Died,
    End,
    Extras,
    FrameError,
    Locators,
    Message,
    Problem,
    RawHead,
    TextPiece,
    decode,
)
from sourcebook.writer import MAX_WARNINGS


class Collector:
    """Puts a document together from frames, and checks on the way what `check_document` and `check_chunks` check.

    `take` raises `FrameError` for what cannot be, and `ValueError` for a document or chunks that break their rules.
    """

    def __init__(self, length: int | None = None) -> None:
        self.segments: list[Segment] = []
        self.chunks: list[Chunk] = []
        self.raw: list[tuple[str, list[bytes]]] = []
        self.extras: Extras | None = None
        self.problem: Problem | Died | None = None
        self.ended = False
        self.ink = False  # whether there is more than white space
        self.length = 0
        self._given = length  # of the text that chunks refer to, where it was not sent along
        self._open: TextPiece | None = None
        self._blocks: list[Block] = []
        self._locators: list[Locator] = []
        self._last = {"block": 0, "locator": 0, "chunk": 0}
        self._furthest = 0
        self._raw_left = 0

    def take(self, kind: bytes, payload: bytes) -> bool:
        """The next frame. Returns whether it was the last."""
        if (kind == RAW) != (self._raw_left > 0):
            raise FrameError("raw bytes that were not announced, or an announcement without its bytes")
        if kind == RAW:
            self._take_raw(payload)
        else:
            self._take_message(decode(payload))
        return self.ended or self.problem is not None

    def _take_message(self, message: Message) -> None:
        match message:
            case TextPiece() as text if self.extras is None:
                self._take_text(text)
            case Blocks(rows) if self._open is not None and rows:
                self._take_blocks(rows)
            case Locators(rows) if self._open is not None and rows:
                self._take_locators(rows)
            case Extras() as extras if self.extras is None:
                self._take_extras(extras)
            case Chunks(rows) if self._open is None and rows:
                self._take_chunks(rows)
            case RawHead(size, name) if self._open is None and size >= 0:
                self.raw.append((name, []))
                self._raw_left = size
            case Problem() | Died() as problem:
                self.problem = problem
            case End() if self._open is None:
                self.ended = True
            case other:
                raise FrameError(f"a message {other.kind!r} that is not due")

    def _take_raw(self, payload: bytes) -> None:
        if len(payload) != min(self._raw_left, MAX_FRAME):
            raise FrameError("raw bytes in pieces of another size than agreed")
        self._raw_left -= len(payload)
        self.raw[-1][1].append(payload)

    def _take_text(self, piece: TextPiece) -> None:
        self._close()
        size = len(piece.text)
        if piece.start != self.length or size > SEGMENT or (not size and self.segments):
            raise FrameError(f"a segment of {size} code points at {piece.start}, after {self.length}")
        if "\0" in piece.text:
            raise ValueError("the text holds a NUL")
        self.length += size
        if self.length > MAX_TEXT:
            raise ValueError(f"the text has more than {MAX_TEXT} code points")
        self.ink = self.ink or bool(piece.text.strip())
        self._open = piece

    def _take_blocks(self, rows: tuple[Block, ...]) -> None:
        begin = self._begin()
        for b in rows:
            if not begin <= b.start <= b.end or b.start > self.length or b.start < self._last["block"]:
                raise ValueError(f"block [{b.start}, {b.end}) is out of order or outside its segment")
            self._last["block"] = b.start
            self._furthest = max(self._furthest, b.end)
        self._blocks.extend(rows)

    def _take_locators(self, rows: tuple[Locator, ...]) -> None:
        begin = self._begin()
        for x in rows:
            if not begin <= x.start <= x.end <= self.length or x.start < self._last["locator"]:
                raise ValueError(f"locator [{x.start}, {x.end}) is out of order, overlaps or lies outside its segment")
            self._last["locator"] = x.end
        self._locators.extend(rows)

    def _take_extras(self, extras: Extras) -> None:
        self._close()
        if len(extras.warnings) > MAX_WARNINGS:
            raise ValueError(f"more than {MAX_WARNINGS} warnings")
        if self._furthest > self.length:
            raise ValueError(f"a block ends at {self._furthest}, after the text of {self.length}")
        self.extras = extras

    def _take_chunks(self, rows: tuple[Chunk, ...]) -> None:
        size = self.length if self._given is None else self._given
        check_chunks(rows, size)
        if rows[0].start < self._last["chunk"]:
            raise ValueError(f"chunk [{rows[0].start}, {rows[0].end}) is out of order")
        self._last["chunk"] = rows[-1].start
        self.chunks.extend(rows)

    def _begin(self) -> int:
        return self._open.start if self._open else 0

    def _close(self) -> None:
        """The open segment is complete."""
        if self._open is not None:
            start, text = self._open.start, self._open.text
            blocks, locators = tuple(self._blocks), tuple(self._locators)
            self.segments.append(Segment(start, start + len(text), text, blocks, locators))
            self._open = None
            self._blocks, self._locators = [], []

"""Puts a document together from the frames of a jailed child, and trusts none of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from sys import getsizeof

import orjson

from sourcebook.documents import MAX_TEXT, SEGMENT, Block, Chunk, Locator, Place, Segment, check_chunks
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
    PageLocators,
    Problem,
    RawHead,
    TextPiece,
    decode,
)
from sourcebook.placed import PlacedLines, locators_json
from sourcebook.spool import Part, Spool
from sourcebook.writer import MAX_WARNINGS

_ROW = 300  # bytes of memory of a block or a locator with its place, about


@dataclass(frozen=True)
class Raw:
    """Raw bytes that arrived: a member, or a drawn page without a name."""

    name: str
    size: int
    pieces: Part[bytes]


class Collector:
    """Puts a document together from frames, and checks on the way what `check_document` and `check_chunks` check.

    `take` raises `FrameError` for what cannot be, and `ValueError` for a document or chunks that break their rules.
    What is over `memory` bytes lies in files in `folder`, until `close`. `reached` is told the pages that have
    arrived.
    """

    def __init__(
        self,
        length: int | None = None,
        *,
        memory: float = math.inf,
        folder: Path | None = None,
        reached: Callable[[int], object] | None = None,
    ) -> None:
        self.segments: Spool[Segment] = Spool(_segment_bytes, _segment_of, memory / 2, folder)
        self.chunks: Spool[Chunk] = Spool(orjson.dumps, _chunk_of, memory / 4, folder)
        self._bytes: Spool[bytes] = Spool(bytes, bytes, memory / 4, folder)
        self._raw: list[tuple[str, int, int]] = []  # name, size, and how many pieces came before
        self.extras: Extras | None = None
        self.problem: Problem | Died | None = None
        self.ended = False
        self.ink = False  # whether there is more than white space
        self.length = 0
        self._reached = reached
        self._given = length  # of the text that chunks refer to, where it was not sent along
        self._open: TextPiece | None = None
        self._blocks: list[Block] = []
        self._locators: list[Sequence[Locator]] = []
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

    @property
    def raw(self) -> list[Raw]:
        """All raw bytes, by what they are."""
        ends = [*(first for _, _, first in self._raw[1:]), len(self._bytes)]
        ranges = zip(self._raw, ends, strict=False)
        return [Raw(name, size, self._bytes.part(first, last)) for (name, size, first), last in ranges]

    def close(self) -> None:
        """Forget what was collected."""
        for spool in (self.segments, self.chunks, self._bytes):
            spool.close()

    def _take_message(self, message: Message) -> None:
        match message:
            case TextPiece() as text if self.extras is None:
                self._take_text(text)
            case Blocks() as columns if self._open is not None and columns.starts:
                self._take_blocks(columns)
            case Locators(rows) if self._open is not None and rows:
                self._take_locators(rows)
            case PageLocators() as columns if self._open is not None and columns.starts:
                self._take_placed(columns.lines())
            case Extras() as extras if self.extras is None:
                self._take_extras(extras)
            case Chunks(rows) if self._open is None and rows:
                self._take_chunks(rows)
            case RawHead(size, name) if self._open is None and size >= 0:
                self._raw.append((name, size, len(self._bytes)))
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
        self._bytes.append(payload, len(payload))

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

    def _take_blocks(self, columns: Blocks) -> None:
        rows = columns.rows()
        if not columns.in_order(max(self._begin(), self._last["block"]), self.length):
            raise ValueError("blocks are out of order or lie outside their segment")
        self._last["block"] = columns.starts[-1]
        self._furthest = max(self._furthest, *columns.ends)
        self._blocks += rows

    def _take_locators(self, rows: tuple[Locator, ...]) -> None:
        begin = self._begin()
        for x in rows:
            if not begin <= x.start <= x.end <= self.length or x.start < self._last["locator"]:
                raise ValueError(f"locator [{x.start}, {x.end}) is out of order, overlaps or lies outside its segment")
            self._last["locator"] = x.end
        self._located(rows)

    def _take_placed(self, lines: PlacedLines) -> None:
        if not lines.in_order(max(self._begin(), self._last["locator"]), self.length):
            raise ValueError("locators are out of order, overlap or lie outside their segment")
        self._last["locator"] = lines.ends[-1]
        self._located(lines)

    def _located(self, rows: Sequence[Locator]) -> None:
        self._locators.append(rows)
        if self._reached is not None and (page := rows[-1].place.page) is not None:
            self._reached(page)

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
        for chunk in rows:
            self.chunks.append(chunk, _ROW + 4 * len(chunk.context))

    def _begin(self) -> int:
        return self._open.start if self._open else 0

    def _close(self) -> None:
        """The open segment is complete."""
        if self._open is not None:
            start, text = self._open.start, self._open.text
            blocks, locators = tuple(self._blocks), _joined(self._locators)
            size = getsizeof(text) + _ROW * (len(blocks) + len(locators))
            self.segments.append(Segment(start, start + len(text), text, blocks, locators), size)
            self._open = None
            self._blocks, self._locators = [], []


def _joined(parts: Sequence[Sequence[Locator]]) -> Sequence[Locator]:
    placed = [part for part in parts if isinstance(part, PlacedLines)]
    return PlacedLines.joined(placed) if placed and len(placed) == len(parts) else tuple(chain(*parts))


def _segment_bytes(segment: Segment) -> bytes:
    blocks = [[b.start, b.end, b.kind, b.level] for b in segment.blocks]
    return orjson.dumps([segment.start, segment.end, segment.text, blocks, locators_json(segment.locators)])


def _segment_of(data: bytes) -> Segment:
    start, end, text, blocks, locators = orjson.loads(data)
    places = (Locator(first, last, Place.from_json(place)) for first, last, place in locators)
    return Segment(start, end, text, tuple(Block(*b) for b in blocks), tuple(places))


def _chunk_of(data: bytes) -> Chunk:
    chunk = orjson.loads(data)
    parent = chunk["parent"]
    return Chunk(chunk["start"], chunk["end"], chunk["context"], tuple(parent) if parent else None)

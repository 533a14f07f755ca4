"""From blocks to pieces of at most a size: units, packing, and where to cut what is too long."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sourcebook import Document
from sourcebook.documents import Block
from sourcebook.sentences import sentences
from sourcebook_plugins.chunking.measures import Measure

_INK = re.compile(r"\S")
_SPACE = re.compile(r"\s")
_RULE = re.compile(r"\n\|(?: ?:?-+:? ?\|)+$")
_JOINERS = "\u200d\ufe0e\ufe0f"


class Piece(NamedTuple):
    """A range to be a chunk, and the header row of the table whose later rows it holds."""

    start: int
    end: int
    header: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is kept whole where it fits: a block, a whole table (`rows` are where it may be cut), or bare text."""

    start: int
    end: int
    kind: str
    level: int = 0
    rows: tuple[int, ...] = ()
    header: str = ""


def units_of(document: Document) -> list[Unit]:
    """The document's blocks in order, without overlaps, and units for text that stands in no block."""
    units: list[Unit] = []
    blocks, at, i = document.blocks, 0, 0
    while i < len(blocks):
        block, rows = blocks[i], [i]
        i += 1
        while i < len(blocks) and blocks[i].start < block.end:
            rows.append(i)  # only a table holds blocks; whatever else overlaps is cut as text all the same
            i += 1
        if block.end > at:
            units.extend(_bare(document.text, at, block.start))
            units.append(_unit(document.text, block, [blocks[r] for r in rows[1:]], max(at, block.start)))
            at = block.end
    units.extend(_bare(document.text, at, len(document.text)))
    return [unit for unit in units if unit.start < unit.end]


def _bare(text: str, start: int, end: int) -> Iterator[Unit]:
    start, end = trimmed(text, start, end)
    if start < end:
        yield Unit(start, end, "paragraph")


def _unit(text: str, block: Block, inner: Sequence[Block], start: int) -> Unit:
    start, end = trimmed(text, start, block.end)
    if block.kind != "table" or not inner:
        return Unit(start, end, block.kind, block.level)
    first = text[inner[0].start : inner[0].end]
    header = first if _RULE.search(first) else ""
    rows = tuple(b.start for b in inner if b.start > start)
    return Unit(start, end, "table", 0, rows, header)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without white space at both ends; empty where there is nothing else."""
    ink = _INK.search(text, start, end)
    if ink is None:
        return end, end
    while text[end - 1].isspace():
        end -= 1
    return ink.start(), end


def pack(text: str, units: Iterable[Unit], size: int, measure: Measure) -> list[Piece]:
    """Pieces of at most `size` from neighbouring units; a unit is cut where it is longer, or to follow its heading."""
    pieces: list[Piece] = []
    last: Piece | None = None  # still open
    head = -1  # where the headings at its end begin
    for unit in units:
        if last is not None and not _joins(last, unit, size, head, measure):
            moved = last.start < head and unit.kind != "heading"
            pieces.append(Piece(*trimmed(text, last.start, head), last.header) if moved else last)
            # A heading goes with what follows it.
            last = Piece(head, last.end) if moved else None
            if last is not None and not _joins(last, unit, size, head, measure):
                pieces.append(last)
                last = None
        start, header = (last.start, last.header) if last is not None else (unit.start, "")
        parts = split(text, unit, size - measure.size(start, unit.start), size, measure)
        parts[0] = Piece(start, parts[0].end, header)
        pieces.extend(parts[:-1])
        if unit.kind != "heading" or len(parts) > 1:
            head = -1
        elif last is None or head < 0:
            head = unit.start
        last = parts[-1]
    return [*pieces, last] if last is not None else pieces


def _joins(last: Piece, unit: Unit, size: int, head: int, measure: Measure) -> bool:
    """Whether `unit`, or its first part, goes on in the open piece."""
    room = size - measure.size(last.start, unit.start)
    length = measure.size(unit.start, unit.end)
    if length <= room:
        return True
    if unit.kind == "heading" or room < size // 4:
        return False
    # Cut a unit that would fit alone only for the sake of the heading above it.
    return head == last.start or (length > size and room > size // 2)


def split(text: str, unit: Unit, room: int, size: int, measure: Measure) -> list[Piece]:
    """One unit as pieces: the first of at most `room`, the others of at most `size`. At least one piece."""
    parts: list[Piece] = []
    at, header, limit = unit.start, "", room
    while measure.size(at, unit.end) > limit:
        cut = _border(text, at, measure.reach(at, limit), unit)
        start, end = trimmed(text, at, cut)
        if start < end:
            parts.append(Piece(start, end, header))
        at, limit = cut, size
        # The repeated header must not push the rows out of what an embedder reads.
        header = unit.header if unit.header and measure.length(unit.header) <= size // 2 else ""
        at = trimmed(text, at, unit.end)[0]
    parts.append(Piece(at, unit.end, header))
    return parts


def _border(text: str, start: int, limit: int, unit: Unit) -> int:
    """Where to end a piece that starts at `start`: the last good place in the second half before `limit`."""
    half = start + (limit - start) // 2
    if unit.rows:
        i = bisect_right(unit.rows, limit)
        if i and unit.rows[i - 1] > start:
            return unit.rows[i - 1]
    elif unit.kind == "code":
        if (line := text.rfind("\n", start + 1, limit)) > 0:
            return line
    elif (paragraph := text.rfind("\n\n", half, limit)) > 0:
        return paragraph
    last = sentences(text[start:limit])[-1][0] + start if unit.kind != "code" else start
    if last > half:
        return last
    if (line := text.rfind("\n", half, limit)) > 0:
        return line
    for at in range(limit, start + 1, -1):
        if text[at - 1].isspace() or text[at].isspace():
            return at
    return _between_characters(text, start, limit)


def _between_characters(text: str, start: int, limit: int) -> int:
    """The last place at or before `limit` that is not inside a letter with marks or a joined emoji."""
    for at in range(limit, max(start, limit - 32), -1):
        if not (unicodedata.combining(text[at]) or text[at] in _JOINERS or text[at - 1] == "\u200d"):
            return at
    return limit


class Overlaps:
    """Where each piece begins when it repeats the last of the text before it: whole sentences, else words.

    In tables and code they are whole lines, so that no row is cut.
    """

    def __init__(self, text: str, units: Sequence[Unit], overlap: int, measure: Measure) -> None:
        self._text = text
        self._units = units
        self._overlap = overlap
        self._measure = measure
        self._before: Piece | None = None

    def start(self, piece: Piece, lowest: int = 0) -> int:
        """Of the next piece, in order; never before `lowest`."""
        before, self._before = self._before, piece
        if before is None or not self._overlap or piece.start <= lowest:
            return piece.start
        if self._measure.size(before.start, piece.start) <= self._overlap:
            return max(before.start, lowest)
        back = max(self._measure.back(piece.start, self._overlap), lowest)
        if back == lowest:
            return lowest
        return _step_back(self._text, back, piece.start, lines=self._in_lines(piece.start))

    def _in_lines(self, at: int) -> bool:
        i = bisect_right(self._units, at - 1, key=lambda unit: unit.start) - 1
        return i >= 0 and self._units[i].kind in ("table", "table_row", "code")


def _step_back(text: str, lowest: int, start: int, *, lines: bool) -> int:
    if lines:
        end = text.find("\n", lowest, start)
        return trimmed(text, end, start)[0] if end >= 0 else start
    # What begins at `lowest` is a sentence's end, or a word's.
    whole = [s for s, _ in sentences(text[lowest:start])[1:]]
    if whole:
        return lowest + whole[0]
    space = _SPACE.search(text, lowest, start)
    return trimmed(text, space.end(), start)[0] if space else start

"""Pieces along a document's sections, with the headings above them and the section around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sourcebook import Chunk, Document
from sourcebook_plugins.chunking.cutting import Overlaps, Piece, Unit, pack, units_of
from sourcebook_plugins.chunking.measures import Measure

_TITLE, _PATH = 120, 400  # characters of one heading and of all in a context
_DEEPEST = 9


@dataclass(slots=True)
class Section:
    """A heading with all below it. `units` are its own, the heading first; the root has none."""

    level: int
    above: Section | None = None
    units: list[Unit] = field(default_factory=list)
    below: list[Section] = field(default_factory=list)
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece and the smallest section that is known to hold it."""

    piece: Piece
    home: Section


@dataclass(frozen=True, slots=True)
class Cutter:
    """The text, how large a chunk of it may be, and how much of that is an overlap."""

    text: str
    size: int
    overlap: int
    measure: Measure

    def length(self, cut: Cut) -> int:
        return self.measure.size(cut.piece.start, cut.piece.end)


def chunks_of(document: Document, size: int, overlap: int, parent_size: int, measure: Measure) -> Iterator[Chunk]:
    """The document's chunks in order, none longer than `size`, its overlap with the one before included."""
    units = units_of(document)
    if not units:
        return
    root = _tree(units)
    paths = Paths(units, document.text)
    overlaps = Overlaps(document.text, units, overlap, measure)
    for cut in _cut(Cutter(document.text, size, overlap, measure), root, []):
        _, end, header = cut.piece
        # What a section begins with has nothing to do with the end of another.
        start = overlaps.start(cut.piece, cut.home.start)
        context = paths.context(cut.piece.start, header)
        yield Chunk(start, end, context, _parent(cut, start, parent_size, measure))


class Paths:
    """The headings above a place, for places in order."""

    def __init__(self, units: list[Unit], text: str) -> None:
        self._headings = [unit for unit in units if unit.kind == "heading"]
        self._text = text
        self._above: list[tuple[int, str]] = []
        self._seen = 0

    def context(self, start: int, header: str = "") -> str:
        """What stands above a chunk from `start`, and a table's header below it. A heading is not above itself."""
        headings = self._headings
        while self._seen < len(headings) and headings[self._seen].start < start:
            self._above = _enter(self._above, headings[self._seen], self._text)
            self._seen += 1
        inside = headings[self._seen] if self._seen < len(headings) else None
        here = inside is not None and inside.start == start
        return _context(_outside(self._above, inside) if here and inside else self._above, header)


def _tree(units: list[Unit]) -> Section:
    root = Section(0, start=units[0].start, end=units[-1].end)
    here = root
    for unit in units:
        if unit.kind == "heading":
            level = _level(unit)
            while here.level >= level and here.above is not None:
                here = here.above
            here.below.append(Section(level, here, start=unit.start))
            here = here.below[-1]
        here.units.append(unit)
        section: Section | None = here
        while section is not None and section is not root:
            section.end = unit.end
            section = section.above
    return root


def _level(heading: Unit) -> int:
    return min(max(heading.level, 1), _DEEPEST)


def _cut(cutter: Cutter, section: Section, lead: list[Unit]) -> list[Cut]:
    """The section as pieces. `lead`: headings above it that have no text of their own and stay with it."""
    own = lead + section.units
    start = own[0].start if own else section.start
    # The whole document is a piece only when it has one top section: two are kept apart where they can be.
    if cutter.measure.size(start, section.end) <= cutter.size and (section.above is not None or len(section.below) < 2):
        return [Cut(Piece(start, section.end), section if not lead else section.above or section)]
    cuts: list[Cut] = []
    if not section.below or any(unit.kind != "heading" for unit in own):
        cuts = [Cut(piece, section) for piece in pack(cutter.text, own, cutter.size - cutter.overlap, cutter.measure)]
        own = []
    for child in section.below:
        for cut in _cut(cutter, child, own):
            if cuts and _belong(cuts[-1], cut, section, cutter):
                cuts[-1] = Cut(Piece(cuts[-1].piece.start, cut.piece.end, cuts[-1].piece.header), section)
            else:
                cuts.append(cut)
        own = []
    return cuts


def _belong(a: Cut, b: Cut, section: Section, cutter: Cutter) -> bool:
    """Whether two neighbours in a section become one: both fit and one is small; tiny, where they are top sections."""
    size = cutter.size - cutter.overlap
    if a.home is b.home or cutter.measure.size(a.piece.start, b.piece.end) > size:
        return False
    return min(cutter.length(a), cutter.length(b)) < (size // 12 if section.above is None else size // 3)


def _enter(above: list[tuple[int, str]], heading: Unit, text: str) -> list[tuple[int, str]]:
    title = " ".join(text[heading.start : heading.end].split())[:_TITLE]
    return [*_outside(above, heading), (_level(heading), title)]


def _outside(above: list[tuple[int, str]], heading: Unit) -> list[tuple[int, str]]:
    return [entry for entry in above if entry[0] < _level(heading)]


def _context(above: list[tuple[int, str]], header: str) -> str:
    path = " > ".join(title for _, title in above)
    while len(path) > _PATH and len(above) > 1:
        above = above[1:]  # the nearest heading says most
        path = " > ".join(title for _, title in above)
    return "\n".join(part for part in (path, header) if part)


def _parent(cut: Cut, start: int, parent_size: int, measure: Measure) -> tuple[int, int] | None:
    """The smallest section around the piece that holds more than it, if it is small enough to be shown whole."""
    section: Section | None = cut.home
    while section is not None:
        holds = section.start <= start and cut.piece.end <= section.end
        if holds and section.end - section.start > cut.piece.end - start:
            fits = measure.size(section.start, section.end) <= parent_size
            return (section.start, section.end) if fits else None
        section = section.above
    return None

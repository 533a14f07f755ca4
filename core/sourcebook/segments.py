"""Documents in pieces: how they are stored, and how they leave the jail."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sourcebook.documents import SEGMENT, Block, Document, Locator, Segment, Warn, meeting
from sourcebook.placed import PlacedLines


def segments_of(document: Document) -> Iterator[Segment]:
    """Cut a document for storage. An empty text is one empty segment."""
    blocks, locators = document.blocks, document.locators
    for start in range(0, max(len(document.text), 1), SEGMENT):
        end = min(start + SEGMENT, len(document.text))
        first = bisect_left(blocks, start, key=lambda b: b.start)
        last = bisect_left(blocks, end, lo=first, key=lambda b: b.start)
        yield Segment(start, end, document.text[start:end], blocks[first:last], _within(locators, start, end))


def _within(locators: Sequence[Locator], start: int, end: int) -> Sequence[Locator]:
    """Those that meet `[start, end)`, cut at its borders."""
    if isinstance(locators, PlacedLines):
        return locators.within(start, end)
    inside = list(meeting(locators, start, end))
    for i in (0, -1) if inside else ():
        x = inside[i]
        inside[i] = Locator(max(x.start, start), min(x.end, end), x.place)
    return tuple(inside)


def join_segments(
    segments: Iterable[Segment], metadata: Mapping[str, Any] | None = None, warnings: tuple[Warn, ...] = ()
) -> Document:
    """The inverse of `segments_of`, for all segments of a document in order."""
    text: list[str] = []
    blocks: list[Block] = []
    locators: list[Locator] = []
    for segment in segments:
        text.append(segment.text)
        blocks.extend(segment.blocks)
        for x in segment.locators:
            cut = locators[-1] if locators and x.start == segment.start else None
            if cut is not None and cut.end == x.start and cut.place == x.place:
                locators[-1] = Locator(cut.start, x.end, x.place)
            else:
                locators.append(x)
    return Document("".join(text), tuple(blocks), tuple(locators), dict(metadata or {}), warnings)

"""Windows: of sentences within their paragraph, and of tokens without regard to anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sourcebook import Chunk, Document
from sourcebook.sentences import sentences
from sourcebook_plugins.chunking.cutting import Unit, split, trimmed, units_of
from sourcebook_plugins.chunking.measures import Measure
from sourcebook_plugins.chunking.sections import Paths

_WHOLE = ("table", "table_row", "code", "list_item")  # cut as blocks: sentences say little about them
_Range = tuple[int, int]


def sentence_windows(
    document: Document, count: int, overlap: int, size: int, parent_size: int, measure: Measure
) -> Iterator[Chunk]:
    """Windows of `count` sentences, with the path of their headings as context and their paragraph as parent."""
    units = units_of(document)
    paths = Paths(units, document.text)
    lead = -1  # where headings begin that wait for what follows them
    for i, unit in enumerate(units):
        first = lead if lead >= 0 else unit.start
        waits = unit.kind == "heading" and i + 1 < len(units) and measure.size(first, unit.end) <= size // 2
        if waits:
            lead = first
            continue
        lead = -1
        pieces = [*_windows(document.text, unit, first, count, overlap, size, measure)]
        fits = measure.size(first, unit.end) <= parent_size
        for start, end, header in pieces:
            parent = (first, unit.end) if fits and (start, end) != (first, unit.end) else None
            yield Chunk(start, end, paths.context(start, header), parent)


def _windows(
    text: str, unit: Unit, first: int, count: int, overlap: int, size: int, measure: Measure
) -> Iterator[tuple[int, int, str]]:
    """One unit's windows with a cut table's header; the first begins at `first`, where the headings above it do."""
    if unit.kind in _WHOLE:
        pieces = split(text, unit, size - measure.size(first, unit.start), size, measure)
        for n, (start, end, header) in enumerate(pieces):
            yield (first if n == 0 else start), end, header
        return
    found = [*_sentences(text, unit, first, size, measure)]
    at = 0
    while True:
        last = _last(found, at, count, size, measure)
        yield found[at][0], found[last][1], ""
        if last == len(found) - 1:
            return
        # The next begins with the last sentences of this one, where it then still holds a new one.
        at = max(last + 1 - overlap, at + 1)
        while at <= last and measure.size(found[at][0], found[last + 1][1]) > size:
            at += 1


def _sentences(text: str, unit: Unit, first: int, size: int, measure: Measure) -> Iterator[_Range]:
    """The unit's sentences, each at most `size`; the first with the headings above it."""
    for n, (start, end) in enumerate(sentences(text[unit.start : unit.end])):
        start, end = trimmed(text, unit.start + start, unit.start + end)
        if start >= end:
            continue
        begin = first if n == 0 else start
        room = size - measure.size(begin, start)
        for piece in split(text, Unit(start, end, "paragraph"), max(room, 1), size, measure):
            yield (begin if piece.start == start else piece.start), piece.end


def _last(found: Sequence[_Range], at: int, count: int, size: int, measure: Measure) -> int:
    """The last sentence of the window that begins with sentence `at`."""
    last = at
    while last + 1 < len(found) and last + 1 < at + count and measure.size(found[at][0], found[last + 1][1]) <= size:
        last += 1
    return last


def token_windows(text: str, size: int, overlap: int, measure: Measure) -> Iterator[Chunk]:
    """Windows of `size`, each with the last `overlap` of the one before; their ends are moved back to a word's."""
    at = trimmed(text, 0, len(text))[0]
    while at < len(text):
        end = _word_end(text, at, min(measure.reach(at, size), len(text)))
        start, stop = trimmed(text, at, end)
        if start < stop:
            yield Chunk(start, stop)
        if end >= len(text) or not text[end:].strip():
            return
        back = max(measure.back(end, overlap), at + 1) if overlap else end
        at = trimmed(text, _word_start(text, back, end), len(text))[0]


def _word_end(text: str, start: int, end: int) -> int:
    """The last word's end in the second half of `[start, end)`, or its end."""
    if end >= len(text) or text[end].isspace() or text[end - 1].isspace():
        return end
    for at in range(end - 1, start + (end - start) // 2, -1):
        if text[at].isspace():
            return at
    return end


def _word_start(text: str, at: int, limit: int) -> int:
    """The next word's start from `at` on, at most `limit`."""
    if text[at - 1].isspace():
        return at
    while at < limit and not text[at].isspace():
        at += 1
    return at

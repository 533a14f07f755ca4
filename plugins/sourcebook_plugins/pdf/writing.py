"""Writes a page's units: lines joined, hyphens undone, a place for every line."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sourcebook import DocumentWriter, Place
from sourcebook.documents import Box
from sourcebook_plugins.pdf.annotations import Note, with_notes
from sourcebook_plugins.pdf.furniture import Candidate, Furniture
from sourcebook_plugins.pdf.layout import Body, Group, anchored, bulleted, groups_of
from sourcebook_plugins.pdf.lines import Line
from sourcebook_plugins.pdf.order import ordered
from sourcebook_plugins.pdf.tables import Table

_UNSPACED = re.compile("[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")
_FIRST_UNSPACED = "\u3000"
_HANGUL = re.compile("[\uac00-\ud7af]")
_COMPOUND = re.compile(r"[^\W\d_]{2,}-[^\W\d_]{2,}")
_AHEAD = 8  # pages that are read before one is written: they tell the body's size, and what runs through the document
_MOST_COMPOUNDS = 100_000
_LAST_WORD, _FIRST_WORD = re.compile(r"[^\W_]+$"), re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Page:
    """A page's number, lines, height in points, and notes; `running`: what of it may run over all pages."""

    number: int
    lines: list[Line]
    height: float
    notes: Sequence[Note] = ()
    running: list[Candidate] = field(default_factory=list)


def write_pages(out: DocumentWriter, pages: Iterator[Page], *, running: bool = False) -> None:
    """Write all pages. `running`: with running headers, footers and page numbers."""
    ahead: deque[Page] = deque(islice(pages, _AHEAD))
    writer = _PageWriter(out, Body.of(page.lines for page in ahead), running=running)
    for page in ahead:
        writer.learn(page)
    while ahead:
        writer.write(ahead.popleft())
        for following in islice(pages, 1):
            writer.learn(following)
            ahead.append(following)


class _PageWriter:
    """Writes pages one after the other. `body`: what the document's running text is like.

    It remembers the words that are written with a hyphen inside a line: at a line's end they keep it.
    """

    def __init__(self, out: DocumentWriter, body: Body, *, running: bool) -> None:
        self._out = out
        self._body = body
        # Lines with a hyphen inside, not yet searched for compounds: many documents never ask for one.
        self._hyphened: list[str] = []
        self._compounds: set[str] = set()
        self._furniture = None if running else Furniture()

    def learn(self, page: Page) -> None:
        """Take in a page that is yet to be written."""
        if len(self._hyphened) + len(self._compounds) < _MOST_COMPOUNDS:
            self._hyphened += [line.text for line in page.lines if "-" in line.text]
        if self._furniture is not None:
            page.running.extend(self._furniture.learn(page.lines, page.height))

    def write(self, page: Page) -> None:
        """Write a page."""
        lines = page.lines
        if self._furniture is not None:
            lines = self._furniture.without(lines, page.running, self._body.size)
        groups = anchored(groups_of(ordered(list(lines)), self._body))
        for group in with_notes(groups, page.notes) if page.notes else groups:
            if isinstance(group, Table):
                _write_table(self._out, page.number, group)
            else:
                self._out.block(self._pieces(group, page.number), group.kind, group.level)

    def _pieces(self, group: Group, number: int) -> Iterator[tuple[str, Place]]:
        texts = [line.text for line in group.lines]
        following = [*texts[1:], ""]
        if group.kind == "list_item":
            texts[0] = bulleted(texts[0])
        for line, text, after in zip(group.lines, texts, following, strict=True):
            yield text + self._joint(line, after, group), _place(number, line.box)

    def _joint(self, line: Line, following: str, group: Group) -> str:
        """What stands between a line and the next of its paragraph: a space, a hyphen that was meant, or nothing."""
        if not line.hyphen:
            return " " if following and _space_between(line, following, group) else ""
        before, after = _LAST_WORD.search(line.text), _FIRST_WORD.match(following)
        if before is None or after is None:
            return "-"
        # "Lucene-BM25" and "d-dimensional" have theirs in any case: no language cuts a single letter off.
        meant = not after.group()[0].islower() or len(before.group()) < 2
        return "-" if meant or self._is_compound(f"{before.group()}-{after.group()}") else ""

    def _is_compound(self, word: str) -> bool:
        """Whether it stands inside a line of what was learnt."""
        # Words first: the pattern looks at every letter for a word's beginning.
        words = [found for text in self._hyphened for found in text.split() if "-" in found]
        self._hyphened.clear()
        self._compounds.update(_COMPOUND.findall(" ".join(words).casefold()))
        return word.casefold() in self._compounds


def _space_between(line: Line, following: str, group: Group) -> bool:
    """Chinese and Japanese have none. Korean lines end inside words, and a drawn space tells where they do not."""
    before, after = line.text[-1], following[0]
    if before < _FIRST_UNSPACED:
        return True
    if _HANGUL.match(before) and _HANGUL.match(after):
        return line.spaced or not any(other.spaced for other in group.lines)
    return not (_UNSPACED.match(before) and _UNSPACED.match(after))


def _write_table(out: DocumentWriter, number: int, table: Table) -> None:
    out.end_table()
    headed = table.headed
    for i, (cells, box) in enumerate(table.rows()):
        out.row(cells, _place(number, box), header=headed and i == 0)
    out.end_table()


def _place(number: int, box: Box) -> Place:
    left, top, right, bottom = box
    # To a tenth of a point. `round` takes twenty times as long.
    left, top, right, bottom = int(left * 10 + 0.5), int(top * 10 + 0.5), int(right * 10 + 0.5), int(bottom * 10 + 0.5)
    return Place.on_page(number, (left / 10, top / 10, right / 10, bottom / 10))

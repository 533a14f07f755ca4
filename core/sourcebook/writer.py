"""What a parser writes into. It counts offsets, normalises and caps, so that no parser has to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Any

from sourcebook.documents import BLOCK_KINDS, MAX_TEXT, Block, BlockKind, Document, Locator, Place, Warn
from sourcebook.errors import LimitExceeded
from sourcebook.placed import PlacedLines

Pieces = str | Iterable[tuple[str, Place | None]]
"""A block's text: a string, or pieces with the place of each."""

MAX_WARNINGS = 100
MAX_MEMBER_BYTES = 512 * 1024 * 1024

# A vertical tab and a form feed end a line too: dropping them would glue two words.
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\u0085\u2028\u2029]")
# Everything that is no character: C0 and C1 controls but tab and LF, lone surrogates, non-characters, the BOM.
_JUNK = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_TIGHT = {"list_item", "table_row"}


def clean(text: str) -> str:
    """LF line ends, no controls, no lone surrogates, NFC."""
    if text.isprintable():  # nothing to take out: most texts are a line or a word
        return text if text.isascii() else unicodedata.normalize("NFC", text)
    text = _LINE_ENDS.sub("\n", text)
    text = _SURROGATES.sub("\ufffd", _JUNK.sub("", text))
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside the file (an attachment, an archive's member): it becomes a child source."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.data)

    @property
    def pieces(self) -> Sequence[bytes]:
        """Its bytes, in pieces."""
        return (self.data,)


class DocumentWriter:
    """Collects one document.

    `block` appends a unit of text; units are kept apart by a blank line, list items and table rows by a line end.
    An empty unit is left out. Consecutive `row`s make one table.
    """

    def __init__(self, max_text: int = MAX_TEXT) -> None:
        self._max = max_text
        self._text: list[str] = []
        self._size = 0
        self._blocks: list[Block] = []
        self._lines: PlacedLines | None = PlacedLines([], [], [], [])  # as long as there are no other locators
        self._locators: list[Locator] = []
        self._table: int | None = None  # where the open table starts
        self._first_row = 0  # the index of its first row among the blocks
        self._last_kind = ""
        self._metadata: dict[str, Any] = {}
        self._warnings: list[Warn] = []
        self.members: list[Member] = []

    def block(self, pieces: Pieces, kind: BlockKind = "paragraph", level: int = 0) -> None:
        """Append one unit. Its pieces are joined as they are: a parser that wants a space between two writes it.

        Raises `LimitExceeded` when the document grows over its cap, `ValueError` for an unknown kind.
        """
        if kind not in BLOCK_KINDS:
            raise ValueError(f"unknown block kind {kind!r}; known: {', '.join(BLOCK_KINDS)}")
        cleaned = _strip(_compose([(pieces, None)] if isinstance(pieces, str) else list(pieces)))
        if not cleaned:
            return
        if kind != "table_row":
            self._close_table()
        between = self._between(kind)
        start = self._size + len(between)
        if kind == "table_row" and self._table is None:
            self._table, self._first_row = start, len(self._blocks)
        self._append([between, *[text for text, _ in cleaned]])
        self._locate(start, cleaned)
        self._blocks.append(Block(start, self._size, kind, level))
        self._last_kind = kind

    def row(self, cells: Sequence[str], place: Place | None = None, *, header: bool = False) -> None:
        """Append one table row as a pipe row. `header=True` begins a new table and adds the rule line below it."""
        if header:
            self._close_table()
        line = "| " + " | ".join(_cell(cell) for cell in cells) + " |"
        if header:
            line += "\n|" + " --- |" * len(cells)
        self.block([(line, place)], "table_row")

    def end_table(self) -> None:
        """The next row begins another table."""
        self._close_table()

    def meta(self, **values: Any) -> None:
        """Add metadata (title, authors, created, modified, language, pages, ...). None and empty values are ignored."""
        for name, value in values.items():
            if value not in (None, "", [], ()):
                self._metadata[name] = _plain(value)

    def member(self, name: str, data: bytes) -> None:
        """Hand over a file found inside this one."""
        if sum(len(m.data) for m in self.members) + len(data) > MAX_MEMBER_BYTES:
            raise LimitExceeded(
                "The files inside this file are too large together.", code="too_large_unpacked", limit=MAX_MEMBER_BYTES
            )
        self.members.append(Member(clean(name)[:255], data))

    def warn(self, code: str, message: str) -> None:
        """Say what the reader of this document should know; at most `MAX_WARNINGS` are kept."""
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(Warn(code, clean(message)[:500]))

    def document(self) -> Document:
        """All that was written."""
        self._close_table()
        text = "".join(self._text)
        locators = self._lines[:] if self._lines else tuple(self._locators)
        return Document(text, tuple(self._blocks), locators, dict(self._metadata), tuple(self._warnings))

    def _between(self, kind: str) -> str:
        """What keeps the next block apart from the last."""
        if not self._size:
            return ""
        return "\n" if kind in _TIGHT and kind == self._last_kind else "\n\n"

    def _append(self, texts: Sequence[str]) -> None:
        size = self._size + sum(map(len, texts))
        if size > self._max:
            raise LimitExceeded(
                f"The file's text is longer than {self._max:,} characters.",
                code="text_too_long",
                limit=self._max,
            )
        self._text += texts
        self._size = size

    def _locate(self, start: int, pieces: Sequence[tuple[str, Place | None]]) -> None:
        for text, place in pieces:
            end = start + len(text)
            if place is not None:
                fields = vars(place)
                if self._lines is not None and len(fields) == 2:  # of `Place.on_page`
                    self._lines.append(start, end, fields["page"], fields["box"])
                else:
                    self._put(start, end, place)
            start = end

    def _put(self, start: int, end: int, place: Place) -> None:
        """A locator beside other kinds than lines of pages."""
        if self._lines is not None:
            self._locators, self._lines = list(self._lines), None
        # Neighbours at one place are one locator, so that cutting into segments and joining gives the same document.
        found = self._locators
        if found and found[-1].end == start and found[-1].place == place:
            start = found.pop().start
        found.append(Locator(start, end, place))

    def _close_table(self) -> None:
        if self._table is not None:
            self._blocks.insert(self._first_row, Block(self._table, self._size, "table"))  # it stands before its rows
            self._table = None
            self._last_kind = "table"


def _compose(pieces: list[tuple[str, Place | None]]) -> list[tuple[str, Place | None]]:
    """Clean every piece, so that their sum is NFC too.

    A piece may begin with a mark that composes with the end of the one before; then the two are normalised together
    and the boundary falls after the composed character.
    """
    whole = "".join([text for text, _ in pieces])
    if whole.isprintable() and (whole.isascii() or unicodedata.is_normalized("NFC", whole)):
        return [piece for piece in pieces if piece[0]]  # nothing to do: so it is for nearly all blocks
    done: list[tuple[str, Place | None]] = []
    for text, place in pieces:
        cleaned = clean(text)
        if done and cleaned and _meets(done[-1][0], cleaned):
            cleaned = _join_marks(done, cleaned)
        if cleaned:
            done.append((cleaned, place))
    return done


def _meets(before: str, after: str) -> bool:
    """Whether `before + after`, each NFC, is not. Almost always told by one character."""
    return after[0] > "\u02ff" and not unicodedata.is_normalized("NFC", before + after)


def _join_marks(done: list[tuple[str, Place | None]], cleaned: str) -> str:
    """Compose `cleaned` with the end of `done`, in place; return what stays its own."""
    before, place = done.pop()
    # A piece of marks alone may hide the letter that they all belong to.
    while done and all(map(unicodedata.combining, before)):
        earlier, place = done.pop()
        before = earlier + before
    whole = unicodedata.normalize("NFC", before + cleaned)
    # What the joint changed lies around it: the longest common tail of `whole` and the piece stays the piece's.
    keep = _common_tail(whole, cleaned)
    done.append((whole[: len(whole) - keep], place))
    return whole[len(whole) - keep :]


def _common_tail(a: str, b: str) -> int:
    size = 0
    while size < min(len(a), len(b)) and a[-1 - size] == b[-1 - size]:
        size += 1
    return size


def _strip(pieces: list[tuple[str, Place | None]]) -> list[tuple[str, Place | None]]:
    """Without blank lines at the start and white space at the end: blocks begin and end with ink."""
    if pieces and not pieces[0][0][0].isspace() and not pieces[-1][0][-1].isspace():
        return pieces
    first, last = 0, len(pieces)
    while first < last and not pieces[first][0].strip():
        first += 1
    while first < last and not pieces[last - 1][0].strip():
        last -= 1
    pieces = pieces[first:last]
    if pieces:
        # Leading line ends go; the spaces of the first line with ink may be a code block's indent.
        pieces[0] = (_BLANK_LINES.sub("", pieces[0][0]), pieces[0][1])
        pieces[-1] = (pieces[-1][0].rstrip(), pieces[-1][1])
    return pieces


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _plain(value: Any) -> Any:
    """JSON-safe and clean: dates as ISO text, strings cut to 2,000 characters."""
    if isinstance(value, str):
        return clean(value).strip()[:2000]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value][:100]
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    return clean(str(value))[:2000]

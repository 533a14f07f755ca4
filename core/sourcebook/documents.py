"""The values that flow from a file to the index.

A place is a range of code points in `Document.text`, and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

BlockKind = Literal["heading", "paragraph", "list_item", "table", "table_row", "code", "caption", "footnote"]
BLOCK_KINDS: tuple[str, ...] = get_args(BlockKind)

MAX_TEXT = 16_000_000
"""Code points in one document."""

SEGMENT = 16 * 1024
"""Code points in one stored segment, at most."""

LONGEST_SEGMENT = 64 * 1024
"""The same of what earlier versions stored, which is read as it is."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom in points of 1/72 inch, from the page's top left corner."""


KINDS = ("page", "slide", "sheet", "part", "paragraph")
"""What a number or a name in a place is of, where it has to be said."""


@dataclass(frozen=True)
class Place:
    """Where a piece of text stands in the original file. Only what the format knows is set."""

    # Without slots: there are millions of these, and two of eleven fields are set in most (see `on_page`).

    page: int | None = None  # 1-based
    box: Box | None = None
    slide: int | None = None  # 1-based
    shape: str | None = None
    sheet: str | None = None
    cells: str | None = None  # "B2:D9"
    path: tuple[str, ...] | None = None  # the headings above, outermost first
    paragraph: int | None = None  # 1-based, in the file
    chapter: str | None = None
    part: str | None = None  # of a mail or an archive
    seconds: float | None = None

    @classmethod
    def on_page(cls, page: int, box: Box) -> Self:
        """`Place(page=page, box=box)`, in a fifth of the time: a PDF has one for every line."""
        place = object.__new__(cls)
        object.__setattr__(place, "__dict__", {"page": page, "box": box})
        return place

    def to_json(self) -> dict[str, Any]:
        """Only the fields that are set."""
        if len(set_alone := vars(self)) == 2:  # of `on_page`
            return {"page": set_alone["page"], "box": list(set_alone["box"])}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items() if v is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        values = dict(data)
        for name in ("box", "path"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)

    def __str__(self) -> str:
        """For a person: 'page 3', 'sheet Costs, B2:D9', 'Care > Watering', 'paragraph 4', '0:01:23'."""
        return self.said()

    def said(self, *kinds: str) -> str:
        """The same, with the words of another language for `KINDS`."""
        return ", ".join(self.parts(*kinds))

    def parts(self, *kinds: str) -> list[str]:
        """The same, one by one: what a person is told first comes first."""
        page, slide, sheet, part, paragraph = kinds or KINDS
        parts = [
            f"{page} {self.page}" if self.page else "",
            f"{slide} {self.slide}" if self.slide else "",
            f"{sheet} {self.sheet}" if self.sheet else "",
            self.cells or "",
            self.chapter or "",
            " > ".join(self.path) if self.path else "",
            f"{part} {self.part}" if self.part else "",
            # It is counted from the file's beginning: behind a heading, it would be taken for one of that chapter.
            f"{paragraph} {self.paragraph}" if self.paragraph and not self.path else "",
            _clock(self.seconds) if self.seconds is not None else "",
        ]
        return [said for said in parts if said]


def _clock(seconds: float) -> str:
    """As players show it: '0:01:23'."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


@dataclass(frozen=True, slots=True)
class Block:
    """`text[start:end]` is one structural unit. `level` is a heading's depth (1 is top) or a list item's (0 is outer).

    Blocks are sorted by (start, -end). Only a `table` holds others: its `table_row`s.
    """

    start: int
    end: int
    kind: BlockKind
    level: int = 0


@dataclass(frozen=True, slots=True)
class Locator:
    """`text[start:end]` stands at `place` in the original. Sorted, never overlapping."""

    start: int
    end: int
    place: Place


@dataclass(frozen=True, slots=True)
class Warn:
    """Something the reader of this document should know, such as pages without text."""

    code: str
    message: str


@dataclass(frozen=True)
class Document:
    """What one parser read from one file.

    `text` is NFC with LF line ends, without NUL or lone surrogates, at most `MAX_TEXT` code points, in reading order.
    """

    text: str
    blocks: tuple[Block, ...] = ()
    locators: Sequence[Locator] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[Warn, ...] = ()

    def places(self, start: int, end: int) -> list[Place]:
        """The places that `text[start:end]` covers, in order. Empty for a format without locators."""
        return places_in(self.locators, start, end)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range that a chunker cut. `context` is embedded and indexed before the text, and never quoted.

    `parent` is a larger range of the same document, shown to the model in the chunk's place.
    """

    start: int
    end: int
    context: str = ""
    parent: tuple[int, int] | None = None


def indexed_text(context: str, text: str) -> str:
    """What is embedded and indexed of a passage."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True)
class Passage:
    """A chunk that is stored: the unit of retrieval. `document.text[start:end] == text`.

    `score` is the fused one; `scores` has each leg's own. `shown` is what the model reads in its place (the parent, or
    the passage with its neighbours) and begins at `shown_start`; empty where nothing was expanded.
    """

    id: str
    source_id: str
    notebook_id: str
    document_id: str
    generation_id: str
    ordinal: int
    start: int
    end: int
    text: str
    context: str = ""
    parent: tuple[int, int] | None = None
    title: str = ""
    places: tuple[Place, ...] = ()
    score: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    shown_start: int = -1
    shown: str = ""

    @property
    def indexed(self) -> str:
        """What is embedded and indexed: context and text."""
        return indexed_text(self.context, self.text)

    @property
    def prompt_text(self) -> str:
        """What the model reads."""
        return self.shown or self.text

    @property
    def prompt_start(self) -> int:
        """Where `prompt_text` starts in the document."""
        return self.shown_start if self.shown else self.start


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored piece of a document, at most `SEGMENT` code points: `document.text[start:end] == text`.

    All offsets are the document's. A block stands in the segment where it starts; locators are cut at the border.
    """

    start: int
    end: int
    text: str
    blocks: tuple[Block, ...]
    locators: Sequence[Locator]


def meeting(locators: Sequence[Locator], start: int, end: int) -> Sequence[Locator]:
    """Those of the sorted `locators` that meet `[start, end)`."""
    first = bisect_right(locators, start, key=lambda x: x.end)
    last = bisect_left(locators, end, lo=first, key=lambda x: x.start)
    return locators[first:last]


def places_in(locators: Sequence[Locator], start: int, end: int) -> list[Place]:
    """The places of the sorted `locators` that meet `[start, end)`."""
    return [locator.place for locator in meeting(locators, start, end)]


def check_document(document: Document) -> None:
    """Raise `ValueError` where a document breaks its own rules; the jail's parent trusts no child.

    Ranges lie inside the text, are not empty and are sorted, kinds are known, locators do not overlap.
    """
    size = len(document.text)
    if size > MAX_TEXT:
        raise ValueError(f"text has {size} code points, more than {MAX_TEXT}")
    _check_ranges("block", ((b.start, b.end) for b in document.blocks), size)
    if unknown := {b.kind for b in document.blocks} - set(BLOCK_KINDS):
        raise ValueError(f"unknown block kinds {sorted(unknown)}")
    _check_ranges("locator", ((x.start, x.end) for x in document.locators), size)
    if any(a.end > b.start for a, b in zip(document.locators, document.locators[1:], strict=False)):
        raise ValueError("locators overlap")


def check_chunks(chunks: Iterable[Chunk], size: int) -> None:
    """Raise `ValueError` unless every chunk is a non-empty range of a text of `size` code points, ordered by start."""
    last = 0
    for c in chunks:
        if not 0 <= c.start < c.end <= size or c.start < last:
            raise ValueError(f"chunk [{c.start}, {c.end}) is empty, out of order or outside a text of {size}")
        if c.parent is not None and not 0 <= c.parent[0] <= c.start < c.end <= c.parent[1] <= size:
            raise ValueError(f"chunk [{c.start}, {c.end}) does not lie in its parent {c.parent}")
        last = c.start


def _check_ranges(what: str, ranges: Iterable[tuple[int, int]], size: int) -> None:
    last = 0
    for start, end in ranges:
        if not 0 <= start < end <= size or start < last:
            raise ValueError(f"{what} [{start}, {end}) is empty, out of order or outside a text of {size}")
        last = start

"""From lines to paragraphs, headings, list items and tables, by geometry alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sourcebook.documents import BlockKind
from sourcebook_plugins.pdf.lines import Line
from sourcebook_plugins.pdf.tables import Table, table_at

_BULLET = re.compile(r"[·•●○◦▪■□‣∙⁃✓➢❖]\s*(?=\S)")
_NUMBER = re.compile(r"(?:\(?\d{1,2}[.)]|\([a-z]{1,3}\)|[a-z]\))\s+\S")
_CAPTION = re.compile(
    r"(?:fig(?:ure|\.)|table|abb(?:ildung|\.)|tab(?:elle|\.)|figur[ae]|tableau|tabla|tabela|chart|exhibit|図|图|表)\s*\d[\d.\-]*[a-z]?"
    r"\s*(?:[:.|–—]|$|(?-i:[^\W\da-zß-ÿ]))",
    re.IGNORECASE,
)
_FOOTNOTE = re.compile(r"([1-9]\d{0,2}|[*†‡§¶]{1,3})\s*(?=[^\W\d]|[\"“(])")
_SHORTEST_FOOTNOTE = 15  # characters; shorter ones are numbers in formulas
_SMALL = 0.93  # of the body's size
_ENDS = ".!?:;。！？؟।"
_CLOSERS = "\"'”’»)]"
_LETTER = re.compile(r"[^\W\d_]")
_LONGEST_HEADING, _LONGEST_BOLD, _MOST_HEADING_LINES = 150, 100, 3
_MOST_BOLD = 0.25  # of the text; where more is bold, bold is no sign of a heading


class Group:
    """Lines that are one unit of text. `left` and `right` enclose them."""

    __slots__ = ("kind", "left", "level", "lines", "right")

    def __init__(self, line: Line, kind: BlockKind) -> None:
        self.lines = [line]
        self.kind = kind
        self.level = 0
        self.left, _, self.right, _ = line.box

    def add(self, line: Line) -> None:
        """The next line."""
        self.lines.append(line)
        self.left = min(self.left, line.box[0])
        self.right = max(self.right, line.box[2])


class Margins:
    """How far to the right the lines of a page go that begin at about the same place."""

    _STEP = 12.0  # points; a paragraph's first line is rarely further in than two of them

    def __init__(self, lines: Sequence[Line]) -> None:
        self._rights: dict[int, float] = {}
        for line in lines:
            step = int(line.box[0] // self._STEP)
            if not line.cells:
                self._rights[step] = max(self._rights.get(step, 0.0), line.box[2])

    def right(self, line: Line) -> float:
        """The right margin of the column that `line` stands in."""
        step = int(line.box[0] // self._STEP)
        return max(self._rights.get(s, 0.0) for s in range(step - 2, step + 2))


@dataclass(frozen=True, slots=True)
class Body:
    """The running text of a document: its size in points (0 without any), and whether bold stands out from it."""

    size: float
    bold_tells: bool

    @classmethod
    def of(cls, pages: Iterable[Sequence[Line]]) -> Body:
        """The size of most characters."""
        sizes: Counter[float] = Counter()
        bold = 0
        for lines in pages:
            for line in lines:
                sizes[round(line.size, 1)] += len(line.text)
                bold += len(line.text) if line.bold else 0
        if not sizes:
            return cls(0.0, False)
        return cls(sizes.most_common(1)[0][0], bold < _MOST_BOLD * sizes.total())


def groups_of(lines: list[Line], body: Body) -> list[Group | Table]:
    """The units of a page's lines, in their order."""
    gap, margins = _usual_gap(lines), Margins(lines)
    found: list[Group | Table] = []
    i = 0
    while i < len(lines):
        table = table_at(lines, i)
        if table is not None and table.prose:
            # Two columns drawn line by line look like a table; they are read one after the other.
            lines[i : i + table.length] = [line for column in table.columns() for line in column]
            for line in lines[i : i + table.length]:
                line.cells = ()
            continue
        if table is not None:
            found.append(table)
            i += table.length
            continue
        last = found[-1] if found else None
        if isinstance(last, Group) and _continues(last, lines[i], gap, margins):
            last.add(lines[i])
        else:
            found.append(Group(lines[i], "list_item" if _marked(lines[i].text, last) else "paragraph"))
        i += 1
    lowest = max((line.box[3] for line in lines), default=0.0)
    for group in found:
        if isinstance(group, Group):
            _name(group, body, lowest)
    return found


def _name(group: Group, body: Body, lowest: float) -> None:
    """Tell footnotes, captions and headings from other text. `lowest`: where the page's last line ends."""
    if _is_footnote(group, body, lowest):
        group.kind = "footnote"
    elif group.kind == "paragraph" and _CAPTION.match(group.lines[0].text):
        group.kind = "caption"
    elif level := _heading(group, body):
        group.kind, group.level = "heading", level


def _is_footnote(group: Group, body: Body, lowest: float) -> bool:
    """Small text that begins with a mark, in the lower half of the page."""
    line = group.lines[0]
    if line.top < lowest / 2 or len(line.text) < _SHORTEST_FOOTNOTE:
        return False
    return body.size > 0 and line.size < _SMALL * body.size and _FOOTNOTE.match(line.text) is not None


def anchored(groups: list[Group | Table]) -> list[Group | Table]:
    """The groups with each footnote behind the paragraph that refers to it, where exactly one does."""
    if not any(isinstance(group, Group) and group.kind == "footnote" for group in groups):
        return groups
    found = [group for group in groups if not isinstance(group, Group) or group.kind != "footnote"]
    for group in groups:
        if not isinstance(group, Group) or group.kind != "footnote":
            continue
        mark = _FOOTNOTE.match(group.lines[0].text)
        anchors = [i for i, other in enumerate(found) if mark and _refers(other, mark.group(1))]
        at = anchors[0] + 1 if len(anchors) == 1 else len(found)
        while at < len(found) and isinstance(following := found[at], Group) and following.kind == "footnote":
            at += 1
        found.insert(at, group)
    return found


def _refers(group: Group | Table, mark: str) -> bool:
    """Whether text has `mark` right behind a word or its full stop, as a raised mark is read."""
    if isinstance(group, Table) or group.kind == "footnote":
        return False
    text = " ".join(line.text for line in group.lines)
    return re.search(rf"[^\W\d_][.,;:)\"”’]?{re.escape(mark)}(?![\w*])", text) is not None


def _usual_gap(lines: Sequence[Line]) -> float:
    """The space between the lines of a paragraph on this page, as a part of the line's height."""
    gaps = [
        (b.top - a.bottom) / a.size
        for a, b in pairwise(lines)
        if a.top < b.top < a.bottom + 1.5 * a.size and abs(a.box[0] - b.box[0]) < 2 * a.size
    ]
    return max(median(gaps), 0.0) if gaps else 0.3


def _marked(text: str, last: Group | Table | None) -> bool:
    """Whether a line begins a list item. A number does so only where a sentence or another item ended."""
    if text[0].isalpha() and text[1:2] != ")":
        return False  # as most lines
    if _BULLET.match(text):
        return True
    if not _NUMBER.match(text):
        return False
    return not isinstance(last, Group) or last.kind == "list_item" or _ended(last.lines[-1].text)


def _ended(text: str) -> bool:
    return text.rstrip(_CLOSERS)[-1:] in _ENDS


def _goes_on(text: str) -> bool:
    """Whether a line may begin inside a sentence: with a letter that is no capital, in scripts without them too."""
    return text[0].isalpha() and not text[0].isupper()


def _continues(group: Group, line: Line, gap: float, margins: Margins) -> bool:
    """Whether `line` goes on in the paragraph, which the lines of `group` began."""
    last, size = group.lines[-1], group.lines[-1].size
    if _marked(line.text, group):
        return False
    if last.hyphen:
        return True
    if abs(line.size - size) > 0.2 * size or (last.bold and not line.bold):
        return False
    if line.top < last.top - size or line.box[0] > last.box[2]:
        # Up, or beside: the next column. Only a sentence that is open goes on there.
        return not _ended(last.text) and _goes_on(line.text)
    if (line.top - last.bottom) / size > gap + max(0.3 * gap, 0.25) or line.top <= last.top:
        return False
    return _aligned(group, line, size) and not _stops_short(group, line, size, margins)


def _aligned(group: Group, line: Line, size: float) -> bool:
    if line.cells or group.lines[-1].cells:
        # Justified text has wide gaps too, and straight edges on both sides.
        return abs(line.box[0] - group.left) < size and abs(line.box[2] - group.right) < size
    indent = line.box[0] - group.lines[-1].box[0]
    if group.kind == "list_item":
        return -0.5 * size < line.box[0] - group.left < 4 * size
    if len(group.lines) == 1:
        return _centred(group, line, size) or -4 * size < indent < 0.6 * size
    return abs(indent) < 0.6 * size


def _centred(group: Group, line: Line, size: float) -> bool:
    return abs(line.box[0] + line.box[2] - group.left - group.right) < size


def _stops_short(group: Group, line: Line, size: float, margins: Margins) -> bool:
    """Whether the last line had room for the first word of the next, and so was ended on purpose."""
    last = group.lines[-1]
    if _centred(group, line, size) and abs(last.box[0] - line.box[0]) > 0.6 * size:
        return False
    word = line.text.split(" ", 1)[0]
    width = (line.box[2] - line.box[0]) * len(word) / max(len(line.text), 1)
    right = max(group.right, line.box[2])
    if _ended(last.text) or not _goes_on(line.text):
        right = max(right, margins.right(last))
        return right - last.box[2] > width + size
    # Ragged text ends up to a long word early, so a word alone says little where the sentence is open.
    return right - last.box[2] > width + 6 * size


def _heading(group: Group, body: Body) -> int:
    """1 to 3 for a heading, by its size against the body's and by its weight; 0 for other text."""
    if len(group.lines) > _MOST_HEADING_LINES or not body.size:
        return 0
    ratio = min([line.size for line in group.lines]) / body.size
    bold = body.bold_tells and ratio > 0.95 and all(line.bold for line in group.lines)
    if ratio < 1.15 and not bold:  # as nearly all text is
        return 0
    text = " ".join([line.text for line in group.lines])
    numbered = group.kind == "list_item" and not _BULLET.match(text)  # "1. Introduction" looks like an item
    if not (group.kind == "paragraph" or (numbered and len(group.lines) == 1)):
        return 0
    if not _LETTER.search(text) or text[-1] in ".,;" or text[0] in "([*※":
        return 0
    if ratio < 1.15:
        return 3 if 2 < len(text) <= _LONGEST_BOLD else 0
    if not 2 < len(text) <= _LONGEST_HEADING:
        return 0
    return 1 if ratio >= 1.6 else 2 if ratio >= 1.25 else 3


def bulleted(text: str) -> str:
    """A list item's text with a plain "- " for its bullet."""
    return _BULLET.sub("- ", text, count=1) if _BULLET.match(text) else text

"""From lines to paragraphs, headings, list items and tables, by geometry alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from sourcebook_plugins.pdf.lines import Line
from sourcebook_plugins.pdf.tables import Table, table_at

_BULLET = re.compile(r"[•●○◦▪■□‣∙⁃✓➢❖]\s*(?=\S)")
_NUMBER = re.compile(r"(?:\(?\d{1,2}[.)]|\([a-z]{1,3}\)|[a-z]\))\s+\S")
_ENDS = ".!?:;。！？؟।"
_CLOSERS = "\"'”’»)]"
_LETTER = re.compile(r"[^\W\d_]")
_LONGEST_HEADING, _MOST_HEADING_LINES = 150, 3


@dataclass(slots=True)
class Group:
    """Lines that are one unit of text."""

    lines: list[Line] = field(default_factory=list)
    kind: Literal["paragraph", "heading", "list_item"] = "paragraph"
    level: int = 0

    @property
    def left(self) -> float:
        return min(line.box[0] for line in self.lines)

    @property
    def right(self) -> float:
        return max(line.box[2] for line in self.lines)


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


def body_size(pages: Iterable[Sequence[Line]]) -> float:
    """The height of most characters, in points; 0 without any."""
    sizes: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            sizes[round(line.size, 1)] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def groups_of(lines: list[Line], body: float) -> list[Group | Table]:
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
                line.cells = []
            continue
        if table is not None:
            found.append(table)
            i += table.length
            continue
        last = found[-1] if found else None
        if isinstance(last, Group) and _continues(last, lines[i], gap, margins):
            last.lines.append(lines[i])
        else:
            found.append(Group([lines[i]], "list_item" if _marked(lines[i].text, last) else "paragraph"))
        i += 1
    for group in found:
        if isinstance(group, Group) and (level := _heading(group, body)):
            group.kind, group.level = "heading", level
    return found


def _usual_gap(lines: Sequence[Line]) -> float:
    """The space between the lines of a paragraph on this page, as a part of the line's height."""
    gaps = [
        (b.top - a.bottom) / a.size
        for a, b in zip(lines, lines[1:], strict=False)
        if a.top < b.top < a.bottom + 1.5 * a.size and abs(a.box[0] - b.box[0]) < 2 * a.size
    ]
    return max(median(gaps), 0.0) if gaps else 0.3


def _marked(text: str, last: Group | Table | None) -> bool:
    """Whether a line begins a list item. A number does so only where a sentence or another item ended."""
    if _BULLET.match(text):
        return True
    if not _NUMBER.match(text):
        return False
    return not isinstance(last, Group) or last.kind == "list_item" or _ended(last.lines[-1].text)


def _ended(text: str) -> bool:
    return text.rstrip(_CLOSERS)[-1:] in _ENDS


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
        return not _ended(last.text) and line.text[:1].islower()
    if (line.top - last.bottom) / size > gap + max(0.3 * gap, 0.25) or line.top <= last.top:
        return False
    return _aligned(group, line, size) and not _stops_short(group, line, size, margins)


def _aligned(group: Group, line: Line, size: float) -> bool:
    if line.cells or group.lines[-1].cells:
        wide = line.cells and group.lines[-1].cells
        return not wide and abs(line.box[0] - group.left) < size and abs(line.box[2] - group.right) < size
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
    if _ended(last.text) or not line.text[0].islower():
        right = max(right, margins.right(last))
        return right - last.box[2] > width + size
    # Ragged text ends up to a long word early, so a word alone says little where the sentence is open.
    return right - last.box[2] > width + 6 * size


def _heading(group: Group, body: float) -> int:
    """1 to 3 for a heading, by its size against the body's; 0 for other text."""
    text = " ".join(line.text for line in group.lines)
    if len(group.lines) > _MOST_HEADING_LINES or not 2 < len(text) <= _LONGEST_HEADING or group.kind != "paragraph":
        return _numbered_heading(group, body)
    if not _LETTER.search(text) or text[-1] in ".,;":
        return 0
    ratio = min(line.size for line in group.lines) / body if body else 1.0
    if ratio >= 1.15:
        return 1 if ratio >= 1.6 else 2 if ratio >= 1.25 else 3
    bold = all(line.bold for line in group.lines)
    return 3 if bold and ratio > 0.95 and text[0] not in "([*" else 0


def _numbered_heading(group: Group, body: float) -> int:
    """ "1. Introduction" looks like a list item; its weight tells."""
    if group.kind != "list_item" or len(group.lines) > 1 or _BULLET.match(group.lines[0].text):
        return 0
    line = group.lines[0]
    if len(line.text) > _LONGEST_HEADING or line.text[-1] in ".,;" or not _LETTER.search(line.text):
        return 0
    ratio = line.size / body if body else 1.0
    return (1 if ratio >= 1.6 else 2 if ratio >= 1.25 else 3) if line.bold or ratio >= 1.15 else 0


def bulleted(text: str) -> str:
    """A list item's text with a plain "- " for its bullet."""
    return _BULLET.sub("- ", text, count=1) if _BULLET.match(text) else text

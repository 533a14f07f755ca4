"""Tables without lines: rows whose cells stand below each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from sourcebook.documents import Box
from sourcebook_plugins.pdf.lines import Line

_PROSE = 38  # characters; two columns of cells longer than this on average are columns of text
_GUTTER = 1.2  # of the size, between columns that two rows are enough for
_APART = 4.0  # of a row's height; rows further apart are not one table's
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Table:
    """`lines` are its rows; `spans` the left and right ends of its columns."""

    lines: Sequence[Line]
    spans: Sequence[tuple[float, float]]

    @property
    def length(self) -> int:
        """How many lines of the page it takes."""
        return len(self.lines)

    @property
    def prose(self) -> bool:
        """Whether this is text in two columns."""
        cells = [cell for line in self.lines for cell in line.cells]
        return (
            len(self.spans) == 2 and len(self.lines) > 2 and sum(len(cell.text) for cell in cells) > _PROSE * len(cells)
        )

    @property
    def headed(self) -> bool:
        """Whether the first row names the columns: words in most of them, and no figures."""
        first = self._row(self.lines[0])
        return len(self.lines) > 2 and sum(map(bool, first)) * 2 > len(first) and not _DIGIT.search("".join(first))

    def rows(self) -> list[tuple[list[str], Box]]:
        """The cells' texts, one a column, and the row's box."""
        return [(self._row(line), line.box) for line in self.lines]

    def columns(self) -> list[list[Line]]:
        """The cells, column by column."""
        found: list[list[Line]] = [[] for _ in self.spans]
        for line in self.lines:
            for cell in line.cells or [line]:
                found[self._column(cell)].append(cell)
        return found

    def _row(self, line: Line) -> list[str]:
        texts = [""] * len(self.spans)
        for cell in line.cells or [line]:
            column = self._column(cell)
            texts[column] = f"{texts[column]} {cell.text}".strip()
        return texts

    def _column(self, cell: Line) -> int:
        """The first column that the cell reaches into, else the nearest."""
        for i, (left, right) in enumerate(self.spans):
            if cell.box[0] < right and left < cell.box[2]:
                return i
        return min(range(len(self.spans)), key=lambda i: abs(self.spans[i][0] - cell.box[0]))


def table_at(lines: Sequence[Line], start: int) -> Table | None:
    """The table that begins with line `start`: two rows or more, in two columns or more."""
    if not lines[start].cells:
        return None
    end = _end(lines, start)
    rows = lines[start:end]
    if sum(bool(line.cells) for line in rows) < 2:
        return None
    spans = _spans(rows)
    if len(spans) < 2:
        return None
    gutters = [b[0] - a[1] for a, b in pairwise(spans)]
    # Narrow gaps may be chance: those of justified text, or of code. Wide and straight ones tell, or many of them.
    narrow = min(gutters) < _GUTTER * max(line.size for line in rows)
    if narrow and (len(spans) == 2 or sum(bool(line.cells) for line in rows) < 3):
        return None
    return Table(list(rows), spans)


def _end(lines: Sequence[Line], start: int) -> int:
    """Behind the last row. A line with a single cell belongs to the table where a row with several follows it."""
    end = start + 1
    for i in range(start + 1, len(lines)):
        a, b = lines[i - 1], lines[i]
        if not 0 < b.top - a.top < _APART * max(a.size, b.size):
            break
        if b.cells:
            end = i + 1
        elif i > end or b.box[2] - b.box[0] > 0.6 * (lines[start].box[2] - lines[start].box[0]):
            break
    return end


def _spans(rows: Sequence[Line]) -> list[tuple[float, float]]:
    """The columns: where the cells of the fuller rows stand. A cell over several columns would join them."""
    usual = median(len(line.cells) for line in rows if line.cells)
    cells = sorted(cell.box[0::2] for line in rows if len(line.cells) >= usual for cell in line.cells)
    spans: list[tuple[float, float]] = []
    for left, right in cells:
        if spans and left < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], right))
        else:
            spans.append((left, right))
    return spans

"""Reading order: pdfium's, which is that of drawing, mended where the geometry of the page contradicts it."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter

from sourcebook_plugins.pdf.lines import Line

_MOST = 400  # lines; a page with more is a drawing, and the pairs of its lines are too many

_Row = tuple[float, float, float, int]  # a line's top, left and right, and its index


def ordered(lines: list[Line]) -> list[Line]:
    """The lines, each behind all that stand above it in its own column; otherwise in the given order.

    Pages whose order is sound come back as they are, columns too: a column's top is above the one before, and beside
    it. What is mended is a header drawn last, or a table's labels drawn after its rows.
    """
    jumps = [i for i, (a, b) in enumerate(pairwise(lines), 1) if b.top < a.top - a.size]
    if not jumps or len(lines) > _MOST:
        return lines
    rows = sorted([(line.box[1], line.box[0], line.box[2], i) for i, line in enumerate(lines)])
    # Sound, where no line stands above an earlier one of its own column.
    if not any(j < i for i in jumps for j in _below(lines[i], rows)):
        return lines
    below = [_below(line, rows) for line in lines]
    waits = [0] * len(lines)
    for followers in below:
        for j in followers:
            waits[j] += 1
    ready = [i for i, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in below[i]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, j)
    # "Above" goes strictly down the page, so it has no circles and every line was reached.
    return [lines[i] for i in order]


def _below(line: Line, rows: Sequence[_Row]) -> list[int]:
    """The indexes of the lines that begin below `line` and share a good part of its width or theirs with it."""
    left, top, right, bottom = line.box
    part = 0.2 * (right - left)
    found = []
    for _, a, b, i in rows[bisect_right(rows, (top + bottom) / 2, key=itemgetter(0)) :]:
        if a < right and left < b:
            shared = (b if b < right else right) - (a if a > left else left)
            if shared > part or shared > 0.2 * (b - a):
                found.append(i)
    return found

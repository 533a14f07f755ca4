"""Reading order: pdfium's, which is that of drawing, mended where the geometry of the page contradicts it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import pairwise

from sourcebook_plugins.pdf.lines import Line

_MOST = 400  # lines; a page with more is a drawing, and the pairs of its lines are too many


def ordered(lines: list[Line]) -> list[Line]:
    """The lines, each behind all that stand above it in its own column; otherwise in the given order.

    Pages whose order is sound come back as they are, columns too: a column's top is above the one before, and beside
    it. What is mended is a header drawn last, or a table's labels drawn after its rows.
    """
    if len(lines) > _MOST or not _contradicted(lines):
        return lines
    below = [_below(a, lines) for a in lines]
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


def _contradicted(lines: Sequence[Line]) -> bool:
    """Whether some line stands above an earlier one of its own column. Looked for where the text jumps up only."""
    return any(b.top < a.top - a.size and bool(_below(b, lines[: i + 1])) for i, (a, b) in enumerate(pairwise(lines)))


def _below(line: Line, lines: Sequence[Line]) -> list[int]:
    """The indexes of the lines that begin below `line` and share a good part of its width or theirs with it."""
    left, top, right, bottom = line.box
    middle, part = (top + bottom) / 2, 0.2 * (right - left)
    found = []
    for j, other in enumerate(lines):
        a, t, b, _ = other.box
        if t > middle and a < right and left < b:
            shared = (b if b < right else right) - (a if a > left else left)
            if shared > part or shared > 0.2 * (b - a):
                found.append(j)
    return found

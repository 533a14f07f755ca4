"""Reading order: pdfium's, which is that of drawing, mended where the geometry of the page contradicts it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from sourcebook_plugins.pdf.lines import Line

_MOST = 400  # lines; a page with more is a drawing, and the pairs of its lines are too many


def ordered(lines: list[Line]) -> list[Line]:
    """The lines, each behind all that stand above it in its own column; otherwise in the given order.

    Pages whose order is sound come back as they are, columns too: a column's top is above the one before, and beside
    it. What is mended is a header drawn last, or a table's labels drawn after its rows.
    """
    if len(lines) > _MOST or not _contradicted(lines):
        return lines
    below: list[list[int]] = [[] for _ in lines]
    waits = [0] * len(lines)
    for i, a in enumerate(lines):
        for j, b in enumerate(lines):
            if i != j and _above(a, b):
                below[i].append(j)
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
    return any(
        b.top < a.top - a.size and any(_above(b, earlier) for earlier in lines[: i + 1])
        for i, (a, b) in enumerate(zip(lines, lines[1:], strict=False))
    )


def _above(a: Line, b: Line) -> bool:
    """Whether `a` ends above `b` and shares a good part of its width with it."""
    if (a.box[1] + a.box[3]) / 2 >= b.box[1]:
        return False
    shared = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    return shared > 0.2 * min(a.box[2] - a.box[0], b.box[2] - b.box[0])

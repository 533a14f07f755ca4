"""Locators in bulk: a PDF has one a line, with a page and a box, and hardly ever is one asked for by itself."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import starmap
from operator import le
from typing import Any, overload

import orjson

from sourcebook.documents import Box, Locator, Place


class PlacedLines(Sequence[Locator]):
    """Like a tuple of locators, kept column by column: on their way into the store nobody makes an object of each.

    `boxes` has four numbers each.
    """

    __slots__ = ("boxes", "ends", "pages", "starts")

    def __init__(self, starts: list[int], ends: list[int], pages: list[int], boxes: list[float]) -> None:
        """Raises `ValueError` where they are not of one length."""
        if not len(starts) == len(ends) == len(pages) or len(boxes) != 4 * len(starts):
            raise ValueError("columns of different lengths")
        self.starts, self.ends, self.pages, self.boxes = starts, ends, pages, boxes

    @classmethod
    def joined(cls, parts: Sequence[PlacedLines]) -> PlacedLines:
        """All of them, one after the other."""
        if len(parts) == 1:
            return parts[0]
        whole = cls([], [], [], [])
        for part in parts:
            whole.starts += part.starts
            whole.ends += part.ends
            whole.pages += part.pages
            whole.boxes += part.boxes
        return whole

    def in_order(self, first: int, last: int) -> bool:
        """Whether they lie in `[first, last)`, sorted and without overlapping."""
        s, e = self.starts, self.ends
        return not s or (s[0] >= first and e[-1] <= last and all(map(le, s, e)) and all(map(le, e, s[1:])))

    def append(self, start: int, end: int, page: int, box: Box) -> None:
        """One more, behind all others. One that goes on where the last ends, at its place, is the same."""
        ends, boxes = self.ends, self.boxes
        if ends and ends[-1] == start and boxes[-4:] == [*box] and self.pages[-1] == page:
            ends[-1] = end
            return
        self.starts.append(start)
        ends.append(end)
        self.pages.append(page)
        boxes += box

    def within(self, start: int, end: int) -> PlacedLines:
        """Those that meet `[start, end)`, cut at its borders."""
        first = bisect_right(self.ends, start)
        found = self.part(first, bisect_left(self.starts, end, lo=first))
        if found.starts:
            found.starts[0] = max(found.starts[0], start)
            found.ends[-1] = min(found.ends[-1], end)
        return found

    def part(self, first: int, last: int) -> PlacedLines:
        """Those from index `first` to before `last`."""
        starts, ends, pages = (column[first:last] for column in (self.starts, self.ends, self.pages))
        return PlacedLines(starts, ends, pages, self.boxes[4 * first : 4 * last])

    def to_json(self) -> list[Any]:
        """As `Place.to_json` has each place, behind its range."""
        columns = zip(self.starts, self.ends, self.pages, self._boxes(), strict=True)
        return [(start, end, {"page": page, "box": box}) for start, end, page, box in columns]

    def _boxes(self) -> Iterator[Box]:
        numbers = iter(self.boxes)
        return zip(numbers, numbers, numbers, numbers, strict=True)

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Locator]:
        places = map(Place.on_page, self.pages, self._boxes())
        return starmap(Locator, zip(self.starts, self.ends, places, strict=True))

    @overload
    def __getitem__(self, index: int) -> Locator: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Locator]: ...

    def __getitem__(self, index: int | slice) -> Locator | Sequence[Locator]:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            return self.part(first, last) if step == 1 else tuple(self)[index]
        i = range(len(self))[index]
        left, top, right, bottom = self.boxes[4 * i : 4 * i + 4]
        return Locator(self.starts[i], self.ends[i], Place.on_page(self.pages[i], (left, top, right, bottom)))

    def __eq__(self, other: object) -> bool:
        """As a sequence."""
        return isinstance(other, tuple | PlacedLines) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def locators_json(locators: Sequence[Locator]) -> list[Any]:
    """`[start, end, place]` of each."""
    if isinstance(locators, PlacedLines):
        return locators.to_json()
    return [[x.start, x.end, x.place.to_json()] for x in locators]


_BREAK = b",\n"
"""Stands between two rows, and in none of them: JSON writes a line's end in a string as two characters."""


def stored_locators(locators: Sequence[Locator]) -> bytes:
    """JSON, a row a line: who wants few of them reads those alone (`rows_meeting`)."""
    return b"[" + _BREAK.join(map(orjson.dumps, locators_json(locators))) + b"]"


def rows_meeting(stored: bytes, start: int, end: int) -> list[Any]:
    """`[start, end, place]` of what meets `[start, end)`, of rows in order, also as an older version stored them."""
    lines = stored[1:-1].split(_BREAK) if len(stored) > 2 else []
    if len(lines) == 1:
        lines = [orjson.dumps(row) for row in orjson.loads(stored)]
    first = bisect_right(lines, start, key=lambda line: int(line.split(b",", 2)[1]))
    last = bisect_left(lines, end, lo=first, key=lambda line: int(line[1 : line.index(b",")]))
    return [orjson.loads(line) for line in lines[first:last]]

"""The lines of a PDF page: text, box and size of each, as pdfium finds them.

Offsets in pdfium's page text are its character indexes on most pages and not on all, so the text of a page is taken in
one call only where both counts agree, and otherwise character by character.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field
from typing import Any

from sourcebook.documents import Box

_HYPHEN = 2  # pdfium's code for a hyphen at a line's end, which swallows the line end behind it
_LINES = re.compile("[^\r\n\ufffe\x02]+[\ufffe\x02]?|[\ufffe\x02]")
_LIGATURES = {
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "ft", "\ufb06": "st",
    "\uf0b7": "•", "\uf0a7": "•", "\uf0d8": "•", "\u00ad": "", "\ufffe": "", "\x02": "",
}  # fmt: skip
_TRANSLATION = str.maketrans(_LIGATURES)
_BOLD = 600
_SHORT = 90  # characters; only lines this short are asked for their weight, since only they may be headings
# Gaps between cells, as parts of the size: one so wide tells a row from justified text; then narrower ones count too.
_ROW_GAP, _CELL_GAP = 1.4, 0.7


@dataclass(slots=True)
class Line:
    """`box` encloses the ink; `top` and `bottom` are the font's, which two lines of one size have alike.

    `hyphen`: the line ends inside a word, its hyphen taken off. `cells`: its parts where wide gaps are between them.
    """

    text: str
    box: Box
    top: float
    bottom: float
    bold: bool = False
    hyphen: bool = False
    cells: list[Line] = field(default_factory=list)

    @property
    def size(self) -> float:
        """The font's height in points, as seen."""
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class View:
    """From pdfium's page space to points from the top left corner of the page as it is shown."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: int

    def box(self, left: float, bottom: float, right: float, top: float) -> Box:
        """`left, top, right, bottom` as shown."""
        if self.rotation == 90:
            return bottom - self.bottom, left - self.left, top - self.bottom, right - self.left
        if self.rotation == 180:
            return self.right - right, bottom - self.bottom, self.right - left, top - self.bottom
        if self.rotation == 270:
            return self.top - top, self.right - right, self.top - bottom, self.right - left
        return left - self.left, self.top - top, right - self.left, self.top - bottom


def lines_of(page: Any) -> list[Line]:
    """The lines of a pypdfium2 page, in pdfium's order: the order of drawing, which is nearly always that of reading."""
    textpage = page.get_textpage()
    try:
        return _Reader(textpage.raw, View(*page.get_bbox(), page.get_rotation())).lines()
    finally:
        textpage.close()


class _Reader:
    """Calls into pdfium with the same buffers over and over: most of the time of a page would go into making them."""

    def __init__(self, handle: Any, view: View) -> None:
        import pypdfium2.raw as pdfium

        self.pdfium = pdfium
        self.handle = handle
        self.view = view
        self.left, self.top, self.right, self.bottom = (ctypes.c_double() for _ in range(4))
        self.rect = pdfium.FS_RECTF()

    def lines(self) -> list[Line]:
        count = self.pdfium.FPDFText_CountChars(self.handle)
        text = self._text(count) if count > 0 else ""
        found: list[Line] = []
        for match in _LINES.finditer(text):
            start, end = match.span()
            # pdfium writes U+FFFE for a hyphen at the line's end, and for what has no Unicode value.
            hyphen = text[end - 1] in "\ufffe\x02" and self.pdfium.FPDFText_GetUnicode(self.handle, end - 1) == _HYPHEN
            if (line := self._line(text, start, end)) is not None:
                line.hyphen = hyphen
                _append(found, line)
        return found

    def _text(self, count: int) -> str:
        buffer = ctypes.create_string_buffer(2 * count + 2)
        pointer = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort))
        written = self.pdfium.FPDFText_GetText(self.handle, 0, count, pointer)
        text = buffer.raw[: 2 * max(written - 1, 0)].decode("utf-16-le", "surrogatepass")
        if len(text) == count:
            return text
        codes = (self.pdfium.FPDFText_GetUnicode(self.handle, i) for i in range(count))
        return "".join(chr(code) if 0 < code < 0x110000 else "\ufffe" for code in codes)

    def _line(self, text: str, start: int, end: int) -> Line | None:
        raw = text[start:end]
        shown = " ".join(raw.translate(_TRANSLATION).split())
        if not shown:
            return None
        start += len(raw) - len(raw.lstrip())
        end -= len(raw) - len(raw.rstrip())
        boxes = self._rects(start, end - start)
        if not boxes:
            return None
        box = _around(boxes)
        top, bottom = self._extent(text, start, end, box)
        line = Line(shown, box, top, bottom, len(shown) <= _SHORT and self._bold(start, end))
        if _gapped(boxes, _ROW_GAP * line.size):
            line.cells = self._cells(text, start, end, line)
        return line

    def _rects(self, start: int, count: int) -> list[Box]:
        found = []
        for i in range(self.pdfium.FPDFText_CountRects(self.handle, start, count)):
            self.pdfium.FPDFText_GetRect(self.handle, i, self.left, self.top, self.right, self.bottom)
            found.append(self.view.box(self.left.value, self.bottom.value, self.right.value, self.top.value))
        return found

    def _extent(self, text: str, start: int, end: int, box: Box) -> tuple[float, float]:
        """Top and bottom of the font's box in the middle of the line."""
        middle = (start + end) // 2
        if text[middle].isspace():
            middle += 1
        if middle < end and self.pdfium.FPDFText_GetLooseCharBox(self.handle, middle, self.rect):
            r = self.rect
            _, top, _, bottom = self.view.box(r.left, r.bottom, r.right, r.top)
            if bottom > top:
                return top, bottom
        return box[1], max(box[3], box[1] + 1)

    def _bold(self, start: int, end: int) -> bool:
        weight = self.pdfium.FPDFText_GetFontWeight
        return bool(weight(self.handle, start) >= _BOLD and weight(self.handle, end - 1) >= _BOLD)

    def _cells(self, text: str, start: int, end: int, line: Line) -> list[Line]:
        """The parts of a line with wide gaps; empty where no gap falls on a space."""
        starts = [start]
        for match in re.finditer(r"\s+", text[start:end]):
            before, after = start + match.start() - 1, start + match.end()
            if self._char(after)[0] - self._char(before)[2] > _CELL_GAP * line.size:
                starts.append(after)
        if len(starts) < 2:
            return []
        cells: list[Line] = []
        for a, b in zip(starts, [*starts[1:], end], strict=True):
            shown = " ".join(text[a:b].translate(_TRANSLATION).split())
            boxes = self._rects(a, b - a)
            if shown and boxes:
                cells.append(Line(shown, _around(boxes), line.top, line.bottom, line.bold))
        return cells if len(cells) > 1 else []

    def _char(self, index: int) -> Box:
        self.pdfium.FPDFText_GetCharBox(self.handle, index, self.left, self.right, self.bottom, self.top)
        return self.view.box(self.left.value, self.bottom.value, self.right.value, self.top.value)


def _around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _gapped(boxes: list[Box], gap: float) -> bool:
    boxes = sorted(boxes)
    right = boxes[0][2]
    for box in boxes[1:]:
        if box[0] - right > gap:
            return True
        right = max(right, box[2])
    return False


def _append(lines: list[Line], line: Line) -> None:
    """Add a line; what stands right behind the last one on its baseline, such as a raised mark, goes on in it."""
    last = lines[-1] if lines else None
    if last is None or last.hyphen or last.cells or line.cells:
        lines.append(line)
        return
    height = min(last.box[3] - last.box[1], line.box[3] - line.box[1])
    shared = min(last.box[3], line.box[3]) - max(last.box[1], line.box[1])
    gap = line.box[0] - last.box[2]
    size = max(last.size, line.size)
    # A power above an index steps back, but never to where the line began.
    ahead = -1.5 * size < gap < 0.8 * size and line.box[2] > last.box[2] - size
    if shared < 0.3 * height or not ahead or line.box[0] < last.box[0]:
        lines.append(line)
        return
    larger = last if last.size >= line.size else line
    text = last.text + (" " if gap > 0.15 * size else "") + line.text
    lines[-1] = Line(text, _around([last.box, line.box]), larger.top, larger.bottom, last.bold and line.bold, line.hyphen)

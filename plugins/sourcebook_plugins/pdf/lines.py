"""The lines of a PDF page: text, box and size of each, as pdfium finds them.

Offsets in pdfium's page text are its character indexes on most pages and not on all, so the text of a page is taken in
one call only where both counts agree, and otherwise character by character.
"""

from __future__ import annotations

import ctypes
import re
import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sourcebook.documents import Box

_HYPHEN = 2  # pdfium's code for a hyphen at a line's end, which swallows the line end behind it
_LINES = re.compile("[^\r\n\ufffe\x02]+[\ufffe\x02]?|[\ufffe\x02]")
_LIGATURES = {
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "ft", "\ufb06": "st",
    "\uf0b7": "•", "\uf0a7": "•", "\uf0d8": "•", "\u00ad": "", "\ufffe": "", "\x02": "",
}  # fmt: skip
_TRANSLATION = str.maketrans(_LIGATURES)
_TRANSLATED = re.compile(f"[{''.join(_LIGATURES)}]")
# Weights are wrong in many files, and names rarely; BX is bold in the TeX families.
_BOLD_NAME = re.compile(r"bold|black|heavy|demi|-medi$|^(?:cm|sf|ec|lm)bx", re.IGNORECASE)
_MARK = re.compile(r"[^\w\s$€£¥#|%+-]{1,2}|\(?\w{1,3}[.)]")
_SPACES = re.compile(r"\s+")
_FOUR = struct.Struct("4d")
_GET_RECT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, *[ctypes.c_void_p] * 4)
_BOLD_WEIGHT = 600
_SHORT = 90  # characters; only lines this short are asked for their weight, since only they may be headings
# Gaps between cells, as parts of the size: one so wide tells a row from justified text; then narrower ones count too.
_ROW_GAP, _CELL_GAP = 0.85, 0.6


class Line:
    """`box` encloses the line; `top` and `bottom` are the font's, which two lines of one size have alike.

    `hyphen`: the line ends inside a word, its hyphen taken off. `spaced`: it ends with a space that was drawn.
    `cells`: its parts where wide gaps are between them. `size`: the font's height in points, as seen.
    """

    __slots__ = ("bold", "bottom", "box", "cells", "hyphen", "size", "spaced", "text", "top")

    def __init__(
        self, text: str, box: Box, top: float, bottom: float, bold: bool = False, *, spaced: bool = False
    ) -> None:
        self.text = text
        self.box = box
        self.top = top
        self.bottom = bottom
        self.bold = bold
        self.hyphen = False
        self.spaced = spaced
        self.cells: Sequence[Line] = ()
        self.size = bottom - top


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
    """The lines of a pypdfium2 page, in the order of drawing, which is nearly always that of reading."""
    textpage = page.get_textpage()
    try:
        left, bottom, right, top = page.get_bbox()
        return _Reader(textpage.raw, View(left, bottom, right, top, page.get_rotation())).lines()
    finally:
        textpage.close()


class _Reader:
    """Calls into pdfium with the same buffers over and over: most of the time of a page would go into making them."""

    def __init__(self, handle: Any, view: View) -> None:
        import pypdfium2.raw as pdfium

        self.pdfium = pdfium
        self.handle = handle
        self.box = view.box
        self.upright = view.rotation == 0
        self.left, self.top, self.right, self.bottom = (ctypes.c_double() for _ in range(4))
        self.rect = pdfium.FS_RECTF()
        # Called thousands of times a page: with addresses, and without giving up the interpreter's lock.
        self.buffer = ctypes.create_string_buffer(32)
        self.at = ctypes.addressof(self.buffer)
        self.address = ctypes.cast(handle, ctypes.c_void_p).value
        self.get_rect = _GET_RECT(ctypes.cast(pdfium.FPDFText_GetRect, ctypes.c_void_p).value or 0)
        self.name, self.flags = ctypes.create_string_buffer(128), ctypes.c_int()
        self.bold_names: dict[bytes, bool] = {}

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
        shown = _shown(raw)
        if not shown:
            return None
        if raw[0].isspace() or raw[-1].isspace():
            start += len(raw) - len(raw.lstrip())
            end -= len(raw) - len(raw.rstrip())
        middle = (start + end) // 2
        font = self._font(middle if not text[middle].isspace() else start)
        if font is None:
            return None
        box, runs = self._runs(start, end, font)
        bold = len(shown) <= _SHORT and self._bold(start, end)
        line = Line(shown, box, font[1], font[3], bold, spaced=raw[-1] == " ")
        if len(runs) > 1:
            line.cells = self._cells(text, start, end, line, runs)
        # A row drawn in one go has gaps that show in no rectangle. Letters, as parts of the size, on average:
        elif box[2] - box[0] > (0.8 if shown.isascii() else 1.1) * line.size * len(shown):
            line.cells = self._drawn_cells(text, start, end, line)
        return line

    def _runs(self, start: int, end: int, font: Box) -> tuple[Box, list[Box]]:
        """The box around these characters, and the boxes between wide gaps, in page order; none where no gap is."""
        count = self.pdfium.FPDFText_CountRects(self.handle, start, end - start)
        if self.upright and count > 0:
            return self._upright_runs(count, font)
        boxes = [self._rect(i) for i in range(count)] or [self._char(start), self._char(end - 1)]
        size = font[3] - font[1]
        runs: list[Box] = []
        widest = 0.0
        for box in boxes:
            gap = box[0] - runs[-1][2] if runs else 0.0
            widest = max(widest, gap)
            if runs and gap <= _CELL_GAP * size:
                runs[-1] = _around([runs[-1], box])
            else:
                runs.append(box)
        return _around([font, *boxes]), runs if widest > _ROW_GAP * size else []

    def _upright_runs(self, count: int, font: Box) -> tuple[Box, list[Box]]:
        """The same for pages that are not turned, in page space: this is where most of a page's time goes."""
        get, a, b, c, d = self.get_rect, self.at, self.at + 8, self.at + 16, self.at + 24
        handle, read, buffer = self.address, _FOUR.unpack_from, self.buffer
        size = font[3] - font[1]
        narrow, widest = _CELL_GAP * size, 0.0
        get(handle, 0, a, b, c, d)
        left, top, right, bottom = read(buffer)
        runs: list[Box] = []
        far_left, far_right, high, low = left, right, top, bottom
        last = right
        for i in range(1, count):
            get(handle, i, a, b, c, d)
            x, y, z, w = read(buffer)
            if x - last > narrow:
                runs.append((left, bottom, right, top))
                widest = x - last if x - last > widest else widest
                left, top, right, bottom = x, y, z, w
            else:
                left, right = x if x < left else left, z if z > right else right
                top, bottom = y if y > top else top, w if w < bottom else bottom
            last = z
            far_left, far_right = x if x < far_left else far_left, z if z > far_right else far_right
            high, low = y if y > high else high, w if w < low else low
        inner = self.box(far_left, low, far_right, high)
        box = (min(font[0], inner[0]), min(font[1], inner[1]), max(font[2], inner[2]), max(font[3], inner[3]))
        if widest <= _ROW_GAP * size:
            return box, []
        return box, [self.box(*run) for run in (*runs, (left, bottom, right, top))]

    def _rects(self, start: int, count: int) -> list[Box]:
        return [self._rect(i) for i in range(self.pdfium.FPDFText_CountRects(self.handle, start, count))]

    def _rect(self, index: int) -> Box:
        """One of the rectangles that were counted last."""
        self.pdfium.FPDFText_GetRect(self.handle, index, self.left, self.top, self.right, self.bottom)
        return self.box(self.left.value, self.bottom.value, self.right.value, self.top.value)

    def _font(self, index: int) -> Box | None:
        """The box of a character in its font's full height."""
        r = self.rect
        if not self.pdfium.FPDFText_GetLooseCharBox(self.handle, index, r):
            return None
        left, top, right, bottom = self.box(r.left, r.bottom, r.right, r.top)
        return (left, top, right, bottom) if bottom > top else (left, top, right, top + 1)

    def _bold(self, start: int, end: int) -> bool:
        return self._bold_char(start) and self._bold_char(end - 1)

    def _bold_char(self, index: int) -> bool:
        self.pdfium.FPDFText_GetFontInfo(self.handle, index, self.name, 128, self.flags)
        name = self.name.value
        if not name:
            return bool(self.pdfium.FPDFText_GetFontWeight(self.handle, index) >= _BOLD_WEIGHT)
        if name not in self.bold_names:
            self.bold_names[name] = _BOLD_NAME.search(name.decode("utf-8", "replace").rpartition("+")[2]) is not None
        return self.bold_names[name]

    def _cells(self, text: str, start: int, end: int, line: Line, runs: list[Box]) -> Sequence[Line]:
        """The parts of a line between wide gaps; empty where no gap falls on a space.

        A gap is found among the spaces by halving: most lines have ten spaces and one gap.
        """
        spaces = [match.span() for match in _SPACES.finditer(text, start, end)]
        starts, boxes, at = [start], [runs[0]], 0
        for run in runs[1:]:
            edge = run[0] - 0.1
            i = bisect_left(spaces, edge, lo=at, key=lambda space: self._char(space[1])[0])
            found = i < len(spaces) and self._char(spaces[i][1])[0] - edge < 0.5 * line.size
            # What follows a bullet or an item's number is set apart from it, and no cell.
            if not found or (len(starts) == 1 and _MARK.fullmatch(text[start : spaces[i][0]])):
                boxes[-1] = _around([boxes[-1], run])
                continue
            starts.append(spaces[i][1])
            boxes.append(run)
            at = i + 1
        return self._made(text, [*starts, end], boxes, line)

    def _drawn_cells(self, text: str, start: int, end: int, line: Line) -> Sequence[Line]:
        """The same where no rectangle tells of the gaps: every space is looked at."""
        starts = [start]
        for match in _SPACES.finditer(text, start, end):
            marked = len(starts) == 1 and _MARK.fullmatch(text[start : match.start()])
            if not marked and self._char(match.end())[0] - self._char(match.start() - 1)[2] > _CELL_GAP * line.size:
                starts.append(match.end())
        if len(starts) < 2:
            return ()
        starts.append(end)
        boxes = [_around(self._rects(a, b - a) or [line.box]) for a, b in pairwise(starts)]
        return self._made(text, starts, boxes, line)

    def _made(self, text: str, starts: list[int], boxes: list[Box], line: Line) -> Sequence[Line]:
        cells = [
            Line(shown, box, line.top, line.bottom, line.bold)
            for (a, b), box in zip(pairwise(starts), boxes, strict=True)
            if (shown := _shown(text[a:b]))
        ]
        return cells if len(cells) > 1 else ()

    def _char(self, index: int) -> Box:
        self.pdfium.FPDFText_GetCharBox(self.handle, index, self.left, self.right, self.bottom, self.top)
        return self.box(self.left.value, self.bottom.value, self.right.value, self.top.value)


def _shown(raw: str) -> str:
    """The text as it is read: ligatures spelt out, spaces single."""
    if not raw.isascii() and _TRANSLATED.search(raw):
        raw = raw.translate(_TRANSLATION)
    return " ".join(raw.split())


def _around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _append(lines: list[Line], line: Line) -> None:
    """Add a line; what stands right behind the last one on its baseline, such as a raised mark, goes on in it."""
    last = lines[-1] if lines else None
    if last is None or line.box[1] >= last.box[3] or last.hyphen or last.cells or line.cells:
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
    lines[-1] = Line(
        text, _around([last.box, line.box]), larger.top, larger.bottom, last.bold and line.bold, spaced=line.spaced
    )
    lines[-1].hyphen = line.hyphen

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
_TRANSLATED = re.compile(f"[{''.join(_LIGATURES)}]")
# Weights are wrong in many files, and names rarely; BX is bold in the TeX families.
_BOLD_NAME = re.compile(r"bold|black|heavy|demi|-medi$|^(?:cm|sf|ec|lm)bx", re.IGNORECASE)
_MARK = re.compile(r"[^\w\s$€£¥#|%+-]{1,2}|\(?\w{1,3}[.)]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_BOLD_WEIGHT = 600
_SHORT = 90  # characters; only lines this short are asked for their weight, since only they may be headings
# Gaps between cells, as parts of the size: one so wide tells a row from justified text; then narrower ones count too.
_ROW_GAP, _CELL_GAP = 0.85, 0.6


@dataclass(slots=True)
class Line:
    """`box` encloses the line; `top` and `bottom` are the font's, which two lines of one size have alike.

    `hyphen`: the line ends inside a word, its hyphen taken off. `spaced`: it ends with a space that was drawn.
    `cells`: its parts where wide gaps are between them. `size`: the font's height in points, as seen.
    """

    text: str
    box: Box
    top: float
    bottom: float
    bold: bool = False
    hyphen: bool = False
    spaced: bool = False
    cells: list[Line] = field(default_factory=list)
    size: float = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.bottom - self.top


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
        self.left, self.top, self.right, self.bottom = (ctypes.c_double() for _ in range(4))
        self.rect = pdfium.FS_RECTF()
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
        start += len(raw) - len(raw.lstrip())
        end -= len(raw) - len(raw.rstrip())
        middle = (start + end) // 2
        font = self._font(middle if not text[middle].isspace() else start)
        if font is None:
            return None
        # The ends and the font's height enclose a line, unless it is written in two directions.
        first, last = self._char(start), self._char(end - 1)
        top, bottom = min(font[1], first[1], last[1]), max(font[3], first[3], last[3])
        box = min(font[0], first[0], last[0]), top, max(font[2], first[2], last[2]), bottom
        line = Line(
            shown, box, font[1], font[3], len(shown) <= _SHORT and self._bold(start, end), spaced=raw[-1] == " "
        )
        if not shown.isascii() and _RIGHT_TO_LEFT.search(shown):
            line.box = _around([font, *self._rects(start, end - start)])
        if self._has_gaps(line, start, end):
            line.cells = self._cells(text, start, end, line)
        return line

    def _has_gaps(self, line: Line, start: int, end: int) -> bool:
        widest = 0.8 if line.text.isascii() else 1.1  # letters, as parts of the size, on average
        if line.box[2] - line.box[0] > widest * line.size * len(line.text):
            return True  # a row drawn in one go, whose gaps show in no rectangle
        count = self.pdfium.FPDFText_CountRects(self.handle, start, end - start)
        right: float | None = None
        for i in range(count if count > 1 else 0):
            box = self._rect(i)
            if right is not None and box[0] - right > _ROW_GAP * line.size:
                return True
            right = box[2]
        return False

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

    def _cells(self, text: str, start: int, end: int, line: Line) -> list[Line]:
        """The parts of a line with wide gaps; empty where no gap falls on a space."""
        starts = [start]
        for match in re.finditer(r"\s+", text[start:end]):
            before, after = start + match.start() - 1, start + match.end()
            # What follows a bullet or an item's number is set apart from it, and no cell.
            marked = len(starts) == 1 and _MARK.fullmatch(text[start : before + 1])
            if not marked and self._char(after)[0] - self._char(before)[2] > _CELL_GAP * line.size:
                starts.append(after)
        if len(starts) < 2:
            return []
        cells: list[Line] = []
        for a, b in zip(starts, [*starts[1:], end], strict=True):
            shown = _shown(text[a:b])
            boxes = self._rects(a, b - a)
            if shown and boxes:
                cells.append(Line(shown, _around(boxes), line.top, line.bottom, line.bold))
        return cells if len(cells) > 1 else []

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
        text, _around([last.box, line.box]), larger.top, larger.bottom, last.bold and line.bold, line.hyphen
    )
    lines[-1].spaced = line.spaced

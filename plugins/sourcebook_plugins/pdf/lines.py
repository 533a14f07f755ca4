"""The lines of a PDF page: text, box and size of each, as pdfium finds them.

Offsets in pdfium's page text are its character indexes on most pages and not on all, so the text of a page is taken in
one call only where both counts agree, and otherwise character by character.
"""

from __future__ import annotations

import ctypes
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, repeat
from operator import sub
from typing import TYPE_CHECKING, Any

from sourcebook.documents import Box

if TYPE_CHECKING:
    from sourcebook_plugins.pdf.loaded import LoadedPage

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
_AT_ONCE = 128  # rectangles that are read by one pass of calls; a line rarely has more
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
        if self.rotation == 0:
            return left - self.left, self.top - top, right - self.left, self.top - bottom
        if self.rotation == 90:
            return bottom - self.bottom, left - self.left, top - self.bottom, right - self.left
        if self.rotation == 180:
            return self.right - right, bottom - self.bottom, self.right - left, top - self.bottom
        return self.top - top, self.right - right, self.top - bottom, self.right - left


def lines_of(page: LoadedPage) -> list[Line]:
    """The lines of a page, in the order of drawing, which is nearly always that of reading. Raises `PdfiumError`."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    # Without pypdfium2's object for it, which takes longer to make and to close than a short page takes to read.
    handle = pdfium.FPDFText_LoadPage(page.raw)
    if not handle:
        raise pypdfium2.PdfiumError("The page's text cannot be loaded.")
    try:
        # A pointer that is made anew for every call would take as long as the call: this one is made once.
        return _Reader(ctypes.byref(handle.contents), page.view()).lines()
    finally:
        pdfium.FPDFText_ClosePage(handle)


class _Calls:
    """Functions of pdfium that are called for every line or more often, and what they write into.

    ctypes takes twice as long to check and convert arguments as pdfium takes to answer. So these have no declared
    argument types, their pointers are made once, and they keep the interpreter's lock.
    """

    def __init__(self) -> None:
        import pypdfium2.raw as pdfium

        def bare(function: Any) -> Any:
            return ctypes.PYFUNCTYPE(ctypes.c_int)(ctypes.cast(function, ctypes.c_void_p).value or 0)

        self.count_chars = bare(pdfium.FPDFText_CountChars)
        self.count_rects, self.get_rect = bare(pdfium.FPDFText_CountRects), bare(pdfium.FPDFText_GetRect)
        self.char_box, self.font_box = bare(pdfium.FPDFText_GetCharBox), bare(pdfium.FPDFText_GetLooseCharBox)
        self.font_info, self.weight = bare(pdfium.FPDFText_GetFontInfo), bare(pdfium.FPDFText_GetFontWeight)
        self.unicode, self.get_text = bare(pdfium.FPDFText_GetUnicode), bare(pdfium.FPDFText_GetText)
        self.units = ctypes.create_string_buffer(64 * 1024)  # of UTF-16; it grows to the longest page's
        numbers = (ctypes.c_double * (4 * _AT_ONCE))()
        self.numbers: Any = memoryview(numbers).cast("B").cast("d")
        self.slots = [[ctypes.byref(numbers, 32 * i + 8 * k) for i in range(_AT_ONCE)] for k in range(4)]
        self.four = [slot[0] for slot in self.slots]
        self.rect = pdfium.FS_RECTF()
        self.rect_at = ctypes.byref(self.rect)
        self.name = ctypes.create_string_buffer(128)
        self.flags = ctypes.byref(ctypes.c_int())

    def rects(self, handle: Any, count: int) -> list[float]:
        """left, top, right, bottom of each of the first `count` rectangles that were counted last, in page space."""
        if count <= _AT_ONCE:
            deque(map(self.get_rect, repeat(handle), range(count), *self.slots), maxlen=0)
            several: list[float] = self.numbers[: 4 * count].tolist()
            return several
        found: list[float] = []
        for i in range(count):
            self.get_rect(handle, i, *self.four)
            found += self.numbers[:4].tolist()
        return found

    def text(self, handle: Any, count: int) -> str:
        """The page's first `count` characters, as far as pdfium's text has them.

        Into one buffer, since ctypes makes a type for every size of one, which takes longer than to read the text.
        """
        if len(self.units) < 2 * count + 2:
            self.units = ctypes.create_string_buffer(4 * count)
        written = self.get_text(handle, 0, count, ctypes.byref(self.units))
        return str(memoryview(self.units)[: 2 * max(written - 1, 0)], "utf-16-le", "surrogatepass")

    def char_lefts(self, handle: Any, indexes: Sequence[int]) -> list[float]:
        """The left edges of at most `_AT_ONCE` characters, in page space."""
        deque(map(self.char_box, repeat(handle), indexes, *self.slots), maxlen=0)
        found: list[float] = self.numbers[: 4 * len(indexes) : 4].tolist()
        return found


@cache
def _calls() -> _Calls:
    return _Calls()


class _Reader:
    """Reads a page. `view` tells how it is shown."""

    def __init__(self, handle: Any, view: View) -> None:
        self.calls = _calls()
        self.handle = handle
        self.view = view
        self.box = view.box
        self.upright = view.rotation == 0
        self.bold_names: dict[bytes, bool] = {}

    def lines(self) -> list[Line]:
        count = self.calls.count_chars(self.handle)
        text = self._text(count) if count > 0 else ""
        found: list[Line] = []
        for start, end in _spans(text):
            # pdfium writes U+FFFE for a hyphen at the line's end, and for what has no Unicode value.
            hyphen = text[end - 1] in "\ufffe\x02" and self.calls.unicode(self.handle, end - 1) == _HYPHEN
            if (line := self._line(text, start, end)) is not None:
                line.hyphen = hyphen
                if found and line.box[1] < found[-1].box[3]:
                    _append(found, line)
                else:
                    found.append(line)
        return found

    def _text(self, count: int) -> str:
        text = self.calls.text(self.handle, count)
        if len(text) == count:
            return text
        codes = map(self.calls.unicode, repeat(self.handle), range(count))
        return "".join([chr(code) if 0 < code < 0x110000 else "\ufffe" for code in codes])

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
        size = font[3] - font[1]
        box, runs = self._runs(start, end, font, size)
        bold = len(shown) <= _SHORT and self._bold_char(start) and self._bold_char(end - 1)
        line = Line(shown, box, font[1], font[3], bold, spaced=raw[-1] == " ")
        if runs:
            line.cells = self._cells(text, start, end, line, runs)
        # A row drawn in one go has gaps that show in no rectangle. Letters, as parts of the size, on average:
        elif box[2] - box[0] > (0.8 if shown.isascii() else 1.1) * size * len(shown):
            line.cells = self._drawn_cells(text, start, end, line)
        return line

    def _runs(self, start: int, end: int, font: Box, size: float) -> tuple[Box, Sequence[Box]]:
        """The box around these characters, and the boxes between wide gaps; none where no gap is wide."""
        count = self.calls.count_rects(self.handle, start, end - start)
        if count < 1:
            return _around([font, self._char(start), self._char(end - 1)]), ()
        found = self.calls.rects(self.handle, count)
        box: Callable[[float, float, float, float], Box] = self.box
        if count == 1:
            left, top, right, bottom = found
            return _both(font, box(left, bottom, right, top)), ()
        lefts, tops, rights, bottoms = found[::4], found[1::4], found[2::4], found[3::4]
        if not self.upright:
            lefts, tops, rights, bottoms = map(list, zip(*map(box, lefts, bottoms, rights, tops), strict=True))
            tops, bottoms, box = bottoms, tops, _as_shown
        whole = _both(font, box(min(lefts), min(bottoms), max(rights), max(tops)))
        if max(map(sub, lefts[1:], rights)) <= _ROW_GAP * size:
            return whole, ()
        gaps = [i for i in range(1, count) if lefts[i] - rights[i - 1] > _CELL_GAP * size]
        parts = [slice(*ends) for ends in pairwise([0, *gaps, count])]
        return whole, [box(min(lefts[p]), min(bottoms[p]), max(rights[p]), max(tops[p])) for p in parts]

    def _rects(self, start: int, size: int) -> list[Box]:
        found = self.calls.rects(self.handle, self.calls.count_rects(self.handle, start, size))
        return list(map(self.box, found[::4], found[3::4], found[2::4], found[1::4]))

    def _font(self, index: int) -> Box | None:
        """The box of a character in its font's full height."""
        r = self.calls.rect
        if not self.calls.font_box(self.handle, index, self.calls.rect_at):
            return None
        left, top, right, bottom = self.box(r.left, r.bottom, r.right, r.top)
        return (left, top, right, bottom) if bottom > top else (left, top, right, top + 1)

    def _bold_char(self, index: int) -> bool:
        calls = self.calls
        calls.font_info(self.handle, index, calls.name, 128, calls.flags)
        name = calls.name.value
        if not name:
            return bool(calls.weight(self.handle, index) >= _BOLD_WEIGHT)
        if name not in self.bold_names:
            self.bold_names[name] = _BOLD_NAME.search(name.decode("utf-8", "replace").rpartition("+")[2]) is not None
        return self.bold_names[name]

    def _cells(self, text: str, start: int, end: int, line: Line, runs: Sequence[Box]) -> Sequence[Line]:
        """The parts of a line between wide gaps; empty where no gap falls on a space."""
        spaces = [match.span() for match in _SPACES.finditer(text, start, end)]
        lefts = self._lefts([behind for _, behind in spaces])
        starts, boxes, at = [start], [runs[0]], 0
        for run in runs[1:]:
            edge = run[0] - 0.1
            i = bisect_left(lefts, edge, lo=at)
            # What follows a bullet or an item's number is set apart from it, and no cell.
            marked = i < len(spaces) and len(starts) == 1 and _MARK.fullmatch(text[start : spaces[i][0]])
            if i == len(spaces) or lefts[i] - edge >= 0.5 * line.size or marked:
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

    def _lefts(self, indexes: list[int]) -> list[float]:
        """Where these characters begin."""
        if not self.upright:
            return [self._char(index)[0] for index in indexes]
        begin = self.view.left
        found: list[float] = []
        for i in range(0, len(indexes), _AT_ONCE):
            found += self.calls.char_lefts(self.handle, indexes[i : i + _AT_ONCE])
        return [left - begin for left in found]

    def _char(self, index: int) -> Box:
        self.calls.char_box(self.handle, index, *self.calls.four)
        left, right, bottom, top = self.calls.numbers[:4]
        return self.box(left, bottom, right, top)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends, with the hyphen at its end."""
    lines = text.split("\r\n")
    # Most pages have nothing but these line ends, and are split in an eighth of the time.
    if "\ufffe" in text or "\x02" in text or not text.count("\r") == text.count("\n") == len(lines) - 1:
        yield from (match.span() for match in _LINES.finditer(text))
        return
    start = 0
    for line in lines:
        if line:
            yield start, start + len(line)
        start += len(line) + 2


def _both(a: Box, b: Box) -> Box:
    """The box around two. `min` and `max` take three times as long."""
    return (
        a[0] if a[0] < b[0] else b[0],
        a[1] if a[1] < b[1] else b[1],
        a[2] if a[2] > b[2] else b[2],
        a[3] if a[3] > b[3] else b[3],
    )


def _as_shown(left: float, top: float, right: float, bottom: float) -> Box:
    return left, top, right, bottom


def _shown(raw: str) -> str:
    """The text as it is read: ligatures spelt out, spaces single."""
    if not raw.isascii() and _TRANSLATED.search(raw):
        raw = raw.translate(_TRANSLATION)
    # All white space but the plain space is not printable, and words are seldom two spaces apart.
    return raw.strip(" ") if raw.isprintable() and "  " not in raw else " ".join(raw.split())


def _around(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _append(lines: list[Line], line: Line) -> None:
    """Add a line; what stands right behind the last one on its baseline, such as a raised mark, goes on in it."""
    last = lines[-1]
    if last.hyphen or last.cells or line.cells:
        lines.append(line)
        return
    left, top, right, bottom = line.box
    begin, above, end, below = last.box
    gap, size = left - end, max(last.size, line.size)
    # A power above an index steps back, but never to where the line began.
    ahead = -1.5 * size < gap < 0.8 * size and right > end - size and left >= begin
    if not ahead or min(below, bottom) - max(above, top) < 0.3 * min(below - above, bottom - top):
        lines.append(line)
        return
    larger = last if last.size >= line.size else line
    text = last.text + (" " if gap > 0.15 * size else "") + line.text
    lines[-1] = Line(
        text, _both(last.box, line.box), larger.top, larger.bottom, last.bold and line.bold, spaced=line.spaced
    )
    lines[-1].hyphen = line.hyphen

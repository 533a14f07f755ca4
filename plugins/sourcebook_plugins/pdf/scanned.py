"""Pages that are pictures, read by RapidOCR where the extra `ocr` is installed: its lines, as if they had been drawn.

RapidOCR (Apache-2.0) runs PaddleOCR's models in onnxruntime, and has them in its package: nothing is fetched.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from statistics import median
from typing import Any

from sourcebook.documents import Box
from sourcebook_plugins.pdf.lines import Line

_DOTS = 200 / 72  # pixels a point
_MOST_PIXELS = 3500  # along the longer side; larger pages are read smaller
_FOUND_IN = 1280  # pixels, in which lines are looked for; they are read from the whole picture
_FEW = 40  # characters; a page with so few of them that is a picture has a poor text layer, such as a stamp
_COVERED = 0.5  # of the page by pictures
_MEANINGLESS = re.compile("[\ue000-\uf8ff\ufffd]")  # of fonts without a table of what they mean
_UNREADABLE = 0.3  # of the characters
_SURE = 0.5  # the engine's score of a line, at least
_TALL = 1.5  # times as high as wide: a line that runs up or down
_CELL_GAP = 1.0  # of a line's height, between parts that are cells
_ROW = 0.5  # of a line's height that two parts of one row share, at least


@cache
def installed() -> bool:
    """Whether the engine is there. Nothing is imported, and it is looked for once: jailed children know it then."""
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def says_little(lines: Sequence[Line]) -> bool:
    """Whether a page's text layer is missing, or says next to nothing: it is poor where the page is a picture."""
    return sum([len(line.text) for line in lines]) < _FEW


def is_unreadable(lines: Sequence[Line]) -> bool:
    """Whether much of a page's text has no meaning."""
    text = "".join([line.text for line in lines])
    return not text.isascii() and len(_MEANINGLESS.findall(text)) > _UNREADABLE * len(text)


def is_pictured(page: Any) -> bool:
    """Whether a picture covers a good part of a pypdfium2 page."""
    import pypdfium2.raw as pdfium

    width, height = page.get_size()
    largest = 0.0
    for found in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=5):
        left, bottom, right, top = found.get_bounds() if hasattr(found, "get_bounds") else found.get_pos()
        largest = max(largest, (min(right, width) - max(left, 0)) * (min(top, height) - max(bottom, 0)))
    area: float = width * height
    return area > 0 and largest >= _COVERED * area


class Recogniser:
    """The engine, loaded with the first page that needs it."""

    def __init__(self) -> None:
        self._engine: Any = None

    def lines_of(self, page: Any) -> list[Line]:
        """The lines of a pypdfium2 page as a reader sees them, from the top; boxes in points, as for drawn text."""
        import numpy as np

        scale = min(_DOTS, _MOST_PIXELS / max(*page.get_size(), 1.0))
        bitmap = page.render(scale=scale)
        try:
            pixels = np.ascontiguousarray(bitmap.to_numpy()[:, :, :3])
        finally:
            bitmap.close()
        return rows_of(self._upright(pixels), scale)

    def _upright(self, pixels: Any) -> list[tuple[str, Box]]:
        """The parts that are found, in pixels of this picture, even where what was scanned lies on its side."""
        import numpy as np

        found, _ = self._read(pixels)
        if not found or median((b[3] - b[1]) / max(b[2] - b[0], 1) for _, b in found) < _TALL:
            return found
        height, width = pixels.shape[:2]
        turned = [(k, *self._read(np.ascontiguousarray(np.rot90(pixels, k)))) for k in (1, 3)]
        k, parts, _ = max(turned, key=lambda one: one[2])
        # The page is shown as it lies: boxes go back, and the order is that of the turned picture.
        return [(text, _turned_back(box, k, width, height)) for text, box in _in_order(parts)]

    def _read(self, pixels: Any) -> tuple[list[tuple[str, Box]], float]:
        """The parts with their boxes, and how sure the engine is of all of them."""
        result = self._loaded()(pixels)
        if result.boxes is None or result.txts is None:
            return [], 0.0
        parts, sure = [], 0.0
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            if score >= _SURE and text.strip():
                across, down = [float(x) for x, _ in corners], [float(y) for _, y in corners]
                parts.append((text.strip(), (min(across), min(down), max(across), max(down))))
                sure += float(score) * len(text)
        return parts, sure

    def _loaded(self) -> Any:
        if self._engine is None:
            from rapidocr import RapidOCR

            # One thread: a jailed child has one processor's time, and pages of other documents are read beside it.
            threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
            # Lines are looked for in a smaller picture, as the models were trained: memory goes with its square.
            found_in = {"Det.limit_type": "max", "Det.limit_side_len": _FOUND_IN}
            self._engine = RapidOCR(params={"Global.log_level": "critical", **found_in, **threads})
            logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
        return self._engine


def _in_order(parts: Sequence[tuple[str, Box]]) -> list[tuple[str, Box]]:
    return [part for row in _rows(parts) for part in row]


def _turned_back(box: Box, k: int, width: int, height: int) -> Box:
    left, top, right, bottom = box
    if k == 1:  # the picture was turned to the left: its x is our y
        return width - bottom, left, width - top, right
    return top, height - right, bottom, height - left


def _rows(parts: Sequence[tuple[str, Box]]) -> list[list[tuple[str, Box]]]:
    """Parts beside each other, from left to right; rows from the top."""
    rows: list[list[tuple[str, Box]]] = []
    for part in sorted(parts, key=lambda p: p[1][1] + p[1][3]):
        _, (_, top, _, bottom) = part
        last = rows[-1][-1][1] if rows else None
        if last is not None and min(bottom, last[3]) - max(top, last[1]) > _ROW * min(bottom - top, last[3] - last[1]):
            rows[-1].append(part)
        else:
            rows.append([part])
    return [sorted(row, key=lambda p: p[1][0]) for row in rows]


def rows_of(parts: Sequence[tuple[str, Box]], scale: float) -> list[Line]:
    """Lines of what the engine found in a picture of `scale` pixels a point; parts far apart are a line's cells."""
    sideways = bool(parts) and median((b[3] - b[1]) / max(b[2] - b[0], 1) for _, b in parts) >= _TALL
    rows = [[part] for part in parts] if sideways else _rows(parts)
    lines = []
    for row in rows:
        cells: list[Line] = []
        for text, box in row:
            left, top, right, bottom = (value / scale for value in box)
            size = min(bottom - top, right - left)
            last = cells[-1] if cells else None
            if last is not None and left - last.box[2] < _CELL_GAP * size:
                around = (last.box[0], min(last.box[1], top), right, max(last.box[3], bottom))
                cells[-1] = Line(f"{last.text} {text}", around, around[1], around[3])
            else:
                cells.append(Line(text, (left, top, right, bottom), top, bottom))
        top, bottom = min(c.top for c in cells), max(c.bottom for c in cells)
        line = Line(" ".join(c.text for c in cells), (cells[0].box[0], top, cells[-1].box[2], bottom), top, bottom)
        line.cells = cells if len(cells) > 1 else ()
        lines.append(line)
    return lines

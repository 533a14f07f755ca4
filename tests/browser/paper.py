"""A PDF whose every sentence is known, and which words of a page stand under the yellow of a picture of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pypdfium2
from fpdf import FPDF
from PIL import Image

PAGES = (
    ("The harbour", ["The harbour of Tolvane opens at five in the morning.", "It closes at ten in the evening."]),
    (
        "The lamp",
        [
            "The lamp on the mole is green, and burns from dusk to dawn.",
            "Mirabel Quint kept the lamp for thirty-one years without missing a single night of the winter storms, "
            "and wrote down every ship that passed in a ledger bound in sealskin.",
            "The ledger lies in the museum.",
        ],
    ),
    ("The ferry", ["The ferry to Candle Rock leaves on Thursdays.", "It carries at most forty passengers."]),
)
QUESTION = "Who kept the lamp for thirty-one years?"
QUOTE = PAGES[1][1][1]
QUOTED_PAGE = 2

Share = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of a page's width and height."""


def written(path: Path) -> Path:
    """The PDF, at `path`."""
    pdf = FPDF(unit="pt", format="A4")
    for title, sentences in PAGES:
        pdf.add_page()
        pdf.set_font("Helvetica", style="B", size=20)
        pdf.cell(text=title, new_x="LMARGIN", new_y="NEXT", h=40)
        pdf.set_font("Helvetica", size=12)
        for sentence in sentences:
            pdf.multi_cell(w=380, h=18, text=sentence, new_x="LMARGIN", new_y="NEXT")
            pdf.ln(14)
    path.write_bytes(bytes(pdf.output()))
    return path


def marked(png: bytes) -> list[Share]:
    """Where a picture of a page is coloured: a box a line of text."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    yellow = pixels[:, :, :2].min(axis=2) - pixels[:, :, 2] > 40
    height, width = yellow.shape
    edges = np.flatnonzero(np.diff(np.concatenate(([0], yellow.any(axis=1).astype(int), [0]))))
    found = []
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        columns = np.flatnonzero(yellow[top:bottom].any(axis=0))
        found.append((columns[0] / width, top / height, (columns[-1] + 1) / width, bottom / height))
    return found


def words_under(path: Path, page: int, boxes: Sequence[Share]) -> list[str]:
    """The words of page `page` (1-based) inside of these boxes, from top to bottom."""
    document = pypdfium2.PdfDocument(path)
    try:
        shown = document[page - 1]
        width, height = shown.get_size()
        text = shown.get_textpage()
        return [
            word
            for left, top, right, bottom in boxes
            for word in text.get_text_bounded(
                left=left * width, top=height * (1 - top), right=right * width, bottom=height * (1 - bottom)
            ).split()
        ]
    finally:
        document.close()

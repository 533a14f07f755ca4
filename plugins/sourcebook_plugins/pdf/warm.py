"""Reads a page when it is imported: for the parent that jailed children are forked from, and nobody else.

What a process learns by running code (pdfium's fonts, Python's caches of bytecode and attributes) lies in memory that
children share. Each would learn it anew, and copy the pages that it is written to: a quarter of a short file's time.
A child that waits for its document has time to copy them before, by `rehearse`.
"""

from __future__ import annotations

import io
from typing import BinaryIO

from sourcebook import DocumentWriter
from sourcebook_plugins.pdf import PdfParser, PdfSettings
from sourcebook_plugins.pdf.scanned import installed

_LINES = (
    (60, 780, 18, "On watering"),
    (60, 750, 10, "The can stands beside the door, and waits for the morn-"),
    (60, 738, 10, "ing. Nobody fills it in the evening."),
    (60, 710, 10, "1. Fill it."),
    (60, 690, 10, "Plant"),
    (220, 690, 10, "Litres"),
    (60, 676, 10, "Fern"),
    (220, 676, 10, "2.5"),
)


class _Sample:
    """A PDF of one page, as a file. pdfium does without its table of objects."""

    name = "sample.pdf"
    media_type = "application/pdf"
    password: str | None = None

    def open(self) -> BinaryIO:
        """As a stream."""
        return io.BytesIO(self.read())

    def read(self) -> bytes:
        """All bytes."""
        drawn = " ".join(f"/F {size} Tf 1 0 0 1 {x} {y} Tm({text})Tj" for x, y, size, text in _LINES)
        return (
            "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
            "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 595 842]>>endobj\n"
            "3 0 obj<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
            f"4 0 obj<</Length {len(drawn) + 6}>>stream\nBT{drawn} ET\nendstream endobj\n"
            "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>"
        ).encode()


def _read() -> str:
    installed()  # looks in every folder of the search path, once
    out = DocumentWriter()
    PdfParser(PdfSettings(ocr=False)).parse(_Sample(), out)
    return out.document().text


def rehearse() -> None:
    """Read it again."""
    _read()


TEXT = _read()
"""What was read."""

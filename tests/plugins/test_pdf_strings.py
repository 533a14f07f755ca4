"""What pdfium writes into buffers comes out whole, however long; lines are split as the pattern splits them."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from fpdf import FPDF
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.testing.parsers import parse
from sourcebook_plugins.pdf import PdfParser, PdfSettings
from sourcebook_plugins.pdf.lines import _LINES, _spans
from sourcebook_plugins.pdf.strings import utf16


@pytest.mark.parametrize("length", [1, 8_191, 8_192, 20_000])
def test_a_string_is_read_whole_whatever_fits_at_first(length: int) -> None:
    text = "ü" * length

    def get(buffer: Any, size: int) -> int:
        data = text.encode("utf-16-le") + b"\0\0"
        if len(data) <= size:
            ctypes.memmove(buffer, data, len(data))
        return len(data)

    assert utf16(get) == text
    assert utf16(get, longest=length) == text
    assert utf16(get, longest=length - 1) == ""


def test_a_title_longer_than_the_buffer_is_kept_up_to_the_writers_cap() -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_title("T" * 9_000)
    pdf.set_font("Helvetica")
    pdf.cell(text="Water in the morning.")
    assert parse(PdfParser(PdfSettings(ocr=False)), bytes(pdf.output())).metadata["title"] == "T" * 2_000


@given(st.text("ab \r\n\x02\ufffe"))
def test_lines_are_where_the_pattern_finds_them(text: str) -> None:
    assert list(_spans(text)) == [match.span() for match in _LINES.finditer(text)]

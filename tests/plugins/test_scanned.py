"""Scanned pages are read from their picture, each line with its box, where the extra `ocr` is installed."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pypdfium2
import pytest

from sourcebook import Document
from sourcebook.errors import NoText
from sourcebook.testing.parsers import parse
from sourcebook_plugins.pdf import PdfParser, PdfSettings
from sourcebook_plugins.pdf.scanned import installed, rows_of
from tests.plugins.making import Unit, pdf

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
needs_engine = pytest.mark.skipif(not installed(), reason="the extra ocr (rapidocr, onnxruntime) is not installed")
TEXT = "The harbour keeps a lighthouse and a compass"


def scan() -> bytes:
    """A page as a scanner makes it: a picture and nothing else."""
    drawn = pypdfium2.PdfDocument(pdf([Unit("paragraph", TEXT)]))
    picture = drawn[0].render(scale=2)
    out = pypdfium2.PdfDocument.new()
    width, height = drawn[0].get_size()
    page = out.new_page(width, height)
    image = pypdfium2.PdfImage.new(out)
    image.set_bitmap(picture)
    image.set_matrix(pypdfium2.PdfMatrix().scale(width, height))
    page.insert_obj(image)
    page.gen_content()
    data = io.BytesIO()
    out.save(data)
    return data.getvalue()


def read(data: bytes, *, ocr: bool = True) -> Document:
    return parse(PdfParser(PdfSettings(ocr=ocr)), data)


def test_without_ocr_a_scan_has_no_text_and_the_remedy_names_the_extra() -> None:
    with pytest.raises(NoText, match="images of pages") as caught:
        read(scan(), ocr=False)
    assert caught.value.problem_code == "no_text_layer"
    assert "sourcebook[ocr]" in caught.value.remedy


def test_parts_of_a_row_are_a_line_and_far_ones_its_cells() -> None:
    parts = [("c", (300.0, 10.0, 320.0, 30.0)), ("a", (10.0, 12.0, 50.0, 32.0)), ("b", (55.0, 11.0, 80.0, 31.0))]
    (line,) = rows_of([*parts], 2.0)
    assert line.text == "a b c"
    assert [cell.text for cell in line.cells] == ["a b", "c"]
    assert line.box == (5.0, 5.0, 160.0, 16.0)


@needs_engine
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_scan_is_read_with_boxes_where_the_words_stand() -> None:
    data = scan()
    document = read(data)
    assert re.sub(r"\W", "", TEXT.lower()) in re.sub(r"\W", "", document.text.lower())
    assert [w.code for w in document.warnings] == ["page_recognised"]
    drawn = pypdfium2.PdfDocument(pdf([Unit("paragraph", TEXT)]))
    page = drawn[0]
    place = document.places(document.text.index("harbour"), document.text.index("harbour") + 1)[0]
    assert place.box
    left, top, right, bottom = place.box
    height = page.get_height()
    inside = page.get_textpage().get_text_bounded(left - 3, height - bottom - 3, right + 3, height - top + 3)
    assert "harbour" in inside


@needs_engine
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA names no folder of real documents")
@pytest.mark.parametrize("name", ["ocr_test", "ocr_test_rotated_90"])
def test_a_real_scan_is_read_as_the_reference_says(name: str) -> None:
    folder = Path(DATA, "documents")
    document = read((folder / f"pdf/{name}.pdf").read_bytes())
    expected = (folder / f"reference_text/{name}.pdf.ref.md").read_text()
    assert document.text.lower().split() == expected.lower().split()

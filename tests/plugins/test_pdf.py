"""PDF pages are read in order, and every line knows where it stands."""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pypdfium2
import pytest
from fpdf import FPDF
from fpdf.enums import EncryptionMethod

from sourcebook import Document
from sourcebook.documents import Box
from sourcebook.errors import DocumentError, Encrypted, LimitExceeded, Malformed, NoText
from sourcebook.testing.parsers import MemoryFile, ParserContract, parse
from sourcebook.writer import DocumentWriter
from sourcebook_plugins.pdf import PdfParser, PdfSettings
from sourcebook_plugins.pdf.metadata import iso_date
from sourcebook_plugins.pdf.warm import TEXT

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
PROSE = "The watering can stands beside the garden door and waits for the morning. "


def made(draw: Callable[[FPDF], None]) -> bytes:
    """The bytes of a PDF on A4 (595.28 x 841.89 points), drawn in points from the top left."""
    pdf = FPDF(unit="pt", format="A4")
    pdf.set_auto_page_break(False)
    pdf.add_page()
    pdf.set_font("Helvetica", size=10)
    draw(pdf)
    return bytes(pdf.output())


def at(pdf: FPDF, x: float, y: float, text: str) -> None:
    pdf.text(x, y, text)


def paragraph(pdf: FPDF, x: float, y: float, width: float, text: str) -> float:
    pdf.set_xy(x, y)
    pdf.multi_cell(width, 12, text)
    return float(pdf.get_y())


def parser() -> PdfParser:
    return PdfParser(PdfSettings())


def read(data: bytes, password: str | None = None) -> Document:
    return parse(parser(), data, password=password)


def kinds(document: Document) -> list[tuple[str, str]]:
    return [(b.kind, document.text[b.start : b.end]) for b in document.blocks if b.kind != "table"]


def box_of(document: Document, words: str) -> Box:
    start = document.text.index(words)
    box = document.places(start, start + len(words))[0].box
    assert box is not None
    return box


def changed(data: bytes, change: Callable[[pypdfium2.PdfPage], object]) -> bytes:
    """The PDF with its first page changed."""
    pdf = pypdfium2.PdfDocument(data)
    page = pdf[0]
    change(page)
    buffer = io.BytesIO()
    pdf.save(buffer)
    page.close()
    pdf.close()
    return buffer.getvalue()


@functools.cache
def sample() -> bytes:
    def draw(pdf: FPDF) -> None:
        pdf.set_title("On watering")
        pdf.set_author("Ann; Bob")
        pdf.set_font("Helvetica", size=22)
        at(pdf, 50, 60, "Watering")
        pdf.set_font("Helvetica", size=10)
        end = paragraph(pdf, 50, 90, 400, PROSE * 6)
        paragraph(pdf, 50, end + 14, 400, PROSE * 4)
        pdf.add_page()
        paragraph(pdf, 50, 90, 400, PROSE * 3)

    return made(draw)


class TestPdf(ParserContract):
    def parser(self) -> PdfParser:
        return parser()

    def samples(self) -> Mapping[str, bytes]:
        return {"sample.pdf": sample()}

    def broken(self) -> Mapping[str, bytes]:
        return {
            "head only": b"%PDF-1.7\n",
            "no pages": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>",
        }


def test_lines_are_joined_to_paragraphs_and_large_type_is_a_heading() -> None:
    document = read(sample())
    first, second, third = (PROSE * n for n in (6, 4, 3))
    assert kinds(document) == [
        ("heading", "Watering"),
        ("paragraph", first.strip()),
        ("paragraph", second.strip()),
        ("paragraph", third.strip()),
    ]
    assert document.blocks[0].level == 1
    assert document.metadata["title"] == "On watering"
    assert document.metadata["authors"] == ["Ann", "Bob"]
    assert document.metadata["pages"] == 2
    assert document.metadata["created"][:2] == "20"


def test_every_line_has_its_page_and_its_box_from_the_top_left() -> None:
    document = read(sample())
    left, top, right, bottom = box_of(document, "Watering")
    assert 48 < left < 54
    assert top < 60 < bottom < 70
    assert 120 < right < 160
    assert [x.place.page for x in document.locators][-1] == 2
    assert sum(x.place.page == 1 for x in document.locators) > 6


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_boxes_are_those_of_the_page_as_it_is_shown(rotation: int) -> None:
    upright = box_of(read(sample()), "Watering")
    left, top, right, bottom = box_of(read(changed(sample(), lambda page: page.set_rotation(rotation))), "Watering")
    width, height = 595.28, 841.89
    expected = {
        90: (height - upright[3], upright[0], height - upright[1], upright[2]),
        180: (width - upright[2], height - upright[3], width - upright[0], height - upright[1]),
        270: (upright[1], width - upright[2], upright[3], width - upright[0]),
    }[rotation]
    assert (left, top, right, bottom) == pytest.approx(expected, abs=0.3)


def test_boxes_count_from_the_crop_box() -> None:
    upright = box_of(read(sample()), "Watering")
    cropped = changed(sample(), lambda page: page.set_cropbox(30, 100, 500, 801.89))
    assert box_of(read(cropped), "Watering") == pytest.approx(
        (upright[0] - 30, upright[1] - 40, upright[2] - 30, upright[3] - 40), abs=0.3
    )


def test_a_word_cut_at_the_line_end_is_whole_again_and_a_meant_hyphen_stays() -> None:
    lines = ["The result was an exam-", "ple of well-known prac-", "tice, and the Lucene-", "BM25 rule with a d-",
             "dimensional space is well-", "known to all the readers."]  # fmt: skip

    def draw(pdf: FPDF) -> None:
        for i, line in enumerate(lines):
            at(pdf, 50, 100 + 12 * i, line)

    assert read(made(draw)).text == (
        "The result was an example of well-known practice, and the Lucene-BM25 rule with a d-dimensional space is "
        "well-known to all the readers."
    )


def test_columns_are_read_one_after_the_other() -> None:
    left, right = "Left words stand in this column here. " * 9, "Right words are in the other column now. " * 9

    def draw(pdf: FPDF) -> None:
        paragraph(pdf, 50, 100, 220, left)
        paragraph(pdf, 320, 100, 220, right)

    assert kinds(read(made(draw))) == [("paragraph", left.strip()), ("paragraph", right.strip())]


def test_columns_drawn_line_by_line_are_read_one_after_the_other() -> None:
    left = [f"left words of line number {n} fill the column" for n in range(8)]
    right = [f"right words of line number {n} fill it too, all of it" for n in range(8)]

    def draw(pdf: FPDF) -> None:
        for n in range(8):
            at(pdf, 50, 100 + 12 * n, left[n])
            at(pdf, 320, 100 + 12 * n, right[n])

    text = read(made(draw)).text
    assert text.index("left words of line number 7") < text.index("right words of line number 0")


def test_a_header_that_was_drawn_last_is_read_first() -> None:
    def draw(pdf: FPDF) -> None:
        paragraph(pdf, 50, 300, 400, PROSE * 3)
        at(pdf, 50, 60, "Letterhead of the house")

    assert read(made(draw)).text.startswith("Letterhead of the house")


def test_what_stands_alone_on_its_page_runs_on_none() -> None:
    """Pages of a title each, all at the same height and alike but for their number."""

    def draw(pdf: FPDF) -> None:
        for number in range(1, 12):
            at(pdf, 50, 60, f"Part {number}")
            at(pdf, 300, 820, f"{number}")
            if number < 11:
                pdf.add_page()

    assert [text for _, text in kinds(read(made(draw))) if text.startswith("Part")] == [
        f"Part {n}" for n in range(1, 12)
    ]


def test_a_running_header_is_taken_out_of_pages_that_hold_nothing_else_too() -> None:
    def draw(pdf: FPDF) -> None:
        for number in range(1, 6):
            at(pdf, 50, 40, f"On watering, page {number}")
            if number != 3:
                paragraph(pdf, 50, 200, 400, PROSE * number)
            if number < 5:
                pdf.add_page()

    assert "On watering" not in read(made(draw)).text


def test_the_page_that_is_read_ahead_is_a_sound_one() -> None:
    assert PdfParser.preload[-1] == "sourcebook_plugins.pdf.warm"
    assert TEXT == (
        "On watering\n\nThe can stands beside the door, and waits for the morning. Nobody fills it in the evening."
        "\n\n1. Fill it.\n\n| Plant | Litres |\n| Fern | 2.5 |"
    )


def test_aligned_rows_are_a_table() -> None:
    rows = [("plant", "litres", "days"), ("fern", "2", "7"), ("palm", "1.5", "14"), ("ivy", "", "3")]

    def draw(pdf: FPDF) -> None:
        at(pdf, 50, 80, "Before the table stands this line.")
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                if cell:
                    at(pdf, 50 + 120 * x, 120 + 16 * y, cell)

    assert read(made(draw)).text == (
        "Before the table stands this line.\n\n"
        "| plant | litres | days |\n| --- | --- | --- |\n| fern | 2 | 7 |\n| palm | 1.5 | 14 |\n| ivy |  | 3 |"
    )


def test_bullets_and_numbers_begin_list_items() -> None:
    def draw(pdf: FPDF) -> None:
        at(pdf, 50, 100, "What to do in the garden every day:")
        at(pdf, 60, 114, "\u00b7 water the ferns that stand by the window")  # fpdf's own fonts have no bullet
        at(pdf, 66, 126, "and those that stand in the hall")
        at(pdf, 60, 140, "\u00b7 sweep")
        at(pdf, 60, 154, "1. First")
        at(pdf, 60, 168, "2. Second")

    found = kinds(read(made(draw)))
    assert [kind for kind, _ in found] == ["paragraph", *["list_item"] * 4]
    assert found[1][1] == "- water the ferns that stand by the window and those that stand in the hall"
    assert found[3][1] == "1. First"


def test_bold_lines_of_their_own_are_headings() -> None:
    def draw(pdf: FPDF) -> None:
        end = 80.0
        for n in range(3):
            pdf.set_font("Helvetica", style="B", size=10)
            at(pdf, 50, end + 20, f"Part {n} of it")
            pdf.set_font("Helvetica", size=10)
            end = paragraph(pdf, 50, end + 30, 400, PROSE * 4)

    assert [text for kind, text in kinds(read(made(draw))) if kind == "heading"] == [
        f"Part {n} of it" for n in range(3)
    ]


def test_a_page_without_text_is_told_and_a_file_without_any_is_no_text() -> None:
    def draw(pdf: FPDF) -> None:
        at(pdf, 50, 100, "Words.")
        pdf.add_page()
        pdf.rect(10, 10, 100, 100)

    document = read(made(draw))
    assert [(w.code, "2" in w.message) for w in document.warnings] == [("page_without_text", True)]
    with pytest.raises(NoText):
        read(made(lambda pdf: pdf.rect(10, 10, 100, 100)))


def locked() -> bytes:
    def draw(pdf: FPDF) -> None:
        pdf.set_encryption(owner_password="owner", user_password="user", encryption_method=EncryptionMethod.RC4)
        at(pdf, 50, 100, "A secret.")

    return made(draw)


def test_a_password_opens_an_encrypted_file_and_nothing_else_does() -> None:
    data = locked()
    for password in (None, "", "wrong"):
        with pytest.raises(Encrypted):
            read(data, password)
    assert read(data, "user").text == "A secret."


def test_more_pages_than_allowed_are_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        parse(PdfParser(PdfSettings(max_pages=1)), sample())
    assert caught.value.details["limit"] == 1


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"plain text", sample()[:300]])
def test_damage_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


def test_attachments_become_members() -> None:
    pdf = pypdfium2.PdfDocument(sample())
    pdf.new_attachment("notes.txt").set_data(b"inside")
    buffer = io.BytesIO()
    pdf.save(buffer)
    pdf.close()
    out = DocumentWriter()
    parser().parse(MemoryFile(buffer.getvalue()), out)
    assert [(m.name, m.data) for m in out.members] == [("notes.txt", b"inside")]
    out = DocumentWriter()
    PdfParser(PdfSettings(attachments=False)).parse(MemoryFile(buffer.getvalue()), out)
    assert out.members == []


@pytest.mark.parametrize(
    ("pdf", "iso"),
    [
        ("D:20240103101500+01'00'", "2024-01-03T10:15:00+01:00"),
        ("D:20240103101500Z", "2024-01-03T10:15:00+00:00"),
        ("D:2024", "2024"),
        ("20240103", "2024-01-03"),
        ("yesterday", ""),
    ],
)
def test_dates_are_iso(pdf: str, iso: str) -> None:
    assert iso_date(pdf) == iso


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and raw rows of an RGB PNG without filters; checks every checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", png, at + 8 + size)[0] == zlib.crc32(kind + data)
        parts[kind] = data
        at += 12 + size
    width, height, depth, colour = struct.unpack_from(">IIBB", parts[b"IHDR"])
    assert (depth, colour) == (8, 2)
    return width, height, zlib.decompress(parts[b"IDAT"])


def test_a_page_is_drawn_with_its_boxes_marked() -> None:
    box = box_of(read(sample()), "Watering")
    width, height, rows = pixels(parser().render(MemoryFile(sample()), 1, [box]))
    assert (width, height) == (1191, 1684)

    def pixel(x: float, y: float) -> tuple[int, ...]:
        start = int(y * 2) * (1 + 3 * width) + 1 + 3 * int(x * 2)
        return tuple(rows[start : start + 3])

    assert pixel(box[0] - 0.5, box[1] + 1) == (255, 224, 64)
    assert pixel(box[0] - 10, box[1]) == (255, 255, 255)
    plain = pixels(parser().render(MemoryFile(sample()), 1, []))[2]
    assert len(plain) == len(rows)
    assert plain != rows


def test_boxes_outside_the_page_and_pages_outside_the_file() -> None:
    beyond = parser().render(MemoryFile(sample()), 2, [(-50, -50, 9999, 9999), (9000, 9000, 9001, 9001)])
    assert pixels(beyond)[0] == 1191
    for page in (0, 3):
        with pytest.raises(DocumentError) as caught:
            parser().render(MemoryFile(sample()), page, [])
        assert caught.value.problem_code == "page_not_found"
    assert parser().render(MemoryFile(locked(), password="user"), 1, [])


# Real files.


def real(name: str, password: str | None = None) -> Document:
    return read(Path(DATA, "documents", "pdf", name).read_bytes(), password)


needs_data = pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA is not set")


@needs_data
def test_real_files_are_read_or_say_why_not() -> None:
    lines = Path(DATA, "documents", "manifest.jsonl").read_text().splitlines()
    entries = [entry for entry in map(json.loads, lines) if entry["file"].startswith("pdf/")]
    failed = {}
    for entry in entries:
        name = entry["file"].removeprefix("pdf/")
        try:
            document = real(name, entry.get("password"))
        except DocumentError as error:
            failed[name] = error.problem_code
            continue
        assert document.text
        assert not set("\ufffe\x02\ufb01\ufb02") & set(document.text)
        assert all(x.place.page and x.place.box for x in document.locators)
        if entry.get("password"):
            with pytest.raises(Encrypted):
                real(name)
    assert set(failed.values()) == {"no_text_layer"}
    assert {"ocr_test.pdf", "MEDRPT-2024-PAT-3847_medical_report_scan.pdf"} <= set(failed)


@needs_data
def test_no_letter_or_digit_of_a_real_file_is_lost_or_added() -> None:
    everything = PdfParser(PdfSettings(running=True, annotations=False))
    for path in sorted(Path(DATA, "documents", "pdf").glob("*.pdf")):
        try:
            text = parse(everything, path.read_bytes()).text
        except DocumentError:
            continue
        pdf = pypdfium2.PdfDocument(path)
        drawn = "".join(page.get_textpage().get_text_range() for page in pdf)
        assert _letters(text) == _letters(drawn), path.name
        pdf.close()


def _letters(text: str) -> Counter[str]:
    return Counter(c for c in unicodedata.normalize("NFKC", text) if c.isalnum())


@needs_data
def test_real_columns_hyphens_and_headings() -> None:
    document = real("multi-column-2p.pdf")
    assert "relies on efficient passage retrieval to select candidate contexts" in document.text
    assert "a strong Lucene-BM25 system" in document.text
    order = ["1 Introduction", "of improving retrieval.", "Retrieval in open-domain QA is usually", "2 Background"]
    places = [document.text.index(words) for words in order]
    assert places == sorted(places)
    headings = {document.text[b.start : b.end] for b in document.blocks if b.kind == "heading"}
    assert {"Abstract", "1 Introduction", "2 Background", "3.1 Overview"} <= headings
    assert "consectetuer adipiscing elit" in real("multicolumn.pdf").text


@needs_data
def test_a_real_table_keeps_its_rows() -> None:
    text = real("SPARSE-2024-INV-1234_borderless_table.pdf").text
    assert "| SKU-6678 | Software | $200.00 | $42,000.00 | 2024-10-25 | High Value |" in text
    assert "| Finland | 5.5 | 338,424 | Helsinki | Finnish, Swedish |" in real("multicolumn.pdf").text


@needs_data
def test_boxes_of_a_real_rotated_page_lie_on_it() -> None:
    document = real("rotation.pdf")
    for locator in document.locators:
        box, page = locator.place.box, locator.place.page
        assert box is not None
        width, height = (612, 792) if page == 1 else (792, 612)
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        assert box[2] - box[0] > box[3] - box[1]

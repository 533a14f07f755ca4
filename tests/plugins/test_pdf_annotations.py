"""What people added to a PDF is read too: notes behind what they are about, values of form fields in their rows."""

from __future__ import annotations

import pytest
from fpdf import FPDF

from sourcebook import Document
from sourcebook.documents import Box
from sourcebook.errors import NoText
from sourcebook.testing.parsers import parse
from sourcebook_plugins.pdf import PdfParser, PdfSettings
from tests.plugins.test_pdf import PROSE, at, box_of, kinds, made, paragraph, read

BOXED = "/Type/Annot/Subtype/Widget/F 4"


def form(fields: list[str], drawn: str) -> bytes:
    """A PDF of a page of 595 x 842 points with these field dictionaries, by hand: fpdf2 makes no forms."""
    references = " ".join(f"{6 + i} 0 R" for i in range(len(fields)))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[{references}]>>>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 595 842]>>",
        f"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>/Annots[{references}]>>",
        f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *fields,
    ]
    body, offsets = "%PDF-1.7\n", []
    for number, text in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{text}endobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    end = (
        f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    )
    return (body + end).encode("latin-1")


def labels(*rows: tuple[int, str]) -> str:
    return "BT/F 10 Tf " + " ".join(f"1 0 0 1 50 {y} Tm({text})Tj" for y, text in rows) + " ET"


def near(box: Box, left: float, top: float, right: float, bottom: float) -> bool:
    return all(abs(a - b) < 1 for a, b in zip(box, (left, top, right, bottom), strict=True))


def test_values_of_fields_stand_behind_their_labels_with_the_fields_box() -> None:
    data = form(
        [
            f"<<{BOXED}/FT/Tx/T(name)/V(Ann Ferryman)/Rect[150 696 300 712]>>",
            f"<<{BOXED}/FT/Tx/T(remarks)/Ff 4096/V(Seven o'clock.\rNo dogs.)/Rect[150 640 300 680]>>",
            f"<<{BOXED}/FT/Ch/T(quay)/Ff 131072/V(North)/Opt[(North)(South)]/Rect[150 596 300 612]>>",
        ],
        labels((700, "Name:"), (660, "Remarks:"), (600, "Quay:")),
    )
    document = read(data)
    assert [text for _, text in kinds(document)] == [
        "Name:", "Ann Ferryman", "Remarks:", "Seven o'clock. No dogs.", "Quay:", "North",
    ]  # fmt: skip
    assert near(box_of(document, "Ann Ferryman"), 150, 130, 300, 146)
    assert near(box_of(document, "No dogs"), 150, 162, 300, 202)


def test_ticked_boxes_and_chosen_buttons_are_read_and_others_are_not() -> None:
    button = f"{BOXED}/FT/Btn"
    data = form(
        [
            f"<<{button}/T(a)/V/Yes/AS/Yes/AP<</N<</Yes 4 0 R/Off 4 0 R>>>>/Rect[150 696 162 708]>>",
            f"<<{button}/T(b)/V/Off/AS/Off/AP<</N<</Yes 4 0 R/Off 4 0 R>>>>/Rect[150 656 162 668]>>",
            f"<<{button}/T(c)/Ff 65536/MK<</CA(Send)>>/Rect[150 616 200 632]>>",
        ],
        labels((700, "Bicycle"), (660, "Dog"), (620, "Done")),
    )
    assert [text for _, text in kinds(read(data))] == ["Bicycle", "[x]", "Dog", "Done"]


def test_secret_and_hidden_fields_and_empty_ones_are_not_read() -> None:
    field = "/Type/Annot/Subtype/Widget/FT/Tx"
    data = form(
        [
            f"<<{field}/F 4/T(word)/Ff 8192/V(sesame)/Rect[150 696 300 712]>>",
            f"<<{field}/F 2/T(hidden)/V(hidden)/Rect[150 656 300 672]>>",
            f"<<{field}/F 4/T(empty)/V()/Rect[150 616 300 632]>>",
        ],
        labels((700, "Word:")),
    )
    assert read(data).text == "Word:"


def test_a_form_whose_text_is_all_in_its_fields_is_no_scan() -> None:
    data = form([f"<<{BOXED}/FT/Tx/T(a)/V(The only words.)/Rect[50 700 300 720]>>"], "")
    assert read(data).text == "The only words."
    with pytest.raises(NoText):
        parse(PdfParser(PdfSettings(annotations=False)), data)


def test_values_that_the_page_draws_too_are_read_once() -> None:
    data = form([f"<<{BOXED}/FT/Tx/T(a)/V(Ann)/Rect[45 696 300 712]>>"], labels((700, "Ann")))
    assert read(data).text == "Ann"


def noted() -> Document:
    def draw(pdf: FPDF) -> None:
        end = paragraph(pdf, 50, 90, 300, PROSE * 3)
        with pdf.highlight("Is this so?", title="Bo"):
            paragraph(pdf, 50, end + 40, 300, "The gate is shut at dusk.")
        at(pdf, 50, 400, "The last word.")
        pdf.text_annotation(360, 95, "Too long.", title="Ann")
        pdf.free_text_annotation("Paid in full", x=300, y=600, w=120, h=20)

    return read(made(draw))


def test_notes_stand_behind_what_they_are_about() -> None:
    found = kinds(noted())
    assert [kind for kind, _ in found] == ["paragraph", "footnote", "paragraph", "footnote", "paragraph", "paragraph"]
    texts = [text for _, text in found]
    assert texts[1:] == [
        "Ann: Too long.", "The gate is shut at dusk.", "Bo: Is this so?", "The last word.", "Paid in full",
    ]  # fmt: skip


def test_notes_have_the_box_of_their_mark() -> None:
    document = noted()
    left, top, _, _ = box_of(document, "Ann: Too long.")
    assert (left, top) == (360, 95)
    line, mark = box_of(document, "The gate is shut"), box_of(document, "Bo: Is this so?")
    assert mark[1] < line[3]
    assert line[1] < mark[3]


def test_annotations_can_be_left_out() -> None:
    def draw(pdf: FPDF) -> None:
        at(pdf, 50, 100, "Text.")
        pdf.text_annotation(60, 100, "A note.")

    data = made(draw)
    assert "note" in read(data).text
    assert parse(PdfParser(PdfSettings(annotations=False)), data).text == "Text."

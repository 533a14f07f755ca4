"""Every format keeps the parsers' contract, and fails well on what is broken, locked or made to hurt."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import pytest

from sourcebook import Document, Parser
from sourcebook.errors import DocumentError, Encrypted, LimitExceeded, Malformed, NoText, UnsupportedType
from sourcebook.testing.parsers import MemoryFile, ParserContract, parse
from sourcebook.writer import DocumentWriter, Member
from sourcebook_plugins.archive import ZipParser, ZipSettings
from sourcebook_plugins.delimited import CsvParser
from sourcebook_plugins.epub import EpubParser
from sourcebook_plugins.hypertext import HtmlParser
from sourcebook_plugins.mail import MailParser
from sourcebook_plugins.opendocument import OdtParser
from sourcebook_plugins.pptx import PptxParser
from sourcebook_plugins.records import JsonParser
from sourcebook_plugins.xlsx import XlsxParser
from tests.plugins.making import PROTECTED, made, zipped

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha ha ha ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>'


class _Contract(ParserContract):
    kind: type[Parser[Any]]
    formats: tuple[str, ...]

    def parser(self) -> Parser[Any]:
        return self.kind(self.kind.Settings())

    def samples(self) -> Mapping[str, bytes]:
        return {(m := made(f, seed)).name: m.data for f in self.formats for seed in (1, 4)}


class TestPptx(_Contract):
    kind, formats = PptxParser, ("pptx",)


class TestXlsx(_Contract):
    kind, formats = XlsxParser, ("xlsx",)


class TestCsv(_Contract):
    kind, formats = CsvParser, ("csv", "tsv")


class TestHtml(_Contract):
    kind, formats = HtmlParser, ("html",)


class TestEpub(_Contract):
    kind, formats = EpubParser, ("epub",)


class TestEml(_Contract):
    kind, formats = MailParser, ("eml",)


class TestJson(_Contract):
    kind, formats = JsonParser, ("json", "jsonl")


class TestOdt(_Contract):
    kind, formats = OdtParser, ("odt",)


def read(kind: type[Parser[Any]], data: bytes, name: str = "", **settings: Any) -> Document:
    return parse(kind(kind.Settings.model_validate(settings)), data, name)


def members(data: bytes, password: str | None = None, **settings: Any) -> list[Member]:
    out = DocumentWriter()
    ZipParser(ZipSettings(**settings)).parse(MemoryFile(data, "a.zip", password=password), out)
    return out.members


def texts(document: Document, kind: str = "") -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks if not kind or b.kind == kind]


# Archives.


def test_members_of_an_archive_are_handed_out_under_harmless_names() -> None:
    given = {
        "notes/a.md": b"# A",
        "../../etc/passwd": b"x",
        "/abs.txt": b"y",
        "__MACOSX/._a.md": b"junk",
        "empty.txt": b"",
        "c:\\d.txt": b"z",
    }
    assert [(m.name, m.data) for m in members(zipped(given))] == [
        ("notes/a.md", b"# A"),
        ("etc/passwd", b"x"),
        ("abs.txt", b"y"),
        ("c:/d.txt", b"z"),
    ]


def test_links_in_an_archive_are_left_out() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.txt", "text")
    assert [m.name for m in members(out.getvalue())] == ["a.txt"]


def test_an_archive_is_refused_by_what_it_declares() -> None:
    with pytest.raises(LimitExceeded, match="200 to 1"):
        members(zipped({"bomb": b"\0" * 4_000_000}))
    with pytest.raises(LimitExceeded, match="holds 3 files"):
        members(zipped({str(i): b"x" for i in range(3)}), max_members=2)
    with pytest.raises(LimitExceeded, match="unpacks to"):
        members(zipped({"a": b"xyz"}), max_unpacked=2)
    with pytest.raises(NoText):
        members(zipped({"folder/": b""}))
    with pytest.raises(Malformed):
        members(b"PK\x03\x04 and nothing more")


def test_a_password_opens_the_members_of_an_archive_and_nothing_else_does() -> None:
    assert [(m.name, m.data) for m in members(PROTECTED, "sesame")] == [
        ("notes/a.md", b"# Ferry\n\nThe ferry leaves at seven.\n"),
        ("b.txt", b"The lamp is green.\n"),
    ]
    with pytest.raises(Encrypted, match="protected by a password"):
        members(PROTECTED)
    for n in range(600):  # the cipher's own check lets one wrong password in 256 through
        with pytest.raises(Encrypted, match="wrong"):
            members(PROTECTED, f"guess {n}")


def test_an_archive_under_aes_is_told_as_such_with_and_without_a_password() -> None:
    data = bytearray(zipped({"a.md": b"# A"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<HH", data, data.index(mark) + flags, 1, 99)
    for password in (None, "sesame"):
        with pytest.raises(Encrypted, match="AES") as caught:
            members(bytes(data), password)
        assert "Unpack" in caught.value.remedy


# Tables and records.


def test_a_table_with_more_columns_than_a_spreadsheet_has_is_over_a_limit_and_not_damaged() -> None:
    assert len(texts(read(CsvParser, b"1," * 16_383 + b"2", "a.csv"), "table_row")) == 1
    with pytest.raises(LimitExceeded) as caught:
        read(CsvParser, b"1," * 16_384 + b"2", "a.csv")
    assert (caught.value.problem_code, caught.value.details["limit"]) == ("limit_exceeded", 16_384)


def test_values_too_deep_in_each_other_are_told_as_such() -> None:
    with pytest.raises(LimitExceeded) as caught:
        read(JsonParser, b"[" * 5000 + b"]" * 5000, "a.json")
    assert caught.value.problem_code == "nested_too_deeply"


# Workbooks.


def workbook(sheet: str, strings: str = "", head: str = "") -> bytes:
    relations = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    return zipped(
        {
            "_rels/.rels": f'{relations}<Relationship Id="a" Type="{RELS}/officeDocument" Target="xl/workbook.xml"/>'
            "</Relationships>",
            "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELS}"><sheets><sheet name="One" r:id="s"/>'
            "</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": f'{relations}<Relationship Id="s" Type="{RELS}/worksheet" Target="s.xml"/>'
            f'<Relationship Id="t" Type="{RELS}/sharedStrings" Target="strings.xml"/></Relationships>',
            "xl/s.xml": f'{head}<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData></worksheet>',
            "xl/strings.xml": f'{head}<sst xmlns="{MAIN}">{strings}</sst>',
        }
    )


def test_numbers_are_shown_as_excel_shows_them() -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet: Any = book.active
    shown = [
        ("General", 12.5, "12.5"),
        ("0%", 0.15, "15%"),
        ("0.0%", 0.125, "12.5%"),
        ("yyyy-mm-dd", 45000, "2023-03-15"),
    ]
    shown += [("h:mm", 0.25, "06:00"), ("0.00", 3.0, "3"), ("m/d/yy h:mm", 45000.5, "2023-03-15 12:00")]
    for i, (code, value, _) in enumerate(shown, start=1):
        sheet.cell(i, 1, value).number_format = code
        sheet.cell(i, 2, f"is{i}")
    sheet.cell(len(shown) + 1, 1, True)
    out = io.BytesIO()
    book.save(out)
    rows = texts(read(XlsxParser, out.getvalue()), "table_row")
    assert rows == [f"| {text} | is{i} |" for i, (_, _, text) in enumerate(shown, start=1)] + ["| TRUE |  |"]


def test_tables_beside_each_other_and_comments_stand_apart() -> None:
    import openpyxl
    from openpyxl.comments import Comment

    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in (["a", "b", None, "c", "d"], [1, 2, None, 3, 4]):
        sheet.append(row)
    sheet["B2"].comment = Comment("too low", "Ada")
    out = io.BytesIO()
    book.save(out)
    document = read(XlsxParser, out.getvalue())
    assert texts(document, "table") == ["| a | b |\n| --- | --- |\n| 1 | 2 |", "| c | d |\n| --- | --- |\n| 3 | 4 |"]
    assert texts(document, "footnote") == ["B2: Ada: too low"]
    start = document.text.index("| 3 | 4 |")
    assert [p.cells for p in document.places(start, start + 9)] == ["D2:E2"]


def test_shared_strings_that_unfold_to_more_than_any_memory_end_at_the_texts_limit() -> None:
    cells = "".join(f'<row r="{r}">' + '<c t="s"><v>0</v></c>' * 100 + "</row>" for r in range(1, 11))
    with pytest.raises(LimitExceeded):
        read(XlsxParser, workbook(cells, f"<si><t>{'x' * 32_000}</t></si>"))


def test_a_sheet_with_a_cell_in_its_last_corner_is_small() -> None:
    far = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    document = read(XlsxParser, workbook(far))
    assert texts(document) == ["One", "1", "2"]
    assert document.locators[-1].place.cells == "XFD1048576"


def test_entities_in_a_sheet_are_not_unfolded() -> None:
    data = workbook('<row r="1"><c t="s"><v>0</v></c><c r="B1"><v>7</v></c></row>', "<si><t>&c;</t></si>", LAUGHS)
    try:
        text = read(XlsxParser, data).text
    except DocumentError:
        text = ""
    assert "ha" not in text


# Others.


@pytest.mark.parametrize("kind", [PptxParser, XlsxParser])
def test_old_and_locked_office_files_are_named(kind: type[Parser[Any]]) -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    with pytest.raises(UnsupportedType, match="97") as caught:
        read(kind, ole)
    assert caught.value.remedy.startswith("Save it as ")
    with pytest.raises(Encrypted):
        read(kind, ole + "EncryptedPackage".encode("utf-16-le"))


def test_a_book_with_drm_is_encrypted_and_obfuscated_fonts_are_not() -> None:
    for method, locked in (
        ("http://www.idpf.org/2008/embedding", False),
        ("http://www.w3.org/2001/04/xmlenc#aes", True),
    ):
        with zipfile.ZipFile(io.BytesIO(made("epub", 1).data)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        files["META-INF/encryption.xml"] = f'<e xmlns="x"><EncryptionMethod Algorithm="{method}"/></e>'.encode()
        if locked:
            with pytest.raises(Encrypted, match="DRM"):
                read(EpubParser, zipped(files))
        else:
            assert read(EpubParser, zipped(files)).text


def test_html_that_nests_to_hurt_is_refused_and_what_only_looks_deep_is_not() -> None:
    with pytest.raises(LimitExceeded, match="nests"):
        read(HtmlParser, b"<div>" * 6000 + b"x")
    assert read(HtmlParser, b"<div>x</div>" * 6000).text.count("x") == 6000


def test_what_html_does_not_show_is_not_read() -> None:
    page = (
        "<p>seen</p><p hidden>A</p><div style='display: none'>B</div><script>C</script><!-- D --><noscript>E</noscript>"
    )
    assert read(HtmlParser, page.encode()).text == "seen"


def test_html_tables_keep_spans_captions_and_code_its_fence() -> None:
    page = """<table><caption>Sizes</caption><tr><th>Name<th>Size<tr><td rowspan=2>Ada<td>1<tr><td>2</table>
    <pre>a\n  b</pre><ol start=3><li>x<ul><li>y</ul><li>z</ol>"""
    document = read(HtmlParser, page.encode())
    assert texts(document, "caption") == ["Sizes"]
    assert texts(document, "table_row") == ["| Name | Size |\n| --- | --- |", "| Ada | 1 |", "| Ada | 2 |"]
    assert texts(document, "code") == ["```\na\n  b\n```"]
    assert texts(document, "list_item") == ["3. x", "  - y", "4. z"]


@pytest.mark.parametrize(
    ("encoding", "text"), [("shift_jis", "潮の満ち引き"), ("windows-1251", "Прилив"), ("iso-8859-1", "où “ça”")]
)
def test_a_page_is_read_in_the_encoding_that_it_declares(encoding: str, text: str) -> None:
    codec = "cp1252" if encoding == "iso-8859-1" else encoding
    page = f'<meta http-equiv="Content-Type" content="text/html; charset={encoding}"><p>{text}</p>'.encode(codec)
    assert read(HtmlParser, page).text == text


def test_a_mails_attachments_and_forwarded_mails_are_members() -> None:
    from email.message import EmailMessage

    inner = EmailMessage()
    inner["Subject"], inner["From"] = "inner", "x@example.org"
    inner.set_content("inside")
    mail = EmailMessage()
    mail["Subject"], mail["From"] = "Grüße aus dem Watt", "ada@example.org"
    mail.set_content("See the file.")
    mail.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="flut.csv")
    mail.add_attachment(inner)
    out = DocumentWriter()
    MailParser(MailParser.Settings()).parse(MemoryFile(mail.as_bytes(), "a.eml"), out)
    assert [m.name for m in out.members] == ["flut.csv", "part 3.eml"]
    document = out.document()
    assert document.metadata["title"] == "Grüße aus dem Watt"
    assert document.text.endswith("See the file.")


def test_json_lines_with_a_damaged_line_lose_that_line_only() -> None:
    document = read(JsonParser, b'{"a": "one"}\n{"a": \n{"a": {"b": ["two", 3]}}\n', "x.jsonl")
    assert document.text == "a: one\n\na.b: two, 3"
    assert [p.paragraph for p in document.places(0, len(document.text))] == [1, 3]
    assert [w.code for w in document.warnings] == ["line_damaged"]
    with pytest.raises(Malformed, match="line 1, column"):
        read(JsonParser, b"{nonsense", "x.json")


def test_a_delimiter_is_found_out_and_quoted_line_ends_stay_in_their_cell() -> None:
    document = read(CsvParser, 'Name;Größe\n"Ada;\nLovelace";1,5\n'.encode("cp1252"))
    assert document.text == "| Name | Größe |\n| --- | --- |\n| Ada; Lovelace | 1,5 |"


def test_slides_keep_notes_lists_and_charts_and_leave_out_their_furniture() -> None:
    import pptx
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[1])
    slide.shapes.title.text = "Tides"
    frame = slide.placeholders[1].text_frame
    frame.text = "spring"
    inner = frame.add_paragraph()
    inner.text, inner.level = "neap", 1
    data: Any = CategoryChartData()  # type: ignore[no-untyped-call]
    data.categories = ["May", "June"]
    data.add_series("Height", (1.5, 2))
    slide.shapes.add_chart(XL_CHART_TYPE.LINE, Inches(1), Inches(1), Inches(4), Inches(3), data)
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    out = io.BytesIO()
    deck.save(out)
    document = read(PptxParser, out.getvalue())
    assert texts(document) == [
        "Tides", "- spring", "  - neap", "|  | Height |\n| --- | --- |\n| May | 1.5 |\n| June | 2 |",
        "|  | Height |\n| --- | --- |", "| May | 1.5 |", "| June | 2 |", "Notes: Say it slowly.",
    ]  # fmt: skip
    assert document.locators[-1].place.shape == "Notes"


def test_an_opendocument_keeps_footnotes_at_their_anchor_and_leaves_out_deletions() -> None:
    with zipfile.ZipFile(io.BytesIO(made("odt", 0).data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>"
        '<text:p>High<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation>'
        "<text:note-body><text:p>At noon.</text:p></text:note-body></text:note> water</text:p>"
        '<text:p>a<text:s text:c="2"/>b</text:p>'
    )
    start = files["content.xml"].index(b"<office:text>") + len(b"<office:text>")
    files["content.xml"] = files["content.xml"][:start] + body.encode() + b"</office:text></office:body>"
    files["content.xml"] += b"</office:document-content>"
    document = read(OdtParser, zipped(files))
    assert texts(document) == ["High[^1] water", "[^1]: At noon.", "a  b"]

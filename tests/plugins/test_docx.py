"""Word documents are read whole, in order, with their structure."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from sourcebook import Document
from sourcebook.errors import DocumentError, Encrypted, LimitExceeded, Malformed, NoText, UnsupportedType
from sourcebook.testing.parsers import ParserContract, parse
from sourcebook_plugins.docx import DocxParser, DocxSettings
from sourcebook_plugins.docx.styles import numeral

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"
RELS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
STRICT = "http://purl.oclc.org/ooxml"

STYLES = """
<w:style w:type="paragraph" w:default="1" w:styleId="Standard"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="My own"/><w:basedOn w:val="berschrift2"/></w:style>
<w:style w:type="paragraph" w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="Outlined"><w:name w:val="Other"/>
  <w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Legend"><w:name w:val="caption"/></w:style>
<w:style w:type="paragraph" w:styleId="Bulleted"><w:name w:val="List Bullet"/>
  <w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
"""
NUMBERING = """
<w:abstractNum w:abstractNumId="0"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="*"/></w:lvl>
  <w:lvl w:ilvl="1"><w:numFmt w:val="bullet"/><w:lvlText w:val="o"/></w:lvl></w:abstractNum>
<w:abstractNum w:abstractNumId="1">
  <w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
  <w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>
</w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>
<w:num w:numId="3"><w:abstractNumId w:val="1"/>
  <w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>
"""


def part(root: str, body: str) -> str:
    spaces = f'xmlns:w="{WORD}" xmlns:m="{MATH}" xmlns:mc="{MC}" xmlns:r="{RELS}"'
    return f'<?xml version="1.0" encoding="UTF-8"?><w:{root} {spaces}>{body}</w:{root}>'


def docx(body: str, notes: str = "", core: str = "", **parts: str) -> bytes:
    """The bytes of a package with this body."""
    kinds = {"styles": part("styles", STYLES), "numbering": part("numbering", NUMBERING)}
    kinds["footnotes"] = part("footnotes", notes)
    relations = "".join(f'<Relationship Id="{k}" Type="{RELS}/{k}" Target="{k}.xml"/>' for k in kinds)
    relationships = f'<Relationships xmlns="{PACKAGE}/relationships">'
    files = {
        "_rels/.rels": f'{relationships}<Relationship Id="a" Type="{RELS}/officeDocument" Target="/word/document.xml"/>'
        "</Relationships>",
        "word/document.xml": part("document", f"<w:body>{body}</w:body>"),
        "word/_rels/document.xml.rels": f"{relationships}{relations}</Relationships>",
        **{f"word/{kind}.xml": text for kind, text in kinds.items()},
        **parts,
    }
    if core:
        files["docProps/core.xml"] = (
            f'<c:coreProperties xmlns:c="{PACKAGE}/metadata/core-properties" xmlns:dc="http://purl.org/dc/elements/1.1/"'
            f' xmlns:dcterms="http://purl.org/dc/terms/">{core}</c:coreProperties>'
        )
    return zipped(files)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def p(text: str, style: str = "", extra: str = "") -> str:
    chosen = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{chosen}{extra}</w:pPr>{r(text)}</w:p>"


def r(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{text}</w:t></w:r>'


def item(text: str, num: int, level: int = 0) -> str:
    return p(text, extra=f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{num}"/></w:numPr>')


def cell(content: str, extra: str = "") -> str:
    return f"<w:tc><w:tcPr>{extra}</w:tcPr>{content}</w:tc>"


def table(*rows: list[str]) -> str:
    cells = "".join("<w:tr>" + "".join(f"<w:tc>{p(c)}</w:tc>" for c in row) + "</w:tr>" for row in rows)
    return f"<w:tbl>{cells}</w:tbl>"


def parser() -> DocxParser:
    return DocxParser(DocxSettings())


def read(body: str, notes: str = "", core: str = "") -> Document:
    return parse(parser(), docx(body, notes, core))


def kinds(document: Document) -> list[tuple[str, int, str]]:
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks if b.kind != "table"]


class TestDocx(ParserContract):
    def parser(self) -> DocxParser:
        return parser()

    def samples(self) -> Mapping[str, bytes]:
        body = p("Title", "Titel") + p("Cafe\u0301") + item("one", 2) + table(["a", "b"], ["c", "d"])
        return {"sample.docx": docx(body)}

    def broken(self) -> Mapping[str, bytes]:
        return {
            "no body": docx("").replace(b"x", b"y"),
            "other root": zipped({"word/document.xml": "<a/>"}),
            "no xml": zipped({"word/document.xml": "<w:document"}),
            "utf-16 lie": zipped({"word/document.xml": b"\xff\xfe<\x00a\x00"}),
        }


def test_headings_come_from_styles_in_any_language_their_bases_and_outline_levels() -> None:
    body = (
        p("T", "Titel")
        + p("A", "berschrift1")
        + p("B", "Mine")
        + p("C", "Outlined")
        + p("text")
        + p("Fig. 1", "Legend")
    )
    direct = '<w:outlineLvl w:val="0"/>'
    document = read(body + p("D", extra=direct) + p("no", "berschrift1", '<w:outlineLvl w:val="9"/>'))
    assert kinds(document) == [
        ("heading", 1, "T"),
        ("heading", 1, "A"),
        ("heading", 2, "B"),
        ("heading", 3, "C"),
        ("paragraph", 0, "text"),
        ("caption", 0, "Fig. 1"),
        ("heading", 1, "D"),
        ("paragraph", 0, "no"),
    ]
    assert document.locators[4].place.to_json() == {"path": ["A", "B", "C"], "paragraph": 5}


def test_lists_have_their_marks_levels_and_numbers() -> None:
    body = item("x", 2) + item("y", 2, 1) + item("z", 2, 1) + item("w", 2) + item("u", 2, 1)
    body += item("five", 3) + item("dot", 1) + item("deep", 1, 1) + p("styled", "Bulleted") + item("off", 0)
    assert kinds(read(body)) == [
        ("list_item", 0, "1. x"),
        ("list_item", 1, "  1.a) y"),
        ("list_item", 1, "  1.b) z"),
        ("list_item", 0, "2. w"),
        ("list_item", 1, "  2.a) u"),
        ("list_item", 0, "5. five"),
        ("list_item", 0, "- dot"),
        ("list_item", 1, "  - deep"),
        ("list_item", 0, "- styled"),
        ("paragraph", 0, "off"),
    ]


@pytest.mark.parametrize(
    ("count", "style", "expected"),
    [(4, "lowerRoman", "iv"), (1999, "upperRoman", "MCMXCIX"), (27, "lowerLetter", "aa"), (3, "decimalZero", "03")],
)
def test_numerals(count: int, style: str, expected: str) -> None:
    assert numeral(count, style) == expected


def test_tables_become_pipe_tables_with_merged_nested_and_missing_cells() -> None:
    restart, more = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    merged = (
        f'<w:tbl><w:tr>{cell(p("wide"), """<w:gridSpan w:val="2"/>""")}{cell(p("h|3"))}</w:tr>'
        f"<w:tr>{cell(p('both'), restart)}{cell(p('1') + p('2'))}{cell(table(['n', 'm']) + '<w:p/>')}</w:tr>"
        f"<w:tr>{cell('<w:p/>', more)}{cell(p('3'))}{cell(p(''))}</w:tr>"
        f"<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>{cell(p('late'))}{cell(p('5'))}</w:tr></w:tbl>"
    )
    assert read(p("before") + merged + table(["x", "y"]) + p("after")).text == (
        "before\n\n| wide |  | h\\|3 |\n| --- | --- | --- |\n"
        "| both | 1 2 | n; m |\n| both | 3 |  |\n|  | late | 5 |\n\n"
        "| x | y |\n| --- | --- |\n\nafter"
    )


def test_a_table_of_one_column_is_a_frame_around_its_text() -> None:
    assert kinds(read(table(["Framed"], ["More"]))) == [("paragraph", 0, "Framed"), ("paragraph", 0, "More")]


def test_revisions_are_read_as_accepted() -> None:
    body = (
        f"<w:p>{r('Keep ')}<w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins>{r('new')}</w:ins>"
        f"<w:moveFrom>{r('old place')}</w:moveFrom><w:moveTo>{r(' moved')}</w:moveTo></w:p>"
        f"<w:ins>{p('inserted')}</w:ins><w:del>{p('deleted')}</w:del>"
        f"<w:tbl><w:tr><w:trPr><w:del/></w:trPr><w:tc>{p('x')}</w:tc><w:tc>{p('y')}</w:tc></w:tr></w:tbl>"
    )
    assert read(body).text == "Keep new moved\n\ninserted"


def test_content_controls_links_fields_and_text_boxes_are_read_once() -> None:
    box = f"<w:pict><v:shape xmlns:v='v'><w:txbxContent>{p('In the box')}</w:txbxContent></v:shape></w:pict>"
    body = (
        f"<w:sdt><w:sdtPr><w:alias w:val='no'/></w:sdtPr><w:sdtContent>{p('Control')}</w:sdtContent></w:sdt>"
        f"<w:p>{r('See ')}<w:hyperlink r:id='x'>{r('the link')}</w:hyperlink>"
        "<w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText>PAGE</w:instrText></w:r>"
        f"<w:r><w:fldChar w:fldCharType='separate'/></w:r>{r(' 7')}<w:r><w:fldChar w:fldCharType='end'/></w:r>"
        f"<w:sdt><w:sdtContent>{r(' inline')}</w:sdtContent></w:sdt>"
        f"<w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
        "</w:p>"
    )
    assert read(body).text == "Control\n\nSee the link 7 inline\n\nIn the box"


def test_special_characters_hidden_text_and_formulas() -> None:
    body = (
        "<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t>"
        "<w:sym w:font='Symbol' w:char='F0B7'/><w:sym w:char='2022'/></w:r>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
        "<w:r><w:rPr><w:vanish w:val='0'/></w:rPr><w:t>!</w:t></w:r></w:p>"
        "<w:p><m:oMath><m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
        "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>2</m:t></m:r></m:den></m:f></m:oMath></w:p>"
    )
    assert read(body).text == "a\tb\nc\u2011d•!\n\nx^2(a+b)/2"


def test_a_footnote_stands_behind_the_paragraph_that_has_it_also_from_a_table() -> None:
    mark = '<w:r><w:footnoteReference w:id="{}"/></w:r>'
    notes = "".join(f'<w:footnote w:id="{n}">{p(f"note {n}")}</w:footnote>' for n in (2, 3))
    body = f"<w:p>{r('Text')}{mark.format(2)}{r(' on.')}</w:p>{p('Next')}"
    body += f"<w:tbl><w:tr><w:tc><w:p>{r('cell')}{mark.format(3)}</w:p></w:tc><w:tc>{p('x')}</w:tc></w:tr></w:tbl>"
    assert kinds(read(body, notes)) == [
        ("paragraph", 0, "Text[^1] on."),
        ("footnote", 0, "[^1]: note 2"),
        ("paragraph", 0, "Next"),
        ("table_row", 0, "| cell[^2] | x |\n| --- | --- |"),
        ("footnote", 0, "[^2]: note 3"),
    ]


def test_core_properties_are_metadata_and_the_title_paragraph_stands_in() -> None:
    core = (
        "<dc:creator>Ann; Bob</dc:creator><dcterms:created>2024-05-01T10:00:00Z</dcterms:created><dc:title></dc:title>"
    )
    assert read(p("On plants", "Titel") + p("x"), core=core).metadata == {
        "title": "On plants",
        "authors": ["Ann", "Bob"],
        "created": "2024-05-01T10:00:00Z",
    }


def test_the_strict_variant_is_read() -> None:
    data = {n: z.read(n) for z in [zipfile.ZipFile(io.BytesIO(docx(p("Strict", "berschrift1"))))] for n in z.namelist()}
    for name, text in data.items():
        text = text.replace(WORD.encode(), f"{STRICT}/wordprocessingml/main".encode())
        data[name] = text.replace(f'Type="{RELS}'.encode(), f'Type="{STRICT}/officeDocument/relationships'.encode())
    assert kinds(parse(parser(), zipped(data))) == [("heading", 1, "Strict")]


def test_an_entity_is_never_resolved(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("CANARY")
    head = f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{canary}"><!ENTITY l "LAUGH">]>'
    body = part("document", "<w:body><w:p><w:r><w:t>a&x;b&l;</w:t></w:r></w:p></w:body>").replace("?>", "?>" + head, 1)
    try:
        text = parse(parser(), zipped({"word/document.xml": body})).text
    except DocumentError:
        text = ""
    assert "CANARY" not in text
    assert "LAUGH" not in text


def test_a_billion_laughs_end_well() -> None:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    head = f'<!DOCTYPE d [<!ENTITY a0 "ha">{entities}]>'
    body = part("document", "<w:body><w:p><w:r><w:t>&a11;</w:t></w:r></w:p></w:body>").replace("?>", "?>" + head, 1)
    with pytest.raises(DocumentError):
        parse(parser(), zipped({"word/document.xml": body}))


def test_encrypted_and_old_documents_are_named() -> None:
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)
    with pytest.raises(Encrypted):
        parse(parser(), ole + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(UnsupportedType):
        parse(parser(), ole + "WordDocument".encode("utf-16-le"))


def test_a_bomb_is_refused_by_its_declared_sizes() -> None:
    with pytest.raises(LimitExceeded):
        parse(parser(), docx(p("x"), **{"word/media/big.bin": "0" * 3_000_000}))
    small = DocxParser(DocxSettings(max_unpacked=2000))
    with pytest.raises(LimitExceeded):
        parse(small, docx(p("x")))
    many = zipped({f"word/{n}.xml": "" for n in range(10_001)})
    with pytest.raises(LimitExceeded):
        parse(parser(), many)


def test_a_lying_size_is_damage_and_no_more_memory() -> None:
    data = bytearray(docx(p("x" * 5000)))
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # word/document.xml in the directory
    data[entry + 24 : entry + 28] = struct.pack("<I", 100)
    with pytest.raises(Malformed):
        parse(parser(), bytes(data))


def test_deep_nesting_ends_well() -> None:
    with pytest.raises(LimitExceeded, match="too deeply"):
        read("<w:sdt><w:sdtContent>" * 3000 + p("x") + "</w:sdtContent></w:sdt>" * 3000)
    assert read("<w:sdt><w:sdtContent>" * 100 + p("x") + "</w:sdtContent></w:sdt>" * 100).text == "x"


def test_a_document_without_words_has_no_text() -> None:
    with pytest.raises(NoText):
        read("<w:p/>" + p("  "))


def test_a_damaged_side_part_costs_only_itself() -> None:
    data = docx(p("text", "berschrift1"), **{"word/styles.xml": "<broken"})
    assert parse(parser(), data).text == "text"


def _real() -> list[Mapping[str, str]]:
    lines = Path(DATA, "documents", "manifest.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["file"].startswith("docx/")]


@pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA is not set")
def test_real_documents_are_read_with_every_word() -> None:
    entries = _real()
    assert entries
    for entry in entries:
        data = Path(DATA, "documents", entry["file"]).read_bytes()
        document = parse(parser(), data, entry["file"])
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert _kept_words(archive.read("word/document.xml")) <= set(document.text.split()), entry["file"]


def _kept_words(xml: bytes) -> set[str]:
    """Words of runs that are plain text in their paragraph: each run's inner words, which nothing can join."""
    from lxml import etree

    root = etree.fromstring(xml)
    w = f"{{{WORD}}}"
    texts = [t for t in root.iter(w + "t") if not any(a.tag in (w + "del", w + "moveFrom") for a in t.iterancestors())]
    return {word for t in texts for word in (t.text or "").split(" ")[1:-1] if word.isascii() and word.isalnum()}

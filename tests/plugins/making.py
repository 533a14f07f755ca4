"""Documents made by code, one content in every format, and what a reader must find in them.

`made(format, seed)` gives the file and its blocks in reading order, so that text, order, structure and places of what a
parser wrote can be checked against what was put in.
"""

from __future__ import annotations

import base64
import email.policy
import html
import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import cache
from typing import Any, Literal

Kind = Literal["heading", "paragraph", "list_item", "table"]

VOCABULARIES = (
    "tide moon harbour anchor current depth buoy lighthouse keel compass sextant chart the of and to in is that it",
    "Gezeiten Mond Hafen Anker Strömung Tiefe Boje Leuchtturm Kiel Kompass übermäßig der die und das ist nicht von mit",
    "marée lune ancre bouée façade élève où garçon cours naïve le la les des et est dans pour une que",
    "潮汐 月亮 港口 水流 深度 浮标 灯塔 龙骨 罗盘 海图",
    "прилив луна гавань якорь течение глубина буй маяк киль компас и в не на что с как это",
    "مد قمر ميناء مرساة تيار عمق منارة بوصلة في من على إلى أن هذا التي",
)


@dataclass(frozen=True)
class Unit:
    """One block: `rows` of a table, else its text."""

    kind: Kind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def words(self) -> list[str]:
        return " ".join(" ".join(row) for row in self.rows).split() if self.rows else self.text.split()


@dataclass(frozen=True)
class Made:
    """A file, its blocks in reading order, and the title that its metadata name."""

    name: str
    data: bytes
    units: tuple[Unit, ...]
    title: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        return [word for unit in self.units for word in unit.words]


def units(seed: int, *, latin: bool = False, tables: bool = True) -> tuple[Unit, ...]:
    """A content: sections with paragraphs, a list and a table. Many words are their own, by a running number."""
    rng = random.Random(seed)
    words = VOCABULARIES[seed % (3 if latin else len(VOCABULARIES))].split()
    count = 0

    def some(least: int, most: int) -> str:
        nonlocal count
        chosen = []
        for _ in range(rng.randint(least, most)):
            count += 1
            chosen.append(f"{rng.choice(words)}{count}" if rng.random() < 0.3 else rng.choice(words))
        return " ".join(chosen)

    found: list[Unit] = [Unit("heading", f"Title {some(2, 4)}", 1)]
    for _ in range(rng.randint(2, 4)):
        found.append(Unit("heading", f"Part {some(1, 3)}", 2))
        found += [Unit("paragraph", f"{some(8, 40)}.") for _ in range(rng.randint(1, 3))]
        found += [Unit("list_item", some(2, 6)) for _ in range(rng.randint(2, 4))]
        if tables:
            width = rng.randint(2, 4)
            header = tuple(f"Column{i}x{count}" for i in range(width))
            body = tuple(tuple(some(1, 2) for _ in range(width)) for _ in range(rng.randint(2, 4)))
            found.append(Unit("table", rows=(header, *body)))
        found.append(Unit("paragraph", f"After {some(4, 9)}."))
    return tuple(found)


def docx(content: Sequence[Unit]) -> bytes:
    import docx as library

    document = library.Document()
    document.core_properties.title = content[0].text
    document.core_properties.author = "Ada Tide"
    document.sections[0].header.paragraphs[0].text = "RUNNING HEADER"
    for unit in content:
        if unit.kind == "heading":
            document.add_heading(unit.text, unit.level)
        elif unit.kind == "table":
            table = document.add_table(len(unit.rows), len(unit.rows[0]))
            for row, cells in zip(table.rows, unit.rows, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
        else:
            document.add_paragraph(unit.text, style="List Bullet" if unit.kind == "list_item" else None)
    return _saved(document.save)


def pptx(content: Sequence[Unit]) -> bytes:
    """A slide a heading: texts, then lists, then tables have shapes of their own, in order."""
    import pptx as library
    from pptx.util import Inches

    deck = library.Presentation()
    deck.core_properties.title = content[0].text
    slide: Any = None
    for i, unit in enumerate(content):
        if unit.kind == "heading":
            slide = deck.slides.add_slide(deck.slide_layouts[5])
            slide.shapes.title.text = unit.text
        elif unit.kind == "table":
            shape = (len(unit.rows), len(unit.rows[0]), Inches(1), Inches(2), Inches(6), Inches(2))
            table = slide.shapes.add_table(*shape).table
            for r, row in enumerate(unit.rows):
                for c, text in enumerate(row):
                    table.cell(r, c).text = text
        else:
            box = slide.shapes.add_textbox(Inches(1), Inches(1), Inches(6), Inches(1))
            box.name = f"Box {i}"
            box.text_frame.text = unit.text
    return _saved(deck.save)


def xlsx(content: Sequence[Unit]) -> bytes:
    """A sheet; everything but tables is a cell of its own, an empty row between blocks."""
    import openpyxl

    book = openpyxl.Workbook()
    book.properties.title = content[0].text
    sheet: Any = book.active
    sheet.title = "Tides"
    at = 1
    for unit in content:
        for row in unit.rows or ((unit.text,),):
            for c, text in enumerate(row, start=2):
                sheet.cell(at, c, text)
            at += 1
        at += 1
    return _saved(book.save)


def as_html(content: Sequence[Unit]) -> str:
    parts = [
        f"<!doctype html><html><head><meta charset=utf-8><title>{html.escape(content[0].text)}</title></head><body>"
    ]
    parts.append("<nav><a href=/>MENU</a></nav><script>var SCRIPT = 1</script>")
    for unit in content:
        text = html.escape(unit.text)
        if unit.kind == "heading":
            parts.append(f"<h{unit.level}>{text}</h{unit.level}>")
        elif unit.kind == "list_item":
            parts.append(f"<ul><li>{text}</li></ul>")
        elif unit.kind == "table":
            rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in unit.rows]
            rows[0] = rows[0].replace("td>", "th>")
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
        else:
            parts.append(f"<p>{text}</p>")
    return "\n".join([*parts, "</body></html>"])


def markdown(content: Sequence[Unit]) -> bytes:
    parts: list[str] = []
    for unit in content:
        if unit.kind == "heading":
            parts.append(f"{'#' * unit.level} {unit.text}")
        elif unit.kind == "list_item":
            parts.append(f"- {unit.text}")
        elif unit.kind == "table":
            rows = [f"| {' | '.join(row)} |" for row in unit.rows]
            parts.append("\n".join([rows[0], "|" + " --- |" * len(unit.rows[0]), *rows[1:]]))
        else:
            parts.append(unit.text)
    return "\n\n".join(parts).encode()


def plain(content: Sequence[Unit]) -> bytes:
    return "\n\n".join(unit.text or "\n".join(" ".join(row) for row in unit.rows) for unit in content).encode()


def epub(content: Sequence[Unit]) -> bytes:
    """A chapter a heading."""
    chapters: list[list[Unit]] = []
    for unit in content:
        if unit.kind == "heading":
            chapters.append([])
        chapters[-1].append(unit)
    items = "".join(
        f'<item id="c{i}" href="c{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>{html.escape(content[0].text)}</dc:title><dc:creator>Ada Tide</dc:creator></metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
        **{f"OEBPS/c{i}.xhtml": as_html(chapter) for i, chapter in enumerate(chapters)},
    }
    return zipped(files)


def odt(content: Sequence[Unit]) -> bytes:
    names = ("office", "text", "table", "style", "meta")
    spaces = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in names)
    parts: list[str] = []
    for unit in content:
        text = html.escape(unit.text)
        if unit.kind == "heading":
            parts.append(f'<text:h text:outline-level="{unit.level}">{text}</text:h>')
        elif unit.kind == "list_item":
            parts.append(f"<text:list><text:list-item><text:p>{text}</text:p></text:list-item></text:list>")
        elif unit.kind == "table":
            rows = "".join(
                "<table:table-row>"
                + "".join(f"<table:table-cell><text:p>{html.escape(c)}</text:p></table:table-cell>" for c in row)
                + "</table:table-row>"
                for row in unit.rows
            )
            parts.append(f"<table:table>{rows}</table:table>")
        else:
            parts.append(f"<text:p>{text}</text:p>")
    body = f"<office:body><office:text>{''.join(parts)}</office:text></office:body>"
    meta = f"<dc:title>{html.escape(content[0].text)}</dc:title><dc:creator>Ada Tide</dc:creator>"
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document-content {spaces}>{body}</office:document-content>",
            "meta.xml": f'<office:document-meta {spaces} xmlns:dc="http://purl.org/dc/elements/1.1/"><office:meta>{meta}'
            "</office:meta></office:document-meta>",
        }
    )


def eml(content: Sequence[Unit], *, rich: bool) -> bytes:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = "ada@example.org", "ben@example.org", content[0].text
    mail["Date"] = "Fri, 16 Dec 2022 17:04:16 -0500"
    if rich:
        mail.set_content(as_html(content).replace("<nav><a href=/>MENU</a></nav>", ""), subtype="html")
    else:
        mail.set_content(plain(content).decode())
        mail.add_alternative("<p>the same again, in HTML</p>", subtype="html")
    return mail.as_bytes()


def delimited(content: Sequence[Unit], delimiter: str) -> bytes:
    import csv

    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    for unit in content:
        writer.writerows(unit.rows)
    return out.getvalue().encode()


def as_json(content: Sequence[Unit], *, lines: bool) -> bytes:
    records = [{"kind": unit.kind, "text": unit.text} for unit in content if unit.text]
    if lines:
        return "\n".join(json.dumps(r, ensure_ascii=False) for r in records).encode()
    return json.dumps({"name": content[0].text, "items": records}, ensure_ascii=False).encode()


def pdf(content: Sequence[Unit]) -> bytes:
    """Flowing text with a running header and page numbers, which nobody wants to read."""
    import fpdf

    class Paper(fpdf.FPDF):
        def header(self) -> None:
            self.set_font("Helvetica", size=9)
            self.cell(0, 8, "Running header of the report", new_x="LMARGIN", new_y="NEXT")
            self.ln(6)

        def footer(self) -> None:
            self.set_y(-15)
            self.set_font("Helvetica", size=9)
            self.cell(0, 8, f"Page {self.page_no()}", align="C")

    paper = Paper(unit="mm", format=(148, 210))
    paper.set_title(content[0].text)
    paper.set_author("Ada Tide")
    paper.add_page()
    for unit in content:
        if unit.kind == "heading":
            paper.set_font("Helvetica", "B", 20 if unit.level == 1 else 15)
            paper.multi_cell(0, 10, unit.text, new_x="LMARGIN", new_y="NEXT")
            paper.ln(2)
        elif unit.kind == "table":
            paper.set_font("Helvetica", size=11)
            paper.ln(3)
            for row in unit.rows:
                for text in row:
                    paper.cell(paper.epw / len(row), 7, text)
                paper.ln(7)
            paper.ln(4)
        else:
            paper.set_font("Helvetica", size=11)
            mark = "- " if unit.kind == "list_item" else ""
            paper.multi_cell(0, 5.5, mark + unit.text, new_x="LMARGIN", new_y="NEXT", align="L")
            paper.ln(3)
    return bytes(paper.output())


# Made by Info-ZIP 3.0, `zip -P sesame`: notes/a.md and b.txt under ZIP's own cipher.
PROTECTED = base64.b64decode(
    "UEsDBBQACQAIABd+el35dGKkLwAAACQAAAAKAAAAbm90ZXMvYS5tZEtmiSFdfUCvo7evyWCIUpjZ10OmTW0f0US+Qg3yb4AksCX8"
    "wUQIO6aPKqqj9ZbnUEsHCPl0YqQvAAAAJAAAAFBLAwQKAAkAAAAXfnpdHhY0ER8AAAATAAAABQAAAGIudHh0L1r2oChgE8+x8SpL"
    "z94t1J+TTnNXVtEegW1/o2sBHFBLBwgeFjQRHwAAABMAAABQSwECHgMUAAkACAAXfnpd+XRipC8AAAAkAAAACgAAAAAAAAABAAAA"
    "pIEAAAAAbm90ZXMvYS5tZFBLAQIeAwoACQAAABd+el0eFjQRHwAAABMAAAAFAAAAAAAAAAEAAACkgWcAAABiLnR4dFBLBQYAAAAA"
    "AgACAGsAAAC5AAAAAAA="
)


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _saved(save: Callable[[Any], None]) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()


BUILT: dict[str, Callable[..., bytes]] = {
    "docx": lambda c, seed=0: docx(c), "pptx": lambda c, seed=0: pptx(c), "xlsx": lambda c, seed=0: xlsx(c),
    "html": lambda c, seed=0: as_html(c).encode(), "md": lambda c, seed=0: markdown(c),
    "txt": lambda c, seed=0: plain(c), "epub": lambda c, seed=0: epub(c), "odt": lambda c, seed=0: odt(c),
    "pdf": lambda c, seed=0: pdf(c), "eml": lambda c, seed=0: eml(c, rich=seed % 2 == 0),
    "csv": lambda c, seed=0: delimited(c, ",;"[seed % 2]), "tsv": lambda c, seed=0: delimited(c, "\t"),
    "json": lambda c, seed=0: as_json(c, lines=False), "jsonl": lambda c, seed=0: as_json(c, lines=True),
}  # fmt: skip
"""A maker for each format; `seed` chooses between its variants."""


@cache
def made(kind: str, seed: int) -> Made:
    """A file of `kind` (an extension without its dot) and what was put into it."""
    content = units(seed, latin=kind == "pdf", tables=kind not in ("json", "jsonl"))
    if kind in ("csv", "tsv"):
        content = tuple(u for u in content if u.kind == "table")
    if kind in ("json", "jsonl"):
        content = tuple(u for u in content if u.text)
    titled = kind in ("docx", "pptx", "xlsx", "html", "md", "epub", "odt", "pdf", "eml", "json")
    return Made(f"made{seed}.{kind}", BUILT[kind](content, seed), content, content[0].text if titled else "")

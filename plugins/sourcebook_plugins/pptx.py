"""PowerPoint presentations (.pptx), read from their XML, for the reasons that Word documents are.

Charts, diagrams, notes and text in groups are read too. Format: ECMA-376 part 1, chapter 19, transitional and strict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sourcebook import DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.documents import BlockKind
from sourcebook.errors import Malformed, NoText
from sourcebook_plugins.drawing import (
    A,
    R,
    body_text,
    chart_of,
    chart_rows,
    diagram_texts,
    has_header,
    paragraph_text,
    table_rows,
)
from sourcebook_plugins.packages import Element, Format, Package, PackageSettings

_PPTX = Format("a PowerPoint presentation", "a PowerPoint 97 presentation (.ppt)", ".pptx", "ppt/presentation.xml")
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_TYPE = "application/vnd.openxmlformats-officedocument.presentationml"
_TITLES = ("title", "ctrTitle")
_FURNITURE = ("dt", "ftr", "sldNum", "hdr")  # the same on every slide
_DEEPEST = 50


class PptxSettings(PackageSettings):
    """See `PackageSettings`."""


class PptxParser(Parser[PptxSettings]):
    """Reads slide by slide: the title as a heading, texts, lists, tables, charts as tables, diagrams, then the notes.

    Dates, footers and slide numbers, and comments are left out. A locator is the slide and the shape's name. Raises
    `Encrypted`, `Malformed`, `LimitExceeded` (before unpacking) and `NoText`.
    """

    name = "pptx"
    Settings = PptxSettings
    media_types = (
        f"{_TYPE}.presentation",
        f"{_TYPE}.slideshow",
        f"{_TYPE}.template",
        "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    )
    extensions = (".pptx", ".pptm", ".ppsx", ".potx")
    preload = ("lxml.etree", "zipfile", "sourcebook_plugins.drawing")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream, Package(stream, self.settings, _PPTX) as package:
            main = package.main()
            slides = _slides(package, main)
            out.meta(slides=len(slides), **package.properties())
            written = 0
            for number, part in enumerate(slides, start=1):
                try:
                    slide = _Slide(package, part, number, out)
                    slide.write()
                except Malformed:
                    out.warn("slide_damaged", f"Slide {number} is damaged and was left out.")
                    continue
                written += slide.written
        if not written:
            raise NoText("The presentation holds no text.")


def _slides(package: Package, main: str) -> list[str]:
    """The slides' parts in their order."""
    relations = package.relations(main)
    found = [relations.get(e.get(R + "id", ""), ("", ""))[1] for e in package.xml(main).iter(_P + "sldId")]
    return [part for part in found if part in package]


class _Slide:
    def __init__(self, package: Package, part: str, number: int, out: DocumentWriter) -> None:
        self.package = package
        self.part = part
        self.number = number
        self.out = out
        self.written = 0

    def write(self) -> None:
        tree = self.package.xml(self.part).find(f"{_P}cSld/{_P}spTree")
        if tree is not None:
            shapes = list(_shapes(tree))
            # The title is read first wherever it was drawn; sorting is stable, and drawing order is reading order.
            for shape in sorted(shapes, key=lambda s: _placeholder(s)[0] not in _TITLES):
                self._shape(shape)
        for notes in self.package.targets(self.part, "notesSlide")[:1]:
            self._notes(self.package.xml(notes))

    def _shape(self, shape: Element) -> None:
        kind, name = _placeholder(shape)[0], _name(shape)
        if kind in _FURNITURE:
            return
        if shape.tag == _P + "graphicFrame":
            self._frame(shape, name)
        elif (body := shape.find(_P + "txBody")) is not None:
            if kind in _TITLES:
                self._block(body_text(body), "heading", name, 1)
            else:
                self._body(body, name, listed=kind in ("body", "obj"))

    def _body(self, body: Element, name: str, *, listed: bool) -> None:
        """Paragraphs; several of a content placeholder are its list, as are all with bullets of their own."""
        paragraphs = [p for p in body.iter(A + "p") if paragraph_text(p).strip()]
        number: dict[int, int] = {}
        for p in paragraphs:
            text, properties = paragraph_text(p).strip(), p.find(A + "pPr")
            level = _level(properties)
            mark = _mark(properties, listed and (len(paragraphs) > 1 or level > 0))
            if not mark:
                number.clear()
                self._block(text, "paragraph", name)
                continue
            if mark == "1":
                number = {k: v for k, v in number.items() if k <= level}
                number[level] = number.get(level, _start(properties) - 1) + 1
                mark = f"{number[level]}. "
            hanging = "\n" + "  " * level + " " * len(mark)
            self._block("  " * level + mark + hanging.join(text.split("\n")), "list_item", name, level)

    def _frame(self, frame: Element, name: str) -> None:
        table = frame.find(f".//{A}tbl")
        if table is not None:
            self._rows(list(table_rows(table)), name, header=has_header(table))
        elif (chart := chart_of(self.package, self.part, frame)) is not None:
            title, rows = chart_rows(chart)
            self._block(title, "caption", name)
            self._rows(rows, name, header=True)
        else:
            for text in diagram_texts(self.package, self.part, frame):
                self._block(f"- {text}", "list_item", name)

    def _rows(self, rows: list[list[str]], name: str, *, header: bool) -> None:
        self.out.end_table()
        for i, cells in enumerate(rows):
            if any(cells):
                self.written += 1
                self.out.row(cells, Place(slide=self.number, shape=name), header=header and i == 0)
        self.out.end_table()

    def _notes(self, notes: Element) -> None:
        for shape in notes.iter(_P + "sp"):
            body = shape.find(_P + "txBody")
            if body is not None and _placeholder(shape)[0] == "body":
                lines = (paragraph_text(p).strip() for p in body.iter(A + "p"))
                if text := "\n".join(line for line in lines if line):
                    self._block(f"Notes: {text}", "footnote", "Notes")

    def _block(self, text: str, kind: BlockKind, shape: str, level: int = 0) -> None:
        if kind == "heading":
            text = " ".join(text.split())
        if text.strip():
            self.written += 1
            self.out.block([(text, Place(slide=self.number, shape=shape or None))], kind, level)


def _shapes(tree: Element, depth: int = 0) -> Iterator[Element]:
    """Shapes and frames in drawing order, those of groups too."""
    for child in tree:
        if not isinstance(child.tag, str):
            continue
        if child.tag == _MC + "AlternateContent":
            yield from _shapes(child[:1][0] if len(child) else child, depth)  # Choice and Fallback say the same twice
        elif child.tag == _P + "grpSp" and depth < _DEEPEST:
            yield from _shapes(child, depth + 1)
        elif child.tag in (_P + "sp", _P + "graphicFrame") and not _hidden(child):
            yield child


def _properties(shape: Element) -> Element | None:
    return shape.find(f"*/{_P}cNvPr")


def _name(shape: Element) -> str:
    found = _properties(shape)
    return str(found.get("name", "")) if found is not None else ""


def _hidden(shape: Element) -> bool:
    found = _properties(shape)
    return found is not None and found.get("hidden") in ("1", "true")


def _placeholder(shape: Element) -> tuple[str, str]:
    """Type and index of a placeholder; ("", "") for another shape. Without a type it holds content: "obj"."""
    found = shape.find(f"*/{_P}nvPr/{_P}ph")
    return (found.get("type", "obj"), found.get("idx", "")) if found is not None else ("", "")


def _level(properties: Element | None) -> int:
    level = properties.get("lvl", "0") if properties is not None else "0"
    return int(level) if level in "012345678" and level else 0


def _mark(properties: Element | None, inherited: bool) -> str:
    """ "- " for a bullet, "1" for a number, "" for neither."""
    if properties is not None:
        if properties.find(A + "buNone") is not None:
            return ""
        if properties.find(A + "buAutoNum") is not None:
            return "1"
        if properties.find(A + "buChar") is not None or properties.find(A + "buBlip") is not None:
            return "- "
    return "- " if inherited else ""


def _start(properties: Element | None) -> int:
    numbered = properties.find(A + "buAutoNum") if properties is not None else None
    start = numbered.get("startAt", "1") if numbered is not None else "1"
    return int(start) if start.isascii() and start.isdigit() and len(start) < 6 else 1


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """PowerPoint presentations."""
    return [PptxParser]

"""OpenDocument texts (.odt), read from their XML. Format: OASIS OpenDocument 1.3, part 3.

odfpy is no longer kept, and loads a document with entities resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sourcebook import DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.documents import BlockKind
from sourcebook.errors import Encrypted, Malformed, NoText
from sourcebook_plugins.packages import Element, Format, Package, PackageSettings

_ODT = Format("an OpenDocument text")
_NS = "urn:oasis:names:tc:opendocument:xmlns:"
_TEXT, _TABLE, _DRAW = (f"{{{_NS}{name}:1.0}}" for name in ("text", "table", "drawing"))
_OFFICE, _STYLE, _META = (f"{{{_NS}{name}:1.0}}" for name in ("office", "style", "meta"))
_DC = "{http://purl.org/dc/elements/1.1/}"
_SKIPPED = {
    _TEXT + "tracked-changes",
    _OFFICE + "annotation",
    _OFFICE + "forms",
    _TEXT + "ruby-text",
    _TEXT + "bookmark",
}
_SKIPPED |= {
    _TEXT + "sequence-decls",
    _OFFICE + "annotation-end",
    _TEXT + "note-citation",
    _TEXT + "index-title-template",
}
_NAMES = {_DC + "title": "title", _DC + "description": "description", _DC + "subject": "subject"}
_NAMES |= {_DC + "language": "language", _META + "creation-date": "created", _DC + "date": "modified"}
_COLUMNS, _SPACES = 200, 200  # repeated, at most
_DEEPEST = 100


class OdtSettings(PackageSettings):
    """See `PackageSettings`."""


class OdtParser(Parser[OdtSettings]):
    """Reads the body in order: headings, lists, tables, text frames, footnotes behind the paragraph that has them.

    Tracked deletions, comments, headers and footers are left out. A locator is the path of headings and the number of
    the block. Raises `Encrypted`, `Malformed`, `LimitExceeded` (before unpacking) and `NoText`.
    """

    name = "odt"
    Settings = OdtSettings
    media_types = ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text-template")
    extensions = (".odt", ".ott")
    preload = ("lxml.etree", "zipfile")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream, Package(stream, self.settings, _ODT) as package:
            if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
                raise Encrypted("The document is protected by a password.", remedy="Save it without one and upload it.")
            if "content.xml" not in package:
                raise Malformed("This is not an OpenDocument text: it has no content.")
            body = _Body(out)
            body.write(package.xml("content.xml"))
            out.meta(**{"title": body.title, **_metadata(package)})
        if not body.number:
            raise NoText("The document holds no text.")


def _metadata(package: Package) -> dict[str, Any]:
    if "meta.xml" not in package:
        return {}
    try:
        root = package.xml("meta.xml")
    except Malformed:
        return {}
    found: dict[str, Any] = {}
    for element in root.iter():
        text = (element.text or "").strip() if isinstance(element.tag, str) else ""
        if not text:
            continue
        if element.tag in _NAMES:
            found[_NAMES[element.tag]] = text
        elif element.tag in (_META + "initial-creator", _DC + "creator"):
            found.setdefault("authors", [text])
        elif element.tag == _META + "keyword":
            found.setdefault("keywords", []).append(text)
    return found


@dataclass
class _Paragraph:
    """`notes` are (mark, body); `frames` are text boxes, to be read as blocks of their own."""

    text: list[str] = field(default_factory=list)
    notes: list[tuple[str, Element]] = field(default_factory=list)
    frames: list[Element] = field(default_factory=list)


class _Body:
    def __init__(self, out: DocumentWriter) -> None:
        self.out = out
        self.number = 0
        self.title = ""
        self._path: list[tuple[int, str]] = []
        self._notes = 0
        self._parents: dict[str, str] = {}  # automatic style -> the named one that it changes
        self._numbered: dict[str, set[int]] = {}  # list style -> its numbered levels

    def write(self, root: Element) -> None:
        for style in root.iter(_STYLE + "style"):
            self._parents[style.get(_STYLE + "name", "")] = style.get(_STYLE + "parent-style-name", "")
        for style in root.iter(_TEXT + "list-style"):
            levels = {_integer(e.get(_TEXT + "level")) for e in style.iter(_TEXT + "list-level-style-number")}
            self._numbered[style.get(_STYLE + "name", "")] = levels
        body = root.find(f"{_OFFICE}body/{_OFFICE}text")
        if body is None:
            raise Malformed("This is not an OpenDocument text: it has no body.")
        self._blocks(body)

    def _blocks(self, container: Element, depth: int = 0) -> None:
        for child in container:
            if not isinstance(child.tag, str) or child.tag in _SKIPPED or depth > _DEEPEST:
                continue
            if child.tag in (_TEXT + "p", _TEXT + "h"):
                self._paragraph(child)
            elif child.tag == _TEXT + "list":
                self._list(child, 0, "")
            elif child.tag == _TABLE + "table":
                self._table(child)
            else:  # sections, indexes, frames and other wrappers
                self._blocks(child, depth + 1)

    def _paragraph(self, element: Element) -> None:
        found = self._read(element)
        text = "".join(found.text).strip()
        style = self._style(element)
        if text and (element.tag == _TEXT + "h" or style == "Title"):
            level = _integer(element.get(_TEXT + "outline-level"), 1)
            self._heading(min(max(level, 1), 10), " ".join(text.split()), style)
        elif text:
            caption = style in ("Caption", "Illustration", "Table", "Drawing", "Figure")
            self._block(text, "caption" if caption else "paragraph")
        self._attached(found)

    def _style(self, element: Element) -> str:
        name = element.get(_TEXT + "style-name", "")
        return self._parents.get(name) or name

    def _heading(self, level: int, text: str, style: str) -> None:
        if style == "Title" and not self.title:
            self.title = text
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, text))
        self._block(text, "heading", level)

    def _list(self, element: Element, depth: int, style: str) -> None:
        style = element.get(_TEXT + "style-name", "") or style
        numbered = depth + 1 in self._numbered.get(style, ())
        count = 0
        for item in element:
            if item.tag not in (_TEXT + "list-item", _TEXT + "list-header"):
                continue
            count = _integer(item.get(_TEXT + "start-value"), count + (item.tag == _TEXT + "list-item"))
            mark = "" if item.tag == _TEXT + "list-header" else f"{count}. " if numbered else "- "
            self._item(item, depth, mark, style)

    def _item(self, item: Element, depth: int, mark: str, style: str) -> None:
        indent = "  " * min(depth, 20)
        for child in item:
            if child.tag == _TEXT + "list":
                if depth < _DEEPEST:
                    self._list(child, depth + 1, style)
            elif child.tag == _TEXT + "h":
                self._paragraph(child)
            elif child.tag == _TEXT + "p":
                found = self._read(child)
                if text := "".join(found.text).strip():
                    hanging = "\n" + indent + " " * len(mark)
                    self._block(indent + mark + hanging.join(text.split("\n")), "list_item", depth)
                    mark = " " * len(mark)
                self._attached(found)

    def _table(self, table: Element) -> None:
        rows = list(_rows(table))
        if all(len([c for c in row if c.tag == _TABLE + "table-cell"]) < 2 for row, _ in rows):
            for row, _ in rows:  # one column is a frame around text, not a table
                for cell in row:
                    self._blocks(cell)
            return
        self.out.end_table()
        attached = _Paragraph()
        for i, (row, headed) in enumerate(rows):
            cells = self._cells(row, attached)
            if any(cells):
                self.number += 1
                self.out.row(cells, self._place(), header=i == 0 and (headed or len(rows) > 1))
        self.out.end_table()
        self._attached(attached)

    def _cells(self, row: Element, attached: _Paragraph) -> list[str]:
        texts: list[str] = []
        for cell in row:
            if cell.tag not in (_TABLE + "table-cell", _TABLE + "covered-table-cell"):
                continue
            text = self._flat(cell, attached) if cell.tag == _TABLE + "table-cell" else ""
            texts += [text] * min(_integer(cell.get(_TABLE + "number-columns-repeated"), 1), _COLUMNS - len(texts))
        return texts

    def _flat(self, container: Element, into: _Paragraph) -> str:
        """All text below a cell or a note on one line."""
        parts: list[str] = []
        for child in container.iter(_TEXT + "p", _TEXT + "h"):
            found = self._read(child)
            into.notes += found.notes
            into.frames += found.frames
            parts.append(" ".join("".join(found.text).split()))
        return " ".join(part for part in parts if part)

    def _read(self, element: Element) -> _Paragraph:
        found = _Paragraph()
        self._walk(element, found, 0)
        return found

    def _walk(self, element: Element, into: _Paragraph, depth: int) -> None:
        into.text.append(" ".join((element.text or "").split("\n")))
        for child in element:
            tag = child.tag
            if tag == _TEXT + "s":
                into.text.append(" " * min(_integer(child.get(_TEXT + "c"), 1), _SPACES))
            elif tag == _TEXT + "tab":
                into.text.append("\t")
            elif tag == _TEXT + "line-break":
                into.text.append("\n")
            elif tag == _TEXT + "note":
                self._notes += 1
                mark = f"[^{self._notes}]"
                into.text.append(mark)
                into.notes += [(mark, body) for body in child.iter(_TEXT + "note-body")]
            elif tag == _DRAW + "frame":
                into.frames += list(child.iter(_DRAW + "text-box"))[:1]
            elif isinstance(tag, str) and tag not in _SKIPPED and depth < _DEEPEST:
                self._walk(child, into, depth + 1)
            into.text.append(" ".join((child.tail or "").split("\n")))

    def _attached(self, found: _Paragraph) -> None:
        for frame in found.frames:
            self._blocks(frame)
        for mark, body in found.notes:
            inner = _Paragraph()
            if text := self._flat(body, inner):
                self._block(f"{mark}: {text}", "footnote")

    def _block(self, text: str, kind: BlockKind, level: int = 0) -> None:
        self.number += 1
        self.out.block([(text, self._place())], kind, level)

    def _place(self) -> Place:
        return Place(path=tuple(title for _, title in self._path) or None, paragraph=self.number)


def _rows(table: Element) -> Iterator[tuple[Element, bool]]:
    """Every row, and whether it is marked as the header."""
    for child in table:
        if child.tag == _TABLE + "table-row":
            yield child, False
        elif child.tag in (_TABLE + "table-header-rows", _TABLE + "table-rows", _TABLE + "table-row-group"):
            for row in child.iter(_TABLE + "table-row"):
                yield row, child.tag == _TABLE + "table-header-rows"


def _integer(text: str | None, default: int = 0) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 8 else default


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """OpenDocument texts."""
    return [OdtParser]

"""A Word document's body, block by block in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sourcebook import DocumentWriter, Place
from sourcebook.documents import BlockKind
from sourcebook.errors import Malformed
from sourcebook_plugins.docx.inline import Paragraph, properties, read, style_of
from sourcebook_plugins.docx.styles import Numbering, Styles, W, number, val
from sourcebook_plugins.packages import Element

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_GONE = {W + "del", W + "moveFrom"}
_COLUMNS = 63  # Word allows no more
_LABEL = 80  # characters; a longer text in vertically merged cells is a layout, not a row's label


class Body:
    """Writes the body of one document. `paragraphs` counts what was written; `title` is the Title paragraph's text."""

    def __init__(
        self, out: DocumentWriter, styles: Styles, numbering: Numbering, notes: Mapping[str, Element | None]
    ) -> None:
        self.out = out
        self.styles = styles
        self.numbering = numbering
        self.paragraphs = 0
        self.title = ""
        self._path: list[tuple[int, str]] = []
        self._marks: dict[tuple[str, str], str] = {}  # of every note so far
        self._notes = {
            (kind, e.get(W + "id", "")): e
            for kind, root in notes.items()
            for e in (root.iter(W + kind) if root is not None else ())
        }

    def write(self, root: Element) -> None:
        """Write everything below `w:body`."""
        body = root.find(W + "body")
        if body is None:
            raise Malformed("This is not a Word document: it has no body.")
        self._blocks(body)

    def _blocks(self, container: Element) -> None:
        for element in _children(container):
            if element.tag == W + "p":
                self._paragraph(element)
            elif element.tag == W + "tbl":
                self._table(element)

    def _paragraph(self, element: Element) -> None:
        found = read(element, self._marks)
        text = "".join(found.text)
        if text.strip():
            self._write(element, text)
        self._attached(found)

    def _write(self, element: Element, text: str) -> None:
        style, settings = self.styles.name(style_of(element)), properties(element)
        level = self.styles.heading(settings)
        numbered = self.styles.numbering(settings)
        mark = self.numbering.mark(*numbered) if numbered is not None else ""
        if level:
            text = " ".join(text.split())
            self._heading(level, text if mark == "- " else mark + text, style)
        elif numbered is not None:
            depth = numbered[1]
            hanging = "\n" + " " * (2 * depth + len(mark))
            lines = [line.strip() for line in text.split("\n") if line.strip()]
            self._block("  " * depth + mark + hanging.join(lines), "list_item", depth)
        else:
            self._block(text.strip(), "caption" if style == "caption" else "paragraph")

    def _heading(self, level: int, text: str, style: str) -> None:
        if style == "title" and not self.title:
            self.title = text
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, text))
        self._block(text, "heading", level)

    def _block(self, text: str, kind: BlockKind, level: int = 0) -> None:
        self.paragraphs += 1
        self.out.block([(text, self._place())], kind, level)

    def _place(self) -> Place:
        return Place(path=tuple(title for _, title in self._path) or None, paragraph=self.paragraphs)

    def _attached(self, found: Paragraph) -> None:
        """Text boxes, and the notes that the paragraph is the first to refer to, right behind it."""
        for box in found.boxes:
            self._blocks(box)
        for key in found.notes:
            note = self._notes.pop(key, None)
            if note is None:
                continue
            text = " ".join(self._flat(note, found := Paragraph()).split())
            if text:
                self._block(f"{self._marks[key]}: {text}", "footnote")

    def _table(self, table: Element) -> None:
        rows = [(row, list(_named(row, W + "tc"))) for row in _rows(table)]
        if all(len(cells) < 2 for _, cells in rows):
            for _, cells in rows:  # one column is a frame around text, not a table
                for cell in cells:
                    self._blocks(cell)
            return
        self.out.end_table()
        attached = Paragraph()
        above: dict[int, str] = {}
        for i, (row, cells) in enumerate(rows):
            texts = self._row(row, cells, above, attached)
            if any(text.strip() for text in texts):
                self.paragraphs += 1
                self.out.row(texts, self._place(), header=i == 0)
        self.out.end_table()
        self._attached(attached)

    def _row(self, row: Element, cells: list[Element], above: dict[int, str], attached: Paragraph) -> list[str]:
        """The texts of a row's cells, one a column. `above` holds, by column, what a vertical merge goes on with."""
        texts = [""] * min(number(val(row, f"{W}trPr/{W}gridBefore")), _COLUMNS)
        for cell in cells:
            span = min(max(number(val(cell, f"{W}tcPr/{W}gridSpan"), 1), 1), _COLUMNS)
            merge = cell.find(f"{W}tcPr/{W}vMerge")
            text = self._flat(cell, attached)
            if merge is not None and merge.get(W + "val") != "restart":
                text = text if text.strip() else above.get(len(texts), "")
            above[len(texts)] = text if merge is not None and len(text) <= _LABEL else ""
            texts += [text] + [""] * (span - 1)
        return texts

    def _flat(self, container: Element, attached: Paragraph) -> str:
        """All text below a cell or a note on one line; nested tables too, their cells kept apart."""
        parts: list[str] = []
        for element in _children(container):
            if element.tag == W + "p":
                found = read(element, self._marks)
                attached.notes += found.notes
                numbered = self.styles.numbering(properties(element))
                mark = self.numbering.mark(*numbered) if numbered is not None and "".join(found.text).strip() else ""
                parts.append(mark + "".join(found.text))
                parts += [self._flat(box, attached) for box in found.boxes]
            elif element.tag == W + "tbl":
                for row in _rows(element):
                    parts.append("; ".join(self._flat(cell, attached) for cell in _named(row, W + "tc")))
        return " ".join(part for part in parts if part.strip())


def _children(container: Element) -> Iterator[Element]:
    """Paragraphs and tables of a container, through content controls, insertions and other wrappers."""
    for child in container:
        if not isinstance(child.tag, str) or child.tag in _GONE:
            continue
        if child.tag in (W + "p", W + "tbl"):
            yield child
        elif child.tag == _MC + "AlternateContent":
            yield from _children(child[:1])
        else:
            yield from _children(child)


def _rows(table: Element) -> Iterator[Element]:
    """The rows of a table but the deleted ones."""
    for row in _named(table, W + "tr"):
        if row.find(f"{W}trPr/{W}del") is None:
            yield row


def _named(container: Element, tag: str) -> Iterator[Element]:
    """Rows of a table or cells of a row, through content controls."""
    for child in container:
        if child.tag == tag:
            yield child
        elif isinstance(child.tag, str) and child.tag not in (W + "tbl", W + "p", *_GONE):
            yield from _named(child, tag)

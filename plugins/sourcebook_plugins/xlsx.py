"""Excel workbooks (.xlsx), streamed row by row from their XML, so that no file unfolds in memory.

openpyxl reads no comments and no merged cells while it streams, and calamine unfolds a sheet into its full rectangle
before the first cell can be read. Format: ECMA-376 part 1, chapter 18, transitional and strict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from sourcebook import DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import DocumentError, Malformed, NoText
from sourcebook_plugins.cells import Formats, Row, Strings, rows_of
from sourcebook_plugins.drawing import R, chart_of, chart_rows
from sourcebook_plugins.packages import Element, Format, Package, PackageSettings
from sourcebook_plugins.tabular import cell_range, is_header

_XLSX = Format("an Excel workbook", "an Excel 97 workbook (.xls)", ".xlsx", "xl/workbook.xml")
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_XDR = "{http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing}"
_LOOKED_AT = 200  # rows of a region, before it is decided where its tables stand


class XlsxSettings(PackageSettings):
    """`hidden_sheets`: whether sheets that Excel does not show are read too."""

    hidden_sheets: bool = Field(default=False)


class XlsxParser(Parser[XlsxSettings]):
    """Reads sheet by sheet: a heading, then every block of cells as a table, values as they are shown.

    Formulas count by their last value; comments stand behind their table. A locator is the sheet and the row's cells.
    Raises `Encrypted`, `Malformed`, `LimitExceeded` (before unpacking, and over the text's limit) and `NoText`.
    """

    name = "xlsx"
    Settings = XlsxSettings
    media_types = (f"{_TYPE}.sheet", f"{_TYPE}.template", "application/vnd.ms-excel.sheet.macroenabled.12")
    extensions = (".xlsx", ".xlsm", ".xltx")
    preload = ("lxml.etree", "zipfile", "sourcebook_plugins.cells", "sourcebook_plugins.drawing")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        with file.open() as stream, Package(stream, self.settings, _XLSX) as package:
            main = package.main()
            book = package.xml(main)
            out.meta(**package.properties())
            styles = package.related(main, "styles")
            dated = any(e.get("date1904") in ("1", "true") for e in book.iter("{*}workbookPr"))
            formats = Formats(styles, since_1904=dated)
            written = 0
            with Strings(package, main) as strings:
                for sheet in _sheets(package, main, book):
                    if sheet.hidden and not self.settings.hidden_sheets:
                        out.warn("hidden_sheet", f"The sheet {sheet.name} is hidden and was left out.")
                        continue
                    written += _Sheet(package, sheet, strings, formats, out).write()
        if not written:
            raise NoText("The workbook holds no values.")


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    part: str
    hidden: bool


def _sheets(package: Package, main: str, book: Element) -> Iterator[_Named]:
    relations = package.relations(main)
    for element in book.iter("{*}sheet"):
        _, part = relations.get(element.get(R + "id", ""), ("", ""))
        if part in package:
            yield _Named(element.get("name", ""), part, element.get("state", "visible") != "visible")


class _Sheet:
    """Writes one sheet: regions of rows between empty ones, cut into tables at empty columns."""

    def __init__(
        self, package: Package, sheet: _Named, strings: Strings, formats: Formats, out: DocumentWriter
    ) -> None:
        self.package = package
        self.sheet = sheet
        self.strings = strings
        self.formats = formats
        self.out = out
        self.written = 0
        self._comments = _comments(package, sheet.part)

    def write(self) -> int:
        """How many rows were written."""
        waiting: list[Row] = []
        columns: list[int] = []  # of a table that goes on
        last = 0
        try:
            for row in rows_of(self.package, self.sheet.part, self.strings, self.formats):
                if not self.written and not waiting:
                    self.out.block([(self.sheet.name, Place(sheet=self.sheet.name))], "heading", 1)
                if row.number > last + 1:
                    self._region(waiting)
                    waiting, columns = [], []
                last = row.number
                if columns:
                    self._rows([row], columns, headed=False)
                else:
                    waiting.append(row)
                    if len(waiting) >= _LOOKED_AT and len(_spans(waiting)) == 1:
                        self._region(waiting, closed=False)
                        waiting, columns = [], sorted({c for row in waiting for c in row.cells})
        except DocumentError as error:
            if not isinstance(error, Malformed):
                raise
            self.out.warn("sheet_damaged", f"The sheet {self.sheet.name} is damaged from row {last + 1} on.")
        self._region(waiting)
        self._said(None)
        self._charts()
        return self.written

    def _region(self, rows: list[Row], *, closed: bool = True) -> None:
        for first, last in _spans(rows):
            self.out.end_table()
            inside = [row for row in rows if any(first <= c <= last for c in row.cells)]
            columns = sorted({c for row in inside for c in row.cells if first <= c <= last})
            if closed and len(inside) == 1 and len(columns) == 1:
                self._alone(inside[0], first)
            else:
                self._rows(inside, columns, headed=True)
        if closed:
            self.out.end_table()
            if rows:
                self._said(rows[-1].number)

    def _alone(self, row: Row, column: int) -> None:
        """A cell with nothing around it is a title or a remark, no table."""
        place = Place(sheet=self.sheet.name, cells=cell_range(row.number, column, column))
        self.out.block([(row.cells[column], place)])
        self.written += 1

    def _rows(self, rows: list[Row], columns: list[int], *, headed: bool) -> None:
        for i, row in enumerate(rows):
            shown = columns if headed else [*columns, *(c for c in sorted(row.cells) if c not in columns)]
            cells = [row.cells.get(column, "") for column in shown]
            header = headed and i == 0 and len(rows) > 1 and is_header(cells)
            place = Place(sheet=self.sheet.name, cells=cell_range(row.number, shown[0], shown[-1]))
            self.out.row(cells, place, header=header)
            self.written += 1

    def _said(self, until: int | None) -> None:
        """The comments on the rows so far, as notes behind their table."""
        for number, cell, text in [c for c in self._comments if until is None or c[0] <= until]:
            self._comments.remove((number, cell, text))
            self.written += 1
            self.out.block([(f"{cell}: {text}", Place(sheet=self.sheet.name, cells=cell))], "footnote")

    def _charts(self) -> None:
        for part in self.package.targets(self.sheet.part, "drawing"):
            for frame in self.package.xml(part).iter(_XDR + "graphicFrame"):
                chart = chart_of(self.package, part, frame)
                title, _ = chart_rows(chart) if chart is not None else ("", [])
                self.out.block([(title, Place(sheet=self.sheet.name))], "caption")  # its data stand in the cells


def _spans(rows: list[Row]) -> list[tuple[int, int]]:
    """First and last columns of the tables that stand beside each other in these rows.

    An empty column parts two tables where both have two rows and two columns at least; elsewhere it is only space.
    """
    used = sorted({column for row in rows for column in row.cells})
    spans: list[tuple[int, int]] = []
    for column in used:
        if spans and column == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], column)
        else:
            spans.append((column, column))
    if len(spans) < 2 or all(b > a and sum(a in r.cells or b in r.cells for r in rows) > 1 for a, b in spans):
        return spans
    return [(used[0], used[-1])]


def _comments(package: Package, part: str) -> list[tuple[int, str, str]]:
    """(row, cell, "author: text") of classic and threaded comments; the classic copy of a thread is left out."""
    found: list[tuple[int, str, str]] = []
    people = {p.get("id", ""): p.get("displayName", "") for p in _people(package)}
    threaded: set[str] = set()
    for target in package.targets(part, "threadedComment"):
        for comment in package.xml(target).iter("{*}threadedComment"):
            cell = comment.get("ref", "")
            text = " ".join("".join(t.text or "" for t in comment.iter("{*}text")).split())
            threaded.add(cell)
            found.append(_comment(cell, people.get(comment.get("personId", ""), ""), text))
    for target in package.targets(part, "comments"):
        root = package.xml(target)
        authors = [a.text or "" for a in root.iter("{*}author")]
        for comment in root.iter("{*}comment"):
            index, cell = comment.get("authorId", ""), comment.get("ref", "")
            author = authors[int(index)] if index.isdigit() and len(index) < 6 and int(index) < len(authors) else ""
            text = " ".join("".join(t.text or "" for t in comment.iter("{*}t")).split())
            if cell not in threaded:
                found.append(_comment(cell, author, text.removeprefix(f"{author}:").strip()))
    return sorted(c for c in found if c[2])


def _comment(cell: str, author: str, text: str) -> tuple[int, str, str]:
    digits = "".join(c for c in cell[:12] if c in "0123456789")
    return int(digits or 0), cell[:12], f"{author}: {text}" if author and text else text


def _people(package: Package) -> Iterator[Element]:
    for part in package.targets("xl/workbook.xml", "person"):
        yield from package.xml(part).iter("{*}person")


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """Excel workbooks."""
    return [XlsxParser]

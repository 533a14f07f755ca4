"""The cells of an Excel sheet as text: shared strings, number formats, rows as they stream by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from sourcebook.errors import LimitExceeded, Malformed
from sourcebook_plugins.packages import DAMAGE, Element, Package
from sourcebook_plugins.tabular import column_number

_LONGEST = 32_767  # characters of a cell, Excel's own limit
_MOST_STRINGS = 64 * 1024 * 1024  # characters of all shared strings
_ROWS, _COLUMNS = 1_048_576, 16_384
_DATES = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}  # built-in formats: 18.8.30
_PERCENTS = {9: 0, 10: 2}
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_DATE_LETTER = re.compile(r"[dmyhs]", re.IGNORECASE)
_PHONETIC = ("rPh", "phoneticPr")


@dataclass(frozen=True, slots=True)
class Row:
    """`cells`: column (1-based) -> text as shown; only those with text."""

    number: int
    cells: dict[int, str]


class Strings:
    """The shared strings of a workbook, read once."""

    def __init__(self, package: Package, main: str) -> None:
        self._package = package
        self._parts = package.targets(main, "sharedStrings")
        self._texts: list[str] = []

    def __enter__(self) -> Self:
        size = 0
        for part in self._parts[:1]:
            for element in stream(self._package, part, "{*}si"):
                text = _string(element)
                size += len(text)
                if size > _MOST_STRINGS:
                    detail = "The workbook's shared strings are too long."
                    raise LimitExceeded(detail, code="text_too_long", limit=_MOST_STRINGS)
                self._texts.append(text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts = []

    def __getitem__(self, index: str) -> str:
        if not (index.isascii() and index.isdigit() and len(index) < 10):
            return ""
        return self._texts[int(index)] if int(index) < len(self._texts) else ""


class Formats:
    """What the cell styles say of numbers: which are dates, which percentages."""

    def __init__(self, styles: Element | None, *, since_1904: bool = False) -> None:
        self._start = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30)
        codes: dict[str, str] = {}
        self._kinds: list[tuple[str, int]] = []
        if styles is None:
            return
        for element in styles.iter("{*}numFmt"):
            codes[element.get("numFmtId", "")] = element.get("formatCode", "")
        cell_formats = styles.find("{*}cellXfs")
        for element in cell_formats if cell_formats is not None else ():
            number = element.get("numFmtId", "0")
            self._kinds.append(_kind(number, codes.get(number, "")))

    def shown(self, value: str, style: str) -> str:
        """A number as Excel shows it, as far as words need it: dates in ISO 8601, percentages, no ".0"."""
        try:
            number = float(value)
        except ValueError:
            return value
        kind, digits = ("", 0)
        if style.isascii() and style.isdigit() and len(style) < 7 and int(style) < len(self._kinds):
            kind, digits = self._kinds[int(style)]
        if kind == "date":
            return self._date(number)
        if kind == "percent":
            return f"{number * 100:.{digits}f}%"
        return f"{number:.15g}"

    def _date(self, number: float) -> str:
        try:
            at = self._start + timedelta(seconds=round(number * 86_400))
        except (OverflowError, ValueError):
            return f"{number:.15g}"
        if 0 <= number < 1:
            return at.strftime("%H:%M:%S" if at.second else "%H:%M")
        if number == int(number):
            return at.date().isoformat()
        return at.isoformat(" ") if at.second else at.strftime("%Y-%m-%d %H:%M")


def _kind(number: str, code: str) -> tuple[str, int]:
    if not (number.isascii() and number.isdigit() and len(number) < 7):
        return "", 0
    if int(number) in _DATES and not code:
        return "date", 0
    if int(number) in _PERCENTS and not code:
        return "percent", _PERCENTS[int(number)]
    bare = _LITERAL.sub("", code.split(";")[0])
    if "%" in bare:
        return "percent", min(len(re.findall("[0#?]", bare.partition(".")[2])), 10)
    return ("date", 0) if _DATE_LETTER.search(bare) and "General" not in code else ("", 0)


def rows_of(package: Package, part: str, strings: Strings, formats: Formats) -> Iterator[Row]:
    """The rows of a sheet that hold text, in order. Raises `Malformed` where the part is damaged."""
    number = 0
    for element in stream(package, part, "{*}row"):
        given = element.get("r", "")
        number = int(given) if given.isascii() and given.isdigit() and number < int(given[:8]) <= _ROWS else number + 1
        cells = _cells(element, strings, formats)
        if cells:
            yield Row(number, cells)


def _cells(row: Element, strings: Strings, formats: Formats) -> dict[int, str]:
    cells: dict[int, str] = {}
    column = 0
    for cell in row:
        column = column_number(cell.get("r", "")[:4]) or column + 1
        if column > _COLUMNS:
            break
        text = _shown(cell, strings, formats)[:_LONGEST].strip()
        if text:
            cells[column] = text
    return cells


def _shown(cell: Element, strings: Strings, formats: Formats) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _string(cell)
    value = ""
    for child in cell:
        if isinstance(child.tag, str) and child.tag.endswith("}v"):
            value = child.text or ""
    if kind == "s":
        return strings[value]
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(value, value)
    return formats.shown(value, cell.get("s", "0")) if kind == "n" and value else value


def _string(element: Element) -> str:
    """The runs of a string, without the reading aids of Japanese."""
    parts: list[str] = []
    for child in element.iter("{*}t"):
        parent = child.getparent()
        if parent is None or not str(parent.tag).endswith(_PHONETIC):
            parts.append(child.text or "")
    return "".join(parts)[:_LONGEST]


def stream(package: Package, part: str, tag: str) -> Iterator[Any]:
    """Every element `tag` of a part as it is read, forgotten afterwards. Raises `Malformed`."""
    from lxml import etree

    with package.open(part) as source:
        options: dict[str, Any] = {"resolve_entities": False, "no_network": True, "load_dtd": False, "huge_tree": False}
        try:
            for _, element in etree.iterparse(source, events=("end",), tag=tag, remove_comments=True, **options):
                yield element
                _forget(element)
        except (etree.XMLSyntaxError, *DAMAGE) as error:
            raise Malformed(f"The part {part} of the workbook is damaged.") from error


def _forget(element: Element) -> None:
    element.clear()
    parent: Sequence[Any] | None = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]  # type: ignore[attr-defined]

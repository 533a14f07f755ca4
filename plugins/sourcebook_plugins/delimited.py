"""Tables as text (.csv, .tsv), through the standard library's csv module; the delimiter is found out."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from sourcebook import ComponentSettings, DocumentWriter, Parser, ParserFile, Place, hookimpl
from sourcebook.errors import LimitExceeded, Malformed
from sourcebook_plugins.tabular import cell_range, is_header
from sourcebook_plugins.text import decode

_DELIMITERS = ",;\t|"
_SAMPLE = 50  # rows
_WIDEST = 16_384  # columns, as many as a spreadsheet has
_LONGEST_FIELD = 4 * 1024 * 1024


class CsvParser(Parser[ComponentSettings]):
    """Reads rows as they are. A locator is the range of cells, as a spreadsheet would name it: "A3:F3".

    Raises `Malformed` for binary data or rows without end, `LimitExceeded` for more columns than a spreadsheet has,
    `NoText` for a blank file.
    """

    name = "csv"
    media_types = ("text/csv", "text/tab-separated-values", "application/csv")
    extensions = (".csv", ".tsv", ".tab")
    memory_safe = True

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """See the class."""
        text = decode(file.read(), out)
        csv.field_size_limit(_LONGEST_FIELD)
        delimiter = _delimiter(text, file.name)
        lines = text.split("\n")
        rows = csv.reader((line + "\n" for line in lines), delimiter=delimiter)
        first = True
        try:
            for number, row in enumerate(rows, start=1):
                cells = _trimmed(row)
                if not cells:
                    continue
                if len(cells) > _WIDEST:
                    raise LimitExceeded(
                        f"Row {number} has {len(cells):,} columns.",
                        remedy="Split the table into several with fewer columns, or swap its rows and columns.",
                        limit=_WIDEST,
                    )
                out.row(cells, Place(cells=cell_range(number, 1, len(cells))), header=first and is_header(cells))
                first = False
        except csv.Error as error:
            raise Malformed(f"Row {rows.line_num} cannot be read: {error}.") from error


def _trimmed(row: list[str]) -> list[str]:
    """Without the empty cells at the end."""
    while row and not row[-1].strip():
        row.pop()
    return row


def _delimiter(text: str, name: str) -> str:
    """The one that cuts the first rows into the most equal number of columns."""
    if name.lower().endswith((".tsv", ".tab")):
        return "\t"
    lines = [line for line in islice(text[: 64 * 1024].split("\n"), 4 * _SAMPLE) if line.strip()][:_SAMPLE]
    best, most = ",", 0.0
    for delimiter in _DELIMITERS:
        try:
            widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter))
        except csv.Error:
            continue
        width, rows = max(widths.items(), key=lambda item: (item[1] * (item[0] > 1), item[0]))
        score = rows / max(sum(widths.values()), 1) * (1 + min(width, 20) / 20) if width > 1 else 0.0
        if score > most:
            best, most = delimiter, score
    return best


@hookimpl
def register_parsers() -> Iterable[type[Parser[Any]]]:
    """CSV and TSV."""
    return [CsvParser]

"""DrawingML that slides and sheets share: text bodies, tables, charts, diagrams. Format: ECMA-376 part 1, 20 and 21."""

from __future__ import annotations

from collections.abc import Iterator

from sourcebook_plugins.packages import Element, Package

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
DGM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
_POINTS = 10_000  # of a chart; more are data, which stands in the sheet


def paragraph_text(paragraph: Element) -> str:
    """The text of an `a:p`, line breaks as they are."""
    found = paragraph.iter(A + "t", A + "br", _M + "t")
    return "".join("\n" if element.tag == A + "br" else element.text or "" for element in found)


def body_text(body: Element) -> str:
    """All paragraphs of a text body on one line."""
    return " ".join(" ".join(paragraph_text(p).split()) for p in body.iter(A + "p")).strip()


def table_rows(table: Element) -> Iterator[list[str]]:
    """The rows of an `a:tbl`; cells that a merge swallows are empty."""
    for row in table.iter(A + "tr"):
        cells = [cell for cell in row if cell.tag == A + "tc"]
        yield [
            "" if c.get("hMerge") in ("1", "true") or c.get("vMerge") in ("1", "true") else body_text(c) for c in cells
        ]


def has_header(table: Element) -> bool:
    """Whether a table's first row is marked as its header."""
    properties = table.find(A + "tblPr")
    return properties is not None and properties.get("firstRow") in ("1", "true")


def chart_rows(chart: Element) -> tuple[str, list[list[str]]]:
    """The title of a chart, and its data as a table: categories down, series across."""
    title = chart.find(f".//{C}chart/{C}title")
    name = body_text(title) if title is not None else ""
    series = list(chart.iter(C + "ser"))
    if not series:
        return name, []
    columns = [_values(one.find(tag)) for one in series for tag in (_value_tag(one),)]
    categories: dict[int, str] = {}
    for one in series:
        for tag in (C + "cat", C + "xVal"):
            categories |= {k: v for k, v in _values(one.find(tag)).items() if k not in categories}
    points = sorted({*categories, *(k for column in columns for k in column)})[:_POINTS]
    header = ["", *(" ".join(_texts(one.find(C + "tx"))) for one in series)]
    return name, [header, *([categories.get(k, ""), *(column.get(k, "") for column in columns)] for k in points)]


def _value_tag(series: Element) -> str:
    return C + "val" if series.find(C + "val") is not None else C + "yVal"


def _values(data: Element | None) -> dict[int, str]:
    """Index -> value of the points that a chart caches."""
    found: dict[int, str] = {}
    for point in data.iter(C + "pt") if data is not None else ():
        index, value = point.get("idx", ""), point.find(C + "v")
        if index.isascii() and index.isdigit() and len(index) < 7 and value is not None:
            found.setdefault(int(index), (value.text or "").strip())
    return found


def _texts(data: Element | None) -> list[str]:
    return [v.text or "" for v in data.iter(C + "v", A + "t")] if data is not None else []


def diagram_texts(package: Package, part: str, frame: Element) -> list[str]:
    """The texts of a SmartArt diagram that a graphic frame of `part` shows."""
    ids = frame.find(f".//{DGM}relIds")
    if ids is None:
        return []
    _, target = package.relations(part).get(ids.get(R + "dm", ""), ("", ""))
    if target not in package:
        return []
    return [text for body in package.xml(target).iter(DGM + "t") if (text := body_text(body))]


def chart_of(package: Package, part: str, frame: Element) -> Element | None:
    """The chart that a graphic frame of `part` shows."""
    reference = frame.find(f".//{C}chart")
    if reference is None:
        return None
    _, target = package.relations(part).get(reference.get(R + "id", ""), ("", ""))
    return package.xml(target) if target in package else None

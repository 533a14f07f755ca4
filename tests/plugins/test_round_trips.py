"""What is put into a document is found again, every word at its place."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing

import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sourcebook import Document
from sourcebook.testing.parsers import parse
from sourcebook_plugins.tabular import column_name
from tests.plugins.making import BUILT, Unit, made
from tests.plugins.test_gold import PARSERS

_WORD = st.text("abcdefghijklmnopqrstuvwxyzäöüßéèñçøåабвгдежзкл潮汐月亮港مدقر", min_size=2, max_size=9)
_LINE = st.lists(_WORD, min_size=1, max_size=8).map(" ".join)


@st.composite
def contents(draw: st.DrawFn) -> tuple[Unit, ...]:
    """Sections below a title; tables are at least two by two, since a single cell is no table."""
    found = [Unit("heading", f"Title {draw(_LINE)}", 1)]
    for _ in range(draw(st.integers(1, 3))):
        found.append(Unit("heading", f"Part {draw(_LINE)}", 2))
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["paragraph", "list_item", "table"]))
            if kind == "table":
                width = draw(st.integers(2, 4))
                cells = st.tuples(*[_LINE] * width)
                found.append(Unit("table", rows=tuple(draw(st.lists(cells, min_size=2, max_size=4)))))
                found.append(Unit("paragraph", f"After {draw(_LINE)}"))
            else:
                found.append(Unit(kind, f"So {draw(_LINE)}"))  # type: ignore[arg-type]
    return tuple(found)


round_trip = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def read(kind: str, content: tuple[Unit, ...]) -> Document:
    parser = PARSERS[kind]
    return parse(parser(parser.Settings()), BUILT[kind](content), f"x.{kind}")


def found_in_order(document: Document, content: tuple[Unit, ...]) -> list[tuple[Unit, str, int, int]]:
    """(unit, its text or a cell's, start, end), each found behind the one before: nothing lost, nothing moved."""
    at, found = 0, []
    for unit in content:
        for text in [cell for row in unit.rows for cell in row] or [unit.text]:
            start = document.text.index(text, at)
            at = start + len(text)
            found.append((unit, text, start, at))
    return found


@pytest.mark.parametrize("kind", ["docx", "html", "md", "odt"])
def test_every_word_stands_below_its_headings(kind: str) -> None:
    @round_trip
    @given(contents())
    def check(content: tuple[Unit, ...]) -> None:
        document = read(kind, content)
        path: list[str] = []
        for unit, text, start, end in found_in_order(document, content):
            if unit.kind == "heading":
                path = [*path[: unit.level - 1], text]
            places = document.places(start, end)
            assert places
            assert all(place.path == tuple(path) and place.paragraph for place in places), (text, places)

    check()


@round_trip
@given(contents())
def test_every_word_stands_on_its_slide_and_in_its_shape(content: tuple[Unit, ...]) -> None:
    document = read("pptx", content)
    slide, shapes = 0, set()
    for unit, text, start, end in found_in_order(document, content):
        slide += unit.kind == "heading"
        (place,) = document.places(start, end)
        assert place.slide == slide, text
        assert place.shape
        shapes.add((slide, place.shape))
    assert len(shapes) == len(content)


@round_trip
@given(contents())
def test_every_word_stands_in_its_cells(content: tuple[Unit, ...]) -> None:
    document = read("xlsx", content)
    row = 1
    expected: list[tuple[int, int, int]] = []
    for unit in content:
        for cells in unit.rows or ((unit.text,),):
            expected += [(row, 2, 1 + len(cells))] * len(cells)
            row += 1
        row += 1
    for (_, text, start, end), (number, first, last) in zip(found_in_order(document, content), expected, strict=True):
        (place,) = document.places(start, end)
        one, other = f"{column_name(first)}{number}", f"{column_name(last)}{number}"
        assert (place.sheet, place.cells) == ("Tides", one if one == other else f"{one}:{other}"), text


@pytest.fixture(scope="module")
def paper() -> Iterator[tuple[pypdfium2.PdfDocument, Document]]:
    data = made("pdf", 1).data
    parser = PARSERS["pdf"]
    with closing(pypdfium2.PdfDocument(data)) as pdf:
        yield pdf, parse(parser(parser.Settings()), data)


@pytest.mark.parametrize("seed", range(40))
def test_the_text_inside_the_boxes_of_a_range_is_that_range(
    paper: tuple[pypdfium2.PdfDocument, Document], seed: int
) -> None:
    pdf, document = paper
    rng = random.Random(seed)
    starts = [x.start for x in document.locators]
    start = rng.randrange(len(document.text) - 1)
    end = min(start + rng.randrange(1, 400), len(document.text))
    # A box is a line's: the range is widened to whole lines.
    first, last = max(bisect_right(starts, start) - 1, 0), max(bisect_right(starts, end - 1) - 1, 0)
    start, end = document.locators[first].start, document.locators[last].end
    drawn = []
    for place in document.places(start, end):
        assert place.page
        assert place.box
        page = pdf[place.page - 1]
        left, top, right, bottom = place.box
        height = page.get_height()
        drawn.append(page.get_textpage().get_text_bounded(left - 1, height - bottom, right + 1, height - top))
    assert letters(" ".join(drawn)) == letters(document.text[start:end])


def letters(text: str) -> str:
    """Letters and figures alone: rules of tables, bullets and hyphens at line ends are not drawn as they are read."""
    return "".join(c for c in text if c.isalnum())

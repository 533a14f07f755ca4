"""Few of many stored locators are read, and they are the right ones."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from sourcebook.documents import Locator, Place
from sourcebook.placed import locators_json, rows_meeting, stored_locators

PLACES = st.one_of(
    st.builds(Place.on_page, st.integers(1, 9), st.tuples(*[st.floats(0, 999)] * 4)),
    st.builds(lambda path: Place(path=tuple(path)), st.lists(st.text(alphabet='ab,"[]\n\\é1', max_size=8), max_size=3)),
)


@st.composite
def placed(draw: st.DrawFn) -> list[Locator]:
    edges = sorted(draw(st.lists(st.integers(0, 300), min_size=2, max_size=40)))
    ranges = zip(edges[::2], edges[1::2], strict=False)
    return [Locator(start, end, draw(PLACES)) for start, end in ranges]


@given(placed(), st.integers(0, 310), st.integers(0, 60), st.booleans())
def test_what_meets_a_range_is_read_whatever_the_places_hold(
    locators: list[Locator], start: int, length: int, old: bool
) -> None:
    rows: list[Any] = orjson.loads(orjson.dumps(locators_json(locators)))
    stored = orjson.dumps(rows) if old else stored_locators(locators)
    assert orjson.loads(stored) == rows
    end = start + length
    assert rows_meeting(stored, start, end) == [row for row in rows if row[1] > start and row[0] < end]


def test_of_nothing_nothing_is_read() -> None:
    assert rows_meeting(b"", 0, 9) == []
    assert rows_meeting(stored_locators([]), 0, 9) == []

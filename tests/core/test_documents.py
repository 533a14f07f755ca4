"""What documents, places and chunks promise, and how they break it."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sourcebook.documents import (
    MAX_TEXT,
    Block,
    Chunk,
    Document,
    Locator,
    Place,
    check_chunks,
    check_document,
)

from .writing import BLOCKS, Blocks, written

SAID = {
    "page": (3, "page 3"),
    "slide": (2, "slide 2"),
    "sheet": ("Costs", "sheet Costs"),
    "cells": ("B2:D9", "B2:D9"),
    "path": (("Care", "Watering"), "Care > Watering"),
    "paragraph": (4, "paragraph 4"),
    "chapter": ("Tides", "Tides"),
    "part": ("1.2", "part 1.2"),
    "seconds": (3683.9, "1:01:23"),
    # Where on the page or the slide: that is shown, and means nothing to a reader.
    "box": ((1.0, 2.0, 3.0, 4.0), ""),
    "shape": ("Text 7", ""),
}
"""Every field of a place with a value, and what a person is told of it."""


def test_every_field_of_a_place_is_said_to_a_person() -> None:
    assert set(SAID) == {field.name for field in fields(Place)}, "say a new field in `Place.parts`, and here"
    for name, (value, said) in SAID.items():
        assert str(Place(**{name: value})) == said, name  # type: ignore[arg-type]  # each has the type of its field
    whole = Place(**{name: value for name, (value, _) in SAID.items()})  # type: ignore[arg-type]
    assert str(whole) == "page 3, slide 2, sheet Costs, B2:D9, Tides, Care > Watering, part 1.2, 1:01:23"
    assert str(Place(part="2", paragraph=4)) == "part 2, paragraph 4"
    assert str(Place(seconds=0.0)) == "0:00:00"


@settings(max_examples=50)
@given(BLOCKS, st.integers(0, 200), st.integers(1, 60))
def test_the_places_of_a_range_are_those_of_the_locators_it_meets(blocks: Blocks, start: int, length: int) -> None:
    document = written(blocks)
    expected = [x.place for x in document.locators if x.start < start + length and x.end > start]
    assert document.places(start, start + length) == expected


def test_a_place_goes_through_json_and_speaks_to_people() -> None:
    place = Place(page=3, box=(1.0, 2.0, 3.5, 4.0), path=("Care", "Watering"))
    assert Place.from_json(place.to_json()) == place
    assert str(place) == "page 3, Care > Watering"
    assert Place().to_json() == {}


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (Document("abc", (Block(0, 4, "paragraph"),)), "outside a text of 3"),
        (Document("abc", (Block(2, 2, "paragraph"),)), "empty"),
        (Document("abc", (Block(1, 2, "code"), Block(0, 1, "code"))), "out of order"),
        (Document("abc", (Block(0, 1, "verse"),)), "unknown block kinds"),  # type: ignore[arg-type]  # the point
        (Document("abc", (), (Locator(0, 2, Place()), Locator(1, 3, Place()))), "overlap"),
        (Document("abc", (), (Locator(-1, 2, Place()),)), "outside"),
        (Document("x" * (MAX_TEXT + 1)), "more than"),
    ],
)
def test_a_document_that_breaks_its_rules_is_refused(document: Document, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_document(document)


@pytest.mark.parametrize(
    "chunks",
    [
        [Chunk(0, 0)],
        [Chunk(0, 4)],
        [Chunk(1, 2), Chunk(0, 2)],
        [Chunk(0, 2, parent=(1, 3))],
        [Chunk(0, 2, parent=(0, 4))],
    ],
)
def test_chunks_outside_the_text_or_their_parent_are_refused(chunks: list[Chunk]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        check_chunks(chunks, 3)

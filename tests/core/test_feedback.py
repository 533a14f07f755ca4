"""The best passages move a question towards them, and never beyond what may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sourcebook.feedback import moved
from sourcebook.ids import passage_id
from sourcebook.interfaces import Scope

from .support import Room, in_a_room

GARDEN = "Roses need water.\n\nTulips need sun.\n\nFerns need shade.\n\nMoss needs rain.\n\nOaks need time."


def test_a_row_goes_a_third_of_the_way_to_the_mean_direction_at_its_own_length() -> None:
    rows = np.array([[2, 0], [0, 3]], np.float32)
    found = moved({"x": rows}, {"x": {"a": [0, 5], "b": [0, 1]}})["x"]
    assert found.dtype == np.float32
    assert found.tolist() == pytest.approx(np.array([[4 / 3, 2 / 3], [0, 3]]))


@pytest.mark.parametrize(
    "near", [{}, {"x": {}}, {"x": {"a": [0.0, 0.0]}}, {"x": {"a": [1.0]}}, {"y": {"a": [1.0, 0.0]}}]
)
def test_where_nothing_is_near_nothing_moves(near: dict[str, dict[str, list[float]]]) -> None:
    assert moved({"x": np.ones((1, 2), np.float32)}, near) == {}


@in_a_room(pipeline={"search": {"feedback": 2}})
async def test_the_dense_legs_are_searched_once_more_and_the_lexical_one_is_not(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    found = (await room.book.search(room.me, "What do tulips need?", [room.notebook.id])).passages
    first, again = room.index.queries
    assert (first.mode, again.mode) == ("hybrid", "dense")
    assert first.vectors is not None
    assert again.vectors is not None
    towards = np.array([row for _, row in room.index.points.values()])

    def nearest(row: Any) -> float:
        return float((towards @ row / np.linalg.norm(towards, axis=1) / np.linalg.norm(row)).max())

    assert nearest(again.vectors["letters"][0]) > nearest(first.vectors["letters"][0])
    assert found[0].text == "Tulips need sun."
    assert set(found[0].scores) == {"lexical", "dense:letters"}


@in_a_room(pipeline={"search": {"feedback": 2}})
async def test_what_sql_does_not_confirm_feeds_nothing_back(room: Room) -> None:
    source_id = await room.ready("a.txt", GARDEN)
    generation = (await room.source(source_id)).generation_id or ""
    asked: list[Sequence[str]] = []
    give = room.index.vectors

    async def watched(scope: Scope, ids: Sequence[str]) -> Any:
        asked.append(ids)
        return await give(scope, ids)

    room.index.vectors = watched  # type: ignore[method-assign]
    room.index.orphans = [passage_id(generation, 99), "nonsense"]
    await room.book.search(room.me, "tulips", [room.notebook.id])
    assert len(asked[0]) == 2
    assert set(asked[0]) <= room.index.points.keys()


@in_a_room(pipeline={"search": {"feedback": 2, "mode": "lexical"}})
async def test_a_lexical_search_has_no_feedback(room: Room) -> None:
    await room.ready("a.txt", GARDEN)
    await room.book.search(room.me, "tulips", [room.notebook.id])
    assert [q.mode for q in room.index.queries] == ["lexical"]

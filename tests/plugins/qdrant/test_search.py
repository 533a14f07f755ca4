"""What the embedded Qdrant finds: languages, ranking, distances, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from sourcebook.errors import IndexUnavailable, PluginError
from sourcebook.interfaces import Scope, ScopedNotebook, SearchQuery, Space
from sourcebook.testing.indexes import MINE, NEIGHBOURS, SCOPE, context, point
from sourcebook_plugins.qdrant import Qdrant, layout, register_retrievers


def check(folder: Path, test: Callable[[Qdrant], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        index = Qdrant(Qdrant.Settings.model_validate({"idle_seconds": 0} | settings))
        try:
            await index.open(context(folder))
            await test(index)
        finally:
            await index.close()

    asyncio.run(run())


async def lexical(index: Qdrant, text: str, limit: int = 10) -> list[str]:
    return [hit.passage_id for hit in (await index.search(SearchQuery((text,), SCOPE, limit)))["lexical"]]


TEXTS = {
    "en": ("The libraries of the old town were painted green.", "painting a library"),
    "de": ("Die Häuser der Altstadt wurden im Jahr 1902 gestrichen.", "haus altstadt streichen 1902"),
    "ar": ("تقع المكتبة الكبيرة في وسط المدينة", "مكتبة المدينة"),
    "zh": ("北京图书馆位于城市的中心。", "图书馆在哪里"),
}


@pytest.mark.parametrize("labelled", [True, False], ids=["language known", "language unknown"])
def test_texts_in_four_languages_are_found_without_configuration(tmp_path: Path, labelled: bool) -> None:
    async def test(index: Qdrant) -> None:
        points = [
            replace(point(i, text), language=tag if labelled else "")
            for i, (tag, (text, _)) in enumerate(TEXTS.items())
        ]
        await index.upsert(SCOPE, points, None)
        for stored, (_, question) in zip(points, TEXTS.values(), strict=True):
            assert (await lexical(index, question))[:1] == [stored.id], question

    check(tmp_path, test)


def test_a_document_is_stemmed_in_its_own_language(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        german, unknown = (
            replace(point(1, "Viele Katzen"), language="de-AT"),
            replace(point(2, "Viele Katzen"), language=""),
        )
        await index.upsert(SCOPE, [german, unknown], None)
        assert await lexical(index, "Katze") == [german.id]

    check(tmp_path, test)


def test_what_was_indexed_under_other_settings_is_still_found(tmp_path: Path) -> None:
    stored = replace(point(1, "Viele Katzen"), language="")

    async def write(index: Qdrant) -> None:
        await index.upsert(SCOPE, [stored], None)

    async def read(index: Qdrant) -> None:
        assert await lexical(index, "Katze") == [stored.id]

    check(tmp_path, write, language="german")
    check(tmp_path, read)


def test_what_others_store_does_not_change_my_scores(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        await index.upsert(SCOPE, [point(1, "green tea"), point(2, "black tea"), point(3, "water")], None)
        query = SearchQuery(("green tea",), SCOPE, 10)
        before = await index.search(query)
        others = [point(i, "green green green", NEIGHBOURS[1]) for i in range(200)]
        await index.upsert(Scope(NEIGHBOURS[1:2]), others, None)
        assert await index.search(query) == before

    check(tmp_path, test)


@pytest.mark.parametrize(
    ("distance", "best", "score"), [("cosine", "near", 1.0), ("dot", "far", 9.0), ("euclid", "near", 0.0)]
)
def test_higher_is_better_in_every_distance(tmp_path: Path, distance: Any, best: str, score: float) -> None:
    async def test(index: Qdrant) -> None:
        await index.ensure([Space("x", 2, distance=distance)])
        points = {"near": point(1, "a"), "far": point(2, "b")}
        rows = np.array([[1, 0], [9, 9]], dtype=np.float32)
        await index.upsert(SCOPE, list(points.values()), {"x": rows})
        hits = (await index.search(SearchQuery(("q",), SCOPE, 2, {"x": rows[:1]})))["dense:x"]
        assert hits[0].passage_id == points[best].id
        assert hits[0].score == pytest.approx(score)
        assert hits[0].score > hits[1].score

    check(tmp_path, test)


def test_two_models_may_call_their_spaces_alike(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        await index.ensure([Space("dense", 2), Space("other", 3)])
        await index.ensure([Space("dense", 3)])
        small, large = point(1, "a"), point(2, "b")
        await index.upsert(SCOPE, [small], {"dense": np.ones((1, 2), np.float32)})
        vectors = {"dense": np.ones((1, 3), np.float32), "other": np.ones((1, 3), np.float32)}
        await index.upsert(SCOPE, [large], vectors)
        legs = await index.search(SearchQuery(("?",), SCOPE, 5, vectors))
        assert {leg: [h.passage_id for h in hits] for leg, hits in legs.items()} == {
            "lexical": [],
            "dense:dense": [large.id],
            "dense:other": [large.id],
        }
        with pytest.raises(PluginError, match="distance cosine"):
            await index.ensure([Space("dense", 3, distance="dot")])

    check(tmp_path, test)


def test_several_spaces_and_doubles_arrive_in_their_own_rows(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        await index.ensure([Space("a", 2), Space("b", 3)])
        points = [point(i, "tea") for i in range(130)]  # three batches
        angles = np.linspace(0, 1.5, 130)
        a = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # float64, as a careless embedder gives it
        b = np.stack([np.sin(angles), np.zeros(130), np.cos(angles)], axis=1)
        await index.upsert(SCOPE, points, {"a": a, "b": b})
        for i in (0, 63, 64, 129):
            query = SearchQuery(("",), SCOPE, 1, {"a": a[i : i + 1], "b": b[i : i + 1]})
            legs = await index.search(query)
            assert [legs[leg][0].passage_id for leg in ("dense:a", "dense:b")] == [points[i].id] * 2

    check(tmp_path, test)


def test_vectors_that_break_the_contract_are_refused(tmp_path: Path) -> None:
    cases = [
        ("x", np.ones((2, 2), np.float32), "needs 1 rows"),
        ("x", np.ones(2, np.float32), "needs 1 rows"),
        ("x", np.full((1, 2), np.nan, np.float32), "not a finite number"),
        ("y", np.ones((1, 2), np.float32), "'y' was never ensured"),
    ]

    async def test(index: Qdrant) -> None:
        await index.ensure([Space("x", 2)])
        for space, rows, message in cases:
            with pytest.raises(PluginError, match=message):
                await index.upsert(SCOPE, [point(1, "tea")], {space: rows})
        assert await index.count(SCOPE) == 0

    check(tmp_path, test)


def test_a_space_that_was_never_ensured_has_an_empty_leg(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        await index.upsert(SCOPE, [point(1, "tea")], None)
        legs = await index.search(SearchQuery(("tea",), SCOPE, 5, {"x": np.ones((1, 2), np.float32)}))
        assert not legs.get("dense:x")
        assert len(legs["lexical"]) == 1

    check(tmp_path, test)


def test_what_this_version_cannot_do_is_said(tmp_path: Path) -> None:
    async def nothing(index: Qdrant) -> None:
        await index.ensure([Space("colbert", 128, kind="multi")])

    with pytest.raises(PluginError, match="one vector a token"):
        check(tmp_path, nothing)
    with pytest.raises(ValidationError):
        Qdrant.Settings.model_validate({"language": "klingon"})


def test_an_index_that_is_not_open_is_unavailable() -> None:
    async def run() -> None:
        with pytest.raises(IndexUnavailable):
            await Qdrant(Qdrant.Settings.model_validate({})).flush()

    asyncio.run(run())


def test_a_point_id_that_is_no_plain_uuid_is_refused(tmp_path: Path) -> None:
    async def test(index: Qdrant) -> None:
        for wrong in ("passage-1", point(1, "").id.upper(), point(1, "").id.replace("-", "")):
            with pytest.raises(PluginError, match="UUID"):
                await index.upsert(SCOPE, [replace(point(1, "tea"), id=wrong)], None)

    check(tmp_path, test)


def test_the_payload_holds_no_text_and_the_filter_fields_below_f() -> None:
    stored = layout.payload(replace(point(1, "a secret"), fields={"year": 1902, "owner": "x"}), "word/english")
    assert "a secret" not in str(stored)
    assert stored["f"] == {"year": 1902, "owner": "x"}
    assert stored["owner"] == MINE.owner_id


def test_ids_with_odd_characters_never_make_two_scopes_alike() -> None:
    odd = ("a", "b", 'a","b', "a/b", "", "a\\", '"')
    scopes = [ScopedNotebook(x, y, z) for x in odd for y in odd for z in odd]
    wanted = layout.scope_filter(Scope(tuple(scopes)))["must"][0]["match"]["any"]
    assert len(set(wanted)) == len(scopes)


def test_an_empty_scope_has_no_filter() -> None:
    with pytest.raises(ValueError, match="empty scope"):
        layout.scope_filter(Scope())


def test_the_plugin_registers_the_index() -> None:
    assert register_retrievers() == [Qdrant]

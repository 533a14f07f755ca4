"""The index in PostgreSQL keeps the contract of an index, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sourcebook.errors import IndexUnavailable, PluginError, StoreError
from sourcebook.interfaces import SearchQuery, Space
from sourcebook.testing.indexes import SCOPE, IndexContract, context, point, vectors
from sourcebook_plugins.pgvector import PgVector, register_retrievers
from sourcebook_plugins.pgvector.words import configuration, cut, question
from tests.postgres import Postgres, running

DATABASE: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def _database(postgres: Postgres) -> None:
    DATABASE["url"] = postgres.database()


def made(folder: Path, **settings: Any) -> PgVector:
    """An index with tables of its own for each test's folder."""
    table = "t_" + "".join(c if c.isalnum() else "_" for c in folder.name.lower())[-36:]
    return PgVector(PgVector.Settings.model_validate({"url": DATABASE.get("url"), "table": table, **settings}))


class TestPgVector(IndexContract):
    url = ""

    async def open_index(self, folder: Path) -> PgVector:
        index = made(folder, **({"url": self.url} if self.url else {}))
        await index.open(context(folder))
        return index

    def child(self) -> tuple[type[IndexContract], dict[str, Any]]:
        return type(self), {"url": DATABASE["url"]}


def check(folder: Path, test: Callable[[PgVector], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        index = made(folder, **settings)
        try:
            await index.open(context(folder))
            await test(index)
        finally:
            await index.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("language", "text", "asked"),
    [
        ("en", "The libraries of the old town were painted green.", "painting a library"),
        ("de", "Viele Katzen schlafen in der Altstadt.", "Katze"),
        ("zh", "北京图书馆位于城市的中心。", "图书馆在哪里"),
        ("", "北京图书馆位于城市的中心。", "图书馆在哪里"),
        ("", "It's a “quoted” word\x00 with \ud800 odd' characters", "quoted odd"),
    ],
)
def test_texts_are_found_in_their_languages(tmp_path: Path, language: str, text: str, asked: str) -> None:
    async def test(index: PgVector) -> None:
        own, other = replace(point(1, text), language=language), replace(point(2, "tea"), language="fr")
        await index.upsert(SCOPE, [own, other], None)
        hits = (await index.search(SearchQuery((asked,), SCOPE, 5)))["lexical"]
        assert [h.passage_id for h in hits] == [own.id]

    check(tmp_path, test)


@pytest.mark.parametrize(
    ("distance", "best", "score"), [("cosine", "near", 1.0), ("dot", "far", 9.0), ("euclid", "near", 0.0)]
)
def test_higher_is_better_in_every_distance(tmp_path: Path, distance: Any, best: str, score: float) -> None:
    async def test(index: PgVector) -> None:
        await index.ensure([Space("x", 2, distance=distance)])
        points = {"near": point(1, "a"), "far": point(2, "b")}
        rows = np.array([[1, 0], [9, 9]], dtype=np.float32)
        await index.upsert(SCOPE, list(points.values()), {"x": rows})
        hits = (await index.search(SearchQuery(("q",), SCOPE, 2, {"x": rows[:1]})))["dense:x"]
        assert hits[0].passage_id == points[best].id
        assert hits[0].score == pytest.approx(score)
        with pytest.raises(PluginError, match="stored with the distance"):
            await index.ensure([Space("x", 2, distance="dot" if distance != "dot" else "cosine")])

    check(tmp_path, test)


def test_a_graph_finds_what_a_scan_finds(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((500, 8)).astype(np.float32)
    found: list[list[str]] = []

    async def test(index: PgVector) -> None:
        await index.ensure([Space("x", 8)])
        await index.upsert(SCOPE, [point(i, "tea") for i in range(500)], {"x": rows})
        await index.ensure([Space("x", 8)])
        query = SearchQuery(("?",), SCOPE, 5, {"x": rows[:1]}, mode="dense")
        found.append([h.passage_id for h in (await index.search(query))["dense:x"]])

    for graph in (False, True):
        check(tmp_path, test, graph=graph, table=f"graph_{graph}".lower())
    assert found[0] == found[1]


def test_a_space_may_be_called_anything_and_two_models_alike(tmp_path: Path) -> None:
    async def test(index: PgVector) -> None:
        odd = 'x"; DROP TABLE y; --'
        await index.ensure([Space(odd, 2), Space(odd, 3)])
        small, large = point(1, "a"), point(2, "b")
        await index.upsert(SCOPE, [small], {odd: np.ones((1, 2), np.float32)})
        await index.upsert(SCOPE, [large], {odd: np.ones((1, 3), np.float32)})
        for size, own in ((2, small), (3, large)):
            legs = await index.search(SearchQuery(("?",), SCOPE, 5, {odd: np.ones((1, size), np.float32)}))
            assert [h.passage_id for h in legs[f"dense:{odd}"]] == [own.id]

    check(tmp_path, test)


def test_many_that_start_at_once_make_the_tables_once(tmp_path: Path) -> None:
    async def run() -> None:
        several = [made(tmp_path) for _ in range(4)]
        for index in several:
            await index.open(context(tmp_path))
        await asyncio.gather(*(index.ensure([Space("x", 2)]) for index in several))
        await several[0].upsert(SCOPE, [point(1, "tea")], {"x": np.ones((1, 2), np.float32)})
        assert await several[3].count(SCOPE) == 1
        for index in several:
            await index.close()

    asyncio.run(run())


@pytest.fixture
def own() -> Iterator[Postgres]:
    yield from running({"fsync": "on"})


@pytest.mark.slow
def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(own: Postgres, tmp_path: Path) -> None:
    async def test(index: PgVector) -> None:
        await index.ensure([Space("contract", 4)])
        await index.upsert(
            SCOPE, [point(i, f"tea {i}") for i in range(50)], vectors(*([1, i, 0, 0] for i in range(50)))
        )
        await asyncio.to_thread(own.kill)
        with pytest.raises(StoreError) as gone:
            await index.count(SCOPE)
        assert isinstance(gone.value, IndexUnavailable)
        await asyncio.to_thread(own.start)
        assert await index.count(SCOPE) == 50
        legs = await index.search(SearchQuery(("tea 7",), SCOPE, 50, vectors([1, 7, 0, 0])))
        assert {leg: len(hits) for leg, hits in legs.items()} == {"lexical": 50, "dense:contract": 50}

    check(tmp_path, test, url=own.database(), table="kept")


def test_an_address_that_is_none_and_a_server_that_is_not_there_are_told(tmp_path: Path) -> None:
    async def count(index: PgVector) -> None:
        await index.count(SCOPE)

    with pytest.raises(PluginError, match="no address"):
        check(tmp_path, count, url="not a url")
    with pytest.raises(IndexUnavailable) as gone:
        check(tmp_path, count, url="postgresql://me:sesame@127.0.0.1:9/x")
    assert "sesame" not in str(gone.value.problem())


def test_words_are_cut_where_nothing_parts_them() -> None:
    assert cut("图书馆 abc").split() == ["图书", "书馆", "abc"]
    assert question('O\'Neil & "x" | !') == "'o' | 'neil' | 'x'"
    assert question("…?!") == ""
    assert (configuration("de-AT", "english"), configuration("zh", "english"), configuration("", "french")) == (
        "german",
        "simple",
        "french",
    )


def test_the_plugin_registers_the_index() -> None:
    assert register_retrievers() == [PgVector]

"""The contract of an `Index`, as tests. Subclass it in your own test module and say how to open yours:

    from sourcebook.testing.indexes import IndexContract, context

    class TestMyIndex(IndexContract):
        async def open_index(self, folder: Path) -> Index[Any]:
            index = MyIndex(MyIndex.Settings())
            await index.open(context(folder))
            return index

pytest finds the tests in your class. Every test gets its own empty folder; `open_index` is called again with the same
folder to see what a restart keeps, so an index on a server must keep the data of two folders apart. Each test runs in
one event loop of its own. One test opens the index in another process and kills that, so your class stands at the top
level of its module; `child` gives what else it needs there. Write `kill` too where a process of the index's own holds
the data.

For assertions that show their values, call `pytest.register_assert_rewrite("sourcebook.testing.indexes")` in your
`conftest.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sourcebook.errors import PluginError, SourcebookError
from sourcebook.interfaces import Index, Point, PointRef, Scope, ScopedNotebook, SearchQuery, Space
from sourcebook.testing.index_filters import FilterContract
from sourcebook.testing.index_points import LEG, MINE, NEIGHBOURS, SCOPE, SPACE, context, point, vectors
from sourcebook.testing.index_writer import killed_while_storing

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors


__all__ = ["LEG", "MINE", "NEIGHBOURS", "SCOPE", "SPACE", "IndexContract", "context", "point", "vectors"]


class IndexContract(FilterContract):
    """What every index must do. The names of the tests are the contract."""

    async def open_index(self, folder: Path) -> Index[Any]:
        """Your index, opened, with its data in `folder`."""
        raise NotImplementedError

    def child(self) -> tuple[type[IndexContract], dict[str, Any]]:
        """The class that another process imports to open the same index, and attributes to set there, JSON-safe."""
        return type(self), {}

    async def kill(self, index: Index[Any]) -> None:
        """Kill (-9) the process that holds the data, where it is not the one that opens the index; wait for its end."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncIterator[Index[Any]]:
        """The index, ready for the contract's space, and closed at the end."""
        index = await self.open_index(folder)
        try:
            await index.ensure([SPACE])
            yield index
        finally:
            await index.close()

    def check(self, folder: Path, test: Callable[[Index[Any]], Awaitable[None]]) -> None:
        """Run `test` on an empty index."""

        async def run() -> None:
            async with self.opened(folder) as index:
                await test(index)

        self._run(f"The index of {type(self).__name__}", run())

    # What is found.

    def test_a_text_is_found_by_its_words_best_first(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            both, one, other = point(1, "green tea and tea leaves"), point(2, "black tea"), point(3, "coffee beans")
            await index.upsert(SCOPE, [one, other, both], None)
            hits = (await index.search(SearchQuery(("green tea",), SCOPE, 10)))["lexical"]
            assert [hit.passage_id for hit in hits] == [both.id, one.id]
            assert hits[0].score > hits[1].score

        self.check(tmp_path, test)

    def test_a_vector_is_found_by_its_neighbours_best_first(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            a, b = point(1, "first"), point(2, "second")
            await index.upsert(SCOPE, [a, b], vectors([1, 0, 0, 0], [0, 1, 0, 0]))
            hits = (await index.search(SearchQuery(("?",), SCOPE, 10, vectors([0.9, 0.1, 0, 0]))))[LEG]
            assert [hit.passage_id for hit in hits] == [a.id, b.id]
            assert hits[0].score > hits[1].score

        self.check(tmp_path, test)

    def test_of_several_queries_a_point_gets_its_best_score(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            points = [point(1, "tea"), point(2, "coffee"), point(3, "tea, coffee and much more"), point(4, "water")]
            await index.upsert(SCOPE, points, vectors([1, 0, 0, 0], [0, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0]))
            texts, rows = ("tea", "coffee and more"), ([1, 0, 0, 0], [0, 1, 0, 0])
            best: dict[tuple[str, str], float] = {}
            for text, row in zip(texts, rows, strict=True):
                for leg, hits in (await index.search(SearchQuery((text,), SCOPE, 10, vectors(row)))).items():
                    for hit in hits:
                        best[leg, hit.passage_id] = max(hit.score, best.get((leg, hit.passage_id), hit.score))
            legs = await index.search(SearchQuery(texts, SCOPE, 10, vectors(*rows)))
            found = {(leg, hit.passage_id): hit.score for leg, hits in legs.items() for hit in hits}
            assert found == pytest.approx(best)
            for hits in legs.values():
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

        self.check(tmp_path, test)

    def test_no_leg_is_longer_than_the_limit(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            rows = [[1.0, i, 0, 0] for i in range(9)]
            await index.upsert(SCOPE, [point(i, "tea " * (i + 1)) for i in range(9)], vectors(*rows))
            legs = await index.search(SearchQuery(("tea", "tea?"), SCOPE, 4, vectors([1, 0, 0, 0], [0, 1, 0, 0])))
            assert {leg: len(hits) for leg, hits in legs.items()} == {"lexical": 4, LEG: 4}

        self.check(tmp_path, test)

    def test_a_text_without_any_word_finds_nothing_and_is_no_error(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.upsert(SCOPE, [point(1, "tea"), point(2, ""), point(3, "…")], None)
            for text in ("", "   ", "…?!", "\x00"):
                assert not (await index.search(SearchQuery((text,), SCOPE, 10)))["lexical"], repr(text)
            assert await index.count(SCOPE) == 3

        self.check(tmp_path, test)

    # What is stored.

    def test_storing_twice_stores_once(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            points = [point(i, f"tea number {i}") for i in range(70)]
            for _ in range(2):
                await index.upsert(SCOPE, points, vectors(*([1, 0, 0, 0] for _ in points)))
            assert await index.count(SCOPE) == 70

        self.check(tmp_path, test)

    def test_the_same_id_replaces_text_and_vector(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            old, other = point(1, "green tea"), point(2, "water")
            await index.upsert(SCOPE, [old, other], vectors([1, 0, 0, 0], [0, 1, 0, 0]))
            await index.upsert(SCOPE, [replace(old, text="black coffee")], vectors([0, 0, 1, 0]))
            assert not (await index.search(SearchQuery(("tea",), SCOPE, 10)))["lexical"]
            legs = await index.search(SearchQuery(("coffee",), SCOPE, 1, vectors([0, 0, 1, 0])))
            assert [hit.passage_id for hits in legs.values() for hit in hits] == [old.id, old.id]
            assert await index.count(SCOPE) == 2

        self.check(tmp_path, test)

    def test_a_vector_of_the_wrong_size_is_a_plugin_error_that_names_both(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            import numpy as np

            wrong: Vectors = {SPACE.name: np.ones((1, 3), dtype=np.float32)}
            with pytest.raises(PluginError) as stored:
                await index.upsert(SCOPE, [point(1, "tea")], wrong)
            with pytest.raises(PluginError) as asked:
                await index.search(SearchQuery(("tea",), SCOPE, 1, wrong))
            for error in (stored, asked):
                assert "4" in str(error.value)
                assert "3" in str(error.value)
            assert await index.count(SCOPE) == 0

        self.check(tmp_path, test)

    def test_ensuring_again_or_more_touches_no_data(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.upsert(SCOPE, [point(1, "tea")], vectors([1, 0, 0, 0]))
            await index.ensure([SPACE, Space("later", 3)])
            legs = await index.search(SearchQuery(("tea",), SCOPE, 10, vectors([1, 0, 0, 0])))
            assert {leg: len(hits) for leg, hits in legs.items()} == {"lexical": 1, LEG: 1}

        self.check(tmp_path, test)

    # What is removed.

    def test_deleting_removes_that_generation_or_source_and_nothing_else(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            first = [point(i, "tea") for i in range(3)]
            second = [point(i, "tea", generation="generation-2") for i in range(4)]
            other = [point(i, "tea", source="source-2") for i in range(5)]
            await index.upsert(SCOPE, first + second + other, None)
            await index.delete(SCOPE, "source-1", "generation-1")
            assert await index.count(SCOPE, "source-1", "generation-1") == 0
            assert await index.count(SCOPE, "source-1") == 4
            await index.delete(SCOPE, "source-1")
            await index.delete(SCOPE, "source-1")  # nothing to remove is success
            assert await index.count(SCOPE, "source-1") == 0
            assert await index.count(SCOPE) == 5
            hits = (await index.search(SearchQuery(("tea",), SCOPE, 20)))["lexical"]
            assert {hit.passage_id for hit in hits} == {p.id for p in other}

        self.check(tmp_path, test)

    # What stays apart.

    def test_nothing_outside_the_scope_is_found_counted_listed_or_deleted(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            notebooks = (MINE, *NEIGHBOURS)
            for n in notebooks:
                await index.upsert(Scope((n,)), [point(1, "tea", n)], vectors([1, 0, 0, 0]))
            for n in notebooks:
                scope, own = Scope((n,)), point(1, "tea", n).id
                legs = await index.search(SearchQuery(("tea",), scope, 10, vectors([1, 0, 0, 0])))
                assert {leg: [hit.passage_id for hit in hits] for leg, hits in legs.items()} == {
                    "lexical": [own],
                    LEG: [own],
                }
                assert await index.count(scope) == 1
                assert [ref.id for ref in await _all(index, scope)] == [own]
            await index.delete(SCOPE, "source-1")
            assert [await index.count(Scope((n,))) for n in notebooks] == [0, 1, 1, 1]

        self.check(tmp_path, test)

    def test_a_scope_pairs_each_notebook_with_its_own_index_spec(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            stored = [ScopedNotebook(n, "owner-1", s) for n in ("a", "b") for s in ("spec-1", "spec-2")]
            await index.upsert(Scope(tuple(stored)), [point(1, "tea", n) for n in stored], None)
            # a under spec-1 and b under spec-2: not a under spec-2, although both words occur in the scope.
            scope = Scope((stored[0], stored[3]))
            hits = (await index.search(SearchQuery(("tea",), scope, 10)))["lexical"]
            assert {hit.passage_id for hit in hits} == {point(1, "tea", n).id for n in scope.notebooks}
            assert await index.count(scope) == 2

        self.check(tmp_path, test)

    def test_an_empty_scope_finds_nothing_and_removes_nothing(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.upsert(SCOPE, [point(1, "tea")], vectors([1, 0, 0, 0]))
            legs = await index.search(SearchQuery(("tea",), Scope(), 10, vectors([1, 0, 0, 0])))
            assert not any(legs.values())
            await index.delete(Scope(), "source-1")
            assert await index.count(Scope()) == 0
            assert await _all(index, Scope()) == []
            assert await index.count(SCOPE) == 1

        self.check(tmp_path, test)

    def test_a_point_outside_the_scope_is_refused(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            for n in NEIGHBOURS:
                with pytest.raises(SourcebookError):
                    await index.upsert(SCOPE, [point(1, "tea", n)], None)
                assert await index.count(Scope((n,))) == 0

        self.check(tmp_path, test)

    def test_sources_narrow_the_scope(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            points = [point(1, "tea", source=f"source-{i}") for i in range(4)]
            await index.upsert(SCOPE, points, vectors(*([1, 0, 0, 0] for _ in points)))
            for chosen in ((), (1,), (1, 3)):
                sources = tuple(f"source-{i}" for i in chosen)
                query = SearchQuery(("tea",), SCOPE, 10, vectors([1, 0, 0, 0]), sources)
                for leg, hits in (await index.search(query)).items():
                    assert {hit.passage_id for hit in hits} == {points[i].id for i in chosen}, leg

        self.check(tmp_path, test)

    def test_vectors_are_given_back_within_the_scope_alone(self, tmp_path: Path) -> None:
        """An index may give none at all; its searches have no feedback then."""

        async def test(index: Index[Any]) -> None:
            mine, theirs = point(1, "tea"), point(2, "tea", NEIGHBOURS[0])
            await index.upsert(SCOPE, [mine], vectors([3, 4, 0, 0]))
            await index.upsert(Scope((NEIGHBOURS[0],)), [theirs], vectors([0, 0, 1, 0]))
            found = await index.vectors(SCOPE, [theirs.id, point(9, "never stored").id, mine.id])
            if found:
                assert {space: list(rows) for space, rows in found.items()} == {SPACE.name: [mine.id]}
                row = found[SPACE.name][mine.id]
                assert [x / max(row) for x in row] == pytest.approx([0.75, 1, 0, 0], abs=1e-3)

        self.check(tmp_path, test)

    # What lasts.

    def test_counts_and_lists_are_exact_over_many_pages(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            points = [point(i, "tea", source=f"source-{i // 100}") for i in range(2500)]
            await index.upsert(SCOPE, points, None)
            await index.upsert(Scope(NEIGHBOURS[1:2]), [point(1, "tea", NEIGHBOURS[1])], None)
            refs = await _all(index, SCOPE)
            assert len(refs) == 2500
            assert set(refs) == {PointRef(p.id, p.notebook_id, p.source_id, p.generation_id) for p in points}
            assert len(await _all(index, None)) == 2501
            assert await index.count(SCOPE) == 2500
            assert await index.count(SCOPE, "source-7") == 100

        self.check(tmp_path, test)

    def test_a_restart_keeps_everything(self, tmp_path: Path) -> None:
        async def run() -> None:
            async with self.opened(tmp_path) as index:
                await index.upsert(SCOPE, [point(1, "tea")], vectors([1, 0, 0, 0]))
                await index.flush()
            async with self.opened(tmp_path) as index:
                legs = await index.search(SearchQuery(("tea",), SCOPE, 10, vectors([1, 0, 0, 0])))
                assert {leg: len(hits) for leg, hits in legs.items()} == {"lexical": 1, LEG: 1}

        self._run(f"The index of {type(self).__name__}", run())

    def test_a_kill_of_the_process_that_stores_loses_nothing_that_was_acknowledged(self, tmp_path: Path) -> None:
        stored = killed_while_storing(*self.child(), tmp_path, 100)

        async def run() -> None:
            async with self.opened(tmp_path) as index:
                kept = {ref.id for ref in await _all(index, SCOPE)}
                assert {point(i, "").id for i in range(stored)} <= kept
                legs = await index.search(SearchQuery(("tea",), SCOPE, stored, vectors([1, 0, 0, 0])))
                assert all(len(hits) >= stored for hits in legs.values()), "what was kept is found too"

        self._run(f"The index of {type(self).__name__}", run())

    def test_a_kill_of_the_process_that_holds_the_data_loses_nothing_that_was_acknowledged(
        self, tmp_path: Path
    ) -> None:
        if type(self).kill is IndexContract.kill:
            pytest.skip("`kill` is not written: no process of the index's own holds the data")
        acknowledged: list[Point] = []
        enough = asyncio.Event()

        async def store(index: Index[Any]) -> None:
            while True:
                first = len(acknowledged)
                batch = [point(i, f"tea number {i}") for i in range(first, first + 10)]
                await index.upsert(SCOPE, batch, vectors(*([1, i, 0, 0] for i in range(first, first + 10))))
                acknowledged.extend(batch)
                if len(acknowledged) >= 100:
                    enough.set()

        async def run() -> None:
            async with self.opened(tmp_path) as index:
                storing = asyncio.create_task(store(index))
                waiting = asyncio.create_task(enough.wait())
                await asyncio.wait([storing, waiting], return_when=asyncio.FIRST_COMPLETED)
                storing.cancel()
                waiting.cancel()
                await self.kill(index)
                await asyncio.gather(storing, waiting, return_exceptions=True)
            async with self.opened(tmp_path) as index:
                kept = {ref.id for ref in await _all(index, SCOPE)}
                assert len(acknowledged) >= 100
                assert {p.id for p in acknowledged} <= kept

        self._run(f"The index of {type(self).__name__}", run())


async def _all(index: Index[Any], scope: Scope | None) -> list[PointRef]:
    return [ref async for page in index.scroll(scope) for ref in page]

"""The part of an index's contract that is about filters and modes. `IndexContract` has it too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sourcebook.filters import And, AnyOf, Between, FieldType, FieldValue, Filter, Not, Or, matches
from sourcebook.interfaces import Index, Scope, ScopedNotebook, SearchQuery
from sourcebook.testing.deadlines import Timely
from sourcebook.testing.index_points import LEG, MINE, NEIGHBOURS, SCOPE, SPACE, point, vectors

FIELD_TYPES: Mapping[str, FieldType] = {
    "author": "text",
    "tags": "text",
    "year": "number",
    "day": "date",
    "signed": "boolean",
}
FIELDS: tuple[Mapping[str, FieldValue], ...] = (
    {},
    {"author": "Lee", "tags": ("a", "b"), "year": 1999.0, "day": 946684799.0, "signed": True},
    {"author": "lee", "tags": ("b",), "year": 2000.0, "day": 946684800.0, "signed": False},
    {"author": ("Ann", "Lee"), "year": (1999.0, 2005.5), "day": -86400.0},
    {"author": 'x"; y\\', "tags": "a", "year": -3.25, "signed": True},
    {"author": "日本 語", "tags": ("c", "a b"), "year": 1e12, "signed": True},
)
"""Of one source each, and what may be asked of them."""
FILTERS: tuple[Filter, ...] = (
    AnyOf("author", ("Lee",)),
    AnyOf("author", ("lee", "日本 語", 'x"; y\\')),
    AnyOf("author", ("nobody",)),
    AnyOf("never_stored", ("Lee",)),
    AnyOf("tags", ("a",)),
    AnyOf("tags", ("a b", "b")),
    AnyOf("signed", (True,)),
    AnyOf("signed", (True, False)),
    AnyOf("source", ("source-1", "source-4", "source-99")),
    Between("year", gte=1999, lte=1999),
    Between("year", gt=1999),
    Between("year", lt=1999),
    Between("year", gte=2000, lt=2005.5),
    Between("year", lte=-3.25),
    Between("day", gte=946684800),
    Between("day", lt=0),
    Between("never_stored", gte=0),
    Not(AnyOf("author", ("Lee",))),
    Not(Between("year", gte=0)),
    Not(AnyOf("signed", (True,))),
    Not(Not(AnyOf("tags", ("a",)))),
    And((AnyOf("tags", ("a",)), AnyOf("signed", (True,)))),
    And((AnyOf("tags", ("a",)), AnyOf("source", ("source-4",)))),
    Or((AnyOf("tags", ("c",)), Between("year", lt=1999.5))),
    And((Or((AnyOf("author", ("Lee",)), AnyOf("tags", ("b",)))), Not(AnyOf("signed", (False,))))),
    Or((And((AnyOf("author", ("Lee",)), Between("year", gt=2001))), Not(Or((AnyOf("signed", (True, False)),) * 2)))),
)


class FilterContract(Timely):
    """What every index must do with `SearchQuery.filters`, `SearchQuery.mode` and `set_fields`."""

    def check(self, folder: Path, test: Callable[[Index[Any]], Awaitable[None]]) -> None:
        """Run `test` on an empty index."""
        raise NotImplementedError

    def test_every_filter_finds_what_python_says_it_matches(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.ensure([SPACE], FIELD_TYPES)
            points = [replace(point(i, "tea", source=f"source-{i}"), fields=fields) for i, fields in enumerate(FIELDS)]
            await index.upsert(SCOPE, points, vectors(*([1, 0, 0, 0] for _ in points)))
            for where in FILTERS:
                wanted = {p.id for p in points if matches(where, p.source_id, p.fields)}
                query = SearchQuery(("tea",), SCOPE, 50, vectors([1, 0, 0, 0]), filters=where)
                for leg, hits in (await index.search(query)).items():
                    assert {hit.passage_id for hit in hits} == wanted, (leg, where)

        self.check(tmp_path, test)

    def test_a_filter_never_widens_scope_or_sources(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.ensure([SPACE], FIELD_TYPES)
            for n in (MINE, *NEIGHBOURS):
                await index.upsert(Scope((n,)), [point(1, "tea", n), point(2, "tea", n, "source-2")], None)
            own = [point(1, "tea").id, point(2, "tea", source="source-2").id]
            either = Or((Not(AnyOf("author", ("Lee",))), AnyOf("source", ("source-1", "source-2"))))
            for sources, wanted in ((None, set(own)), (("source-2",), {own[1]}), ((), set())):
                query = SearchQuery(("tea",), SCOPE, 50, None, sources, either)
                assert {hit.passage_id for hit in (await index.search(query))["lexical"]} == wanted

        self.check(tmp_path, test)

    def test_fields_are_replaced_for_one_source_of_the_scope(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.ensure([SPACE], FIELD_TYPES)
            old: dict[str, FieldValue] = {"author": "Lee", "year": 1990.0}
            stored = [
                replace(point(1, "tea", n, source), fields=old)
                for n, source in ((MINE, "source-1"), (MINE, "source-2"), (NEIGHBOURS[0], "source-1"))
            ]
            for p in stored:
                n = ScopedNotebook(p.notebook_id, p.owner_id, p.index_spec_id)
                await index.upsert(Scope((n,)), [p], None)
            await index.set_fields(SCOPE, "source-1", {"author": ("Ann", "Lou")})
            await index.set_fields(SCOPE, "no-such-source", {"author": "Lee"})
            both = Scope((MINE, NEIGHBOURS[0]))
            for where, wanted in (
                (AnyOf("author", ("Lou",)), stored[:1]),
                (AnyOf("author", ("Lee",)), stored[1:]),
                (Between("year", lte=2000), stored[1:]),  # what is not named is gone
            ):
                hits = (await index.search(SearchQuery(("tea",), both, 50, filters=where)))["lexical"]
                assert {hit.passage_id for hit in hits} == {p.id for p in wanted}, where

        self.check(tmp_path, test)

    def test_a_mode_leaves_out_the_other_legs_hits(self, tmp_path: Path) -> None:
        async def test(index: Index[Any]) -> None:
            await index.upsert(SCOPE, [point(1, "tea")], vectors([1, 0, 0, 0]))
            query = SearchQuery(("tea",), SCOPE, 10, vectors([1, 0, 0, 0]))
            lexical = await index.search(replace(query, mode="lexical"))
            assert {leg: len(hits) for leg, hits in lexical.items() if hits} == {"lexical": 1}
            dense = await index.search(replace(query, mode="dense"))
            assert {leg: len(hits) for leg, hits in dense.items() if hits} == {LEG: 1}

        self.check(tmp_path, test)

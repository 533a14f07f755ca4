"""What every retriever must do. Subclass `RetrieverContract` in a test module, and pytest runs it on yours.

One that stores is an `Index`, and has a contract of its own: `sourcebook.testing.indexes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from sourcebook.interfaces import Hit, Retriever, Scope, SearchQuery
from sourcebook.testing.components import opened
from sourcebook.testing.deadlines import Timely


class RetrieverContract(Timely):
    """The suite. A subclass gives `retriever` and a `query` that finds at least two passages in at least one leg."""

    def retriever(self) -> AbstractContextManager[Retriever[Any]]:
        """A retriever that is not open yet."""
        raise NotImplementedError

    def query(self) -> SearchQuery:
        """A search that finds something."""
        raise NotImplementedError

    def legs(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        """What one search finds."""

        async def main(retriever: Retriever[Any]) -> Mapping[str, Sequence[Hit]]:
            async with opened(retriever):
                return await retriever.search(query)

        with self.retriever() as retriever:
            return self._run(f"The retriever {retriever.name!r}", main(retriever))

    def test_legs_are_named_and_ranked_and_hold_a_passage_once(self) -> None:
        legs = self.legs(self.query())
        assert max(map(len, legs.values())) >= 2, "the query finds at least two passages"
        for leg, hits in legs.items():
            assert re.fullmatch(r"lexical|dense:\w+|[a-z][a-z0-9_:]*", leg), leg
            assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True), "best first"
            assert len({h.passage_id for h in hits}) == len(hits)

    def test_the_limit_holds_in_every_leg(self) -> None:
        assert all(len(hits) <= 1 for hits in self.legs(replace(self.query(), limit=1)).values())

    def test_the_same_search_finds_the_same(self) -> None:
        assert self.legs(self.query()) == self.legs(self.query())

    def test_an_empty_scope_finds_nothing(self) -> None:
        assert not any(self.legs(replace(self.query(), scope=Scope())).values())

    def test_no_sources_are_no_hits(self) -> None:
        assert not any(self.legs(replace(self.query(), sources=())).values())

"""Retrievers, indexes and rerankers, and the scope that binds them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sourcebook.documents import Passage
from sourcebook.errors import PluginError
from sourcebook.filters import FieldType, FieldValue, Filter
from sourcebook.interfaces.components import Component, S
from sourcebook.interfaces.embedding import Space

if TYPE_CHECKING:
    from sourcebook.interfaces.embedding import Vectors


@dataclass(frozen=True)
class ScopedNotebook:
    """One notebook that may be searched, and the index spec that it has pinned."""

    notebook_id: str
    owner_id: str
    index_spec_id: str


@dataclass(frozen=True)
class Scope:
    """The notebooks that a principal may use now, resolved once per request in SQL. Empty means: nothing is found."""

    notebooks: tuple[ScopedNotebook, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The notebooks' ids."""
        return [n.notebook_id for n in self.notebooks]


@dataclass(frozen=True)
class SearchQuery:
    """One retrieval call. `texts` holds the question and its rewritings; `vectors[space]` has one row a text.

    `limit` is per leg. `sources` narrows to these source ids, `filters` to what matches (None: all of the scope).
    `mode` leaves out the legs of the other kind: a retriever need not compute them.
    """

    texts: tuple[str, ...]
    scope: Scope
    limit: int
    vectors: Vectors | None = None
    sources: tuple[str, ...] | None = None
    filters: Filter | None = None
    mode: Literal["hybrid", "lexical", "dense"] = "hybrid"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage id with the score of its leg: higher is better, comparable only within the leg."""

    passage_id: str
    score: float


class Retriever(Component[S]):
    """Finds passages. It returns ranked legs and fuses nothing: core fuses, weighs and explains."""

    @abstractmethod
    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        """Leg name (`lexical`, `dense:<space>`) -> hits, best first, at most `query.limit`, all within the scope.

        Raises `IndexUnavailable`.
        """


@dataclass(frozen=True)
class Point:
    """One passage as an index stores it. `id` is the passage's (a UUIDv5 of generation and ordinal).

    `fields` are what a filter compares (`sourcebook.filters`): a list is a tuple, and holds one type.
    """

    id: str
    owner_id: str
    notebook_id: str
    index_spec_id: str
    source_id: str
    generation_id: str
    text: str  # context and text: indexed, never stored in the index's payload
    language: str = ""
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True)
class PointRef:
    """A stored point without vectors, as `scroll` gives it."""

    id: str
    notebook_id: str
    source_id: str
    generation_id: str


@dataclass(frozen=True)
class Stored:
    """A point in an index's own form: `data` is JSON, understood by indexes of the same class alone.

    `payload` is the part of it that is equal in both indexes when the point is.
    """

    id: str
    payload: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)


class Index(Retriever[S]):
    """A retriever that stores. Every call but `ensure` and `flush` is bound to a Scope: what is outside does not exist.

    An acknowledged call survives the death of any process; what survives power loss is promised after `flush`.
    """

    @abstractmethod
    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        """Be ready to store these spaces, and to filter by these fields. Idempotent, and never touches other data."""

    @abstractmethod
    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Vectors | None) -> None:
        """Store points; the same id again replaces. `vectors[space]` has one row a point. Idempotent."""

    @abstractmethod
    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, FieldValue]) -> None:
        """Replace the fields of all points of a source, whose metadata or tags were edited. No point is success."""

    @abstractmethod
    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        """Remove a source's points (of one generation, or all). Nothing to remove is success."""

    @abstractmethod
    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        """The exact number of points."""

    @abstractmethod
    def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        """Every point, in pages. `None` is for `doctor` alone: all owners."""

    async def vectors(self, scope: Scope, ids: Sequence[str]) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """Space -> passage id -> its vector, of those that are there. Optional: with none, a search has no feedback.

        A vector may have another length than it was stored with.
        """
        return {}

    async def flush(self) -> None:
        """Make what was acknowledged survive power loss."""

    async def held_spaces(self) -> Sequence[Space]:
        """The spaces that were ever ensured. Optional, as are the next three: for moving to another index of the class.

        Raises `PluginError` (code `not_supported`) where the class does not move.
        """
        raise _unmovable(self)

    def dump(self, ids: Sequence[str] | None = None, *, vectors: bool = True) -> AsyncIterator[Sequence[Stored]]:
        """Every point of all owners, or those of these ids, in pages; as it is stored, for `restore`."""
        raise _unmovable(self)

    async def restore(self, points: Sequence[Stored]) -> None:
        """Store points of another index of the same class; the same id again replaces."""
        raise _unmovable(self)

    async def remove(self, ids: Sequence[str]) -> None:
        """Remove points by their ids, whoever owns them."""
        raise _unmovable(self)


def _unmovable(index: Index[Any]) -> PluginError:
    return PluginError(f"The index {index.instance!r} cannot be moved as it is.", code="not_supported")


class Reranker(Component[S]):
    """Scores passages against a question."""

    @abstractmethod
    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        """One score a passage, in their order; higher is better. Raises `RerankerError`."""

"""The component `qdrant`: an `Index` whose data an index process holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import Field

from sourcebook.errors import IndexUnavailable, PluginError
from sourcebook.interfaces import (
    ComponentSettings,
    Context,
    Hit,
    Index,
    Point,
    PointRef,
    Scope,
    ScopedNotebook,
    SearchQuery,
    Space,
)
from sourcebook_plugins.qdrant import layout
from sourcebook_plugins.qdrant.client import Client
from sourcebook_plugins.qdrant.terms import analyzer

if TYPE_CHECKING:
    from sourcebook.filters import FieldType, FieldValue
    from sourcebook.interfaces import Vectors

BATCH = 64
"""Points in one request: larger ones are no faster, and keep others waiting."""

BATCH_CHARACTERS = 64 * 1024
"""And of their text together, for the same reason: BM25 cuts this much English in 15 ms."""

Language = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "turkish",
]  # fmt: skip


class QdrantSettings(ComponentSettings):
    """The section of an instance with `use = "qdrant"`.

    English, German, Arabic and Chinese are all found without configuration: a document is stemmed by its own language,
    a script without spaces is cut into pairs of characters (`terms.py`), and English stemming of what has no language
    that can be told gains a point or two on English and does not hurt the rest.
    """

    url: str = Field("", description="Of a Qdrant server. Empty: embedded, below the data folder.")
    language: Language = Field("english", description="Stemmer and stop words for texts whose language is not known.")
    idle_seconds: float = Field(30, ge=0, le=86_400, description="How long the index process outlives its last client.")
    timeout_seconds: float = Field(30, gt=0, description="The longest that one call may take.")


class Qdrant(Index[QdrantSettings]):
    """Legs `lexical` (BM25) and `dense:<space>`. The data lie in the instance's folder, below `shard`.

    One process owns that folder and serves all others on this machine (see the package's docstring), so that `serve`,
    extra workers and the command line can use it at the same time, and so that Qdrant, which blocks the whole
    interpreter in every call, never holds our event loop.
    """

    name = "qdrant"
    Settings = QdrantSettings

    _client: Client | None = None

    async def open(self, context: Context) -> None:
        """Connects at the first call, not here: a command that never searches starts no process."""
        if self.settings.url:
            raise PluginError(
                f"The index '{self.instance}' has a url, and this version of Sourcebook only has the embedded Qdrant.",
                remedy="Remove `url` from its settings.",
                code="not_supported",
            )
        s = self.settings
        self._client = Client(
            context.folder, context.log, idle_seconds=s.idle_seconds, timeout_seconds=s.timeout_seconds
        )

    async def close(self) -> None:
        if self._client:
            await self._client.close()

    @property
    def pid(self) -> int:
        """The index process, for `doctor` and metrics; 0 while not connected."""
        return self._client.pid if self._client else 0

    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        for space in spaces:
            if space.kind != "dense":
                raise PluginError(
                    f"The space '{space.name}' has one vector a token, and the index 'qdrant' stores one a passage.",
                    code="not_supported",
                )
        wanted = [{"name": s.name, "dimensions": s.dimensions, "distance": s.distance} for s in spaces]
        await self._call("ensure", {"spaces": wanted})
        if fields:
            await self._call("ensure_fields", {"fields": dict(fields)})

    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Vectors | None) -> None:
        announced, rows = _checked(vectors, len(points))
        allowed = set(scope.notebooks)
        batches = list(_batches(points))
        for start, end in batches:  # all of them before the first is stored
            _check_points(points[start:end], allowed)
            await asyncio.sleep(0)
        for start, end in batches:
            body = {"vectors": announced, "points": [self._stored(p) for p in points[start:end]]}
            await self._call("upsert", body, b"".join(r[start:end].tobytes() for r in rows))

    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, FieldValue]) -> None:
        if scope.notebooks:
            where = layout.scope_filter(scope, [source_id])
            await self._call("set_fields", {"filter": where, "payload": layout.fields_payload(fields)})

    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        if scope.notebooks:
            await self._call("delete", {"filter": layout.scope_filter(scope, [source_id], generation_id)})

    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        if not scope.notebooks:
            return 0
        sources = None if source_id is None else [source_id]
        found = await self._call("count", {"filter": layout.scope_filter(scope, sources, generation_id)})
        return int(found["count"])

    async def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        if scope is not None and not scope.notebooks:
            return
        where = None if scope is None else layout.scope_filter(scope)
        offset = None
        while True:
            page = await self._call("scroll", {"filter": where, "offset": offset})
            if page["points"]:
                yield [PointRef(*values) for values in page["points"]]
            if (offset := page["next"]) is None:
                return

    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        announced, rows = _checked(query.vectors if query.mode != "lexical" else None, None)
        if not query.scope.notebooks or query.sources == () or query.limit < 1:
            return {"lexical": (), **{f"dense:{name}": () for name, _ in announced}}
        body = {
            "filter": layout.scope_filter(query.scope, query.sources, where=query.filters),
            "scopes": layout.scopes(query.scope),
            "corpus": layout.corpus_filter(query.scope),
            "limit": query.limit,
            "texts": [text for text in query.texts if text.strip()] if query.mode != "dense" else [],
            "vectors": announced,
        }
        found = await self._call("search", body, b"".join(r.tobytes() for r in rows))
        return {leg: [Hit(*hit) for hit in hits] for leg, hits in found["legs"].items()}

    async def flush(self) -> None:
        await self._call("flush")

    def _stored(self, point: Point) -> tuple[str, dict[str, Any], str]:
        how = analyzer(self.settings.language, point.language)
        return point.id, layout.payload(point, how), point.text

    async def _call(self, op: str, body: Mapping[str, Any] | None = None, raw: bytes = b"") -> dict[str, Any]:
        if not self._client:
            raise IndexUnavailable(f"The index '{self.instance}' is not open.")
        return await self._client.call(op, body, raw)


def _check_points(points: Sequence[Point], allowed: Container[ScopedNotebook]) -> None:
    for point in points:
        if ScopedNotebook(point.notebook_id, point.owner_id, point.index_spec_id) not in allowed:
            raise PluginError(f"The point {point.id} lies outside the scope that it was to be stored in.")
        if not _is_uuid(point.id):
            raise PluginError(f"A point's id must be a UUID, in lower case and with hyphens; {point.id!r} is not.")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _batches(points: Sequence[Point]) -> Iterator[tuple[int, int]]:
    """Ranges of `points`, each within `BATCH` and, but for a single point, within `BATCH_CHARACTERS`."""
    start = size = 0
    for i, point in enumerate(points):
        if i > start and (i - start == BATCH or size + len(point.text) > BATCH_CHARACTERS):
            yield start, i
            start, size = i, 0
        size += len(point.text)
    if points:
        yield start, len(points)


def _checked(vectors: Vectors | None, expected: int | None) -> tuple[list[tuple[str, int]], list[Any]]:
    """What is announced and the float32 rows of each space; `expected` rows, or equally many in all spaces."""
    announced, rows = [], []
    for name, array in (vectors or {}).items():
        import numpy as np  # whoever made the vectors has loaded it already

        values = np.asarray(array, dtype=np.float32)
        expected = len(values) if expected is None and values.ndim else expected
        if values.ndim != 2 or len(values) != expected:
            raise PluginError(f"The space '{name}' needs {expected} rows of one vector each; it has {values.shape}.")
        if not np.isfinite(values).all():
            raise PluginError(f"A vector of the space '{name}' holds a value that is not a finite number.")
        announced.append((name, values.shape[1]))
        rows.append(values)
    return announced, rows

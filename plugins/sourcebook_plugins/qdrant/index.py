"""The component `qdrant`: an `Index` whose data an index process or a server holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sourcebook.errors import IndexUnavailable, PluginError
from sourcebook.interfaces import (
    Context,
    Hit,
    Index,
    Point,
    PointRef,
    Scope,
    SearchQuery,
    Space,
    Stored,
)
from sourcebook_plugins.points import check_points, check_vectors
from sourcebook_plugins.qdrant import layout, moving
from sourcebook_plugins.qdrant.client import Client
from sourcebook_plugins.qdrant.server import Server, connect
from sourcebook_plugins.qdrant.settings import QdrantSettings
from sourcebook_plugins.qdrant.terms import analyzer

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

    from sourcebook.filters import FieldType, FieldValue
    from sourcebook.interfaces import Vectors

BATCH = 64
"""Points in one request: larger ones are no faster, and keep others waiting."""

BATCH_CHARACTERS = 64 * 1024
"""And of their text together, for the same reason: BM25 cuts this much English in 15 ms."""


class Qdrant(Index[QdrantSettings]):
    """Legs `lexical` (BM25) and `dense:<space>`.

    With a `url` the data lie in a collection on that server. Without, they lie in the instance's folder, and one
    process owns that folder and serves all others on this machine (see the package's docstring), so that `serve`,
    extra workers and the command line can use it at the same time, and so that Qdrant, which blocks the whole
    interpreter in every call, never holds our event loop. Both engines answer the same requests.
    """

    name = "qdrant"
    Settings = QdrantSettings

    _client: Client | Server | None = None

    async def open(self, context: Context) -> None:
        """Connects at the first call, not here: a command that never searches starts no process."""
        s = self.settings
        if s.url:
            self._client = Server(self.connect(), s, context.log)
            return
        self._client = Client(
            context.folder, context.log, idle_seconds=s.idle_seconds, timeout_seconds=s.timeout_seconds
        )

    def connect(self) -> AsyncQdrantClient:
        """The client of the server that `url` names. Raises `PluginError` (code `extra_missing`) without the extra."""
        return connect(self.settings)

    async def close(self) -> None:
        if self._client:
            await self._client.close()

    async def ping(self) -> None:
        """Where there is a server: whether it answers us, with or without a collection of ours."""
        if isinstance(self._client, Server):
            await self._client.ping()

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
        s = self.settings
        tuning = {
            "compact_above": s.compact_above,
            "hnsw_above": s.hnsw_above,
            "quantization": "turbo4" if s.quantization == "auto" else s.quantization,
            "on_disk": s.on_disk,
        }
        await self._call("ensure", {"spaces": wanted, "tuning": tuning})
        if fields:
            await self._call("ensure_fields", {"fields": dict(fields)})

    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Vectors | None) -> None:
        announced, rows = check_vectors(vectors, len(points))
        allowed = set(scope.notebooks)
        batches = list(_batches(points))
        for start, end in batches:  # all of them before the first is stored
            check_points(points[start:end], allowed)
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
        announced, rows = check_vectors(query.vectors if query.mode != "lexical" else None, None)
        if not query.scope.notebooks or query.sources == () or query.limit < 1:
            return {"lexical": (), **{f"dense:{name}": () for name, _ in announced}}
        body = {
            "filter": layout.scope_filter(query.scope, query.sources, where=query.filters),
            "scopes": layout.scopes(query.scope),
            "corpus": layout.corpus_filter(query.scope),
            "owners": layout.owners(query.scope),
            "limit": query.limit,
            "texts": [text for text in query.texts if text.strip()] if query.mode != "dense" else [],
            "vectors": announced,
        }
        found = await self._call("search", body, b"".join(r.tobytes() for r in rows))
        return {leg: [Hit(*hit) for hit in hits] for leg, hits in found["legs"].items()}

    async def vectors(self, scope: Scope, ids: Sequence[str]) -> Mapping[str, Mapping[str, Sequence[float]]]:
        allowed = set(layout.scopes(scope))
        found: dict[str, dict[str, Sequence[float]]] = {}
        async for page in self.dump(ids):
            for one in (p for p in page if p.payload.get("scope") in allowed):
                for vector, row in one.data["dense"].items():
                    found.setdefault(moving.space_of(vector, "")["name"], {})[one.id] = row
        return found

    async def flush(self) -> None:
        await self._call("flush")

    async def held_spaces(self) -> Sequence[Space]:
        found = await self._call("held")
        return [Space(s["name"], s["dimensions"], distance=s["distance"]) for s in found["spaces"]]

    async def dump(self, ids: Sequence[str] | None = None, *, vectors: bool = True) -> AsyncIterator[Sequence[Stored]]:
        offset = None
        while True:
            asked = None if ids is None else list(ids)
            page = await self._call("dump", {"ids": asked, "offset": offset, "vectors": vectors})
            if page["points"]:
                yield [Stored(i, payload, {"dense": d, "sparse": s}) for i, payload, d, s in page["points"]]
            if (offset := page["next"]) is None:
                return

    async def restore(self, points: Sequence[Stored]) -> None:
        await self._call("restore", {"points": [[p.id, p.payload, p.data["dense"], p.data["sparse"]] for p in points]})

    async def remove(self, ids: Sequence[str]) -> None:
        await self._call("remove", {"ids": list(ids)})

    def _stored(self, point: Point) -> tuple[str, dict[str, Any], str]:
        how = analyzer(self.settings.language, point.language)
        return point.id, layout.payload(point, how), point.text

    async def _call(self, op: str, body: Mapping[str, Any] | None = None, raw: bytes = b"") -> dict[str, Any]:
        if not self._client:
            raise IndexUnavailable(f"The index '{self.instance}' is not open.")
        return await self._client.call(op, body, raw)


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

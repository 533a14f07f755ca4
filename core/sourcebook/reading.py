"""Reads stored documents: ranges of text, where they stand in the original, and the passages cut from them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import SEGMENT, Block, Locator, Passage, Place, Segment
from sourcebook.errors import NotFound
from sourcebook.interfaces import Scope
from sourcebook.passages import Statements, View, passages_seen, places_within
from sourcebook.placed import stored_locators

_SEGMENTS = 64  # of at most 16 Ki characters, and
_BATCH = 8 * 1024 * 1024  # bytes of them, in one transaction
_RANGES = 16  # of texts that are read at once

_t = document_segments.c
_MET = sa.and_(
    _t.document_id == sa.bindparam("document"), _t.end > sa.bindparam("first"), _t.start < sa.bindparam("last")
)
_TEXTS = Prepared(sa.select(_t.start, _t.text).where(_MET).order_by(_t.start))
_PLACES = Prepared(sa.select(_t.locators).where(_MET).order_by(_t.start))
_DOCUMENT = Prepared(sa.select(documents).where(documents.c.id == sa.bindparam("document")))


def encode_segment(segment: Segment) -> dict[str, Any]:
    """A row of `document_segments` without its document."""
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "blocks": orjson.dumps([[b.start, b.end, b.kind, b.level] for b in segment.blocks]),
        "locators": stored_locators(segment.locators),
    }


def segment_batches(segments: Iterable[Segment]) -> Iterator[list[dict[str, Any]]]:
    """Their rows, in batches of a size that neither memory nor the writer minds; one that is empty for none."""
    batch: list[dict[str, Any]] = []
    size = 0
    for segment in segments:
        row = encode_segment(segment)
        length = 4 * len(row["text"]) + len(row["blocks"]) + len(row["locators"])
        if batch and (len(batch) >= _SEGMENTS or size + length > _BATCH):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    yield batch


def _segment(row: Any) -> Segment:
    return Segment(
        row["start"],
        row["end"],
        row["text"],
        tuple(Block(*b) for b in orjson.loads(row["blocks"])),
        tuple(Locator(start, end, Place.from_json(p)) for start, end, p in orjson.loads(row["locators"])),
    )


class Reading:
    """What is stored of documents."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._statements = Statements(database)

    async def segments(self, document_id: str, start: int = 0, end: int | None = None) -> list[Segment]:
        """The segments that meet `[start, end)`, in order."""
        t = document_segments
        query = sa.select(t).where(t.c.document_id == document_id, t.c.end > start).order_by(t.c.start)
        if end is not None:
            query = query.where(t.c.start < end)
        async with self._db.read() as c:
            return [_segment(row) for row in (await c.execute(query)).mappings()]

    async def text(self, document_id: str, start: int, end: int) -> str:
        """`document.text[start:end]`."""
        return (await self.texts([(document_id, start, end)]))[0]

    async def texts(self, ranges: Sequence[tuple[str, int, int]]) -> list[str]:
        """`document.text[start:end]` of each (document, start, end)."""
        if not ranges:
            return []
        found: list[str] = []
        few = sum(end - start for _, start, end in ranges) <= SEGMENT and len(ranges) <= _RANGES
        async with self._db.glance() if few else self._db.read() as c:
            for document_id, start, end in ranges:
                rows = await _TEXTS.rows(c, {"document": document_id, "first": start, "last": end})
                found.append("".join(text[max(start - at, 0) : end - at] for at, text in rows))
        return found

    async def places(self, document_id: str, start: int, end: int) -> list[Place]:
        """Where `[start, end)` stands in the original."""
        return (await self.places_of([(document_id, start, end)]))[0]

    async def places_of(self, ranges: Sequence[tuple[str, int, int]]) -> list[list[Place]]:
        """The same of each (document, start, end)."""
        placed: list[list[Place]] = []
        async with self._db.glance() if len(ranges) == 1 else self._db.read() as c:
            for document_id, start, end in ranges:
                rows = await _PLACES.rows(c, {"document": document_id, "first": start, "last": end})
                placed.append(places_within([row.locators for row in rows], start, end))
        return placed

    async def document(self, document_id: str) -> Mapping[str, Any]:
        """Length, metadata, warnings and parser. Raises `NotFound`."""
        async with self._db.glance() as c:
            row = await _DOCUMENT.first(c, {"document": document_id})
        if row is None:
            raise NotFound(f"There is no document {document_id}.")
        found: dict[str, Any] = row._asdict()
        return found

    @asynccontextmanager
    async def view(self, *, few: bool = False) -> AsyncGenerator[View, None]:
        """Passages in one snapshot. `few`: not more than a search of usual depth looks at."""
        async with self._db.glance() if few else self._db.read() as connection:
            yield View(connection, self._statements)

    async def passages(self, ids: Sequence[str], scope: Scope) -> dict[str, Passage]:
        """The passages of these ids that the scope may see now."""
        async with self.view() as view:
            return await view.filled(list(await view.confirmed(ids, scope)))

    async def notebook_of(self, passage_id: str) -> str | None:
        """The notebook that a passage lies in, whoever asks: a scope of it decides whether they may see it."""
        query = passages_seen(sources.c.notebook_id).where(passages.c.id == passage_id)
        async with self._db.read() as c:
            found: str | None = (await c.execute(query)).scalar()
            return found

    async def passages_of(
        self, generation_id: str, limit: int, after: int = -1, *, deleted: bool = False, placed: bool = True
    ) -> list[Passage]:
        """A generation's passages in order, after an ordinal; those of a `deleted` source are for its removal alone.

        Not `placed`: without their places, which take longer than the rest.
        """
        query = sa.select(passages.c.id).where(passages.c.generation_id == generation_id, passages.c.ordinal > after)
        if not deleted:
            query = query.where(generations.c.id == passages.c.generation_id, sources.c.id == generations.c.source_id)
            query = query.where(notebooks.c.id == sources.c.notebook_id)
            query = query.where(sources.c.deleted_at.is_(None), notebooks.c.deleted_at.is_(None))
        async with self._db.read() as c:
            ids = list((await c.execute(query.order_by(passages.c.ordinal).limit(limit))).scalars())
            return list((await View(c, self._statements).filled(ids, placed=placed)).values())

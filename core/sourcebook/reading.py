"""Reads stored documents: ranges of text, where they stand in the original, and the passages cut from them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import SEGMENT, Block, Locator, Passage, Place, Segment
from sourcebook.errors import NotFound
from sourcebook.filters import FieldType, Filter, matches, source_fields
from sourcebook.interfaces import Scope

_SEGMENTS = 16  # of at most 64 Ki characters, and
_BATCH = 8 * 1024 * 1024  # bytes of them, in one transaction

T = TypeVar("T")
SegmentKey = tuple[str, int]
"""A document, and where the segment starts in it."""


def encode_segment(segment: Segment) -> dict[str, Any]:
    """A row of `document_segments` without its document."""
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "blocks": orjson.dumps([[b.start, b.end, b.kind, b.level] for b in segment.blocks]),
        "locators": orjson.dumps([[x.start, x.end, x.place.to_json()] for x in segment.locators]),
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


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A passage that may be seen, as its row: no text is read yet."""

    row: Any

    @property
    def source_id(self) -> str:
        """Whose passage it is."""
        return str(self.row["source_id"])


class Reading:
    """What is stored of documents."""

    def __init__(self, database: Database) -> None:
        self._db = database

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
        t = document_segments
        found: list[str] = []
        async with self._db.read() as c:
            for document_id, start, end in ranges:
                query = sa.select(t.c.start, t.c.text).where(t.c.document_id == document_id, t.c.end > start)
                rows = (await c.execute(query.where(t.c.start < end).order_by(t.c.start))).all()
                found.append("".join(text[max(start - at, 0) : end - at] for at, text in rows))
        return found

    async def places(self, document_id: str, start: int, end: int) -> list[Place]:
        """Where `[start, end)` stands in the original."""
        return (await self.places_of([(document_id, start, end)]))[0]

    async def places_of(self, ranges: Sequence[tuple[str, int, int]]) -> list[list[Place]]:
        """The same of each (document, start, end)."""
        t = document_segments
        placed: list[list[Place]] = []
        async with self._db.read() as c:
            for document_id, start, end in ranges:
                met = sa.and_(t.c.document_id == document_id, t.c.end > start, t.c.start < end)
                query = sa.select(t.c.locators).where(met).order_by(t.c.start)
                found = (await c.execute(query)).scalars().all()
                placed.append(_places([orjson.loads(locators) for locators in found], start, end))
        return placed

    async def document(self, document_id: str) -> Mapping[str, Any]:
        """Length, metadata, warnings and parser. Raises `NotFound`."""
        async with self._db.read() as c:
            row = (await c.execute(sa.select(documents).where(documents.c.id == document_id))).mappings().first()
        if row is None:
            raise NotFound(f"There is no document {document_id}.")
        return dict(row)

    async def confirmed(self, ids: Iterable[str], scope: Scope) -> dict[str, Confirmed]:
        """Those of these ids that the scope may see now: this check, not the index, decides what is found.

        Notebook, pinned index spec, `ready` and not deleted are all asked of SQL.
        """
        async with self._db.read() as c:
            return {row["id"]: Confirmed(row) for row in await self._visible(c, ids, scope)}

    async def matching(
        self, found: Mapping[str, Confirmed], where: Filter, keys: Mapping[str, FieldType]
    ) -> dict[str, Confirmed]:
        """Those whose source matches now. An index may be behind an edit of tags or metadata; SQL is not."""
        pairs = {(one.source_id, one.row["document_id"]) for one in found.values()}
        columns = [sources.c[name] for name in ("id", "tags", "name", "media_type", "metadata", "created_at")]
        query = sa.select(*columns, documents.c.metadata.label("document")).join(
            documents, documents.c.source_id == sources.c.id
        )
        good: set[str] = set()
        async with self._db.read() as c:
            for some in _batches([document_id for _, document_id in pairs]):
                for row in (await c.execute(query.where(documents.c.id.in_(some)))).mappings():
                    if matches(where, row["id"], source_fields(keys, dict(row), row["document"] or {})):
                        good.add(row["id"])
        return {i: one for i, one in found.items() if one.source_id in good}

    async def filled(self, found: Iterable[Confirmed]) -> dict[str, Passage]:
        """What was confirmed, with text and places, but for what was removed since.

        This costs more than to confirm, so it is for what is shown.
        """
        async with self._db.read() as c:
            return {p.id: p for p in await self._filled(c, [one.row for one in found])}

    async def passages(self, ids: Iterable[str], scope: Scope) -> dict[str, Passage]:
        """Both: the passages of these ids that the scope may see now."""
        async with self._db.read() as c:
            return {p.id: p for p in await self._filled(c, await self._visible(c, ids, scope))}

    async def _visible(self, c: AsyncConnection, ids: Iterable[str], scope: Scope) -> list[Any]:
        allowed = [(n.notebook_id, n.index_spec_id) for n in scope.notebooks]
        rows: list[Any] = []
        for some in _batches(list(dict.fromkeys(ids))):
            rows.extend((await c.execute(_NAMED, {"ids": some, "allowed": allowed})).mappings())
        return rows

    async def notebook_of(self, passage_id: str) -> str | None:
        """The notebook that a passage lies in, whoever asks: a scope of it decides whether they may see it."""
        query = _passages().with_only_columns(sources.c.notebook_id).where(passages.c.id == passage_id)
        async with self._db.read() as c:
            return (await c.execute(query)).scalar()

    async def passages_of(
        self, generation_id: str, limit: int, after: int = -1, *, deleted: bool = False
    ) -> list[Passage]:
        """A generation's passages in order, after an ordinal; those of a `deleted` source are for its removal alone."""
        query = _passages(ready=False, alive=not deleted)
        query = query.where(passages.c.generation_id == generation_id, passages.c.ordinal > after)
        async with self._db.read() as c:
            rows = list((await c.execute(query.order_by(passages.c.ordinal).limit(limit))).mappings())
            return await self._filled(c, rows)

    async def _filled(self, c: AsyncConnection, rows: Sequence[Any]) -> list[Passage]:
        """With text and places: the database cuts the text, so that no more of a document is read than is shown."""
        pieces: dict[str, list[tuple[SegmentKey, str]]] = {}
        for some in _batches([row["id"] for row in rows]):
            for passage_id, document_id, start, text in (await c.execute(_TEXTS, {"ids": some})).all():
                pieces.setdefault(passage_id, []).append(((document_id, start), text))
        locators = await self._locators(c, {key: None for found in pieces.values() for key, _ in found})
        filled = []
        for row in rows:
            if not (found := pieces.get(row["id"])):
                continue
            places = _places([locators[key] for key, _ in found], row["start"], row["end"])
            filled.append(_passage(row, "".join(text for _, text in found), tuple(places)))
        return filled

    async def _locators(self, c: AsyncConnection, keys: Iterable[SegmentKey]) -> dict[SegmentKey, list[Any]]:
        """Each segment's locators as they are stored: most of them are never looked at."""
        found: dict[SegmentKey, list[Any]] = {}
        for some in _batches(list(keys)):
            for document_id, start, locators in (await c.execute(_LOCATORS, {"keys": some})).all():
                found[document_id, start] = orjson.loads(locators)
        return found


def _batches(items: list[T]) -> Iterator[list[T]]:
    return (items[i : i + 500] for i in range(0, len(items), 500))


def _places(segments: Sequence[Sequence[Any]], start: int, end: int) -> list[Place]:
    """Of the stored locators of neighbouring segments, the places that meet `[start, end)`."""
    found: list[Any] = []
    for locators in segments:
        first = bisect_right(locators, start, key=lambda x: x[1])
        last = bisect_left(locators, end, lo=first, key=lambda x: x[0])
        cut = bool(found and locators[first:last] and found[-1][1:] == [locators[first][0], locators[first][2]])
        found.extend(locators[first + cut : last])
    return [Place.from_json(place) for _, _, place in found]


def _passages(*, ready: bool = True, alive: bool = True) -> sa.Select[Any]:
    query = (
        sa.select(
            passages, generations.c.document_id, sources.c.notebook_id, sources.c.id.label("source_id"), sources.c.name
        )
        .join(generations, generations.c.id == passages.c.generation_id)
        .join(sources, sources.c.id == generations.c.source_id)
        .join(notebooks, notebooks.c.id == sources.c.notebook_id)
    )
    if alive:
        query = query.where(sources.c.deleted_at.is_(None), notebooks.c.deleted_at.is_(None))
    return query.where(generations.c.state == "ready") if ready else query


def _passage(row: Any, text: str, places: tuple[Place, ...]) -> Passage:
    parent = (row["parent_start"], row["parent_end"]) if row["parent_start"] is not None else None
    return Passage(
        id=row["id"],
        source_id=row["source_id"],
        notebook_id=row["notebook_id"],
        document_id=row["document_id"],
        generation_id=row["generation_id"],
        ordinal=row["ordinal"],
        start=row["start"],
        end=row["end"],
        text=text,
        context=row["context"],
        parent=parent,
        title=row["name"],
        places=places,
    )


def _texts() -> sa.Select[Any]:
    """The text of the passages `ids`, in one piece for each segment that they meet, in order."""
    p, t = passages.c, document_segments.c
    start = sa.case((p.start > t.start, p.start), else_=t.start)
    end = sa.case((p.end < t.end, p.end), else_=t.end)
    # The second bound on the start lets the database begin to look near the passage.
    met = sa.and_(t.document_id == generations.c.document_id, t.end > p.start, t.start < p.end)
    met = sa.and_(met, t.start > p.start - SEGMENT)
    return (
        sa.select(p.id, t.document_id, t.start, sa.func.substr(t.text, start - t.start + 1, end - start))
        .select_from(passages.join(generations).join(document_segments, met))
        .where(p.id.in_(sa.bindparam("ids", expanding=True)))
        .order_by(t.start)
    )


def _locators() -> sa.Select[Any]:
    """The locators of the segments `keys`."""
    t = document_segments.c
    keys: sa.BindParameter[Any] = sa.bindparam("keys", expanding=True)
    return sa.select(t.document_id, t.start, t.locators).where(sa.tuple_(t.document_id, t.start).in_(keys))


# Built once: to build them takes about as long as to run them.
_NAMED = _passages().where(
    passages.c.id.in_(sa.bindparam("ids", expanding=True)),
    sa.tuple_(sources.c.notebook_id, generations.c.index_spec_id).in_(sa.bindparam("allowed", expanding=True)),
)
_TEXTS, _LOCATORS = _texts(), _locators()

"""Reads stored documents: ranges of text, where they stand in the original, and the passages cut from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import Block, Locator, Passage, Place, Segment, join_segments, places_in
from sourcebook.errors import NotFound
from sourcebook.interfaces import Scope

Range = tuple[int, int]


def encode_segment(segment: Segment) -> dict[str, Any]:
    """A row of `document_segments` without its document."""
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "blocks": orjson.dumps([[b.start, b.end, b.kind, b.level] for b in segment.blocks]),
        "locators": orjson.dumps([[x.start, x.end, x.place.to_json()] for x in segment.locators]),
    }


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
        t = document_segments
        query = (
            sa.select(t.c.start, t.c.text)
            .where(t.c.document_id == document_id, t.c.end > start, t.c.start < end)
            .order_by(t.c.start)
        )
        async with self._db.read() as c:
            rows = (await c.execute(query)).all()
        return "".join(text[max(start - at, 0) : end - at] for at, text in rows)

    async def places(self, document_id: str, start: int, end: int) -> list[Place]:
        """Where `[start, end)` stands in the original."""
        return places_in(join_segments(await self.segments(document_id, start, end)).locators, start, end)

    async def slices(self, document_id: str, ranges: Sequence[Range]) -> list[tuple[str, tuple[Place, ...]]]:
        """Text and places of several ranges, with one query for the span they lie in."""
        if not ranges:
            return []
        low, high = min(start for start, _ in ranges), max(end for _, end in ranges)
        found = await self.segments(document_id, low, high)
        base = found[0].start if found else 0
        whole = join_segments(found)
        return [
            (whole.text[start - base : end - base], tuple(places_in(whole.locators, start, end)))
            for start, end in ranges
        ]

    async def document(self, document_id: str) -> Mapping[str, Any]:
        """Length, metadata, warnings and parser. Raises `NotFound`."""
        async with self._db.read() as c:
            row = (await c.execute(sa.select(documents).where(documents.c.id == document_id))).mappings().first()
        if row is None:
            raise NotFound(f"There is no document {document_id}.")
        return dict(row)

    async def passages(self, ids: Iterable[str], scope: Scope) -> dict[str, Passage]:
        """The passages of these ids that the scope may see now: this check, not the index, decides what is found.

        Notebook, pinned index spec, `ready` and not deleted are all asked of SQL. Text and places are filled in.
        """
        allowed = sa.or_(
            sa.false(),
            *(
                sa.and_(sources.c.notebook_id == n.notebook_id, generations.c.index_spec_id == n.index_spec_id)
                for n in scope.notebooks
            ),
        )
        wanted = list(dict.fromkeys(ids))
        rows: list[Any] = []
        async with self._db.read() as c:
            for first in range(0, len(wanted), 500):
                query = _passages().where(passages.c.id.in_(wanted[first : first + 500]), allowed)
                rows.extend((await c.execute(query)).mappings())
        return {p.id: p for p in await self._filled(rows)}

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
        return await self._filled(rows)

    async def _filled(self, rows: Sequence[Any]) -> list[Passage]:
        by_document: dict[str, list[Any]] = {}
        for row in rows:
            by_document.setdefault(row["document_id"], []).append(row)
        found: dict[str, Passage] = {}
        for document_id, mine in by_document.items():
            # Far-apart passages of one long document are read apart: a span would drag all between along.
            for group in _near(sorted(mine, key=lambda r: r["start"])):
                slices = await self.slices(document_id, [(r["start"], r["end"]) for r in group])
                for row, (text, places) in zip(group, slices, strict=True):
                    found[row["id"]] = _passage(row, text, places)
        return [found[row["id"]] for row in rows]


def _near(rows: list[Any], gap: int = 200_000) -> list[list[Any]]:
    groups: list[list[Any]] = []
    for row in rows:
        if groups and row["start"] - groups[-1][-1]["end"] < gap:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


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

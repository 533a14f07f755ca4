"""Passages as SQL knows them now: which of an index's hits may be seen, and their texts and places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database
from sourcebook.database.lists import one_of
from sourcebook.database.prepared import Prepared
from sourcebook.database.sqlite import Glance
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import LONGEST_SEGMENT, Passage, Place
from sourcebook.filters import FieldType, Filter, matches, source_fields
from sourcebook.interfaces import Scope
from sourcebook.placed import rows_meeting


class Confirmed(NamedTuple):
    """A passage that may be seen, and whose it is. No text is read yet."""

    id: str
    notebook_id: str
    source_id: str
    document_id: str


class View:
    """Passages in one snapshot of the database: what is confirmed is still there when it is filled."""

    def __init__(self, connection: AsyncConnection | Glance, statements: Statements) -> None:
        self._c = connection
        self._statements = statements

    async def confirmed(self, ids: Iterable[str], scope: Scope) -> dict[str, Confirmed]:
        """Those of these ids that the scope may see now: this check, not the index, decides what is found.

        `ready` and not deleted are asked of SQL, and its notebook and index spec must be the scope's.
        """
        allowed = {(n.notebook_id, n.index_spec_id) for n in scope.notebooks}
        rows = await self._statements.named.rows(self._c, {"ids": list(dict.fromkeys(ids))})
        return {row[1]: Confirmed(*row[1:]) for row in rows if (row[2], row[0]) in allowed}

    async def matching(
        self, found: Mapping[str, Confirmed], where: Filter, keys: Mapping[str, FieldType]
    ) -> dict[str, Confirmed]:
        """Those whose source matches now. An index may be behind an edit of tags or metadata; SQL is not."""
        wanted = list({one.document_id for one in found.values()})
        good: set[str] = set()
        for row in await self._statements.fields.rows(self._c, {"ids": wanted}):
            if matches(where, row.id, source_fields(keys, row._asdict(), row.document or {})):
                good.add(row.id)
        return {i: one for i, one in found.items() if one.source_id in good}

    async def filled(self, ids: Sequence[str], *, placed: bool = True) -> dict[str, Passage]:
        """With text and, unless not `placed`, places, in order. The database cuts the text: no more is read than shown.

        This costs more than to confirm, and asks nothing of who may see it: it is for what was confirmed.
        """
        pieces: dict[str, list[Any]] = {}
        for row in await self._statements.texts.rows(self._c, {"ids": ids}):
            pieces.setdefault(row.id, []).append(row)
        locators: dict[tuple[str, int], bytes] = {}
        if placed:
            for document_id, start, stored in await self._statements.locators.rows(self._c, {"ids": ids}):
                locators[document_id, start] = stored
        filled = {}
        for passage_id in ids:
            if there := pieces.get(passage_id):
                row, near = there[0], [locators.get((piece.document_id, piece.at), b"") for piece in there]
                places = places_within(near, row.start, row.end)
                filled[passage_id] = _passage(row, "".join(piece.text for piece in there), tuple(places))
        return filled


def places_within(segments: Sequence[bytes], start: int, end: int) -> list[Place]:
    """Of the stored locators of neighbouring segments, the places that meet `[start, end)`."""
    found: list[Any] = []
    for stored in segments:
        rows = rows_meeting(stored, start, end)
        cut = bool(found and rows and found[-1][1:] == [rows[0][0], rows[0][2]])
        found.extend(rows[cut:])
    return [Place.from_json(place) for _, _, place in found]


def passages_seen(*columns: sa.ColumnElement[Any]) -> sa.Select[*tuple[Any, ...]]:
    """Of the passages of ready generations, where neither the source nor the notebook is deleted."""
    seen = sa.select(*columns).select_from(passages.join(generations).join(sources).join(notebooks))
    alive = sa.and_(sources.c.deleted_at.is_(None), notebooks.c.deleted_at.is_(None))
    return seen.where(alive, generations.c.state == "ready")


def _passage(row: Any, text: str, places: tuple[Place, ...]) -> Passage:
    parent = (row.parent_start, row.parent_end) if row.parent_start is not None else None
    return Passage(
        id=row.id,
        source_id=row.source_id,
        notebook_id=row.notebook_id,
        document_id=row.document_id,
        generation_id=row.generation_id,
        ordinal=row.ordinal,
        start=row.start,
        end=row.end,
        text=text,
        context=row.context,
        parent=parent,
        title=row.name,
        places=places,
    )


class Statements:
    """What is asked of a database, built once: to build them takes about as long as to run them."""

    def __init__(self, database: Database) -> None:
        p, t = passages.c, document_segments.c
        whose = (sources.c.notebook_id, sources.c.id, generations.c.document_id)
        named = passages_seen(generations.c.index_spec_id, p.id, *whose).where(one_of(p.id, "ids", database))
        self.named = Prepared(named)
        columns = [sources.c[name] for name in ("id", "tags", "name", "media_type", "metadata", "created_at")]
        self.fields = Prepared(
            sa.select(*columns, documents.c.metadata.label("document"))
            .join(documents, documents.c.source_id == sources.c.id)
            .where(one_of(documents.c.id, "ids", database))
        )
        start = sa.case((p.start > t.start, p.start), else_=t.start)
        end = sa.case((p.end < t.end, p.end), else_=t.end)
        # The second bound on the start lets the database begin to look near the passage.
        met = sa.and_(t.document_id == generations.c.document_id, t.end > p.start, t.start < p.end)
        met = sa.and_(met, t.start > p.start - LONGEST_SEGMENT)
        joined = passages.join(generations).join(sources).join(document_segments, met)
        asked = one_of(p.id, "ids", database)
        text = sa.func.substr(t.text, start - t.start + 1, end - start)
        told = (sources.c.notebook_id, generations.c.source_id, sources.c.name, t.document_id)
        found = sa.select(passages, *told, t.start.label("at"), text.label("text")).select_from(joined)
        # The text of the passages, in one piece for each segment that they meet, in order; then those locators.
        self.texts = Prepared(found.where(asked).order_by(t.start))
        keys = sa.select(t.document_id, t.start).select_from(joined).where(asked)
        u = document_segments.alias()
        those = sa.tuple_(u.c.document_id, u.c.start).in_(keys)
        self.locators = Prepared(sa.select(u.c.document_id, u.c.start, u.c.locators).where(those))

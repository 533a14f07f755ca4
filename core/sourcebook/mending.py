"""How what doctor finds is mended: by doing again what jobs do, from what is still whole."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.database.tables import citations, documents, generations, jobs, notebooks, passages, sources
from sourcebook.interfaces import Index, Point, PointRef, Scope, ScopedNotebook
from sourcebook.jobs import ACTIVE
from sourcebook.rebuilding import reindex_again

_SOME = 200
_POLL = 0.05  # seconds
LOST = {"code": "blob_missing", "title": "The stored file is missing"}
"""The problem of a source whose bytes are gone: its text answers all the same."""


class Mending:
    """Over one open Sourcebook. What queues work waits until it is done: there must be workers somewhere."""

    def __init__(self, book: Sourcebook) -> None:
        self._book = book
        self._db = book.database

    async def index_again(self, ids: Collection[str]) -> int:
        """Index generations again from their rows; how many."""
        async with self._db.write() as c:
            done = await reindex_again(c, self._db, self._book.jobs, sorted(ids))
        await self._until_done(list(ids))
        return done

    async def start_over(self, ids: Collection[str]) -> int:
        """Read the source again, from its bytes: what was stored of it is replaced."""
        async with self._db.write() as c:
            for generation_id in ids:
                of = generations.c.id == generation_id
                row = (await c.execute(sa.select(generations).where(of))).mappings().one()
                await c.execute(passages.delete().where(passages.c.generation_id == generation_id))
                fresh = {"state": "queued", "problem": None, "document_id": None, "ready_at": None}
                await c.execute(generations.update().where(of).values(**fresh))
                if row["document_id"]:
                    bad = documents.c.id == row["document_id"]
                    await c.execute(documents.update().where(bad).values(complete=False))
                    of_it = citations.c.document_id == row["document_id"]  # their quotes stay
                    await c.execute(citations.update().where(of_it).values(document_id=None))
                again = {"state": "queued", "checkpoint": {}, "attempt": 0, "failures": 0, "problem": None}
                values = {**again, "cancel": False, "worker": None, "run_at": self._db.clock()}
                mine = sa.and_(jobs.c.generation_id == generation_id, jobs.c.kind == "ingest")
                if (await c.execute(jobs.update().where(mine).values(**values))).rowcount == 0:
                    await self._add_job(c, generation_id)
        await self._until_done(list(ids))
        return len(ids)

    async def _add_job(self, c: Any, generation_id: str) -> None:
        query = (
            sa.select(notebooks.c.owner_id, notebooks.c.id.label("notebook_id"), sources.c.id.label("source_id"))
            .join(sources, sources.c.notebook_id == notebooks.c.id)
            .join(generations, generations.c.source_id == sources.c.id)
            .where(generations.c.id == generation_id)
        )
        row = dict((await c.execute(query)).mappings().one())
        await self._book.jobs.add(c, "ingest", row.pop("owner_id"), generation_id=generation_id, **row)

    async def until_deleted(self, ids: Collection[str]) -> None:
        """Wait for the deletion of these sources."""
        working = sa.and_(jobs.c.kind == "delete", jobs.c.source_id.in_(ids), jobs.c.state.in_(ACTIVE))
        await self._until_none(working)

    async def mark_lost(self, bad: dict[str, str]) -> None:
        """The text that was read stays, and answers; the source says what is wrong, and takes its bytes again."""
        async with self._db.write() as c:
            for source_id, why in bad.items():
                problem = {**LOST, "detail": f"The original is damaged: {why}.", "remedy": "Upload the file again."}
                newest = sa.select(sa.func.max(generations.c.id)).where(generations.c.source_id == source_id)
                of = generations.c.id == newest.scalar_subquery()
                await c.execute(generations.update().where(of).values(problem=problem))

    async def remove_points(self, index: Index[Any], refs: list[PointRef]) -> None:
        """Whoever's they are: each is replaced by a stand-in of ours, by its id, and the stand-ins are deleted."""
        scope = Scope((ScopedNotebook("nb_doctor", "own_doctor", "spec_doctor"),))
        for first in range(0, len(refs), _SOME):
            some = refs[first : first + _SOME]
            ours = ("own_doctor", "nb_doctor", "spec_doctor", "src_doctor", "gen_doctor")
            await index.upsert(scope, [Point(ref.id, *ours, text="orphan") for ref in some], None)
            await index.delete(scope, "src_doctor")

    async def retire(self, generation_id: str, source_id: str) -> None:
        """Remove a generation: its points, passages and row."""
        of = (
            sa.select(notebooks.c.id, notebooks.c.owner_id, generations.c.index_spec_id)
            .join(sources, sources.c.notebook_id == notebooks.c.id)
            .join(generations, generations.c.source_id == sources.c.id)
            .where(generations.c.id == generation_id)
        )
        scope = Scope(tuple(ScopedNotebook(*row) for row in await self._rows(of)))
        for index in self._book.pipelines.indexes:
            await index.delete(scope, source_id, generation_id)
        async with self._db.write() as c:
            await c.execute(passages.delete().where(passages.c.generation_id == generation_id))
            await c.execute(jobs.update().where(jobs.c.generation_id == generation_id).values(generation_id=None))
            await c.execute(generations.delete().where(generations.c.id == generation_id))

    async def _until_done(self, ids: list[str]) -> None:
        for first in range(0, len(ids), _SOME):
            mine = sa.and_(jobs.c.generation_id.in_(ids[first : first + _SOME]), jobs.c.state.in_(ACTIVE))
            await self._until_none(mine)

    async def _until_none(self, which: sa.ColumnElement[bool]) -> None:
        while await self._rows(sa.select(jobs.c.id).where(which).limit(1)):  # noqa: ASYNC110 - maybe another process works
            await asyncio.sleep(_POLL)

    async def _rows(self, query: sa.Select[Any]) -> list[Any]:
        async with self._db.read() as c:
            return list((await c.execute(query)).all())

"""Reading a source again: a new generation beside the one that serves, the switch, and the old one's end.

At any time at most one generation of a source under one index spec is `ready`; it serves until another is. The switch
is one transaction, and what it replaces is `superseded`: invisible at once, removed by a `retire` job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import citations, documents, generations, jobs, notebooks, passages, sources
from sourcebook.embeddings import Embeddings
from sourcebook.errors import SourcebookError
from sourcebook.ids import new_id
from sourcebook.indexing import remove_points
from sourcebook.interfaces import Blob, BlobStore, Scope, ScopedNotebook
from sourcebook.jobs import Job, Jobs
from sourcebook.pipelines import Pipelines
from sourcebook.reading import Reading

SUPERSEDED = "superseded"
KEPT = 3600.0
"""Seconds that a superseded document is kept: an answer that is being made may still come to cite it."""

_ROWS = 500


class Generations:
    """Begins, switches and supersedes generations, within the caller's transaction."""

    def __init__(self, queue: Jobs) -> None:
        self._jobs = queue

    async def begin(
        self,
        c: AsyncConnection,
        source: Mapping[str, Any],
        owner_id: str,
        spec_id: str,
        *,
        blob: Blob | None = None,
        content: Mapping[str, Any] | None = None,
        held: bool = False,
        first: bool = False,
    ) -> tuple[str, str]:
        """A new generation of `source` (a row) under an index spec, and its job: their ids.

        `blob` and `content` (media_type, url, metadata) are new bytes, which become the source's at the switch. What
        was begun earlier and is not ready is superseded. `held`: only this process may do the job. `first`: of a source
        that is being made, so that there is nothing earlier.
        """
        if not first:
            earlier = sa.select(generations.c.id).where(
                generations.c.source_id == source["id"],
                generations.c.index_spec_id == spec_id,
                generations.c.state.not_in(("ready", SUPERSEDED)),
            )
            await self.supersede(c, (await c.execute(earlier)).scalars().all())
        generation_id = new_id("gen")
        row: dict[str, Any] = {"id": generation_id, "source_id": source["id"], "index_spec_id": spec_id}
        row |= {"state": "queued", "created_at": now()}
        if blob is not None:
            row["blob_key"] = blob.key
            row["content"] = {**(content or {}), "sha256": blob.sha256, "size": blob.size}
        await c.execute(_BEGIN, row)
        of = {"notebook_id": source["notebook_id"], "source_id": source["id"], "generation_id": generation_id}
        job_id = await self._jobs.add(c, "ingest", owner_id, **of, **(self._jobs.kept() if held else {}))
        return generation_id, job_id

    async def ready(self, c: AsyncConnection, ids: Sequence[str]) -> None:
        """These generations are ready: they serve from now on, and those before them are superseded.

        One that a later one has overtaken is superseded itself.
        """
        rows = (await c.execute(_READY, {"of": list(ids), "at": now()})).mappings().all()
        serving: dict[tuple[str, str], set[str]] = {}
        for other in (await c.execute(_SERVING, {"of": [row["source_id"] for row in rows]})).all():
            serving.setdefault((other.source_id, other.index_spec_id), set()).add(other.id)
        for row in rows:
            beside = serving[row["source_id"], row["index_spec_id"]] - {row["id"]}
            if any(other > row["id"] for other in beside):
                serving[row["source_id"], row["index_spec_id"]] = beside
                await self.supersede(c, [row["id"]])
                continue
            serving[row["source_id"], row["index_spec_id"]] = {row["id"]}
            blob_key = await self._take_bytes(c, dict(row)) if row["blob_key"] else None
            await self.supersede(c, sorted(beside), blob_key)
            if blob_key is not None and not beside:  # of what failed: there is no generation to take them along
                await self._drop_bytes(c, row["source_id"], blob_key)

    async def _take_bytes(self, c: AsyncConnection, row: Mapping[str, Any]) -> str:
        """The generation's bytes become the source's; returns the key of those that it had."""
        of = sources.c.id == row["source_id"]
        source = (await c.execute(sa.select(sources).where(of))).mappings().one()
        content = dict(row["content"] or {})
        values: dict[str, Any] = {"blob_key": row["blob_key"], "updated_at": now(), "version": source["version"] + 1}
        values |= {name: content[name] for name in ("sha256", "size", "media_type", "url") if content.get(name)}
        if content.get("metadata"):
            values["metadata"] = {**source["metadata"], **content["metadata"]}
        await c.execute(sources.update().where(of).values(**values))
        await c.execute(generations.update().where(generations.c.id == row["id"]).values(blob_key=None))
        return str(source["blob_key"])

    async def _drop_bytes(self, c: AsyncConnection, source_id: str, blob_key: str) -> None:
        query = sa.select(sources.c.notebook_id, notebooks.c.owner_id).join(notebooks).where(sources.c.id == source_id)
        notebook_id, owner_id = (await c.execute(query)).one()
        payload = {"generation_id": "", "blob_key": blob_key}
        await self._jobs.add(c, "retire", owner_id, notebook_id=notebook_id, source_id=source_id, payload=payload)

    async def supersede(
        self, c: AsyncConnection, ids: Sequence[str], blob_key: str | None = None, *, forget: bool = True
    ) -> None:
        """Invisible now, stopped where it is being made, and removed by a job; so is the blob `blob_key`.

        `forget` drops the cached vectors of its texts, which must not be where another generation has the same texts.
        """
        if not ids:
            return
        query = (
            sa.select(generations.c.id, generations.c.source_id, sources.c.notebook_id, notebooks.c.owner_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .where(generations.c.id.in_(ids))
            .order_by(generations.c.id)
        )
        for generation_id, source_id, notebook_id, owner_id in (await c.execute(query)).all():
            mine = sa.and_(jobs.c.generation_id == generation_id, jobs.c.kind == "ingest")
            stopped = {"state": "cancelled", "updated_at": now()}
            await c.execute(jobs.update().where(mine, jobs.c.state == "queued").values(**stopped))
            await c.execute(jobs.update().where(mine, jobs.c.state == "leased").values(cancel=True))
            await c.execute(generations.update().where(generations.c.id == generation_id).values(state=SUPERSEDED))
            # The id stands in the payload: the row that it names goes away before the job does.
            payload = {"generation_id": generation_id, "blob_key": blob_key, "forget": forget}
            await self._jobs.add(c, "retire", owner_id, notebook_id=notebook_id, source_id=source_id, payload=payload)
            blob_key = None


# Built once: to build them takes longer than to run them.
_BEGIN = generations.insert()
_READY = (
    generations.update()
    .where(generations.c.id.in_(sa.bindparam("of", expanding=True)))
    .values(state="ready", ready_at=sa.bindparam("at"), problem=None)
    .returning(generations)
)
_SERVING = sa.select(generations.c.id, generations.c.source_id, generations.c.index_spec_id).where(
    generations.c.source_id.in_(sa.bindparam("of", expanding=True)), generations.c.state == "ready"
)


class Retiring:
    """Does `retire` jobs: a superseded generation's points, passages and, where nothing cites it, its document."""

    def __init__(self, database: Database, queue: Jobs, pipelines: Pipelines, blobs: BlobStore[Any]) -> None:
        self._db = database
        self._jobs = queue
        self._pipelines = pipelines
        self._blobs = blobs
        self._reading = Reading(database)
        self._embeddings = Embeddings(database)

    async def retire(self, job: Job) -> None:
        """Every step may be repeated. Nothing to remove is success."""
        generation_id = str(job.payload["generation_id"])
        if await self._jobs.ingesting(jobs.c.generation_id == generation_id):
            async with self._db.write() as c:
                await self._jobs.postpone(c, job, 0.2)
            return
        row = await self._row(generation_id)
        if row is not None:
            await self._points(generation_id, row)
            job = await self._passages(job, generation_id, row["owner_id"])
            job = await self._generation(job, generation_id, row["document_id"])
            await self._drop_blob(row["blob_key"])
        for key in (job.payload.get("blob_key"), *job.payload.get("blob_keys", ())):
            await self._drop_blob(key)
        async with self._db.write() as c:
            document_id = job.checkpoint.get("document_id")
            if document_id is not None and not await self._forget_document(c, str(document_id)):
                await self._jobs.postpone(c, job, KEPT / 4)
                return
            await self._jobs.finish(c, job)

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """Tried again, later and later, as a deletion is."""
        await self._jobs.try_on(job, error)

    async def _row(self, generation_id: str) -> Mapping[str, Any] | None:
        query = (
            sa.select(generations, sources.c.notebook_id, notebooks.c.owner_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .where(generations.c.id == generation_id, generations.c.state == SUPERSEDED)
        )
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        return dict(row) if row is not None else None

    async def _points(self, generation_id: str, row: Mapping[str, Any]) -> None:
        scope = Scope((ScopedNotebook(row["notebook_id"], row["owner_id"], row["index_spec_id"]),))
        await remove_points(self._pipelines.indexes, scope, row["source_id"], generation_id)

    async def _passages(self, job: Job, generation_id: str, owner_id: str) -> Job:
        """In small transactions, with the cached vectors of their texts."""
        while batch := await self._reading.passages_of(generation_id, _ROWS, deleted=True, placed=False):
            ids = [p.id for p in batch]
            async with self._db.write() as c:
                job = await self._jobs.save(c, job, job.checkpoint)
                if job.payload.get("forget", True):
                    await self._embeddings.forget(c, owner_id, [p.indexed for p in batch])
                await c.execute(citations.update().where(citations.c.passage_id.in_(ids)).values(passage_id=None))
                await c.execute(passages.delete().where(passages.c.id.in_(ids)))
        return job

    async def _generation(self, job: Job, generation_id: str, document_id: str | None) -> Job:
        async with self._db.write() as c:
            job = await self._jobs.save(c, job, {**job.checkpoint, "document_id": document_id})
            await c.execute(passages.delete().where(passages.c.generation_id == generation_id))
            await c.execute(jobs.update().where(jobs.c.generation_id == generation_id).values(generation_id=None))
            await c.execute(generations.delete().where(generations.c.id == generation_id))
        return job

    async def _forget_document(self, c: AsyncConnection, document_id: str) -> bool:
        """Remove a document that nothing refers to. False: it is too early to say."""
        used = sa.select(generations.c.id).where(generations.c.document_id == document_id)
        cited = sa.select(citations.c.id).where(citations.c.document_id == document_id)
        for query in (used, cited):
            if (await c.execute(query.limit(1))).first() is not None:
                return True
        made = sa.select(sa.func.max(generations.c.ready_at)).join(
            documents, documents.c.source_id == generations.c.source_id
        )
        since = (await c.execute(made.where(documents.c.id == document_id))).scalar()
        if since is not None and now() - since < timedelta(seconds=KEPT):
            return False
        await c.execute(documents.delete().where(documents.c.id == document_id))
        return True

    async def _drop_blob(self, key: str | None) -> None:
        if key is None:
            return
        async with self._db.read() as c:
            kept = (await c.execute(sa.select(sources.c.id).where(sources.c.blob_key == key))).first()
        if kept is None:
            await self._blobs.delete(key)

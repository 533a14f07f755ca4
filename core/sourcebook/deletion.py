"""The end of a source, a notebook, an owner: points, passages, text, bytes, each counted before the job is called done.

What is deleted is invisible at once. A notebook's job waits for those of its sources, and an owner's for all of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import (
    citations,
    conversations,
    deletions,
    documents,
    embedding_cache,
    generations,
    grants,
    idempotency_keys,
    index_specs,
    jobs,
    keys,
    messages,
    note_citations,
    notebooks,
    notes,
    owners,
    passages,
    run_segments,
    runs,
    sources,
)
from sourcebook.embeddings import Embeddings
from sourcebook.errors import BlobMissing, SourcebookError, StoreError
from sourcebook.failpoints import failpoint
from sourcebook.indexing import check_emptied, remove_points
from sourcebook.interfaces import BlobStore, Scope, ScopedNotebook
from sourcebook.jobs import ACTIVE, Job, Jobs
from sourcebook.pipelines import Pipelines
from sourcebook.reading import Reading

_ROWS = 500


class Deletion:
    """Does `delete` jobs. Every step may be repeated."""

    def __init__(self, database: Database, queue: Jobs, pipelines: Pipelines, blobs: BlobStore[Any]) -> None:
        self._db = database
        self._jobs = queue
        self._pipelines = pipelines
        self._blobs = blobs
        self._reading = Reading(database)
        self._embeddings = Embeddings(database)

    async def delete(self, job: Job) -> None:
        """Remove what is left of something tombstoned, after the last worker that could still write has stopped."""
        if await (
            self._jobs.ingesting(jobs.c.source_id == job.source_id) if job.source_id else self._still_deleted(job)
        ):
            async with self._db.write() as c:
                await self._jobs.postpone(c, job, 0.2)
            return
        if job.source_id:
            report = await self._source(job)
        elif job.notebook_id:
            report = await self._notebook(job)
        else:
            report = await self._owner(job)
        async with self._db.write() as c:
            await self._jobs.finish(c, job)
            of = deletions.c.id == job.payload["deletion_id"]
            await c.execute(deletions.update().where(of).values(report=report, finished_at=now()))

    async def _source(self, job: Job) -> dict[str, int]:
        source_id = str(job.source_id)
        report = {"points": await self._points(source_id)}
        await failpoint("delete.points")
        await self._vectors(job)
        report["passages"] = await self._batched(job, self._passage_batch)
        await failpoint("delete.passages")
        for key in await self._new_bytes(source_id):  # before the rows that name them
            await self._blobs.delete(key)
        await self._rows(job)
        async with self._db.read() as c:
            key = (await c.execute(sa.select(sources.c.blob_key).where(sources.c.id == source_id))).scalar_one()
        await failpoint("delete.rows")
        await self._blobs.delete(key)
        await failpoint("delete.blob")
        await self._check_blob(key)
        await self._check(generations.c.source_id == source_id, documents.c.source_id == source_id)
        return report

    async def _notebook(self, job: Job) -> dict[str, int]:
        """What its sources' own jobs have not: notes and grants. Then nothing of it may be left anywhere."""
        mine = sa.select(notes.c.id).where(notes.c.notebook_id == job.notebook_id)
        async with self._db.write() as c:
            await self._jobs.save(c, job)
            await c.execute(note_citations.delete().where(note_citations.c.note_id.in_(mine)))
            gone = (await c.execute(notes.delete().where(notes.c.notebook_id == job.notebook_id))).rowcount
            await c.execute(grants.delete().where(grants.c.notebook_id == job.notebook_id))
        of = sa.select(sources.c.id).where(sources.c.notebook_id == job.notebook_id)
        async with self._db.read() as c:
            count = (await c.execute(sa.select(sa.func.count()).select_from(of.subquery()))).scalar_one()
            specs = (await c.execute(sa.select(index_specs.c.id))).scalars().all()
        scope = Scope(tuple(ScopedNotebook(str(job.notebook_id), job.owner_id, spec) for spec in specs))
        await self._check_points(scope)
        await self._check(generations.c.source_id.in_(of), documents.c.source_id.in_(of))
        return {"sources": count, "notes": gone}

    async def _owner(self, job: Job) -> dict[str, int]:
        """After all their notebooks: conversations, keys, cached embeddings; the row stays, without a name."""
        mine = sa.select(conversations.c.id).where(conversations.c.owner_id == job.owner_id)
        report: dict[str, int] = {}
        async with self._db.write() as c:
            await self._jobs.save(c, job)
            said = sa.select(messages.c.id).where(messages.c.conversation_id.in_(mine))
            cited = sa.select(citations.c.id).where(citations.c.message_id.in_(said))
            await c.execute(note_citations.delete().where(note_citations.c.citation_id.in_(cited)))
            for table, of in (
                (citations, citations.c.message_id.in_(said)),
                (runs, runs.c.owner_id == job.owner_id),
                (messages, messages.c.conversation_id.in_(mine)),
                (conversations, conversations.c.owner_id == job.owner_id),
                (idempotency_keys, idempotency_keys.c.owner_id == job.owner_id),
                (grants, grants.c.owner_id == job.owner_id),
                (embedding_cache, embedding_cache.c.owner_id == job.owner_id),
                (keys, keys.c.owner_id == job.owner_id),
            ):
                report[table.name] = (await c.execute(table.delete().where(of))).rowcount
            await c.execute(owners.update().where(owners.c.id == job.owner_id).values(name=f"deleted {job.owner_id}"))
        return report

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """Deleting is never given up: whatever failed is tried again, later and later."""
        await self._jobs.try_on(job, error)

    async def _still_deleted(self, job: Job) -> bool:
        """Whether a deletion that this one waits for is not over: its sources', or all of its owner's."""
        of = (
            jobs.c.source_id.in_(sa.select(sources.c.id).where(sources.c.notebook_id == job.notebook_id))
            if job.notebook_id
            else jobs.c.owner_id == job.owner_id
        )
        query = sa.select(jobs.c.id).where(of, jobs.c.state.in_(ACTIVE), jobs.c.id != job.id)
        async with self._db.read() as c:
            return (await c.execute(query.limit(1))).first() is not None

    async def _check(self, *which: sa.ColumnElement[bool]) -> None:
        """Raise `StoreError` where a row is left that should be gone."""
        for of in which:
            async with self._db.read() as c:
                left = (await c.execute(sa.select(sa.func.count()).where(of))).scalar_one()
            if left:
                raise StoreError(f"{left} rows are left of what was deleted.", code="rows_left")

    async def _check_blob(self, key: str) -> None:
        try:
            size = await self._blobs.size(key)
        except BlobMissing:
            return
        raise StoreError(f"The blob store still holds {size} bytes of a deleted source.", code="blob_left")

    async def _check_points(self, scope: Scope) -> None:
        for index in self._pipelines.indexes:
            await check_emptied(index, scope)

    async def _new_bytes(self, source_id: str) -> list[str]:
        """Blobs that no generation has made the source's own yet."""
        query = sa.select(generations.c.blob_key).where(
            generations.c.source_id == source_id, generations.c.blob_key.is_not(None)
        )
        async with self._db.read() as c:
            return list((await c.execute(query)).scalars())

    async def _points(self, source_id: str) -> int:
        query = (
            sa.select(sources.c.notebook_id, notebooks.c.owner_id, generations.c.index_spec_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .join(generations, generations.c.source_id == sources.c.id)
            .where(sources.c.id == source_id)
            .distinct()
        )
        async with self._db.read() as c:
            scope = Scope(tuple(ScopedNotebook(*row) for row in (await c.execute(query)).all()))
        return await remove_points(self._pipelines.indexes, scope, source_id)

    async def _vectors(self, job: Job) -> None:
        """Cached embeddings, which tell of the text. One that another source shares is made again when it is needed."""
        query = (
            sa.select(generations.c.id, notebooks.c.owner_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .where(sources.c.id == job.source_id)
        )
        async with self._db.read() as c:
            found = (await c.execute(query)).all()
        for generation_id, owner_id in found:
            after = -1
            while batch := await self._reading.passages_of(generation_id, _ROWS, after, deleted=True, placed=False):
                async with self._db.write() as c:
                    await self._jobs.save(c, job)
                    await self._embeddings.forget(c, owner_id, [p.indexed for p in batch])
                after = batch[-1].ordinal

    async def _batched(self, job: Job, step: Callable[[Job, Any], Awaitable[int]]) -> int:
        """Rows go in small transactions, so that nobody else waits long for the writer."""
        total = 0
        while True:
            async with self._db.write() as c:
                await self._jobs.save(c, job)
                done = await step(job, c)
            total += done
            if done == 0:
                return total

    async def _passage_batch(self, job: Job, c: Any) -> int:
        of = sa.select(generations.c.id).where(generations.c.source_id == job.source_id)
        ids = sa.select(passages.c.id).where(passages.c.generation_id.in_(of)).limit(_ROWS)
        return int((await c.execute(passages.delete().where(passages.c.id.in_(ids)))).rowcount)

    async def _rows(self, job: Job) -> None:
        """Generations, documents with their text, the quotes of answers that cited them, and the source's names.

        The row itself stays, without a word of its owner's: citations and jobs refer to it.
        """
        source_id = job.source_id
        gone = {"document_id": None, "passage_id": None, "quote": "", "removed_at": now()}
        async with self._db.write() as c:
            await self._jobs.save(c, job)
            cited = sa.select(citations.c.message_id).where(citations.c.source_id == source_id)
            logs = sa.select(runs.c.id).where(runs.c.message_id.in_(cited))
            await c.execute(citations.update().where(citations.c.source_id == source_id).values(**gone))
            # Their frames quote it too. Only now that the citations are held: see `drop_frames`.
            await c.execute(run_segments.delete().where(run_segments.c.run_id.in_(logs)))
            await c.execute(jobs.update().where(jobs.c.source_id == source_id).values(generation_id=None))
            await c.execute(generations.delete().where(generations.c.source_id == source_id))
            await c.execute(documents.delete().where(documents.c.source_id == source_id))
            blank: dict[str, Any] = {
                "name": "",
                "media_type": "",
                "url": None,
                "sha256": "",
                "tags": [],
                "metadata": {},
            }
            await c.execute(sources.update().where(sources.c.id == source_id).values(**blank))

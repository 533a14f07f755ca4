"""The end of a source: points, passages, text and bytes, each checked to be gone before the job is called done."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import citations, deletions, documents, generations, jobs, notebooks, passages, sources
from sourcebook.embeddings import Embeddings
from sourcebook.errors import Lost, SourcebookError, StoreError
from sourcebook.interfaces import BlobStore, Scope, ScopedNotebook
from sourcebook.jobs import Job, Jobs
from sourcebook.pipelines import Pipelines
from sourcebook.reading import Reading

log = logging.getLogger(__name__)

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
        """Remove what is left of a tombstoned source, after the last worker that could still write has stopped."""
        if await self._still_written(job):
            async with self._db.write() as c:
                await self._jobs.postpone(c, job, 0.2)
            return
        source_id = str(job.source_id)
        report = {"points": await self._points(source_id)}
        await self._vectors(job)
        report["passages"] = await self._batched(job, self._passage_batch)
        for key in await self._new_bytes(source_id):  # before the rows that name them
            await self._blobs.delete(key)
        await self._rows(job)
        async with self._db.read() as c:
            key = (await c.execute(sa.select(sources.c.blob_key).where(sources.c.id == source_id))).scalar_one()
        await self._blobs.delete(key)
        async with self._db.write() as c:
            await self._jobs.finish(c, job)
            of = deletions.c.id == job.payload["deletion_id"]
            await c.execute(deletions.update().where(of).values(report=report, finished_at=now()))

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """Deleting is never given up: whatever failed is tried again, later and later."""
        error.transient = True
        try:
            async with self._db.write() as c:
                if await self._jobs.fail(c, job, error):
                    longest = timedelta(seconds=self._jobs.options.backoff * 2**self._jobs.options.attempts)
                    again = {"state": "queued", "attempt": 1, "run_at": now() + longest}
                    await c.execute(jobs.update().where(jobs.c.id == job.id).values(**again))
        except Lost:
            log.info("deleting %s goes on elsewhere", job.source_id)

    async def _still_written(self, job: Job) -> bool:
        query = sa.select(jobs.c.id).where(
            jobs.c.source_id == job.source_id,
            jobs.c.kind == "ingest",
            jobs.c.state == "leased",
            jobs.c.lease_until > now(),
        )
        async with self._db.read() as c:
            return (await c.execute(query)).first() is not None

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
        removed = 0
        for index in self._pipelines.indexes:
            removed += await index.count(scope, source_id)
            await index.delete(scope, source_id)
            if left := await index.count(scope, source_id):
                raise StoreError(f"The index {index.instance} still holds {left} points.", code="index_not_emptied")
        return removed

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
            while batch := await self._reading.passages_of(generation_id, _ROWS, after, deleted=True):
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
            await c.execute(citations.update().where(citations.c.source_id == source_id).values(**gone))
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

"""From accepted bytes to a ready generation: parse, chunk, embed, index, with a checkpoint after every batch.

Every step can be repeated: a job that was killed goes on after its last checkpoint, and writing a passage or a point
twice is writing it once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook import settings
from sourcebook.choosing import first_that_reads, head_of
from sourcebook.database.engine import Database, now
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import Chunk, Passage
from sourcebook.embeddings import Embeddings
from sourcebook.errors import BlobMissing, Lost, SourcebookError, StoreError
from sourcebook.failpoints import failpoint
from sourcebook.filters import FieldType, FieldValue, source_fields
from sourcebook.generations import Generations
from sourcebook.ids import new_id, passage_id
from sourcebook.indexing import Batch, Indexing
from sourcebook.interfaces import BlobStore, Point, Scope, ScopedNotebook
from sourcebook.jail import ComponentRef, Jail, Parsed
from sourcebook.jobs import Job, Jobs
from sourcebook.members import Members
from sourcebook.notebooks import Notebook, touched
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.progress import Pace
from sourcebook.reading import Reading, segment_batches
from sourcebook.sources import Sources
from sourcebook.specs import Specs

log = logging.getLogger(__name__)

_ROWS = 500  # of passages in one transaction


@dataclass(frozen=True)
class Task:
    """What an ingest job is about, read once at its start."""

    source: Mapping[str, Any]
    notebook: Notebook
    pipeline: Pipeline
    document_id: str | None

    @property
    def scope(self) -> Scope:
        """Only this notebook."""
        n = self.notebook
        return Scope((ScopedNotebook(n.id, n.owner_id, n.index_spec_id),))


class Ingestion:
    """Does `ingest` jobs."""

    def __init__(
        self,
        database: Database,
        queue: Jobs,
        accepted: Sources,
        pipelines: Pipelines,
        blobs: BlobStore[Any],
        jail: Jail,
        specs: Specs,
        filters: Mapping[str, FieldType] | None = None,
        embeddings: Embeddings | None = None,
        limits: settings.Jail | None = None,
    ) -> None:
        self._db = database
        self._jobs = queue
        self._sources = accepted
        self._pipelines = pipelines
        self._blobs = blobs
        self._jail = jail
        self._generations = Generations(queue)
        self._specs = specs
        self._members = Members(database, accepted, limits or settings.Jail())
        self._reading = Reading(database)
        self._embeddings = embeddings or Embeddings(database)
        self._indexing = Indexing()
        self._filters = filters or {}

    async def ingest(self, job: Job) -> None:
        """From wherever the checkpoint says to `ready`. Raises `Lost`, or what made it fail."""
        try:
            await self._ingest(job)
        except Lost:
            self._sources.passwords.forget(job.generation_id)
            raise

    async def _ingest(self, job: Job) -> None:
        task = await self._task(job)
        if "next" not in job.checkpoint:
            job = await self._read(job, task)
        job = await self._index(job, task)
        await self._verify(job, task)
        async with self._db.write() as c:
            await self._jobs.finish(c, job)
            ready = {"state": "ready", "ready_at": now(), "problem": None}
            await c.execute(_generation(job).values(**ready))
            await self._generations.switch(c, str(job.generation_id))
            await c.execute(touched(task.notebook.id))
        self._sources.passwords.forget(job.generation_id)
        await failpoint("finish.ready")

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """Store why. A transient failure leaves the generation where it is; the job will come back."""
        kept = self._sources.passwords.of(job.generation_id) is not None
        try:
            async with self._db.write() as c:
                final = await self._jobs.fail(c, job, error, kept=kept)
                values: dict[str, Any] = {"problem": error.problem()}
                if final:
                    values["state"] = "failed"
                    log.info("source %s failed: %s", job.source_id, error)
                await c.execute(_generation(job).values(**values))
        except Lost:
            await self._jobs.cancelled(job)
            final = True
        if final:
            self._sources.passwords.forget(job.generation_id)

    async def _task(self, job: Job) -> Task:
        query = (
            sa.select(
                sources,
                generations.c.document_id,
                generations.c.index_spec_id,
                generations.c.blob_key.label("new_blob_key"),
                generations.c.content,
            )
            .join(generations, generations.c.source_id == sources.c.id)
            .where(generations.c.id == job.generation_id, sources.c.deleted_at.is_(None))
        )
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
            if row is None:
                raise Lost(f"The source {job.source_id} is gone.")
            book = (await c.execute(sa.select(notebooks).where(notebooks.c.id == row["notebook_id"]))).mappings().one()
        values = {name: book[name] for name in Notebook.__dataclass_fields__}
        notebook = Notebook(**values | {"index_spec_id": row["index_spec_id"]})
        # A reindex builds for the pipeline that the notebook will have.
        name = str(job.payload.get("pipeline", notebook.pipeline))
        pipeline = await self._specs.serving(name, notebook.index_spec_id)
        return Task(_with_new_bytes(dict(row)), notebook, pipeline, row["document_id"])

    # Parsing and chunking.

    async def _read(self, job: Job, task: Task) -> Job:
        """Parse and chunk in the jail, and store both. Whatever an earlier attempt left half done is dropped first."""
        if (copied := await self._copied(job, task)) is not None:
            return copied
        await self._state(job, "parsing", {"stage": "parsing"})
        source = task.source
        parsed, parser = await self._parse(job, task)
        try:
            admitted = await self._members.admit(source, parsed.members)
            parsed = replace(parsed, warnings=(*parsed.warnings, *admitted.warnings))
            document_id = await self._store_document(job, task, parsed, parser)
            await failpoint("chunk.document")
            await self._members.accept(task.notebook, source, admitted.members)
            job = await self._store_passages(job, task, document_id, parsed.chunks)
            await failpoint("chunk.passages")
            return job
        finally:
            parsed.close()

    async def _parse(self, job: Job, task: Task) -> tuple[Parsed, str]:
        """What the first parser that reads the file made of it, and that parser's identity."""
        source, pipeline = task.source, task.pipeline
        await self._members.check_time(source)
        name, media_type = source["name"], source["media_type"]
        path = await self._blobs.local(source["blob_key"])
        await asyncio.to_thread(_check_bytes, path, source)
        candidates = self._pipelines.parsers_for(name, media_type, pipeline.settings.parsers, await head_of(path))
        password = self._sources.passwords.of(job.generation_id)

        def read(parser: ComponentRef) -> Awaitable[Parsed]:
            return self._jail.parse(
                path, name=name, media_type=media_type, parser=parser, chunker=pipeline.chunker, password=password
            )

        begun = time.monotonic()
        try:
            parsed, served = await first_that_reads(candidates, read)
        finally:
            await self._members.spend(source, time.monotonic() - begun)
        await failpoint("parse.parsed")
        return parsed, served.identity

    async def _copied(self, job: Job, task: Task) -> Job | None:
        """In a reindex that cuts nothing anew: the passages of the generation before, on the same document."""
        origin = job.payload.get("copy_from")
        of = sa.select(generations.c.document_id).where(generations.c.id == origin, generations.c.state == "ready")
        cuts = sa.select(passages).where(passages.c.generation_id == origin).order_by(passages.c.ordinal)
        async with self._db.read() as c:
            document_id = (await c.execute(of)).scalar() if origin else None
            if document_id is None:
                return None
            chunks = [_chunk(row) for row in (await c.execute(cuts)).mappings()]
        async with self._db.write() as c:
            await self._jobs.save(c, job)
            await c.execute(passages.delete().where(passages.c.generation_id == job.generation_id))
        return await self._store_passages(job, task, str(document_id), chunks)

    async def _drop_half(self, c: AsyncConnection, job: Job) -> None:
        await c.execute(passages.delete().where(passages.c.generation_id == job.generation_id))
        half = sa.and_(documents.c.source_id == job.source_id, documents.c.complete.is_(False))
        await c.execute(documents.delete().where(half))

    async def _store_document(self, job: Job, task: Task, parsed: Parsed, parser: str) -> str:
        document_id = new_id("doc")
        row = {
            "id": document_id,
            "source_id": task.source["id"],
            "sha256": task.source["sha256"],
            "parser": parser,
            "length": parsed.length,
            "metadata": dict(parsed.metadata),
            "warnings": [{"code": w.code, "message": w.message} for w in parsed.warnings],
            "complete": False,
            "created_at": now(),
        }
        # Small documents are most documents, and pay for transactions more than for rows: one here, one for passages.
        for n, some in enumerate(segment_batches(parsed.segments)):
            rows = [{"document_id": document_id, **s} for s in some]
            async with self._db.write() as c:
                await self._jobs.save(c, job, {**job.checkpoint, "progress": {"stage": "chunking"}})
                if n == 0:
                    await self._drop_half(c, job)
                    await c.execute(documents.insert().values(**row))
                    await c.execute(_generation(job).values(state="chunking"))
                if rows:
                    await c.execute(document_segments.insert(), rows)
        return document_id

    async def _store_passages(self, job: Job, task: Task, document_id: str, chunks: Sequence[Chunk]) -> Job:
        """With the last of them the document is complete, and the checkpoint says that indexing may begin."""
        generation, stage = str(job.generation_id), "embedding" if task.pipeline.embedder else "indexing"
        for first in range(0, max(len(chunks), 1), _ROWS):
            rows = [_passage_row(generation, first + i, c) for i, c in enumerate(chunks[first : first + _ROWS])]
            last = first + _ROWS >= len(chunks)
            progress = {"stage": stage, **Pace().of(0, len(chunks))}
            async with self._db.write() as c:
                job = await self._jobs.save(c, job, {"next": 0, "progress": progress} if last else None)
                if rows:
                    await c.execute(passages.insert(), rows)
                if last:
                    await c.execute(documents.update().where(documents.c.id == document_id).values(complete=True))
                    done = {"document_id": document_id, "passages": len(chunks), "state": stage}
                    await c.execute(_generation(job).values(**done))
        return job

    # Embedding and indexing.

    async def _index(self, job: Job, task: Task) -> Job:
        """Batch by batch after the checkpoint: embed (through the cache), upsert into every index, save."""
        stage = "embedding" if task.pipeline.embedder else "indexing"
        metadata = await self._metadata(job)
        language = str(metadata.get("language", ""))
        fields = source_fields(self._filters, task.source, metadata)
        pace = Pace(int(job.checkpoint["next"]))
        while True:
            done = int(job.checkpoint["next"])
            batch = await self._reading.passages_of(str(job.generation_id), self._jobs.options.batch, done - 1)
            if not batch:
                break
            await self._upsert(task, batch, language, fields)
            total = dict(job.checkpoint["progress"])["total"]
            progress = {"stage": stage, **pace.of(done + len(batch), total)}
            last = done + len(batch) >= total
            async with self._db.write() as c:
                job = await self._jobs.save(c, job, {"next": done + len(batch), "progress": progress})
                if last and stage != "indexing":
                    await c.execute(_generation(job).values(state="indexing"))
            await failpoint("index.saved")
            if last:
                break
        for index in task.pipeline.indexes:
            await self._indexing.flush(index)
        await failpoint("index.flushed")
        return job

    async def _upsert(
        self, task: Task, batch: Sequence[Passage], language: str, fields: Mapping[str, FieldValue]
    ) -> None:
        vectors = None
        if task.pipeline.embedder:
            texts = [p.indexed for p in batch]
            vectors = await self._embeddings.passages(task.pipeline.embedder, task.notebook.owner_id, texts)
        points = Batch(task.scope, [_point(task, p, language, fields) for p in batch], vectors)
        for index in task.pipeline.indexes:
            await self._indexing.upsert(index, points)
        await failpoint("index.upserted")

    async def _metadata(self, job: Job) -> Mapping[str, Any]:
        """The document's own; an index stems by its language."""
        of = sa.select(documents.c.metadata).join(generations, generations.c.document_id == documents.c.id)
        async with self._db.read() as c:
            metadata = (await c.execute(of.where(generations.c.id == job.generation_id))).scalar()
        return metadata or {}

    async def _verify(self, job: Job, task: Task) -> None:
        """Every index holds exactly this generation's passages, or the job starts its indexing over."""
        async with self._db.read() as c:
            query = sa.select(sa.func.count()).where(passages.c.generation_id == job.generation_id)
            wanted = int((await c.execute(query)).scalar_one())
        for index in task.pipeline.indexes:
            have = await index.count(task.scope, task.source["id"], job.generation_id)
            if have != wanted:
                async with self._db.write() as c:
                    await self._jobs.save(c, job, {**job.checkpoint, "next": 0})
                raise StoreError(
                    f"The index {index.instance} holds {have} of {wanted} passages.", code="index_incomplete"
                )

    async def _state(self, job: Job, state: str, progress: Mapping[str, Any] | None) -> None:
        checkpoint = None if progress is None else {**job.checkpoint, "progress": progress}
        async with self._db.write() as c:
            await self._jobs.save(c, job, checkpoint)
            await c.execute(_generation(job).values(state=state))


def _with_new_bytes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The source as this generation reads it: with the bytes that it brings, where it brings any."""
    values = dict(row)
    blob_key, content = values.pop("new_blob_key"), values.pop("content")
    if blob_key is not None:
        given = {name: content[name] for name in ("sha256", "size", "media_type") if content.get(name)}
        values |= {"blob_key": blob_key, "metadata": {**values["metadata"], **content.get("metadata", {})}, **given}
    return values


def _generation(job: Job) -> sa.Update:
    """The update of what a job is about."""
    return generations.update().where(generations.c.id == job.generation_id)


def _passage_row(generation_id: str, ordinal: int, chunk: Chunk) -> dict[str, Any]:
    return {
        "id": passage_id(generation_id, ordinal),
        "generation_id": generation_id,
        "ordinal": ordinal,
        "start": chunk.start,
        "end": chunk.end,
        "context": chunk.context,
        "parent_start": chunk.parent[0] if chunk.parent else None,
        "parent_end": chunk.parent[1] if chunk.parent else None,
    }


def _chunk(row: Any) -> Chunk:
    parent = (row["parent_start"], row["parent_end"]) if row["parent_start"] is not None else None
    return Chunk(row["start"], row["end"], row["context"], parent)


def _point(task: Task, passage: Passage, language: str, fields: Mapping[str, FieldValue]) -> Point:
    return Point(
        id=passage.id,
        owner_id=task.notebook.owner_id,
        notebook_id=task.notebook.id,
        index_spec_id=task.notebook.index_spec_id,
        source_id=passage.source_id,
        generation_id=passage.generation_id,
        text=passage.indexed,
        language=language,
        fields=fields,
    )


def _check_bytes(path: Path, source: Mapping[str, Any]) -> None:
    """Raise `BlobMissing` where these are not the bytes that were accepted: nothing is read from damaged ones."""
    try:
        with path.open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == source["sha256"]
    except OSError as error:
        raise BlobMissing(f"The stored file of {source['id']} cannot be read: {error.strerror}.") from error
    if not whole:
        raise BlobMissing(
            f"The stored file of {source['id']} is damaged: its bytes are not those that were accepted.",
            remedy="Delete the source and upload the file again.",
            code="blob_damaged",
        )

"""From accepted bytes to a ready generation: parse, chunk, embed, index, with a checkpoint after every batch.

Every step can be repeated: a job that was killed goes on after its last checkpoint, and writing a passage or a point
twice is writing it once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook import settings
from sourcebook.choosing import first_that_reads, head_of
from sourcebook.database.engine import Database, now
from sourcebook.database.tables import document_segments, documents, generations, notebooks, passages, sources
from sourcebook.documents import Chunk, Passage, Segment
from sourcebook.embeddings import Embeddings
from sourcebook.errors import Lost, SourcebookError, StoreError
from sourcebook.filters import FieldType, FieldValue, source_fields
from sourcebook.generations import Generations
from sourcebook.ids import new_id, passage_id
from sourcebook.interfaces import BlobStore, Point, Scope, ScopedNotebook
from sourcebook.jail import ComponentRef, Jail, Parsed
from sourcebook.jobs import Job, Jobs
from sourcebook.members import Members
from sourcebook.notebooks import Notebook, touched
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.reading import Reading, encode_segment
from sourcebook.sources import Sources

log = logging.getLogger(__name__)

_ROWS = 500  # of passages in one transaction
_SEGMENTS = 16  # of at most 64 Ki characters, and
_BATCH = 8 * 1024 * 1024  # bytes of them, in one transaction


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
        self._members = Members(database, accepted, limits or settings.Jail())
        self._reading = Reading(database)
        self._embeddings = embeddings or Embeddings(database)
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
        self._jobs.wake()

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
        return Task(_with_new_bytes(dict(row)), notebook, self._pipelines[notebook.pipeline], row["document_id"])

    # Parsing and chunking.

    async def _read(self, job: Job, task: Task) -> Job:
        """Parse and chunk in the jail, and store both. Whatever an earlier attempt left half done is dropped first."""
        await self._state(job, "parsing", {"stage": "parsing"})
        source = task.source
        parsed, parser = await self._parse(job, task)
        try:
            admitted = await self._members.admit(source, parsed.members)
            parsed = replace(parsed, warnings=(*parsed.warnings, *admitted.warnings))
            document_id = await self._store_document(job, task, parsed, parser)
            await self._members.accept(task.notebook, source, admitted.members)
            return await self._store_passages(job, task, document_id, parsed.chunks)
        finally:
            parsed.close()

    async def _parse(self, job: Job, task: Task) -> tuple[Parsed, str]:
        """What the first parser that reads the file made of it, and that parser's identity."""
        source, pipeline = task.source, task.pipeline
        await self._members.check_time(source)
        name, media_type = source["name"], source["media_type"]
        path = await self._blobs.local(source["blob_key"])
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
        return parsed, served.identity

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
        for n, some in enumerate(_batches(parsed.segments)):
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
            progress = {"stage": stage, "done": 0, "total": len(chunks)}
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
        while True:
            done = int(job.checkpoint["next"])
            batch = await self._reading.passages_of(str(job.generation_id), self._jobs.options.batch, done - 1)
            if not batch:
                break
            await self._upsert(task, batch, language, fields)
            total = dict(job.checkpoint["progress"])["total"]
            progress = {"stage": stage, "done": done + len(batch), "total": total}
            async with self._db.write() as c:
                job = await self._jobs.save(c, job, {"next": done + len(batch), "progress": progress})
            if len(batch) < self._jobs.options.batch:
                break
        if stage != "indexing":
            await self._state(job, "indexing", None)
        for index in task.pipeline.indexes:
            await index.flush()
        return job

    async def _upsert(
        self, task: Task, batch: Sequence[Passage], language: str, fields: Mapping[str, FieldValue]
    ) -> None:
        vectors = None
        if task.pipeline.embedder:
            texts = [p.indexed for p in batch]
            vectors = await self._embeddings.passages(task.pipeline.embedder, task.notebook.owner_id, texts)
        points = [_point(task, p, language, fields) for p in batch]
        for index in task.pipeline.indexes:
            await index.upsert(task.scope, points, vectors)

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


def _batches(segments: Iterable[Segment]) -> Iterator[list[dict[str, Any]]]:
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

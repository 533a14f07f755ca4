"""From accepted bytes to a ready generation: parse, chunk, embed, index, with a checkpoint after every batch.

Every step can be repeated: a job that was killed goes on after its last checkpoint, and writing a passage or a point
twice is writing it once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sourcebook import settings
from sourcebook.choosing import first_that_reads, head_of
from sourcebook.database.engine import Database
from sourcebook.database.tables import documents, generations, notebooks, passages, sources
from sourcebook.documents import SEGMENT, Chunk, indexed_text
from sourcebook.embeddings import Embeddings
from sourcebook.errors import BlobMissing, Lost, SourcebookError, StoreError
from sourcebook.failpoints import failpoint
from sourcebook.filters import FieldType, FieldValue, source_fields
from sourcebook.generations import Generations
from sourcebook.ids import passage_id
from sourcebook.indexing import Batch, Indexing
from sourcebook.interfaces import BlobStore, Point, Scope, ScopedNotebook
from sourcebook.jail import ComponentRef, Jail, Parsed
from sourcebook.jobs import Job, Jobs
from sourcebook.members import Members
from sourcebook.notebooks import Notebook, touched
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.progress import Pace
from sourcebook.reading import Reading
from sourcebook.sources import Sources
from sourcebook.specs import Specs
from sourcebook.storing import Storing, generation_of

log = logging.getLogger(__name__)

_BLINK = 0.1  # seconds of parsing that nobody needs to be told of


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


@dataclass(frozen=True)
class Cut:
    """A short document that this process has just cut: its passages as points."""

    points: tuple[Point, ...]


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
        self._storing = Storing(database, queue)
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
        cut = None
        if "next" not in job.checkpoint:
            job, cut = await self._read(job, task)
        job = await self._index(job, task, cut)
        await self._verify(job, task, cut)
        async with self._db.write(small=True) as c:
            await self._jobs.finish(c, job)
            await self._generations.ready(c, str(job.generation_id))
            await c.execute(touched(task.notebook.id))
        self._sources.passwords.forget(job.generation_id)
        await failpoint("finish.ready")

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """Store why. A transient failure leaves the generation where it is; the job will come back."""
        kept = self._sources.passwords.of(job.generation_id) is not None
        try:
            async with self._db.write(small=True) as c:
                final = await self._jobs.fail(c, job, error, kept=kept)
                values: dict[str, Any] = {"problem": error.problem()}
                if final:
                    values["state"] = "failed"
                    log.info("source %s failed: %s", job.source_id, error)
                await c.execute(generation_of(job).values(**values))
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
        async with self._db.read(small=True) as c:
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

    async def _read(self, job: Job, task: Task) -> tuple[Job, Cut | None]:
        """Parse and chunk in the jail, and store both. Whatever an earlier attempt left half done is dropped first.

        With a short document's passages: they need not be read again to be indexed.
        """
        if (copied := await self._copied(job, task)) is not None:
            return copied, None
        source = task.source
        async with self._told(job, "parsing"):
            parsed, parser = await self._parse(job, task)
        try:
            admitted = await self._members.admit(source, parsed.members)
            parsed = replace(parsed, warnings=(*parsed.warnings, *admitted.warnings))
            cut = self._cut(job, task, parsed)
            if cut is not None and not admitted.members:
                await self._members.accept(task.notebook, source, ())
                job = await self._storing.short(job, source, parsed, parser, _stage(task))
            else:
                document_id = await self._storing.document(job, source, parsed, parser)
                await failpoint("chunk.document")
                await self._members.accept(task.notebook, source, admitted.members)
                job = await self._storing.passages(job, document_id, parsed.chunks, _stage(task))
            await failpoint("chunk.passages")
            return job, cut
        finally:
            parsed.close()

    @asynccontextmanager
    async def _told(self, job: Job, state: str) -> AsyncGenerator[None]:
        """Store that this is being done, where it takes longer than anybody could look."""

        async def tell() -> None:
            await asyncio.sleep(_BLINK)
            try:
                await self._state(job, state, {"stage": state})
            except SourcebookError as error:  # what stops the job stops its next write too
                log.info("job %s: %s", job.id, error)

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.wait([telling])

    def _cut(self, job: Job, task: Task, parsed: Parsed) -> Cut | None:
        """A document that is one segment and one batch, as most are, ready to be indexed."""
        chunks = parsed.chunks
        if parsed.length > SEGMENT or len(parsed.segments) != 1 or len(chunks) > self._jobs.options.batch:
            return None
        text, generation = parsed.segments[0].text, str(job.generation_id)
        fields = source_fields(self._filters, task.source, parsed.metadata)
        language = str(parsed.metadata.get("language", ""))
        points = []
        for n, c in enumerate(chunks):
            indexed = passage_id(generation, n), indexed_text(c.context, text[c.start : c.end])
            points.append(_point(task, generation, indexed, language, fields))
        return Cut(tuple(points))

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
        if not origin:
            return None
        of = sa.select(generations.c.document_id).where(generations.c.id == origin, generations.c.state == "ready")
        cuts = sa.select(passages).where(passages.c.generation_id == origin).order_by(passages.c.ordinal)
        async with self._db.read() as c:
            document_id = (await c.execute(of)).scalar()
            if document_id is None:
                return None
            chunks = [_chunk(row) for row in (await c.execute(cuts)).mappings()]
        async with self._db.write(small=True) as c:
            await self._jobs.save(c, job)
            await c.execute(passages.delete().where(passages.c.generation_id == job.generation_id))
        return await self._storing.passages(job, str(document_id), chunks, _stage(task))

    # Embedding and indexing.

    async def _index(self, job: Job, task: Task, cut: Cut | None) -> Job:
        """Embed, upsert into every index, flush. A checkpoint says how far it is; what is one batch needs none."""
        if cut is not None:
            await self._upsert(task, cut.points)
        else:
            job = await self._batches(job, task)
        for index in task.pipeline.indexes:
            await self._indexing.flush(index)
        await failpoint("index.flushed")
        return job

    async def _batches(self, job: Job, task: Task) -> Job:
        """Batch by batch after the checkpoint: embed (through the cache), upsert into every index, save."""
        stage = _stage(task)
        metadata = await self._metadata(job)
        language = str(metadata.get("language", ""))
        fields = source_fields(self._filters, task.source, metadata)
        generation = str(job.generation_id)
        pace = Pace(int(job.checkpoint["next"]))
        while True:
            done = int(job.checkpoint["next"])
            batch = await self._reading.passages_of(generation, self._jobs.options.batch, done - 1)
            if not batch:
                break
            await self._upsert(task, [_point(task, generation, (p.id, p.indexed), language, fields) for p in batch])
            total = dict(job.checkpoint["progress"])["total"]
            progress = {"stage": stage, **pace.of(done + len(batch), total)}
            last = done + len(batch) >= total
            async with self._db.write(small=True) as c:
                job = await self._jobs.save(c, job, {"next": done + len(batch), "progress": progress})
                if last and stage != "indexing":
                    await c.execute(generation_of(job).values(state="indexing"))
            await failpoint("index.saved")
            if last:
                break
        return job

    async def _upsert(self, task: Task, points: Sequence[Point]) -> None:
        vectors = None
        if task.pipeline.embedder:
            texts = [p.text for p in points]
            vectors = await self._embeddings.passages(task.pipeline.embedder, task.notebook.owner_id, texts)
        batch = Batch(task.scope, points, vectors)
        for index in task.pipeline.indexes:
            await self._indexing.upsert(index, batch)
        await failpoint("index.upserted")

    async def _metadata(self, job: Job) -> Mapping[str, Any]:
        """The document's own; an index stems by its language."""
        of = sa.select(documents.c.metadata).join(generations, generations.c.document_id == documents.c.id)
        async with self._db.read(small=True) as c:
            metadata = (await c.execute(of.where(generations.c.id == job.generation_id))).scalar()
        return metadata or {}

    async def _verify(self, job: Job, task: Task, cut: Cut | None) -> None:
        """Every index holds exactly this generation's passages, or the job starts its indexing over."""
        wanted = len(cut.points) if cut is not None else await self._passages_stored(job)
        for index in task.pipeline.indexes:
            have = await index.count(task.scope, task.source["id"], job.generation_id)
            if have != wanted:
                async with self._db.write(small=True) as c:
                    await self._jobs.save(c, job, {**job.checkpoint, "next": 0})
                raise StoreError(
                    f"The index {index.instance} holds {have} of {wanted} passages.", code="index_incomplete"
                )

    async def _passages_stored(self, job: Job) -> int:
        query = sa.select(sa.func.count()).where(passages.c.generation_id == job.generation_id)
        async with self._db.read() as c:
            return int((await c.execute(query)).scalar_one())

    async def _state(self, job: Job, state: str, progress: Mapping[str, Any] | None) -> None:
        checkpoint = None if progress is None else {**job.checkpoint, "progress": progress}
        async with self._db.write(small=True) as c:
            await self._jobs.save(c, job, checkpoint)
            await c.execute(generation_of(job).values(state=state))


def _with_new_bytes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The source as this generation reads it: with the bytes that it brings, where it brings any."""
    values = dict(row)
    blob_key, content = values.pop("new_blob_key"), values.pop("content")
    if blob_key is not None:
        given = {name: content[name] for name in ("sha256", "size", "media_type") if content.get(name)}
        values |= {"blob_key": blob_key, "metadata": {**values["metadata"], **content.get("metadata", {})}, **given}
    return values


def _stage(task: Task) -> str:
    """What comes when all is stored."""
    return "embedding" if task.pipeline.embedder else "indexing"


def _chunk(row: Any) -> Chunk:
    parent = (row["parent_start"], row["parent_end"]) if row["parent_start"] is not None else None
    return Chunk(row["start"], row["end"], row["context"], parent)


def _point(
    task: Task, generation: str, passage: tuple[str, str], language: str, fields: Mapping[str, FieldValue]
) -> Point:
    """`passage`: its id, and what is embedded and indexed of it."""
    return Point(
        id=passage[0],
        owner_id=task.notebook.owner_id,
        notebook_id=task.notebook.id,
        index_spec_id=task.notebook.index_spec_id,
        source_id=str(task.source["id"]),
        generation_id=generation,
        text=passage[1],
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

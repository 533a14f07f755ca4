"""From accepted bytes to a ready generation: parse, chunk, embed, index, with a checkpoint after every batch.

Every step can be repeated: a job that was killed goes on after its last checkpoint, and writing a passage or a point
twice is writing it once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sourcebook import settings
from sourcebook.choosing import first_that_reads
from sourcebook.component_calls import call
from sourcebook.database.engine import Database
from sourcebook.database.tables import generations, passages
from sourcebook.documents import Chunk
from sourcebook.embeddings import Embeddings
from sourcebook.errors import BlobMissing, Lost, SourcebookError, StoreError
from sourcebook.failpoints import failpoint
from sourcebook.filters import FieldType
from sourcebook.gathering import Gathering
from sourcebook.generations import Generations
from sourcebook.indexing import Batch, Indexing
from sourcebook.interfaces import BlobStore, Point
from sourcebook.jail import ComponentRef, Jail, Parsed
from sourcebook.jobs import Job, Jobs
from sourcebook.later import later
from sourcebook.media_types import HEAD
from sourcebook.members import Members
from sourcebook.metrics import Metrics
from sourcebook.notebooks import TOUCH
from sourcebook.pipelines import Pipelines
from sourcebook.progress import Pace, Reached
from sourcebook.reading import Reading
from sourcebook.sources import Sources
from sourcebook.specs import Specs
from sourcebook.stored_points import Stored
from sourcebook.storing import Storing, generation_of
from sourcebook.tasks import Cut, Task, task_of

log = logging.getLogger(__name__)

_ENDS = 16  # jobs that end in one transaction
_SHORT = 256 * 1024  # bytes of a file that may share a process with others
_BLINK = 0.1  # seconds of parsing that nobody needs to be told of


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
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
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
        self._indexing = Indexing(lambda: len(queue.held))
        self._ends: Gathering[tuple[Job, Task], bool] = Gathering(self._finish, _ENDS)
        self._filters = filters or {}

    async def ingest(self, job: Job) -> None:
        """From wherever the checkpoint says to `ready`. Raises `Lost`, or what made it fail."""
        try:
            await self._ingest(job)
        except Lost:
            self._sources.passwords.forget(job.generation_id)
            raise

    async def _ingest(self, job: Job) -> None:
        task = await task_of(self._db, self._specs, job)
        cut = None
        if "next" not in job.checkpoint:
            job, cut = await self._read(job, task)
        job = await self._index(job, task, cut)
        await self._verify(job, task, cut)
        if not await self._ends.submit((job, task)):
            raise Lost(f"Job {job.id} is no longer held by {job.worker}.")
        self._sources.passwords.forget(job.generation_id)
        await failpoint("finish.ready")

    async def _finish(self, ended: Sequence[tuple[Job, Task]]) -> Sequence[bool]:
        """Those that came out of one flush are ready in one transaction; of each, whether it was still held."""
        held: dict[str, Task] = {}
        async with self._db.write(small=True) as c:
            for job, task in ended:
                with suppress(Lost):
                    await self._jobs.finish(c, job)
                    held[job.id] = task
            if held:
                await self._generations.ready(c, [task.generation_id for task in held.values()])
            # In one order everywhere, so that no two processes wait for each other's notebooks.
            for notebook in sorted({task.notebook.id for task in held.values()}):
                await c.execute(TOUCH, {"touched": notebook})
        return [job.id in held for job, _ in ended]

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

    # Parsing and chunking.

    async def _read(self, job: Job, task: Task) -> tuple[Job, Cut | None]:
        """Parse and chunk in the jail, and store both. Whatever an earlier attempt left half done is dropped first.

        With its passages, unless it is very long: they need not be read again to be indexed.
        """
        if (copied := await self._copied(job, task)) is not None:
            return copied, None
        source = task.source
        with self._metrics.staged("parsing"):
            pages = Reached()
            async with self._told(job, "parsing", pages):
                parsed, parser = await self._parse(job, task, pages)
        try:
            admitted = await self._members.admit(source, parsed.members)
            parsed = replace(parsed, warnings=(*parsed.warnings, *admitted.warnings))
            cut = task.cut(parsed, self._filters)
            if cut is not None and cut.short and len(cut.points) <= self._jobs.options.batch and not admitted.members:
                if task.parent:
                    await self._members.accept(task.notebook, source, ())
                job = await self._storing.short(job, source, parsed, parser, task.stage, half=task.half)
            else:
                document_id = await self._storing.document(job, source, parsed, parser)
                await failpoint("chunk.document")
                await self._members.accept(task.notebook, source, admitted.members)
                job = await self._storing.passages(job, document_id, parsed.chunks, task.stage)
            await failpoint("chunk.passages")
            return job, cut
        finally:
            parsed.close()

    @asynccontextmanager
    async def _told(self, job: Job, state: str, pages: Reached) -> AsyncGenerator[None]:
        """Store that this is being done, where it takes longer than anybody could look, and which page it is at."""

        async def tell() -> None:
            try:
                await self._state(job, state, {"stage": state})
                while True:
                    await self._state(job, state, {"stage": state, "page": await pages.next()})
            except SourcebookError as error:  # what stops the job stops its next write too
                log.info("job %s: %s", job.id, error)

        telling: list[asyncio.Task[None]] = []
        try:
            with later(_BLINK, tell) as telling:
                yield
        finally:
            if telling:
                await asyncio.wait(telling)

    async def _parse(self, job: Job, task: Task, pages: Reached) -> tuple[Parsed, str]:
        """What the first parser that reads the file made of it, and that parser's identity."""
        source, pipeline = task.source, task.pipeline
        await self._members.check_time(source)
        name, media_type = source["name"], source["media_type"]
        password = self._sources.passwords.of(job.generation_id)
        async with self._blobs.local(source["blob_key"]) as path:
            # A short file is read sooner than a thread begins.
            short = source["size"] <= _SHORT
            head = _checked_head(path, source) if short else await asyncio.to_thread(_checked_head, path, source)
            candidates = self._pipelines.parsers_for(name, media_type, pipeline.settings.parsers, head)

            async def read(parser: ComponentRef) -> Parsed:
                with call("parsers", parser.instance, "parse", self._metrics):
                    return await self._jail.parse(
                        path,
                        name=name,
                        media_type=media_type,
                        parser=parser,
                        chunker=pipeline.chunker,
                        password=password,
                        together=task.notebook.id if short else "",
                        reached=pages.at,
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
        return await self._storing.passages(job, str(document_id), chunks, task.stage)

    # Embedding and indexing.

    async def _index(self, job: Job, task: Task, cut: Cut | None) -> Job:
        """Embed, upsert into every index, flush. A checkpoint says how far it is; what is one batch needs none.

        A flush takes as long for many documents as for one, so that the next are read while these wait for it.
        """
        if not task.pipeline.embedder:
            self._jobs.make_room(job)
        if cut is None or len(cut.points) > self._jobs.options.batch:
            job = await self._batches(job, task, cut)
        if cut is not None and (count := len(cut.points)) <= self._jobs.options.batch:
            pace = Pace()
            await self._upsert(task, cut.points)
            # Stored when it is ready: where it dies before, this batch is indexed again.
            job = replace(job, checkpoint={"next": count, "progress": {"stage": task.stage, **pace.of(count, count)}})
        self._jobs.make_room(job)
        for index in task.pipeline.indexes:
            await self._indexing.flush(index)
        await failpoint("index.flushed")
        return job

    async def _batches(self, job: Job, task: Task, cut: Cut | None) -> Job:
        """Batch by batch after the checkpoint: embed (through the cache), upsert into every index, save."""
        stage, pace = task.stage, Pace(int(job.checkpoint["next"]))
        found = cut or Stored(self._db, self._reading, job, task, self._filters)
        while True:
            done = int(job.checkpoint["next"])
            batch = await found.batch(done, self._jobs.options.batch)
            if not batch:
                break
            await self._upsert(task, batch)
            total = dict(job.checkpoint["progress"])["total"]
            progress = {"stage": stage, **pace.of(done + len(batch), total)}
            last = done + len(batch) >= total
            # What a power cut undoes is indexed again, but never paid for again.
            async with self._db.write(small=True, lasting=bool(task.pipeline.embedder)) as c:
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
            with self._metrics.staged("embedding"):
                vectors = await self._embeddings.passages(task.pipeline.embedder, task.notebook.owner_id, texts)
        batch = Batch(task.scope, points, vectors)
        with self._metrics.staged("indexing"):
            for index in task.pipeline.indexes:
                await self._indexing.upsert(index, batch)
        await failpoint("index.upserted")

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
        async with self._db.write(small=True, lasting=False) as c:
            await self._jobs.save(c, job, checkpoint)
            await c.execute(generation_of(job).values(state=state))


def _chunk(row: Any) -> Chunk:
    parent = (row["parent_start"], row["parent_end"]) if row["parent_start"] is not None else None
    return Chunk(row["start"], row["end"], row["context"], parent)


def _checked_head(path: Path, source: Mapping[str, Any]) -> bytes:
    """The first bytes, for `sniffed`. Raises `BlobMissing` where not all are those that were accepted."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            whole = hashlib.file_digest(file, "sha256").hexdigest() == source["sha256"]
    except OSError as error:
        raise BlobMissing(f"The stored file of {source['id']} cannot be read: {error.strerror}.") from error
    if not whole:
        raise BlobMissing(
            f"The stored file of {source['id']} is damaged: its bytes are not those that were accepted.",
            remedy="Delete the source and upload the file again.",
            code="blob_damaged",
        )
    return head

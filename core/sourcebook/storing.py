"""Stores what was read of a source: its text with places, and the passages cut from it. Every write is fenced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import document_segments, documents, generations, passages
from sourcebook.documents import Chunk
from sourcebook.errors import Lost
from sourcebook.gathering import Gathering
from sourcebook.ids import new_id, passage_id
from sourcebook.jail import Parsed
from sourcebook.jobs import Job, Jobs
from sourcebook.progress import Pace
from sourcebook.reading import encode_segment, segment_batches

_ROWS = 500  # of passages in one transaction
_FEW = 64  # rows that are written without a way to another thread
_TOGETHER = 256  # rows of short documents in one transaction


@dataclass(frozen=True)
class _Short:
    """What is stored of a short document, as rows."""

    job: Job
    checkpoint: Mapping[str, Any]
    document: Mapping[str, Any]
    segments: Sequence[Mapping[str, Any]]
    passages: Sequence[Mapping[str, Any]]
    cut: Mapping[str, Any]
    half: bool


class Storing:
    """Documents and passages of `ingest` jobs."""

    def __init__(self, database: Database, queue: Jobs) -> None:
        self._db = database
        self._queue = queue
        self._shorts: Gathering[_Short, bool] = Gathering(self._store_shorts, _TOGETHER, lambda s: len(s.passages) + 4)

    async def _drop_half(self, c: AsyncConnection, job: Job) -> None:
        """What an earlier attempt left."""
        await c.execute(_DROP_PASSAGES, {"of": job.generation_id})
        await c.execute(_DROP_DOCUMENTS, {"of": job.source_id})

    async def short(
        self, job: Job, source: Mapping[str, Any], parsed: Parsed, parser: str, stage: str, *, half: bool
    ) -> Job:
        """A short document and its passages at once, with others: they pay for transactions more than for rows.

        `half`: an earlier attempt left something. The checkpoint then says that indexing may begin, and the generation
        is in `stage`. Raises `Lost`.
        """
        row = {**_document_row(source, parsed, parser), "complete": True}
        segments = [{"document_id": row["id"], **encode_segment(s)} for s in parsed.segments]
        generation, count = str(job.generation_id), len(parsed.chunks)
        rows = [_passage_row(generation, n, chunk) for n, chunk in enumerate(parsed.chunks)]
        cut = {"of": generation, "to_document": row["id"], "to_passages": count, "to_state": stage}
        checkpoint = {"next": 0, "progress": {"stage": stage, **Pace().of(0, count)}}
        if not await self._shorts.submit(_Short(job, checkpoint, row, segments, rows, cut, half)):
            raise Lost(f"Job {job.id} is no longer held by {job.worker}.")
        return replace(job, checkpoint=checkpoint)

    async def _store_shorts(self, shorts: Sequence[_Short]) -> Sequence[bool]:
        """Of each, whether its job was still held. A power cut may undo this: then it is all done again."""
        held = [False] * len(shorts)
        async with self._db.write(small=sum(len(s.passages) for s in shorts) <= _FEW, lasting=False) as c:
            for n, short in enumerate(shorts):
                with suppress(Lost):
                    await self._queue.save(c, short.job, short.checkpoint)
                    held[n] = True
            kept = [short for n, short in enumerate(shorts) if held[n]]
            if not kept:
                return held
            for short in kept:
                if short.half:
                    await self._drop_half(c, short.job)
            await c.execute(_ADD_DOCUMENT, [s.document for s in kept])
            await c.execute(_ADD_SEGMENTS, [row for s in kept for row in s.segments])
            if cut := [row for s in kept for row in s.passages]:
                await c.execute(_ADD_PASSAGES, cut)
            await c.execute(_CUT, [s.cut for s in kept])
        return held

    async def document(self, job: Job, source: Mapping[str, Any], parsed: Parsed, parser: str) -> str:
        """A document's text, segment by segment; its id. It is not complete before its passages are. Raises `Lost`."""
        row = _document_row(source, parsed, parser)
        for n, some in enumerate(segment_batches(parsed.segments)):
            rows = [{"document_id": row["id"], **s} for s in some]
            async with self._db.write() as c:
                await self._queue.save(c, job, {**job.checkpoint, "progress": {"stage": "chunking"}})
                if n == 0:
                    await self._drop_half(c, job)
                    await c.execute(documents.insert().values(**row))
                    await c.execute(generation_of(job).values(state="chunking"))
                if rows:
                    await c.execute(document_segments.insert(), rows)
        return str(row["id"])

    async def passages(self, job: Job, document_id: str, chunks: Sequence[Chunk], stage: str) -> Job:
        """With the last of them the document is complete, and the checkpoint says that indexing may begin."""
        generation = str(job.generation_id)
        for first in range(0, max(len(chunks), 1), _ROWS):
            rows = [_passage_row(generation, first + i, c) for i, c in enumerate(chunks[first : first + _ROWS])]
            last = first + _ROWS >= len(chunks)
            progress = {"stage": stage, **Pace().of(0, len(chunks))}
            async with self._db.write(small=len(rows) <= _FEW) as c:
                job = await self._queue.save(c, job, {"next": 0, "progress": progress} if last else None)
                if rows:
                    await c.execute(passages.insert(), rows)
                if last:
                    await c.execute(documents.update().where(documents.c.id == document_id).values(complete=True))
                    done = {"document_id": document_id, "passages": len(chunks), "state": stage}
                    await c.execute(generation_of(job).values(**done))
        return job


# Built once: to build them takes longer than to run them.
_DROP_PASSAGES = passages.delete().where(passages.c.generation_id == sa.bindparam("of"))
_DROP_DOCUMENTS = documents.delete().where(documents.c.source_id == sa.bindparam("of"), documents.c.complete.is_(False))
_ADD_DOCUMENT, _ADD_SEGMENTS, _ADD_PASSAGES = documents.insert(), document_segments.insert(), passages.insert()
_CUT = (
    generations.update()
    .where(generations.c.id == sa.bindparam("of"))
    .values(
        document_id=sa.bindparam("to_document"), passages=sa.bindparam("to_passages"), state=sa.bindparam("to_state")
    )
)


def generation_of(job: Job) -> sa.Update:
    """The update of what a job is about."""
    return generations.update().where(generations.c.id == job.generation_id)


def _document_row(source: Mapping[str, Any], parsed: Parsed, parser: str) -> dict[str, Any]:
    return {
        "id": new_id("doc"),
        "source_id": source["id"],
        "sha256": source["sha256"],
        "parser": parser,
        "length": parsed.length,
        "metadata": dict(parsed.metadata),
        "warnings": [{"code": w.code, "message": w.message} for w in parsed.warnings],
        "complete": False,
        "created_at": now(),
    }


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

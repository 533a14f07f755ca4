"""Passages in bulk, and an embedder without a model, for the benchmark of search."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sourcebook import ComponentSettings, Document, Embedder, Point, Scope, ScopedNotebook, Space, hookimpl
from sourcebook.app import Sourcebook
from sourcebook.database import tables
from sourcebook.database.engine import now
from sourcebook.ids import new_id, passage_id
from sourcebook.notebooks import Notebook
from sourcebook.reading import encode_segment
from sourcebook.segments import segments_of

DIMENSIONS = 384
Texts = Sequence[tuple[str, Sequence[str]]]
"""Names of sources, and the passages of each."""


class Hashed(Embedder[ComponentSettings]):
    """The sum of one random direction a word."""

    name = "hashed"
    spaces = (Space("hashed", DIMENSIONS),)
    identity = "hashed/1"

    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> dict[str, NDArray[np.float32]]:
        """See `Embedder.embed`."""
        return {"hashed": self.rows(texts)}

    def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32[len(texts), 384], of length 1."""
        directions: dict[str, NDArray[np.float32]] = vars(self).setdefault("directions", {})
        for word in {word for text in texts for word in text.split()} - directions.keys():
            seeded = np.random.default_rng(zlib.crc32(word.encode()))
            directions[word] = seeded.standard_normal(DIMENSIONS, np.float32)
        rows = np.stack([np.sum([directions[word] for word in text.split()], axis=0) for text in texts])
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


class Plugin:
    """Registers the embedder, as a plugin's module would."""

    @hookimpl
    def register_embedders(self) -> list[type[Embedder[Any]]]:
        """`hashed`."""
        return [Hashed]


async def fill(
    book: Sourcebook, notebook: Notebook, texts: Texts, embedder: Hashed | None
) -> tuple[list[Point], float]:
    """Put passages where ingestion would, in bulk: rows in SQL, points in the index.

    The points, and the seconds that the index took.
    """
    at, points, spent = now(), list[Point](), 0.0
    for name, passages in texts:
        source, document, generation = new_id("src"), new_id("doc"), new_id("gen")
        starts = [0]
        for text in passages:
            starts.append(starts[-1] + len(text) + 2)
        whole = Document("\n\n".join(passages))
        stamps = {"created_at": at, "updated_at": at, "metadata": {}}
        size = len(whole.text)
        row = {"id": source, "notebook_id": notebook.id, "name": name, "media_type": "text/plain", "blob_key": source}
        made = {"id": document, "source_id": source, "sha256": source, "parser": "bench", "length": size}
        of = {"source_id": source, "document_id": document, "index_spec_id": notebook.index_spec_id}
        cut = [
            {"id": passage_id(generation, n), "generation_id": generation, "ordinal": n, "start": start, "context": ""}
            | {"end": start + len(text), "parent_start": None, "parent_end": None}
            for n, (start, text) in enumerate(zip(starts, passages, strict=False))
        ]
        async with book.database.write() as c:
            await c.execute(tables.sources.insert().values(sha256=source, size=size, tags=[], **row, **stamps))
            values = {"metadata": {}, "warnings": [], "complete": True, "created_at": at}
            await c.execute(tables.documents.insert().values(**made, **values))
            segments = [{"document_id": document, **encode_segment(s)} for s in segments_of(whole)]
            await c.execute(tables.document_segments.insert(), segments)
            await c.execute(tables.generations.insert().values(id=generation, state="ready", created_at=at, **of))
            await c.execute(tables.passages.insert(), cut)
        ours = (notebook.owner_id, notebook.id, notebook.index_spec_id, source, generation)
        mine = [Point(str(r["id"]), *ours, text) for r, text in zip(cut, passages, strict=True)]
        vectors = {"hashed": embedder.rows(passages)} if embedder else None
        began = time.perf_counter()
        for index in book.pipelines[notebook.pipeline].indexes:
            await index.upsert(scope_of(notebook), mine, vectors)
        spent += time.perf_counter() - began
        points += mine
    return points, spent


def scope_of(notebook: Notebook) -> Scope:
    """This notebook alone."""
    return Scope((ScopedNotebook(notebook.id, notebook.owner_id, notebook.index_spec_id),))

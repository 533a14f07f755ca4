"""Puts a collection's documents into a notebook, each as one passage: what such a collection grades.

They do not go through the jail and the jobs: nothing is parsed, and a thousand small files a second would not be.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sourcebook.database.engine import now
from sourcebook.database.tables import document_segments, documents, generations, passages, sources
from sourcebook.documents import Document
from sourcebook.embeddings import Embeddings
from sourcebook.filters import source_fields
from sourcebook.ids import new_id, passage_id
from sourcebook.interfaces import Point, Scope, ScopedNotebook
from sourcebook.languages import language_of
from sourcebook.notebooks import touched
from sourcebook.reading import encode_segment
from sourcebook.segments import segments_of
from sourcebook.writer import clean

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.notebooks import Notebook

_BATCH = 256


async def store(
    book: Sourcebook,
    notebook: Notebook,
    collection: Mapping[str, tuple[str, str]],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, str]:
    """Every document as a ready source of one passage. Source id -> the document's id in the collection."""
    items = [(i, clean(f"{title}\n\n{text}".strip())) for i, (title, text) in collection.items()]
    items = [(i, text) for i, text in items if text.strip()]
    embeddings = Embeddings(book.database, book.settings.cache.embeddings)
    named: dict[str, str] = {}
    for first in range(0, len(items), _BATCH):
        named |= await _batch(book, notebook, embeddings, items[first : first + _BATCH])
        progress(min(first + _BATCH, len(items)))
    for index in book.pipelines[notebook.pipeline].indexes:
        await index.flush()
    return named


async def _batch(
    book: Sourcebook, notebook: Notebook, embeddings: Embeddings, items: list[tuple[str, str]]
) -> dict[str, str]:
    pipeline = book.pipelines[notebook.pipeline]
    rows: dict[Any, list[dict[str, Any]]] = {t: [] for t in (sources, documents, document_segments, generations)}
    rows[passages] = []
    points, named = [], {}
    for name, text in items:
        row, segments = _rows(notebook, name, text)
        for table, values in row.items():
            rows[table].append(values)
        rows[document_segments] += segments
        named[row[sources]["id"]] = name
        metadata = row[documents]["metadata"]
        points.append(
            Point(
                row[passages]["id"],
                notebook.owner_id,
                notebook.id,
                notebook.index_spec_id,
                row[sources]["id"],
                row[generations]["id"],
                text,
                metadata.get("language", ""),
                source_fields(book.settings.filters, row[sources], metadata),
            )
        )
    vectors = None
    if pipeline.embedder:
        vectors = await embeddings.passages(pipeline.embedder, notebook.owner_id, [text for _, text in items])
    scope = Scope((ScopedNotebook(notebook.id, notebook.owner_id, notebook.index_spec_id),))
    for index in pipeline.indexes:
        await index.upsert(scope, points, vectors)
    async with book.database.write() as c:
        for table, many in rows.items():
            await c.execute(table.insert(), many)
        await c.execute(touched(notebook.id))
    await asyncio.sleep(0)
    return named


def _rows(notebook: Notebook, name: str, text: str) -> tuple[dict[Any, dict[str, Any]], list[dict[str, Any]]]:
    """One document as it stands in every table, and its segments."""
    at, sha256 = now(), hashlib.sha256(text.encode()).hexdigest()
    source_id, document_id, generation_id = new_id("src"), new_id("doc"), new_id("gen")
    language = language_of(text)
    metadata = {"language": language} if language else {}
    segments = [{"document_id": document_id, **encode_segment(s)} for s in segments_of(Document(text))]
    row: dict[Any, dict[str, Any]] = {
        sources: {
            "id": source_id,
            "notebook_id": notebook.id,
            "parent_id": None,
            "name": name[:255],
            "media_type": "text/plain",
            "url": None,
            "blob_key": new_id("none"),
            "sha256": sha256,
            "size": len(text.encode()),
            "tags": [],
            "metadata": {},
            "created_at": at,
            "updated_at": at,
        },
        documents: {
            "id": document_id,
            "source_id": source_id,
            "sha256": sha256,
            "parser": "collection/1",
            "length": len(text),
            "metadata": metadata,
            "warnings": [],
            "complete": True,
            "created_at": at,
        },
        generations: {
            "id": generation_id,
            "source_id": source_id,
            "document_id": document_id,
            "index_spec_id": notebook.index_spec_id,
            "state": "ready",
            "passages": 1,
            "created_at": at,
            "ready_at": at,
        },
        passages: {
            "id": passage_id(generation_id, 0),
            "generation_id": generation_id,
            "ordinal": 0,
            "start": 0,
            "end": len(text),
            "context": "",
        },
    }
    return row, segments

"""One notebook in one file, to take to another installation: sources, text, passages, vectors, talk about it, notes.

Everything gets a new id on its way in. Text and citations are kept as they are. Passages and vectors are used again
where the notebook's index spec is the one that they were made under, and made anew from the sources where it is not.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook import __version__
from sourcebook.app import Sourcebook
from sourcebook.backup import copy_rows
from sourcebook.bundle import BundleReader, BundleWriter
from sourcebook.database.engine import insert_or_ignore, now
from sourcebook.database.tables import (
    citations,
    conversations,
    document_segments,
    documents,
    embedding_cache,
    generations,
    index_specs,
    messages,
    note_citations,
    notes,
    passages,
    sources,
)
from sourcebook.ids import new_id, passage_id
from sourcebook.notebooks import Notebook
from sourcebook.owners import Principal
from sourcebook.rebuilding import reindex_again
from sourcebook.strays import Held

KIND = "notebook"
_ROWS = 500
_PREFIXES = {
    "sources": "src", "documents": "doc", "generations": "gen", "conversations": "conv", "messages": "msg",
    "citations": "cit", "notes": "note",
}  # fmt: skip
# What a table's columns refer to. A row whose needed reference is not in the file is left out.
_REFERENCES: dict[sa.Table, dict[str, str]] = {
    sources: {"parent_id": "sources"},
    documents: {"source_id": "sources"},
    document_segments: {"document_id": "documents"},
    generations: {"source_id": "sources", "document_id": "documents"},
    passages: {"generation_id": "generations"},
    messages: {"conversation_id": "conversations"},
    citations: {"message_id": "messages", "source_id": "sources", "document_id": "documents"},
    note_citations: {"note_id": "notes", "citation_id": "citations"},
}


async def export(book: Sourcebook, notebook: Notebook, path: Path) -> dict[str, int]:
    """Write `path`, from one snapshot: how many of each there are. Raises `StoreError`."""
    with BundleWriter(path, KIND) as bundle:
        async with book.database.read() as c:
            counts = {f"{t.name}": await copy_rows(c, bundle, t, q) for t, q in _queries(notebook).items()}
            counts[f"{embedding_cache.name}"] = await _copy_vectors(c, book, bundle, notebook)
            fingerprint = sa.select(index_specs.c.fingerprint).where(index_specs.c.id == notebook.index_spec_id)
            spec = (await c.execute(fingerprint)).scalar_one()
            keys = (await c.execute(sa.select(sources.c.blob_key).where(_mine(notebook)))).scalars().all()
        for key in keys:
            await bundle.blob(f"blobs/{key}", await book.blobs.read(key))
        about = {"version": __version__, "created_at": now().isoformat(), "index_spec": spec, "counts": counts}
        shown = {name: getattr(notebook, name) for name in ("title", "description", "pipeline", "metadata")}
        await asyncio.to_thread(lambda: bundle.finish(**about, notebook=shown))
    return counts


def _mine(notebook: Notebook) -> sa.ColumnElement[bool]:
    return sa.and_(sources.c.notebook_id == notebook.id, sources.c.deleted_at.is_(None))


def _queries(notebook: Notebook) -> dict[sa.Table, sa.Select[Any]]:
    """What belongs to a notebook. A conversation does where it was about this notebook alone."""
    ids = sa.select(sources.c.id).where(_mine(notebook))
    docs = sa.select(documents.c.id).where(documents.c.source_id.in_(ids), documents.c.complete)
    here = sa.and_(generations.c.source_id.in_(ids), generations.c.index_spec_id == notebook.index_spec_id)
    gens = sa.select(generations.c.id).where(here, generations.c.state == "ready")
    talk = sa.select(conversations.c.id).where(
        conversations.c.owner_id == notebook.owner_id,
        conversations.c.deleted_at.is_(None),
        sa.cast(conversations.c.notebooks, sa.Text) == f'["{notebook.id}"]',
    )
    said = sa.select(messages.c.id).where(messages.c.conversation_id.in_(talk))
    mine = sa.select(notes.c.id).where(notes.c.notebook_id == notebook.id)
    return {
        sources: sa.select(sources).where(_mine(notebook)),
        documents: sa.select(documents).where(documents.c.id.in_(docs)),
        document_segments: sa.select(document_segments).where(document_segments.c.document_id.in_(docs)),
        generations: sa.select(generations).where(generations.c.id.in_(gens)),
        passages: sa.select(passages).where(passages.c.generation_id.in_(gens)),
        conversations: sa.select(conversations).where(conversations.c.id.in_(talk)),
        messages: sa.select(messages).where(messages.c.conversation_id.in_(talk)),
        citations: sa.select(citations).where(citations.c.message_id.in_(said)),
        notes: sa.select(notes).where(notes.c.notebook_id == notebook.id),
        note_citations: sa.select(note_citations).where(note_citations.c.note_id.in_(mine)),
    }


async def _copy_vectors(c: AsyncConnection, book: Sourcebook, bundle: BundleWriter, notebook: Notebook) -> int:
    """The cached embeddings of the notebook's passages, each with its embedder's identity."""
    ready = sa.and_(generations.c.index_spec_id == notebook.index_spec_id, generations.c.state == "ready")
    query = sa.select(generations.c.id).join(sources).where(_mine(notebook), ready)
    count = 0
    with bundle.table(f"tables/{embedding_cache.name}", embedding_cache) as append:
        for generation_id in (await c.execute(query)).scalars().all():
            after = -1
            while batch := await book.reading.passages_of(generation_id, _ROWS, after):
                hashes = {hashlib.sha256(p.indexed.encode()).hexdigest() for p in batch}
                of = sa.and_(embedding_cache.c.owner_id == notebook.owner_id, embedding_cache.c.sha256.in_(hashes))
                found = (await c.execute(sa.select(embedding_cache).where(of))).mappings().all()
                count = append([dict(row) for row in found])
                after = batch[-1].ordinal
    return count


async def import_(book: Sourcebook, principal: Principal, path: Path) -> dict[str, Any]:
    """A new notebook of `path`: `notebook_id`, `counts`, and how many sources are `queued` to be ingested or indexed.

    Checked before anything is stored. Raises `InvalidInput` (`bundle_invalid`), and `ConfigError` where its pipeline is
    not configured here.
    """
    with BundleReader(path, KIND) as bundle:
        await asyncio.to_thread(bundle.verify)
        about = bundle.manifest["notebook"]
        pipeline = about["pipeline"] if about["pipeline"] in {p.name for p in book.pipelines} else "default"
        shown = {"description": about["description"], "metadata": about["metadata"]}
        notebook = await book.create_notebook(principal, about["title"], pipeline=pipeline, **shown)
        blobs = {key: new_id("blob") for key in (n.removeprefix("blobs/") for n in bundle.names("blobs"))}
        held = Held(book.database, book.jobs, notebook.owner_id, blobs.values())
        await held.hold()
        for old, new in blobs.items():
            await book.blobs.put(new, bundle.blob(f"blobs/{old}"))
            await held.renew()
        async with book.database.write() as c:
            await held.release(c)
            filling = _Filling(c, book, bundle, notebook, blobs)
            queued = await filling.fill()
        return {"notebook_id": notebook.id, "counts": bundle.manifest["counts"], "queued": queued}


class _Filling:
    """Writes the rows of a bundle under new ids, within one transaction."""

    def __init__(
        self, c: AsyncConnection, book: Sourcebook, bundle: BundleReader, notebook: Notebook, blobs: Mapping[str, str]
    ) -> None:
        self._c, self._book, self._bundle, self._notebook, self._blobs = c, book, bundle, notebook, blobs
        self._ids: dict[str, dict[str, str]] = {name: {} for name in _PREFIXES}
        self._passages: dict[str, str] = {}

    async def fill(self) -> int:
        """How many sources have work queued."""
        fingerprint = sa.select(index_specs.c.fingerprint).where(index_specs.c.id == self._notebook.index_spec_id)
        same = (await self._c.execute(fingerprint)).scalar_one() == self._bundle.manifest["index_spec"]
        await self._sources()
        for table in (documents, document_segments):
            await self._copy(table)
        if same:
            await self._copy(generations, index_spec_id=self._notebook.index_spec_id, blob_key=None, content=None)
            await self._copy(passages)
            await self._vectors()
        for table in (conversations, messages, citations, notes, note_citations):
            await self._copy(table, **self._owned(table))
        reused = list(self._ids["generations"].values()) if same else []
        done = await reindex_again(self._c, self._book.database, self._book.jobs, reused)
        return done + await self._ingest_rest(reused)

    def _owned(self, table: sa.Table) -> dict[str, Any]:
        if table is conversations:
            return {"owner_id": self._notebook.owner_id, "notebooks": [self._notebook.id]}
        return {"notebook_id": self._notebook.id} if table is notes else {}

    async def _sources(self) -> None:
        waiting = list(self._bundle.rows(f"tables/{sources.name}", sources))
        while waiting:
            batch = [r for r in waiting if r["parent_id"] is None or r["parent_id"] in self._ids["sources"]]
            if not batch:  # what they were found in was deleted: they stand alone
                batch = [{**r, "parent_id": None} for r in waiting]
            rows = []
            for row in batch:
                row["blob_key"] = self._blobs[row["blob_key"]]
                rows.append(self._renamed(sources, row) | {"notebook_id": self._notebook.id})
            await self._c.execute(sources.insert(), rows)
            waiting = [r for r in waiting if r["id"] not in self._ids["sources"]]

    async def _copy(self, table: sa.Table, **values: Any) -> None:
        for batch in self._bundle.batches(f"tables/{table.name}", table):
            rows = [self._renamed(table, row) | values for row in batch if self._complete(table, row)]
            if rows:
                await self._c.execute(table.insert(), rows)

    def _complete(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        needed = [(n, of) for n, of in _REFERENCES.get(table, {}).items() if not table.c[n].nullable]
        return all(row[name] in self._ids[of] for name, of in needed)

    def _renamed(self, table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
        new = dict(row)
        for name, of in _REFERENCES.get(table, {}).items():
            new[name] = self._ids[of].get(row[name])
        if table is passages:
            new["id"] = self._passages[row["id"]] = passage_id(new["generation_id"], row["ordinal"])
        elif prefix := _PREFIXES.get(table.name):
            new["id"] = self._ids[table.name][row["id"]] = new_id(prefix)
        if table is citations:
            new["passage_id"] = self._passages.get(row["passage_id"])
        return new

    async def _vectors(self) -> None:
        add = insert_or_ignore(embedding_cache, self._c.dialect.name)
        for batch in self._bundle.batches(f"tables/{embedding_cache.name}", embedding_cache):
            await self._c.execute(add, [{**row, "owner_id": self._notebook.owner_id} for row in batch])

    async def _ingest_rest(self, reused: Sequence[str]) -> int:
        """A generation and a job for each source that has none that can be used."""
        have = sa.select(generations.c.source_id).where(generations.c.id.in_(reused))
        query = sa.select(sources.c.id).where(sources.c.notebook_id == self._notebook.id, sources.c.id.not_in(have))
        ids = (await self._c.execute(query)).scalars().all()
        for source_id in ids:
            generation_id = new_id("gen")
            of = {"source_id": source_id, "index_spec_id": self._notebook.index_spec_id}
            row = {"id": generation_id, "state": "queued", "created_at": now(), **of}
            await self._c.execute(generations.insert().values(**row))
            job = {"notebook_id": self._notebook.id, "source_id": source_id, "generation_id": generation_id}
            await self._book.jobs.add(self._c, "ingest", self._notebook.owner_id, **job)
        return len(ids)

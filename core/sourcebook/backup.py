"""All of an installation in one file, and back: rows of one snapshot, and the bytes that they name.

The file knows no engine: what SQLite wrote, PostgreSQL restores. The index is not in it; it is built again from the
rows without reading or embedding anything anew. Settings and secrets are not in it: they are files of the operator's.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook import __version__
from sourcebook.app import Sourcebook
from sourcebook.bundle import BundleReader, BundleWriter
from sourcebook.configuration import Configuration
from sourcebook.database.engine import now
from sourcebook.database.tables import (
    SCHEMA,
    generations,
    jobs,
    metadata,
    owners,
    run_segments,
    runs,
    schema_compatible,
    server_secrets,
    sources,
)
from sourcebook.database.upgrade import revisions
from sourcebook.errors import BlobMissing, Conflict, InvalidInput
from sourcebook.rebuilding import reindex_again

log = logging.getLogger(__name__)

KIND = "backup"
_PAGE = 500
# The frames of streams, which nobody follows any more; and what is said of the schema, which a restore has its own of.
_LEFT_OUT = {run_segments.name, schema_compatible.name}


async def write_backup(book: Sourcebook, path: Path) -> dict[str, Any]:
    """Write `path` while everything runs: `sources`, `blobs` and `bytes` that are in it. Raises `StoreError`.

    A source that is deleted meanwhile is in the snapshot without its bytes; `restore` deletes it again.
    """
    counts: dict[str, int] = {}
    with BundleWriter(path, KIND) as bundle:
        async with book.database.read() as c:
            for table in metadata.sorted_tables:
                if table.name not in _LEFT_OUT:
                    counts[f"{table.name}"] = await copy_rows(c, bundle, table, sa.select(table))
            alive = sa.select(sources.c.id, sources.c.blob_key).where(sources.c.deleted_at.is_(None))
            given = sa.select(generations.c.source_id, generations.c.blob_key).join(sources)
            given = given.where(generations.c.blob_key.is_not(None), sources.c.deleted_at.is_(None))
            keys = [*(await c.execute(alive)).all(), *(await c.execute(given)).all()]
        size, missing = 0, []
        for source_id, key in keys:
            try:
                size += await bundle.blob(f"blobs/{key}", await book.blobs.read(key))
            except BlobMissing:
                missing.append(source_id)
        blobs = len(keys) - len(missing)
        about = {"version": __version__, "schema": SCHEMA, "created_at": now().isoformat(), "missing": missing}
        await asyncio.to_thread(lambda: bundle.finish(**about, counts=counts))
    return {"sources": len(keys), "blobs": blobs, "bytes": size}


async def copy_rows(c: AsyncConnection, bundle: BundleWriter, table: sa.Table, query: sa.Select[Any]) -> int:
    """Append what `query` finds of a table to the bundle, a page at a time; how many rows."""
    count = 0
    query = query.order_by(*table.primary_key.columns).execution_options(yield_per=_PAGE)
    with bundle.table(f"tables/{table.name}", table) as append:
        async with c.stream(query) as result:
            async for page in result.mappings().partitions():
                count = await asyncio.to_thread(append, page)
    return count


async def read_backup(configuration: Configuration, path: Path) -> dict[str, Any]:
    """Fill the installation of this configuration from `path`: see `fill`."""
    async with Sourcebook(configuration, workers=0) as book:
        return await fill(book, path)


async def fill(book: Sourcebook, path: Path) -> dict[str, Any]:
    """Fill an empty Sourcebook from `path`: checked first, then bytes, then all rows in one transaction.

    Raises `InvalidInput` (`bundle_invalid`, `backup_newer`) and `Conflict` (`not_empty`); nothing is changed then.
    """
    with BundleReader(path, KIND) as bundle:
        schema = bundle.manifest["schema"]
        if schema not in revisions():
            raise InvalidInput(
                f"{path.name} has schema {schema}, which is newer than this version of Sourcebook knows.",
                code="backup_newer",
                remedy="Restore it with the version that wrote it, or a later one.",
            )
        await _check_empty(book)
        await asyncio.to_thread(bundle.verify)
        names = bundle.names("blobs")
        for name in names:
            await book.blobs.put(name.removeprefix("blobs/"), bundle.blob(name))
        count = await _fill(book, bundle)
        return {"sources": count, "blobs": len(names), "created_at": bundle.manifest["created_at"]}


async def _check_empty(book: Sourcebook) -> None:
    async with book.database.read() as c:
        for table in (sources, metadata.tables["notebooks"], metadata.tables["keys"]):
            if (await c.execute(sa.select(sa.literal(1)).select_from(table).limit(1))).first():
                raise Conflict(
                    f"{book.database.url.render_as_string(hide_password=True)} is not empty.",
                    code="not_empty",
                    remedy="Restore into a new data folder (storage.path) and, with PostgreSQL, a new database.",
                )


async def _fill(book: Sourcebook, bundle: BundleReader) -> int:
    async with book.database.write() as c:
        for made in (owners, server_secrets):  # by opening: `local`, and a key for links that nobody has yet
            await c.execute(made.delete())
        for table in metadata.sorted_tables:
            if table.name == sources.name:
                await _fill_sources(c, bundle)
                continue
            for batch in bundle.batches(f"tables/{table.name}", table):
                await c.execute(table.insert(), batch)
        await c.execute(runs.update().where(runs.c.state == "running").values(state="failed", worker=None))
        over = {"state": "queued", "worker": None, "lease_until": None}
        await c.execute(jobs.update().where(jobs.c.state == "leased").values(**over))
        indexed = sa.select(generations.c.id).where(generations.c.state.in_(("ready", "embedding", "indexing")))
        ready = (await c.execute(indexed)).scalars().all()
        await reindex_again(c, book.database, book.jobs, ready)
        for source_id in bundle.manifest["missing"]:
            owner_id = (await c.execute(sa.select(jobs.c.owner_id).where(jobs.c.source_id == source_id))).scalar()
            if owner_id is not None:
                await book.sources.removing.source(c, owner_id, source_id)
        return int((await c.execute(sa.select(sa.func.count()).where(sources.c.deleted_at.is_(None)))).scalar_one())


async def _fill_sources(c: AsyncConnection, bundle: BundleReader) -> None:
    """Parents before what was found in them, whatever the order of their ids."""
    waiting = list(bundle.rows(f"tables/{sources.name}", sources))
    known: set[str] = set()
    while waiting:
        batch = [row for row in waiting if row["parent_id"] is None or row["parent_id"] in known]
        if not batch:
            raise InvalidInput("A source in the backup names a parent that is not in it.", code="bundle_invalid")
        for first in range(0, len(batch), _PAGE):
            await c.execute(sources.insert(), batch[first : first + _PAGE])
        known |= {row["id"] for row in batch}
        waiting = [row for row in waiting if row["id"] not in known]

"""Bytes of nobody: what uploads left that died with their process, after the bytes and before the row."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import generations, jobs, sources
from sourcebook.errors import SourcebookError
from sourcebook.ids import first_id_at
from sourcebook.interfaces import BlobStore
from sourcebook.jobs import ACTIVE

log = logging.getLogger(__name__)


async def stray_blobs(database: Database, blobs: BlobStore[Any], age: float) -> set[str]:
    """The keys made more than `age` seconds ago that no source, generation or job names.

    The store is asked before SQL: bytes whose row is committed meanwhile are not among them.
    """
    old = first_id_at("blob", now() - timedelta(seconds=age))
    found = {key async for key in blobs.list() if key < old}
    if not found:
        return found
    named = [sa.select(t.c.blob_key).where(t.c.blob_key.is_not(None)) for t in (sources, generations)]
    async with database.read() as c:
        for query in named:
            found -= set((await c.execute(query)).scalars())
        waiting = sa.select(jobs.c.payload).where(jobs.c.kind == "retire", jobs.c.state.in_(ACTIVE))
        found -= {(payload or {}).get("blob_key") for payload in (await c.execute(waiting)).scalars()}
    return found


async def sweep(database: Database, blobs: BlobStore[Any], age: float) -> int:
    """Remove what is a stray now, however young, and `age` seconds later still; how many.

    A store lists a blob when all its bytes are there, and its row follows at once, however long the upload took: what
    has waited for `age` seconds belongs to no upload.
    """
    try:
        first = await stray_blobs(database, blobs, 0)
        if not first:
            return 0
        await asyncio.sleep(age)
        left = first & await stray_blobs(database, blobs, 0)
        for key in left:
            await blobs.delete(key)
    except SourcebookError as error:  # the next start looks again
        log.warning("bytes of uploads that died could not be removed: %s", error)
        return 0
    if left:
        log.info("removed the bytes of %d uploads that died before they were acknowledged", len(left))
    return len(left)

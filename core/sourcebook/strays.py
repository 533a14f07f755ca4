"""Bytes of nobody: what uploads left that died with their process, after the bytes and before the row."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import generations, jobs, sources
from sourcebook.errors import SourcebookError, StoreError
from sourcebook.ids import first_id_at
from sourcebook.interfaces import BlobStore
from sourcebook.jobs import ACTIVE, Jobs

_HELD = 3600.0

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
        for payload in (await c.execute(waiting)).scalars():
            found -= {payload.get("blob_key"), *payload.get("blob_keys", ())}
    return found


class Held:
    """Keeps bytes whose rows take a while, as an import's do: a job names them, and drops those without a row if due.

    It is due an hour after the last `renew`: whoever holds them is dead by then, or is told so by `release`.
    """

    def __init__(self, database: Database, queue: Jobs, owner_id: str, keys: Iterable[str]) -> None:
        self._db = database
        self._jobs = queue
        self._owner = owner_id
        self._payload = {"generation_id": "", "blob_keys": list(keys)}
        self._job = ""

    async def hold(self) -> None:
        """Before the first of them is put."""
        async with self._db.write() as c:
            due = self._db.clock(_HELD)
            self._job = await self._jobs.add(c, "retire", self._owner, payload=self._payload, run_at=due)

    async def renew(self) -> None:
        """After each of them."""
        async with self._db.write() as c:
            await c.execute(jobs.update().where(*self._waiting()).values(run_at=self._db.clock(_HELD)))

    async def release(self, c: AsyncConnection) -> None:
        """First in the transaction that writes their rows. Raises `StoreError` where they may have been dropped."""
        if (await c.execute(jobs.delete().where(*self._waiting()))).rowcount != 1:
            raise StoreError("This took so long that its files were taken for left behind.", remedy="Try again.")

    def _waiting(self) -> tuple[sa.ColumnElement[bool], ...]:
        return jobs.c.id == self._job, jobs.c.state == "queued"


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

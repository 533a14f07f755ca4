"""Looks whether the stores agree with each other, and whether this machine has what Sourcebook needs."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.database.engine import now
from sourcebook.database.tables import SCHEMA, generations, jobs, passages, sources
from sourcebook.database.upgrade import current
from sourcebook.errors import SourcebookError

_LOW_DISK = 1 << 30
_NAMED = 10  # examples in a finding


@dataclass(frozen=True)
class Finding:
    """One check. `ok` False makes `sourcebook doctor` exit with 1; `data` is JSON-safe."""

    check: str
    ok: bool
    detail: str
    data: dict[str, Any] = field(default_factory=dict)


async def examine(book: Sourcebook) -> AsyncIterator[Finding]:
    """Every check in turn; one that cannot be made is a finding too."""
    for check in (_machine, _disk, _schema, _jail, _plugins, _jobs, _blobs, _index):
        try:
            yield await check(book)
        except SourcebookError as error:
            yield Finding(check.__name__.strip("_"), False, error.detail, error.problem())


async def _machine(_: Sourcebook) -> Finding:
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "system": platform.platform()}
    return Finding("machine", True, ", ".join(f"{k} {v}" for k, v in versions.items()), versions)


async def _disk(book: Sourcebook) -> Finding:
    free = shutil.disk_usage(book.folder).free
    ok = free >= _LOW_DISK and os.access(book.folder, os.W_OK)
    return Finding("disk", ok, f"{book.folder}: {free / (1 << 30):.1f} GiB free", {"free": free})


async def _schema(book: Sourcebook) -> Finding:
    have = await current(book.database)
    return Finding("schema", have == SCHEMA, f"the database has {have}, this version needs {SCHEMA}")


async def _jail(book: Sourcebook) -> Finding:
    layers = dict(await book.jail.layers())
    return Finding("jail", True, ", ".join(f"{k}: {v}" for k, v in layers.items()), layers)


async def _plugins(book: Sourcebook) -> Finding:
    failed = {i.name: i.reason for i in book.plugins.infos.values() if i.state == "failed"}
    active = sum(i.state == "active" for i in book.plugins.infos.values())
    detail = "; ".join(f"{n}: {r}" for n, r in failed.items()) or f"{active} active"
    return Finding("plugins", not failed, detail, failed)


async def _jobs(book: Sourcebook) -> Finding:
    stuck = sa.select(jobs.c.id).where(jobs.c.state == "leased", jobs.c.lease_until < now())
    failed = sa.select(sa.func.count()).where(jobs.c.state == "failed")
    async with book.database.read() as c:
        ids = list((await c.execute(stuck)).scalars())
        count = (await c.execute(failed)).scalar_one()
    detail = f"{len(ids)} with a lease that ran out, {count} failed"
    return Finding("jobs", not ids, detail, {"stuck": ids[:_NAMED], "failed": count})


async def _blobs(book: Sourcebook) -> Finding:
    """Every source that is not deleted has its bytes, in their full size."""
    query = sa.select(sources.c.id, sources.c.blob_key, sources.c.size).where(sources.c.deleted_at.is_(None))
    async with book.database.read() as c:
        rows = (await c.execute(query)).all()
    bad: dict[str, str] = {}
    for source_id, key, size in rows:
        try:
            have = await book.blobs.size(key)
        except SourcebookError as error:
            bad[source_id] = error.detail
            continue
        if have != size:
            bad[source_id] = f"{have} of {size} bytes"
    return Finding("blobs", not bad, f"{len(rows)} sources, {len(bad)} without their bytes", bad)


async def _index(book: Sourcebook) -> Finding:
    """Every point has its passage in SQL, and every passage of a ready generation has its point, in every index."""
    ready = (
        sa.select(passages.c.id)
        .join(generations, generations.c.id == passages.c.generation_id)
        .join(sources, sources.c.id == generations.c.source_id)
        .where(generations.c.state == "ready", sources.c.deleted_at.is_(None))
    )
    points: dict[str, set[str]] = {}
    for index in book.pipelines.indexes:
        points[index.instance] = {ref.id async for page in index.scroll(None) for ref in page}
    # SQL is read after the index: what is written meanwhile stands in SQL first, so it cannot look like an orphan.
    async with book.database.read() as c:
        known = set((await c.execute(sa.select(passages.c.id))).scalars())
        wanted = set((await c.execute(ready)).scalars())
    orphans = {name: sorted(ids - known) for name, ids in points.items() if ids - known}
    missing = {name: sorted(wanted - ids) for name, ids in points.items() if wanted - ids}
    counts = ", ".join(f"{name}: {len(ids)} points" for name, ids in points.items())
    lost = sum(map(len, missing.values()))
    detail = f"{counts}; {len(wanted)} passages ready; {sum(map(len, orphans.values()))} orphans, {lost} missing"
    data = {
        "orphans": {n: ids[:_NAMED] for n, ids in orphans.items()},
        "missing": {n: ids[:_NAMED] for n, ids in missing.items()},
    }
    return Finding("index", not orphans and not missing, detail, data)

"""Bytes that come again to a notebook which has them: whose they are, and what they still change there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import now
from sourcebook.database.tables import generations, sources
from sourcebook.interfaces import Blob


async def source_of_bytes(c: AsyncConnection, notebook_id: str, blob: Blob, parent_id: str | None) -> str | None:
    """The source that has these bytes: in the notebook itself, or in the same archive."""
    query = _SAME if parent_id is None else _SAME_MEMBER
    of = {"notebook": notebook_id, "hash": blob.sha256} | ({} if parent_id is None else {"parent": parent_id})
    return (await c.execute(query, of)).scalar()


async def take_lost(c: AsyncConnection, source_id: str, blob: Blob) -> str | None:
    """Where doctor found the source's bytes lost, these take their place; the key of what was lost."""
    newest = sa.select(sa.func.max(generations.c.id)).where(generations.c.source_id == source_id)
    of = generations.c.id == newest.scalar_subquery()
    problem = (await c.execute(sa.select(generations.c.problem).where(of))).scalar()
    if (problem or {}).get("code") != "blob_missing":
        return None
    mine = sources.c.id == source_id
    old = (await c.execute(sa.select(sources.c.blob_key).where(mine))).scalar_one()
    await c.execute(sources.update().where(mine).values(blob_key=blob.key, size=blob.size, updated_at=now()))
    await c.execute(generations.update().where(of).values(problem=None))
    return str(old)


async def take_words(c: AsyncConnection, row: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """A source (a row) is called as its bytes are now, which also says who reads them; what is not said again stays."""
    said = {"name": values["name"], "media_type": values["media_type"]}
    said |= {field: values[field] for field in ("url", "tags") if values[field]}
    said["metadata"] = {**row["metadata"], **values["metadata"]}
    if all(row[field] == value for field, value in said.items()):
        return
    stamps = {"version": row["version"] + 1, "updated_at": now()}
    await c.execute(sources.update().where(sources.c.id == row["id"]).values(**said, **stamps))


# Built once: to build them takes longer than to run them.
_HERE = sa.select(sources.c.id).where(
    sources.c.notebook_id == sa.bindparam("notebook"),
    sources.c.sha256 == sa.bindparam("hash"),
    sources.c.deleted_at.is_(None),
)
_SAME = _HERE.where(sources.c.parent_id.is_(None))
_SAME_MEMBER = _HERE.where(sources.c.parent_id == sa.bindparam("parent"))

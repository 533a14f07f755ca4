"""What is deleted is invisible at once: it is marked, and its removal enqueued, within one transaction."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import now
from sourcebook.database.tables import conversations, deletions, keys, notebooks, sources
from sourcebook.ids import new_id
from sourcebook.jobs import Jobs
from sourcebook.notebooks import touched


class Removing:
    """Marks a source, a notebook or an owner, within the caller's transaction; `Deletion` does the rest."""

    def __init__(self, queue: Jobs) -> None:
        self._jobs = queue

    async def owner(self, c: AsyncConnection, owner_id: str) -> str:
        """Keys, conversations and notebooks; the id of the job that ends when nothing is left."""
        mine = sa.select(notebooks.c.id).where(notebooks.c.owner_id == owner_id, notebooks.c.deleted_at.is_(None))
        await c.execute(keys.update().where(keys.c.owner_id == owner_id).values(revoked_at=now()))
        talk = sa.and_(conversations.c.owner_id == owner_id, conversations.c.deleted_at.is_(None))
        await c.execute(conversations.update().where(talk).values(deleted_at=now()))
        for notebook_id in (await c.execute(mine)).scalars().all():
            await self.notebook(c, owner_id, notebook_id)
        return await self._removal(c, owner_id, "owner", owner_id)

    async def notebook(self, c: AsyncConnection, owner_id: str, notebook_id: str) -> str:
        """A notebook with its sources; the id of the job that ends when nothing of it is left."""
        top = sa.and_(
            sources.c.notebook_id == notebook_id, sources.c.deleted_at.is_(None), sources.c.parent_id.is_(None)
        )
        gone = {"deleted_at": now(), "title": "", "description": "", "metadata": {}}
        await c.execute(notebooks.update().where(notebooks.c.id == notebook_id).values(**gone))
        for source_id in (await c.execute(sa.select(sources.c.id).where(top))).scalars().all():
            await self.source(c, owner_id, source_id)
        return await self._removal(c, owner_id, "notebook", notebook_id, notebook_id=notebook_id)

    async def _removal(self, c: AsyncConnection, owner_id: str, kind: str, subject: str, **of: Any) -> str:
        """Record a deletion, and enqueue it: what is deleted goes before what is added."""
        deletion = {"id": new_id("del"), "owner_id": owner_id, "kind": kind, "subject_id": subject}
        await c.execute(deletions.insert().values(report={}, created_at=now(), **deletion))
        return await self._jobs.add(c, "delete", owner_id, payload={"deletion_id": deletion["id"]}, priority=1, **of)

    async def source(self, c: AsyncConnection, owner_id: str, source_id: str) -> str:
        """Tombstone a source and its members, and enqueue their removal, within the caller's transaction."""
        ids = [source_id]
        for parent in ids:  # members of members too; what is deleted already has its own job
            of = sa.and_(sources.c.parent_id == parent, sources.c.deleted_at.is_(None))
            ids += (await c.execute(sa.select(sources.c.id).where(of))).scalars()
        await c.execute(sources.update().where(sources.c.id.in_(ids)).values(deleted_at=now(), updated_at=now()))
        notebook = sa.select(sources.c.notebook_id).where(sources.c.id == source_id)
        await c.execute(touched((await c.execute(notebook)).scalar_one()))
        job_id = ""
        for one in sorted(ids, key=lambda i: i == source_id):
            await self._jobs.cancel_for(c, one)
            job_id = await self._removal(c, owner_id, "source", one, source_id=one)
        return job_id

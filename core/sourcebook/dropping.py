"""The end of what a reindex replaced: `drop` jobs supersede the generations that no notebook answers from any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import generations, notebooks, reindexes, sources
from sourcebook.errors import Lost, SourcebookError
from sourcebook.generations import SUPERSEDED, Generations
from sourcebook.jobs import Job, Jobs

_SOME = 50


class Dropping:
    """Removes a notebook's generations under one index spec; a `retire` job each does the rest."""

    def __init__(self, database: Database, queue: Jobs) -> None:
        self._db = database
        self._jobs = queue
        self._generations = Generations(queue)

    async def enqueue(
        self,
        c: AsyncConnection,
        owner_id: str,
        notebook_id: str,
        spec_id: str,
        reindex_id: str = "",
        run_at: datetime | None = None,
    ) -> str:
        """Within the caller's transaction: drop what lies under this spec, unless the notebook has pinned it then.

        `reindex_id` is the reindex that is `dropped` by it.
        """
        payload = {"spec": spec_id, "reindex": reindex_id}
        values: dict[str, Any] = {"run_at": run_at} if run_at else {}
        return await self._jobs.add(c, "drop", owner_id, notebook_id=notebook_id, payload=payload, **values)

    async def drop(self, job: Job) -> None:
        """Do one such job. Every step may be repeated."""
        spec_id, notebook_id = str(job.payload["spec"]), str(job.notebook_id)
        some = (
            sa.select(generations.c.id)
            .join(sources, sources.c.id == generations.c.source_id)
            .where(sources.c.notebook_id == notebook_id, generations.c.index_spec_id == spec_id)
            .where(generations.c.state != SUPERSEDED)
            .limit(_SOME)
        )
        while True:
            async with self._db.write() as c:
                await self._jobs.save(c, job)
                needed = await self._is_needed(c, notebook_id, spec_id)
                ids = [] if needed else (await c.execute(some)).scalars().all()
                # Their texts are those of the generations that replaced them, as often as not.
                await self._generations.supersede(c, ids, forget=False)
                if not ids:
                    await self._finish(c, job, dropped=not needed)
                    return

    async def failed(self, job: Job, error: SourcebookError) -> None:
        """What could not be removed takes room, and harms nobody: it is tried a few times."""
        try:
            async with self._db.write() as c:
                await self._jobs.fail(c, job, error)
        except Lost:
            await self._jobs.cancelled(job)

    async def _finish(self, c: AsyncConnection, job: Job, *, dropped: bool) -> None:
        if dropped:
            of = sa.and_(reindexes.c.id == job.payload.get("reindex", ""), reindexes.c.state == "switched")
            await c.execute(reindexes.update().where(of).values(state="dropped", finished_at=now()))
        await self._jobs.finish(c, job)

    async def _is_needed(self, c: AsyncConnection, notebook_id: str, spec_id: str) -> bool:
        """Pinned, or being built: whoever enqueued this has been overtaken."""
        pinned = sa.select(notebooks.c.id).where(
            notebooks.c.id == notebook_id, notebooks.c.index_spec_id == spec_id, notebooks.c.deleted_at.is_(None)
        )
        building = sa.select(reindexes.c.id).where(
            reindexes.c.notebook_id == notebook_id, reindexes.c.to_spec_id == spec_id, reindexes.c.state == "building"
        )
        return bool((await c.execute(pinned)).first() or (await c.execute(building)).first())

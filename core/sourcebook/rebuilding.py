"""Have a generation indexed again from what SQL holds of it: its job goes back to the stage after chunking.

The text is not read again and no embedding is paid for again. `restore`, `import` and `doctor --repair` use this.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.signals import QUEUED
from sourcebook.database.tables import generations, jobs, notebooks, sources
from sourcebook.jobs import Jobs

_SOME = 200


async def reindex_again(c: AsyncConnection, database: Database, queue: Jobs, ids: Sequence[str]) -> int:
    """Queue the indexing of these generations, within the caller's transaction; how many there were."""
    done = 0
    for first in range(0, len(ids), _SOME):
        some = ids[first : first + _SOME]
        done += await _some(c, database, queue, some)
    await database.signals.send(c, QUEUED)
    return done


async def _some(c: AsyncConnection, database: Database, queue: Jobs, ids: Sequence[str]) -> int:
    query = (
        sa.select(
            generations.c.id,
            generations.c.passages,
            sources.c.id.label("source_id"),
            notebooks.c.id.label("notebook_id"),
        )
        .add_columns(notebooks.c.owner_id, jobs.c.id.label("job_id"))
        .join(sources, sources.c.id == generations.c.source_id)
        .join(notebooks, notebooks.c.id == sources.c.notebook_id)
        .outerjoin(jobs, sa.and_(jobs.c.generation_id == generations.c.id, jobs.c.kind == "ingest"))
        .where(generations.c.id.in_(ids), generations.c.document_id.is_not(None), sources.c.deleted_at.is_(None))
    )
    rows = {row.id: row for row in (await c.execute(query)).all()}
    for row in rows.values():
        checkpoint = {"next": 0, "progress": {"stage": "indexing", "done": 0, "total": row.passages}}
        again = {"state": "queued", "checkpoint": checkpoint, "attempt": 0, "failures": 0, "problem": None}
        if row.job_id is None:
            of = {"notebook_id": row.notebook_id, "source_id": row.source_id, "generation_id": row.id}
            await queue.add(c, "ingest", row.owner_id, checkpoint=checkpoint, **of)
        else:
            values = {**again, "cancel": False, "worker": None, "lease_until": None, "updated_at": now()}
            await c.execute(jobs.update().where(jobs.c.id == row.job_id).values(**values, run_at=database.clock()))
    indexing = {"state": "indexing", "problem": None, "ready_at": None}
    await c.execute(generations.update().where(generations.c.id.in_(list(rows))).values(**indexing))
    return len(rows)

"""Work that waits, and whether anybody is there to do it: a command by itself does none, and must not look as if."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import jobs
from sourcebook.presence import Presence

WHO = "`sourcebook serve` or `sourcebook worker`"
"""Who does it."""


async def queued(database: Database) -> int:
    """How many jobs wait to be done."""
    query = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state == "queued")
    async with database.read() as c:
        return int((await c.execute(query)).scalar_one())


async def attended(database: Database, folder: Path) -> bool:
    """Whether a worker lives. On PostgreSQL one at work alone is seen; an idle one leaves nothing queued for long."""
    if database.sqlite:
        return Presence(folder / "workers").anyone()
    leased = sa.select(jobs.c.id).where(jobs.c.state == "leased", jobs.c.lease_until > database.clock()).limit(1)
    async with database.read() as c:
        return (await c.execute(leased)).first() is not None

"""The PostgreSQL that the tests run on is a real one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA
from sourcebook.database.upgrade import current, upgrade

from .postgres import Postgres


def test_it_has_pgvector(postgres: Postgres) -> None:
    name = sa.make_url(postgres.database()).database
    assert name
    postgres.psql("CREATE EXTENSION vector", name)
    assert postgres.psql("SELECT '[1,2]'::vector <-> '[1,4]'::vector", name) == "2"


def test_every_migration_runs_on_it(postgres: Postgres, tmp_path: Path) -> None:
    async def main() -> None:
        database = Database(postgres.database(), tmp_path)
        await upgrade(database)
        assert await current(database) == SCHEMA
        await database.close()

    asyncio.run(main())

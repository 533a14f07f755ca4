"""Bring a database to this version's schema, and tell how far behind or ahead it is."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sourcebook.database.engine import Database
from sourcebook.errors import StoreError


def _config(connection: Connection | None = None) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("sourcebook.database") / "migrations"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The revision that this code is written for."""
    from alembic.script import ScriptDirectory

    return str(ScriptDirectory.from_config(_config()).get_current_head())


async def current(database: Database) -> str | None:
    """The revision that the database has; None for an empty one."""
    async with database.read() as connection:
        tables = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        if "alembic_version" not in tables:
            return None
        return str((await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar())


async def upgrade(database: Database) -> None:
    """Run what is missing, in one transaction. Raises `StoreError` for a schema newer than this code."""
    from alembic import command
    from alembic.script import ScriptDirectory

    have = await current(database)
    if have == head():
        return
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if have is not None and have not in known:
        raise StoreError(
            f"The database has schema {have}, which is newer than this version of Sourcebook knows.",
            code="schema_newer",
            remedy="Start the version that wrote it, or a later one.",
            transient=False,
        )
    async with database.write() as connection:
        await connection.run_sync(lambda c: command.upgrade(_config(c), "head"))

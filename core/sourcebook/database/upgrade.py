"""Bring a database to this version's schema, and tell how far behind or ahead it is."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA
from sourcebook.errors import ConfigError, StoreError

_LOCK = 0x50C0_0008  # of PostgreSQL's advisory locks: one upgrade at a time


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


def revisions() -> list[str]:
    """Every revision that this code knows, the oldest first."""
    from alembic.script import ScriptDirectory

    return [s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


async def current(database: Database) -> str | None:
    """The revision that the database has; None for an empty one."""
    async with database.read() as connection:
        tables = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        if "alembic_version" not in tables:
            return None
        return str((await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar())


def behind(have: str | None) -> str:
    """What is wrong with the schema `have`, as a sentence; empty where it is this version's."""
    if have == SCHEMA:
        return ""
    word = f"schema {have}" if have else "no schema yet"
    return f"The database has {word}, and this version needs {SCHEMA}: run `sourcebook db upgrade`."


async def prepare(database: Database) -> bool:
    """Whether the database can be worked with now. An embedded one is upgraded; another is its operator's to upgrade.

    False where it is some steps behind: who opens it waits. Raises `StoreError` (`schema_newer`) for a schema newer
    than this code, and `ConfigError` (`schema_missing`) where there are no tables at all.
    """
    have = await current(database)
    if have == SCHEMA:
        return True
    if database.sqlite:
        await upgrade(database)
        return True
    _refuse_newer(have)
    if have is None:
        raise ConfigError(
            "storage.database: the database has no tables yet.",
            code="schema_missing",
            remedy="Run `sourcebook db upgrade` once, with the same configuration.",
        )
    return False


async def upgrade(database: Database, to: str = "head") -> None:
    """Run what is missing, in one transaction. Raises `StoreError` for a schema newer than this code."""
    from alembic import command

    have = await current(database)
    if have == head():
        return
    _refuse_newer(have)
    async with database.write() as connection:
        if not database.sqlite:  # whose writers take turns anyway
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        await connection.run_sync(lambda c: command.upgrade(_config(c), to))


def _refuse_newer(have: str | None) -> None:
    if have is not None and have not in revisions():
        raise StoreError(
            f"The database has schema {have}, which is newer than this version of Sourcebook knows.",
            code="schema_newer",
            remedy="Start the version that wrote it, or a later one.",
            transient=False,
        )

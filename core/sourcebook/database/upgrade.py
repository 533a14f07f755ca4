"""Bring a database to this version's schema, and tell how far behind or ahead it is."""

from __future__ import annotations

import logging
from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from sourcebook.database.engine import Database
from sourcebook.database.tables import SCHEMA, schema_compatible
from sourcebook.errors import ConfigError, StoreError

log = logging.getLogger(__name__)

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


def statements() -> dict[str, str]:
    """Revision -> the oldest one whose code can go on with a database that has it."""
    from alembic.script import ScriptDirectory

    return {s.revision: s.module.compatible_since for s in ScriptDirectory.from_config(_config()).walk_revisions()}


async def current(database: Database) -> str | None:
    """The revision that the database has; None for an empty one."""
    async with database.read() as connection:
        tables = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        if "alembic_version" not in tables:
            return None
        return str((await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar())


async def mismatch(database: Database) -> str:
    """Why this version cannot work with the database, as a sentence; empty where it can.

    It can with its own schema, and with a newer one that says so.
    """
    have = await current(database)
    if have == SCHEMA:
        return ""
    if have is not None and have > SCHEMA:
        return "" if await _goes_on(database, have) else _newer(have)
    word = f"schema {have}" if have else "no schema yet"
    return f"The database has {word}, and this version needs {SCHEMA}: run `sourcebook db upgrade`."


async def prepare(database: Database) -> bool:
    """Whether the database can be worked with now. An embedded one is upgraded; another is its operator's to upgrade.

    False where it is some steps behind: who opens it waits. Raises `StoreError` (`schema_newer`) for a newer schema
    that does not say that this code can go on, and `ConfigError` (`schema_missing`) where there are no tables at all.
    """
    have = await current(database)
    if have == SCHEMA:
        return True
    if have is not None and have > SCHEMA:
        await _refuse_unless_compatible(database, have)
        log.warning("the database has schema %s, newer than this version's %s, which may go on with it", have, SCHEMA)
        return True
    if database.sqlite:
        await upgrade(database)
        return True
    if have is None:
        raise ConfigError(
            "storage.database: the database has no tables yet.",
            code="schema_missing",
            remedy="Run `sourcebook db upgrade` once, with the same configuration.",
        )
    return False


async def upgrade(database: Database, to: str = "head") -> None:
    """Run what is missing, in one transaction; nothing for a newer schema that this code can go on with.

    Raises `StoreError` for a newer one that it cannot go on with.
    """
    from alembic import command

    have = await current(database)
    if have == head():
        return
    if have is not None and have > head():
        await _refuse_unless_compatible(database, have)
        return
    async with database.write() as connection:
        if not database.sqlite:  # whose writers take turns anyway
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        await connection.run_sync(lambda c: command.upgrade(_config(c), to))
        await connection.run_sync(_state)


def _state(connection: Connection) -> None:
    """Write down what the newest migration that has run says of older code."""
    if sa.inspect(connection).has_table(schema_compatible.name):
        have = str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())
        connection.execute(schema_compatible.delete())
        connection.execute(schema_compatible.insert().values(revision=have, since=statements()[have]))


async def _goes_on(database: Database, have: str) -> bool:
    """Whether the newer schema `have` says that this code can work with it."""
    async with database.read() as connection:
        tables = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        if schema_compatible.name not in tables:
            return False
        since = (
            await connection.execute(sa.select(schema_compatible.c.since).where(schema_compatible.c.revision == have))
        ).scalar()
    return since is not None and str(since) <= SCHEMA


async def _refuse_unless_compatible(database: Database, have: str) -> None:
    if not await _goes_on(database, have):
        remedy = "Start the version that wrote it, or a later one. docs/upgrading.md says how to go back."
        raise StoreError(_newer(have), code="schema_newer", remedy=remedy, transient=False)


def _newer(have: str) -> str:
    return (
        f"The database has schema {have}, which is newer than this version of Sourcebook knows ({SCHEMA}), "
        "and which does not say that this version can go on with it."
    )

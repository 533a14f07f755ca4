"""Two engines on SQLite (one writer, several readers), one on PostgreSQL under both names.

SQLite's own transaction mode loses updates without an error, so every transaction is begun by us: IMMEDIATE for the
writer, which makes it wait its turn before it reads. `synchronous=FULL` because a 202 is a promise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Insert, Table, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sourcebook.errors import StoreError

_BUSY_MS = 10_000


def now() -> datetime:
    """The time that is written into rows: aware, UTC."""
    return datetime.now(UTC)


class Database:
    """`async with db.write() as c` is one transaction; `db.read()` cannot write. Keep both short."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url or f"sqlite+aiosqlite:///{folder / 'sourcebook.db'}"
        self.sqlite = make_url(self.url).get_backend_name() == "sqlite"
        if self.sqlite:
            self._writer = _sqlite(self.url, writer=True)
            self._reader = _sqlite(self.url, writer=False)
        else:
            self._writer = self._reader = create_async_engine(self.url, pool_pre_ping=True)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write. Raises `StoreError` where the database refuses it."""
        try:
            async with self._writer.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot."""
        try:
            async with self._reader.connect() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            raise _translated(error) from error

    def insert_or_ignore(self, table: Table) -> Insert:
        """An INSERT that leaves rows alone which are there already."""
        if self.sqlite:
            from sqlalchemy.dialects.sqlite import insert as insert_sqlite

            return insert_sqlite(table).on_conflict_do_nothing()
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table).on_conflict_do_nothing()

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()


def _translated(error: Exception) -> StoreError:
    """Without SQL or values: those may hold a user's text."""
    reason = str(getattr(error, "orig", None) or type(error).__name__)[:200]
    return StoreError(f"The database did not take this: {reason}", code="database_failed")


def _sqlite(url: str, *, writer: bool) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=1 if writer else 4, max_overflow=0 if writer else 4, pool_timeout=60)
    pragmas = [
        "journal_mode=WAL",
        f"busy_timeout={_BUSY_MS}",
        "foreign_keys=ON",
        "synchronous=FULL",
        "cache_size=-8000",
    ]

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas if writer else [*pragmas, "query_only=ON"]:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine

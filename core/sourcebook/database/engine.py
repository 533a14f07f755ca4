"""Two engines on SQLite (one writer, several readers), one on PostgreSQL under both names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Insert, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sourcebook.database.sqlite import cancels_of, sqlite_engine
from sourcebook.errors import StoreError


def now() -> datetime:
    """The time that is written into rows: aware, UTC."""
    return datetime.now(UTC)


class Database:
    """`async with db.write() as c` is one transaction; `db.read()` cannot write. Keep both short.

    On SQLite a task that is cancelled inside of one ends it first: what was written is committed, and the
    `CancelledError` comes after it.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = make_url(url) if url else URL.create("sqlite+aiosqlite", database=str(folder / "sourcebook.db"))
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            self._writer = sqlite_engine(self.url, writer=True)
            self._reader = sqlite_engine(self.url, writer=False)
        else:
            self._writer = self._reader = create_async_engine(self.url, pool_pre_ping=True)

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write. Raises `StoreError` where the database refuses it."""
        return self._transaction(self._writer.begin())

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A consistent snapshot."""
        return self._transaction(self._reader.connect())

    @asynccontextmanager
    async def _transaction(
        self, opening: AbstractAsyncContextManager[AsyncConnection]
    ) -> AsyncGenerator[AsyncConnection, None]:
        before, put_off = _cancels(), list[asyncio.CancelledError]()
        try:
            async with opening as connection:
                if self.sqlite:
                    put_off = await cancels_of(connection)
                yield connection
        except SQLAlchemyError as error:
            raise _translated(error) from error
        finally:
            cancelled = put_off.pop() if put_off else asyncio.CancelledError()
            put_off.clear()
            if _cancels() > before:
                raise cancelled

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


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _translated(error: SQLAlchemyError) -> StoreError:
    """Without SQL or values: those may hold a user's text."""
    reason = str(getattr(error, "orig", None) or type(error).__name__)[:200]
    return StoreError(f"The database did not take this: {reason}", code="database_failed")

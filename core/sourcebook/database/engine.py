"""Two engines on SQLite (one writer, several readers), one on PostgreSQL under both names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sourcebook.database.sqlite import sqlite_engine
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

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write. Raises `StoreError` where the database refuses it."""
        cancels = _cancels()
        try:
            async with self._writer.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _translated(error) from error
        _raise_cancel(cancels)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent snapshot."""
        cancels = _cancels()
        try:
            async with self._reader.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _translated(error) from error
        _raise_cancel(cancels)

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        await self._reader.dispose()


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _raise_cancel(before: int) -> None:
    """Raise what `sqlite.Connection` put off."""
    if _cancels() > before:
        raise asyncio.CancelledError


def _translated(error: SQLAlchemyError) -> StoreError:
    """Without SQL or values: those may hold a user's text."""
    reason = str(getattr(error, "orig", None) or type(error).__name__)[:200]
    return StoreError(f"The database did not take this: {reason}", code="database_failed")

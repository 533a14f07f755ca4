"""Two engines on SQLite (one writer, several readers), one on PostgreSQL under both names."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import URL, Insert, Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sourcebook.database.jsons import BY_ORJSON
from sourcebook.database.signals import Signals
from sourcebook.database.sqlite import Glance, Glances, connection_of, sqlite_engine
from sourcebook.database.tables import UTCDateTime
from sourcebook.errors import ConfigError, StoreError
from sourcebook.setting_checks import DRIVERS, check_database


def now() -> datetime:
    """The time that is written into rows: aware, UTC."""
    return datetime.now(UTC)


_FULL = ("disk is full", "disk i/o error", "no space left", "could not extend file")
_URL = "Write postgresql://user:password@host/name, or leave it empty for SQLite in the data folder."
_DAMAGED = ("malformed", "not a database", "invalid page in block")


class Database:
    """`async with db.write() as c` is one transaction; `db.read()` cannot write. Keep both short.

    On SQLite a task that is cancelled inside of one ends it first: what was written is committed, and the
    `CancelledError` comes after it.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url_of(url) if url else URL.create("sqlite+aiosqlite", database=str(folder / "sourcebook.db"))
        self.sqlite = self.url.get_backend_name() == "sqlite"
        if self.sqlite:
            self._writer = sqlite_engine(self.url, writer=True)
            self._reader = sqlite_engine(self.url, writer=False)
            self._glances = Glances(self._reader)
        else:
            self._writer = postgresql_engine(self.url)
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.signals = Signals(None if self.sqlite else self._writer)

    def write(self, *, small: bool = False, lasting: bool = True) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write. Raises `StoreError` where the database refuses it.

        `small`: each statement touches a handful of rows by their keys. On SQLite it is then done on the event loop's
        thread, since the way to another and back takes several times as long as it does; the commit is only where it
        need not be `lasting`: what a power cut may undo, together with all that was committed after it, up to the next
        that is. That is for work which is then done again. A process that is killed loses neither.
        """
        return self._transaction(self._writer.begin(), small, lasting)

    def read(self, *, small: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        """A consistent snapshot. `small` as for `write`."""
        return self._transaction(self._reader.connect(), small, True)

    @asynccontextmanager
    async def glance(self) -> AsyncGenerator[AsyncConnection | Glance, None]:
        """A consistent snapshot for a few rows, found by their keys. Only what is `Prepared` can be asked there, and
        nothing else be waited for meanwhile.
        """
        if not self.sqlite:
            async with self.read() as c:
                yield c
            return
        try:
            glance = self._glances.take()
            try:
                yield glance
            finally:
                self._glances.give_back(glance)
        except sqlite3.Error as error:
            raise _translated(error) from error

    @asynccontextmanager
    async def _transaction(
        self, opening: AbstractAsyncContextManager[AsyncConnection], small: bool, lasting: bool
    ) -> AsyncGenerator[AsyncConnection, None]:
        before, put_off = _cancels(), list[asyncio.CancelledError]()
        try:
            async with opening as connection:
                if self.sqlite:
                    raw = connection_of(connection)
                    raw.small, put_off = small, raw.put_off
                    raw.last(lasting)
                try:
                    yield connection
                finally:
                    topics = self.signals.sent(connection)
            for topic in topics:
                self.signals.tell(topic)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _translated(error) from error
        finally:
            cancelled = put_off.pop() if put_off else asyncio.CancelledError()
            put_off.clear()
            if _cancels() > before:
                raise cancelled

    def clock(self, seconds: float = 0.0) -> sa.ColumnElement[datetime] | datetime:
        """The time `seconds` from now, by the one clock that all who share this database have: its own."""
        if self.sqlite:
            return now() + timedelta(seconds=seconds)
        at: sa.ColumnElement[datetime] = sa.func.clock_timestamp(type_=UTCDateTime())
        return sa.type_coerce(at + sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds), UTCDateTime()) if seconds else at

    async def now(self, c: AsyncConnection) -> datetime:
        """That clock's time."""
        at = self.clock()
        return at if isinstance(at, datetime) else (await c.execute(sa.select(at))).scalar_one()

    def insert_or_ignore(self, table: Table) -> Insert:
        """An INSERT that leaves rows alone which are there already."""
        return insert_or_ignore(table, self.url.get_backend_name())

    async def close(self) -> None:
        """Close every connection."""
        await self.signals.close()
        if self.sqlite:
            self._glances.close()
        await self._writer.dispose()
        await self._reader.dispose()


def insert_or_ignore(table: Table, dialect: str) -> Insert:
    """An INSERT that leaves rows alone which are there already."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        return insert_sqlite(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.postgresql import insert as insert_postgresql

    return insert_postgresql(table).on_conflict_do_nothing()


def url_of(text: str) -> URL:
    """An SQLAlchemy URL with the drivers that we have. Raises `ConfigError`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise ConfigError("storage.database: this is no database URL.", remedy=_URL) from error
    try:
        check_database(text)
    except ValueError as error:
        raise ConfigError(f"storage.database: {error}", remedy=_URL) from error
    return url.set(drivername=DRIVERS[url.drivername])


def postgresql_engine(url: URL) -> AsyncEngine:
    """Raises `ConfigError` where the driver is not installed."""
    try:
        return create_async_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=10, **BY_ORJSON)
    except ImportError as error:
        raise ConfigError(
            "storage.database names PostgreSQL, and its driver is not installed.",
            remedy="pip install 'sourcebook[postgres]'",
        ) from error


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _translated(error: SQLAlchemyError | sqlite3.Error) -> StoreError:
    """Without SQL or values: those may hold a user's text."""
    said = error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)
    reason = str(said or type(error).__name__)[:200]
    lower = reason.lower()
    if any(words in lower for words in _FULL):
        return StoreError(
            "The disk that keeps the database is full, or fails.",
            code="storage_full",
            remedy="Free some space or move the data folder, then try again.",
        )
    if any(words in lower for words in _DAMAGED):
        return StoreError(
            "The database file is damaged.",
            code="database_damaged",
            remedy="Stop the server, and restore the newest backup into a new folder: `sourcebook restore`.",
            transient=False,
        )
    return StoreError(f"The database did not take this: {reason}", code="database_failed")

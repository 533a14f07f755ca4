"""SQLite for asyncio: how its connections are opened, and what a cancelled task may do to them.

SQLite's own transaction mode loses updates without an error, so every transaction is begun by us: IMMEDIATE for the
writer, which makes it wait its turn before it reads. `synchronous=FULL` because a 202 is a promise.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sourcebook.database.jsons import BY_ORJSON

T = TypeVar("T")

_BUSY_MS = 10_000
_LOG_PAGES = 1000  # SQLite's own default
_PRAGMAS = ("journal_mode=WAL", f"busy_timeout={_BUSY_MS}", "foreign_keys=ON", "synchronous=FULL", "cache_size=-8000")
_OURS: dict[str, Any] = {"check_same_thread": False, "isolation_level": None}
_READING = (*_PRAGMAS, "query_only=ON")
_LASTING = ("synchronous=FULL", f"wal_autocheckpoint={_LOG_PAGES}")
_PASSING = ("synchronous=NORMAL", "wal_autocheckpoint=0")
_AHEAD = 256  # rows that a statement brings along


class _Raw(sqlite3.Connection):
    """What the connection's thread works on. `due` is the BEGIN that the next statement takes along.

    `lasting`: whether its commits wait for the disk; `patient`: whether it waits for another process's write.
    """

    due = ""
    lasting = True
    patient = True

    def last(self, lasting: bool) -> None:
        """From the next transaction on. What does not wait for the disk does not tidy up the log either, which does."""
        if lasting != self.lasting:
            self.lasting = lasting
            cursor = super().cursor()
            for pragma in _LASTING if lasting else _PASSING:
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()

    def cursor(self, factory: Any = None) -> Any:
        """Ours, whatever is asked for."""
        return super().cursor(_Cursor)

    def rollback(self) -> None:
        """Also of a transaction that never had a statement."""
        self.due = ""
        super().rollback()

    def begun(self) -> bool:
        """Whether what is due has begun, without waiting for another process's write."""
        if self.due == "BEGIN" or not self.due:
            return True
        self.wait(False)
        cursor = super().cursor()
        try:
            cursor.execute(self.due)
        except sqlite3.OperationalError:  # the lock is held, or something worse: the thread waits, or finds out
            return False
        finally:
            cursor.close()
        self.due = ""
        return True

    def wait(self, patient: bool) -> None:
        """Whether what finds the lock held waits for it. Set only where it changes, which is seldom."""
        if patient != self.patient:
            self.patient = patient
            cursor = super().cursor()
            cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS if patient else 0}")
            cursor.close()

    def commit(self) -> None:
        """The same."""
        self.due = ""
        super().commit()


class _Cursor(sqlite3.Cursor):
    """Begins the transaction and fetches the first rows with the statement itself.

    Each of these would be a way to the connection's thread and back, which costs more than most statements do.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._ahead: list[Any] = []
        self.complete = False

    def execute(self, sql: str, parameters: Any = ()) -> _Cursor:
        """With the first rows of what it gives."""
        self._begin()
        super().execute(sql, parameters)
        self._ahead = super().fetchmany(_AHEAD) if self.description is not None else []
        self.complete = len(self._ahead) < _AHEAD
        return self

    def executemany(self, sql: str, parameters: Any) -> _Cursor:
        """Of which nothing can be fetched."""
        self._begin()
        super().executemany(sql, parameters)
        self._ahead, self.complete = [], True
        return self

    def fetchone(self) -> Any:
        """As in the DB-API."""
        if self._ahead or self.complete:
            return self._ahead.pop(0) if self._ahead else None
        return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """As in the DB-API."""
        size = size or self.arraysize
        rows, self._ahead = self._ahead[:size], self._ahead[size:]
        return rows if len(rows) == size or self.complete else rows + super().fetchmany(size - len(rows))

    def fetchall(self) -> list[Any]:
        """As in the DB-API."""
        rows, self._ahead = self._ahead, []
        return rows if self.complete else rows + super().fetchall()

    def _begin(self) -> None:
        raw = self.connection
        if isinstance(raw, _Raw) and raw.due:
            begin, raw.due = raw.due, ""
            raw.wait(True)
            super().execute(begin)


class Connection(aiosqlite.Connection):
    """Ends what it has begun. A statement that is cancelled half way would leave its connection, and with it SQLite's
    one write lock, to the garbage collector: every other write would wait until then.

    So a cancel is put off while a statement runs; `Database` raises it when the transaction is over.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection], iter_chunk_size: int) -> None:
        super().__init__(connector, iter_chunk_size)
        self.put_off: list[asyncio.CancelledError] = []
        self.reads = False  # whether it only reads
        self.small = False  # whether every statement of the transaction touches a few rows by their keys

    async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self._is_instant(fn) or (self.small and self._is_small(fn)):
            return fn(*args, **kwargs)
        return await self._to_its_end(super()._execute(fn, *args, **kwargs))  # type: ignore[no-untyped-call]  # aiosqlite's own gap

    def _is_instant(self, fn: Callable[..., Any]) -> bool:
        """Whether a call does nothing that could wait: to open or close a cursor, to hand out rows that are there, to
        end what was never begun or only read.

        They are most of all calls, and the way to the connection's thread and back costs far more than they do.
        """
        of, name = getattr(fn, "__self__", None), fn.__name__
        if of is self._connection and self._connection is not None:
            ends = name == "rollback" or name == "commit"
            # To end a transaction that wrote nothing only gives up a lock in shared memory.
            instant = self.reads or not self._connection.in_transaction or not self._connection.lasting
            return name == "cursor" or (ends and instant)
        if isinstance(of, _Cursor):
            return name == "close" or (of.complete and name.startswith("fetch"))
        return False

    def _is_small(self, fn: Callable[..., Any]) -> bool:
        """Whether a statement of a small transaction can be done here and now: once it has begun, it waits for nobody.

        Its end is left to the thread: a commit waits for the disk.
        """
        raw = self._connection
        runs = isinstance(getattr(fn, "__self__", None), _Cursor) and fn.__name__.startswith("execute")
        return runs and isinstance(raw, _Raw) and raw.begun()

    def here(self) -> sqlite3.Connection | None:
        """The connection itself where this thread may use it now: in a small transaction that writes."""
        raw = self._connection
        return raw if self.small and not self.reads and isinstance(raw, _Raw) and raw.begun() else None

    def last(self, lasting: bool) -> None:
        """Whether the transaction that has not begun yet waits for the disk at its end."""
        if not self.reads and isinstance(self._connection, _Raw):
            self._connection.last(lasting)

    def begin(self, how: str) -> None:
        """With the next statement."""
        assert isinstance(self._connection, _Raw)
        self._connection.due = how

    async def _connect(self) -> aiosqlite.Connection:
        return await self._to_its_end(super()._connect())

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as cancelled:
                self.put_off.append(cancelled)
            except Exception:  # the statement's own, raised again below
                break
        return task.result()


class Glance:
    """A snapshot that is read on the event loop's thread, without a wait from its beginning to its end."""

    def __init__(self, raw: sqlite3.Connection, dialect: sa.Dialect) -> None:
        self.raw = raw
        self.dialect = dialect


class Glances:
    """Connections of the event loop's own, mostly one: to look at a few rows through a pool, and through SQLAlchemy's
    idea of a connection, costs more than the look.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._idle: list[sqlite3.Connection] = []

    def take(self) -> Glance:
        """Give it back, whatever happens."""
        raw = self._idle.pop() if self._idle else self._opened()
        try:
            raw.execute("BEGIN")
        except BaseException:
            raw.close()
            raise
        return Glance(raw, self._engine.dialect)

    def give_back(self, glance: Glance) -> None:
        """It is over."""
        try:
            glance.raw.rollback()
        except BaseException:
            glance.raw.close()
            raise
        self._idle.append(glance.raw)

    def close(self) -> None:
        """Close those that nobody has."""
        while self._idle:
            self._idle.pop().close()

    def _opened(self) -> sqlite3.Connection:
        parts, keywords = self._engine.dialect.create_connect_args(self._engine.url)
        raw: sqlite3.Connection = sqlite3.connect(*parts, **{**keywords, **_OURS})  # type: ignore[call-overload]  # SQLAlchemy's words
        for pragma in _READING:
            raw.execute(f"PRAGMA {pragma}").close()
        return raw


def small_connection_of(connection: AsyncConnection) -> sqlite3.Connection | None:
    """What a transaction that is small writes through, once it has begun; None where a thread has to be asked."""
    return connection_of(connection).here()


def connection_of(connection: AsyncConnection) -> Connection:
    """The open connection itself. It puts off cancels; whoever raises one clears the list."""
    sync = connection.sync_connection
    raw = sync.connection.driver_connection if sync is not None else None
    assert isinstance(raw, Connection)
    return raw


def sqlite_engine(url: URL, *, writer: bool) -> AsyncEngine:
    """One connection that writes, or several that cannot."""
    pool = {"pool_size": 1, "max_overflow": 0} if writer else {"pool_size": 4, "max_overflow": 4}
    engine = create_async_engine(url, pool_timeout=60, **pool, **BY_ORJSON)

    @event.listens_for(engine.sync_engine, "do_connect")
    def connect(dialect: Any, _: Any, args: Any, keywords: Any) -> Any:
        return dialect.loaded_dbapi.connect(*args, async_creator_fn=_connection, **keywords)

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS if writer else _READING:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        connection.driver_connection.reads = not writer

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        connection.connection.driver_connection.begin("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _connection(*args: Any, **keywords: Any) -> Connection:
    # Two threads use it, one at a time: see `_is_instant`.
    connector = partial(sqlite3.connect, *args, **{**keywords, "check_same_thread": False, "factory": _Raw})
    connection = Connection(connector, iter_chunk_size=64)
    connection._thread.daemon = True  # a process ends although a statement still waits for the lock
    return connection

"""Statements that are always the same, made ready once: a question asks a dozen of them.

SQLAlchemy takes several times as long to bring one to SQLite, and its rows back, as SQLite does to run it. So where a
transaction is small, its SQL is run as it is, on the event loop's thread; elsewhere SQLAlchemy runs it. Both convert
values by the columns' types, and give rows whose columns are attributes.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.sqlite import Glance, small_connection_of

Values = Mapping[str, Any]


class Prepared:
    """One statement. Its parameters are those bound by name and, of an INSERT, the columns that it `sets`.

    A list is given by `one_of`, which is one parameter however long it is.
    """

    def __init__(self, statement: Any, *sets: str) -> None:
        self.statement = statement
        self._sets = sets
        self._plan: _Plan | None = None

    async def rows(self, c: AsyncConnection | Glance, values: Values) -> Sequence[Any]:
        """All rows of a SELECT."""
        raw, plan = self._here(c)
        if raw is not None:
            return plan.fetched(raw.execute(plan.sql, plan.bound(values)))
        assert isinstance(c, AsyncConnection)
        return (await c.execute(self.statement, values)).all()

    async def first(self, c: AsyncConnection | Glance, values: Values) -> Any:
        """The first row, or None."""
        found = await self.rows(c, values)
        return found[0] if found else None

    async def run(self, c: AsyncConnection, *values: Values) -> int:
        """Write once for each of these values; how many rows were touched, where it is one."""
        raw, plan = self._here(c)
        if raw is None:
            return int((await c.execute(self.statement, list(values) if len(values) > 1 else values[0])).rowcount)
        cursor = raw.cursor()
        if len(values) > 1:
            cursor.executemany(plan.sql, [plan.bound(one) for one in values])
        else:
            cursor.execute(plan.sql, plan.bound(values[0]))
        touched: int = cursor.rowcount
        cursor.close()
        return touched

    def _here(self, c: AsyncConnection | Glance) -> tuple[sqlite3.Connection | None, _Plan]:
        """Where it can be run at once, and how; None where SQLAlchemy has to run it."""
        if isinstance(c, Glance):
            return c.raw, self._planned(c.dialect)
        raw = small_connection_of(c) if c.dialect.name == "sqlite" else None
        return raw, self._planned(c.dialect) if raw is not None else _NONE

    def _planned(self, dialect: sa.Dialect) -> _Plan:
        if self._plan is None:
            self._plan = _planned(self.statement, dialect, self._sets)
        return self._plan


class _Plan:
    """A statement as SQLite takes it: its text, how each place is filled, and how each column is read."""

    def __init__(self, sql: str, places: Sequence[_Place], readers: Sequence[_Converter | None]) -> None:
        self.sql = sql
        self._places = places
        self._readers = [(i, reader) for i, reader in enumerate(readers) if reader is not None]
        self._make: Callable[[Sequence[Any]], Any] | None = None

    def bound(self, values: Values) -> list[Any]:
        """What stands at the places, in order."""
        return [place(values) for place in self._places]

    def fetched(self, cursor: sqlite3.Cursor) -> Sequence[Any]:
        """Its rows."""
        if self._make is None:
            self._make = _row_of([one[0] for one in cursor.description])
        found, make = cursor.fetchall(), self._make
        cursor.close()
        if not self._readers:
            return [make(row) for row in found]
        rows = []
        for row in found:
            read = list(row)
            for i, reader in self._readers:
                read[i] = reader(read[i])
            rows.append(make(read))
        return rows


_Converter = Callable[[Any], Any]
_Place = Callable[[Values], Any]
_NONE = _Plan("", (), ())


def _row_of(columns: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    made = namedtuple("Row", columns, rename=True)  # type: ignore[misc]  # they are known when it runs
    return made._make


def _planned(statement: Any, dialect: sa.Dialect, sets: Sequence[str]) -> _Plan:
    compiled = statement.compile(dialect=dialect, column_keys=list(sets) or None)
    if compiled.post_compile_params or not compiled.positional:
        raise ValueError("a prepared statement has a fixed text: give lists by `one_of`")
    places = [_place(name, compiled.binds[name], dialect) for name in compiled.positiontup]
    columns = statement.selected_columns if isinstance(statement, sa.Select) else ()
    return _Plan(str(compiled), places, [_reader(column.type, dialect) for column in columns])


def _place(name: str, bind: sa.BindParameter[Any], dialect: sa.Dialect) -> _Place:
    convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
    if (make := bind.callable) is not None:  # made anew each time
        return (lambda _: convert(make())) if convert is not None else (lambda _: make())
    if not bind.required:
        fixed = convert(bind.value) if convert is not None else bind.value
        return lambda _: fixed
    return (lambda values: convert(values[name])) if convert is not None else (lambda values: values[name])


def _reader(kind: Any, dialect: sa.Dialect) -> _Converter | None:
    reader: _Converter | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return reader

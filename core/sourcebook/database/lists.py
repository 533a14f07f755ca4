"""Lists as one parameter of a statement: the statement stays the same however long they are, and is compiled once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from sourcebook.database.engine import Database


class _JsonList(TypeDecorator[Sequence[str]]):
    """As SQLite's `json_each` takes it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: Any) -> str:
        """One string."""
        return orjson.dumps(value).decode()


def one_of(column: sa.ColumnElement[Any], name: str, database: Database) -> sa.ColumnElement[bool]:
    """Whether a column of text is among the parameter `name`, a list of strings of any length."""
    if database.sqlite:
        each = sa.func.json_each(sa.bindparam(name, type_=_JsonList())).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.bindparam(name, type_=sa.ARRAY(sa.Text)))

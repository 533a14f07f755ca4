"""Statements that are made ready once: the same values and rows, whoever runs them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.lists import one_of
from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import conversations, owners
from sourcebook.errors import StoreError

from .support import new_database

_OWNER = Prepared(owners.insert(), "id", "name", "created_at")
_TALK = Prepared(conversations.insert(), "id", "owner_id", "notebooks", "created_at", "updated_at", "deleted_at")
_CLOSE = Prepared(
    conversations.update()
    .where(conversations.c.id == sa.bindparam("closed"), conversations.c.version == 1)
    .values(version=2, deleted_at=sa.bindparam("at", callable_=now, type_=conversations.c.deleted_at.type))
)


async def filled(folder: Path) -> Database:
    database = new_database(folder)
    async with database.write() as c:
        await _OWNER.run(c, {"id": "own_1", "name": "one", "created_at": now()})
    return database


def talk(number: int) -> dict[str, Any]:
    told = {"id": f"conv_{number}", "owner_id": "own_1", "notebooks": [f"nb_{number}", "é"], "deleted_at": None}
    return {**told, "created_at": now(), "updated_at": now()}


def all_of(database: Database) -> Prepared:
    return Prepared(sa.select(conversations).where(one_of(conversations.c.id, "ids", database)))


@pytest.mark.parametrize("small", [True, False])
def test_what_is_written_is_read_alike_in_a_glance_and_by_sqlalchemy(tmp_path: Path, small: bool) -> None:
    async def main() -> None:
        database = await filled(tmp_path)
        talks = [talk(n) for n in range(3)]
        async with database.write(small=small) as c:
            await _TALK.run(c, *talks)
            assert await _CLOSE.run(c, {"closed": "conv_1"}) == 1
            assert await _CLOSE.run(c, {"closed": "conv_1"}) == 0
        found: list[Sequence[Any]] = []
        ways: list[AbstractAsyncContextManager[Any]] = [database.glance(), database.read(), database.read(small=True)]
        for way in ways:
            async with way as c:
                found.append(await all_of(database).rows(c, {"ids": ["conv_0", "conv_1", "conv_9"]}))
                assert await all_of(database).first(c, {"ids": ["conv_9"]}) is None
        async with database.read() as c:
            plain = (
                await c.execute(sa.select(conversations).where(conversations.c.id.in_(["conv_0", "conv_1"])))
            ).all()
        first, second = found[0]
        assert (first.notebooks, first.deleted_at, first.created_at) == (["nb_0", "é"], None, talks[0]["created_at"])
        assert (second.version, second.deleted_at.utcoffset()) == (2, timedelta(0))
        assert all([row._asdict() for row in rows] == [row._asdict() for row in plain] for rows in found)
        await database.close()

    asyncio.run(main())


def test_a_glance_is_one_snapshot_and_cannot_write(tmp_path: Path) -> None:
    async def main() -> None:
        database = await filled(tmp_path)
        names = Prepared(sa.select(owners.c.name))
        with sqlite3.connect(tmp_path / "sourcebook.db") as other:
            async with database.glance() as c:
                assert [row.name for row in await names.rows(c, {})] == ["one"]
                other.execute("INSERT INTO owners (id, name, created_at) VALUES ('own_2', 'two', '2026-01-01')")
                other.commit()
                assert [row.name for row in await names.rows(c, {})] == ["one"]
            async with database.glance() as c:
                assert len(await names.rows(c, {})) == 2
            with pytest.raises(StoreError):
                async with database.glance() as c:
                    await Prepared(sa.select(sa.func.no_such_function())).rows(c, {})
            with pytest.raises(StoreError):
                async with database.glance() as c:
                    c.raw.execute("DELETE FROM owners")  # type: ignore[union-attr]
            async with database.glance() as c:
                assert len(await names.rows(c, {})) == 2
        await database.close()

    asyncio.run(main())


def test_a_small_transaction_that_fails_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        database = await filled(tmp_path)
        with pytest.raises(StoreError, match="UNIQUE"):
            async with database.write(small=True) as c:
                await _TALK.run(c, talk(1))
                await _TALK.run(c, talk(1))
        async with database.glance() as c:
            assert await all_of(database).rows(c, {"ids": ["conv_1"]}) == []
        async with database.write(small=True) as c:
            await _TALK.run(c, talk(1))
        await database.close()

    asyncio.run(main())


def test_a_statement_whose_text_hangs_on_its_values_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        database = await filled(tmp_path)
        with pytest.raises(ValueError, match="one_of"):
            async with database.glance() as c:
                await Prepared(sa.select(owners).where(owners.c.id.in_(["a", "b"]))).rows(c, {})
        await database.close()

    asyncio.run(main())

"""The database: its migrations, its transactions, and what a cancelled task may not do to it."""

from __future__ import annotations

import asyncio
import gc
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.pages import page
from sourcebook.database.tables import SCHEMA, metadata, owners
from sourcebook.database.upgrade import current, head, revisions, upgrade
from sourcebook.errors import StoreError

from .support import new_database

COUNTER = sa.text("SELECT n FROM counter")


async def with_counter(folder: Path) -> Database:
    database = new_database(folder)
    async with database.write() as c:
        await c.execute(sa.text("CREATE TABLE counter (n INTEGER)"))
        await c.execute(sa.text("INSERT INTO counter VALUES (0)"))
    return database


async def counted(database: Database) -> int:
    async with database.read() as c:
        return int((await c.execute(COUNTER)).scalar_one())


async def increment(database: Database) -> None:
    """Read, then write what was read and one: lost where transactions overlap."""
    async with database.write() as c:
        n = int((await c.execute(COUNTER)).scalar_one())
        await asyncio.sleep(0)
        await c.execute(sa.text("UPDATE counter SET n = :n"), {"n": n + 1})


# Migrations.


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def differences(connection: sa.Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)

    async def main() -> None:
        database = Database("", tmp_path)
        await upgrade(database)
        async with database.read() as c:
            assert await c.run_sync(differences) == []
        await database.close()

    asyncio.run(main())


def test_the_schema_that_is_named_is_the_newest_migration() -> None:
    assert head() == SCHEMA


@pytest.mark.parametrize("start", sorted(revisions()))
def test_data_of_every_schema_survives_the_upgrade(tmp_path: Path, start: str) -> None:
    """A row in every table that the schema has; afterwards each is there, with what it held."""

    def filled(connection: sa.Connection) -> dict[str, dict[str, Any]]:
        tables = sa.MetaData()
        tables.reflect(connection)
        rows: dict[str, dict[str, Any]] = {}
        for table in tables.sorted_tables:
            if table.name not in ("alembic_version", "schema_compatible"):  # rows of our own
                rows[table.name] = {c.name: _value(c, rows) for c in table.columns}
                connection.execute(table.insert(), rows[table.name])
        return rows

    def held(connection: sa.Connection, table: str) -> list[dict[str, Any]]:
        found = sa.Table(table, sa.MetaData(), autoload_with=connection)
        return [dict(row) for row in connection.execute(sa.select(found)).mappings()]

    async def main() -> None:
        database = Database("", tmp_path)
        await upgrade(database, start)
        async with database.write() as c:
            rows = await c.run_sync(filled)
        assert {"sources", "jobs", "passages"} <= rows.keys()
        await upgrade(database)
        assert await current(database) == SCHEMA
        async with database.read() as c:
            assert (await c.execute(sa.text("PRAGMA foreign_key_check"))).all() == []
            for table, row in rows.items():
                (kept,) = await c.run_sync(held, table)
                assert {name: kept[name] for name in row} == row, table
        await database.close()

    asyncio.run(main())


def _value(column: sa.Column[Any], rows: dict[str, dict[str, Any]]) -> Any:
    """Something for this column; what it refers to is there already, or it is the row's own table, and nothing."""
    for key in column.foreign_keys:
        return rows[key.column.table.name][key.column.name] if key.column.table.name in rows else None
    kinds: list[tuple[type, Any]] = [
        (sa.JSON, {"a": [1, None]}),
        (sa.Boolean, True),
        (sa.DateTime, datetime(2026, 1, 2, 3, 4, 5, 6)),
        (sa.LargeBinary, b"\x00\xff"),
        (sa.Integer, 3),
        (sa.Float, 1.5),
    ]
    return next((value for kind, value in kinds if isinstance(column.type, kind)), column.name[:8])


def test_upgrading_twice_is_upgrading_once(tmp_path: Path) -> None:
    async def main() -> None:
        database = Database("", tmp_path)
        assert await current(database) is None
        await upgrade(database)
        await upgrade(database)
        assert await current(database) == SCHEMA
        await database.close()

    asyncio.run(main())


def test_a_newer_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        database = new_database(tmp_path)
        async with database.write() as c:
            await c.execute(sa.text("UPDATE alembic_version SET version_num = '0099'"))
        with pytest.raises(StoreError, match="schema 0099, which is newer") as caught:
            await upgrade(database)
        assert caught.value.problem_code == "schema_newer"
        assert not caught.value.transient
        await database.close()

    asyncio.run(main())


# Transactions.


def test_eighty_of_eighty_concurrent_increments_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        first = await with_counter(tmp_path)
        second = Database("", tmp_path)  # as another process has it
        await asyncio.gather(*(increment(d) for _ in range(40) for d in (first, second)))
        assert await counted(first) == await counted(second) == 80
        await first.close()
        await second.close()

    asyncio.run(main())


def test_small_transactions_lose_none_either_and_wait_for_another_processs_lock_elsewhere(tmp_path: Path) -> None:
    """Two databases are two writers. While one holds the lock, the event loop of the other goes on."""

    async def increments(database: Database) -> None:
        for _ in range(20):
            async with database.write(small=True) as c:
                n = int((await c.execute(COUNTER)).scalar_one())
                await asyncio.sleep(0)
                await c.execute(sa.text("UPDATE counter SET n = :n"), {"n": n + 1})

    async def main() -> None:
        first, second = await with_counter(tmp_path), new_database(tmp_path)
        await asyncio.gather(*(increments(d) for d in (first, second) for _ in range(2)))
        assert await counted(first) == 80
        turns = 0
        async with first.write() as c:
            await c.execute(sa.text("UPDATE counter SET n = 0"))
            waiting = asyncio.create_task(increments(second))
            while turns < 1000 and not waiting.done():
                await asyncio.sleep(0)
                turns += 1
            assert not waiting.done()
        await waiting
        assert (turns, await counted(second)) == (1000, 20)
        await first.close()
        await second.close()

    asyncio.run(main())


def test_what_need_not_last_is_seen_by_all_at_once_and_the_next_commit_waits_for_the_disk_again(tmp_path: Path) -> None:
    async def syncs(database: Database, *, lasting: bool) -> list[int]:
        async with database.write(small=True, lasting=lasting) as c:
            await c.execute(sa.text("UPDATE counter SET n = n + 1"))
            pragmas = ("synchronous", "wal_autocheckpoint")
            return [int((await c.execute(sa.text(f"PRAGMA {name}"))).scalar_one()) for name in pragmas]

    async def main() -> None:
        database = await with_counter(tmp_path)
        other = Database("", tmp_path)  # as another process
        full, normal = [2, 1000], [1, 0]
        assert await syncs(database, lasting=True) == full
        for n in (2, 3):
            assert await syncs(database, lasting=False) == normal
            assert await counted(other) == n
        assert await syncs(database, lasting=True) == full
        await increment(database)  # `write` lasts where nothing is said
        assert await counted(other) == 5
        await database.close()
        await other.close()

    asyncio.run(main())


def test_a_transaction_that_need_not_last_leaves_nothing_where_it_raises(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)
        with pytest.raises(ValueError, match="so"):
            async with database.write(small=True, lasting=False) as c:
                await c.execute(sa.text("UPDATE counter SET n = 7"))
                raise ValueError("so")
        assert await counted(database) == 0
        await increment(database)
        assert await counted(database) == 1
        await database.close()

    asyncio.run(main())


def test_a_raising_transaction_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)
        with pytest.raises(RuntimeError):
            async with database.write() as c:
                await c.execute(sa.text("UPDATE counter SET n = 7"))
                raise RuntimeError
        assert await counted(database) == 0
        await database.close()

    asyncio.run(main())


def test_a_reader_cannot_write_and_is_not_told_the_values(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)
        with pytest.raises(StoreError, match="readonly") as caught:
            async with database.read() as c:
                await c.execute(sa.text("UPDATE counter SET n = :n"), {"n": 424242})
        assert "424242" not in caught.value.detail
        assert "UPDATE" not in caught.value.detail
        await database.close()

    asyncio.run(main())


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "50% off? #1 ü"
        database = new_database(folder)
        assert await current(database) == SCHEMA
        await database.close()
        assert (folder / "sourcebook.db").is_file()

    asyncio.run(main())


def test_times_come_back_aware_and_a_naive_one_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        database = new_database(tmp_path)
        at = datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
        async with database.write() as c:
            await c.execute(owners.insert().values(id="own_1", name="a", created_at=at))
        async with database.read() as c:
            assert (await c.execute(sa.select(owners.c.created_at))).scalar() == at
        with pytest.raises(StoreError):
            async with database.write() as c:
                naive = now().replace(tzinfo=None)
                await c.execute(owners.insert().values(id="own_2", name="b", created_at=naive))
        await database.close()

    asyncio.run(main())


# A cancelled task.


def test_a_transaction_that_is_cancelled_ends_and_leaves_the_lock(tmp_path: Path) -> None:
    """Anywhere in it: the next writer gets its turn, and a count is either written or not."""

    async def main() -> None:
        database = await with_counter(tmp_path)
        draw, done, cancelled = random.Random(7), 0, 0
        for n in range(150):
            task = asyncio.create_task(increment(database))
            for _ in range(draw.randrange(60)):
                await asyncio.sleep(0)
            await asyncio.sleep(draw.choice((0.0, 0.001, 0.003)))
            before = await counted(database) if task.done() else None
            task.cancel()
            try:
                await task
                done += 1
            except asyncio.CancelledError:
                cancelled += 1
            if before is None and n % 10 == 0:
                await asyncio.wait_for(increment(database), 20)
        assert done > 0
        assert cancelled > 0
        last = await counted(database)
        await asyncio.wait_for(increment(database), 20)
        assert await counted(database) == last + 1
        await database.close()
        del database
        gc.collect()  # a connection that was not closed would warn here

    asyncio.run(main())


def test_a_cancel_inside_a_transaction_is_raised_when_it_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)
        reached = []

        async def work() -> None:
            async with database.write() as c:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()  # as if it came while the statement runs
                await c.execute(sa.text("UPDATE counter SET n = 5"))
                reached.append("inside")
            reached.append("behind")

        task = asyncio.create_task(work())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert reached == ["inside"]
        assert await counted(database) == 5
        await database.close()

    asyncio.run(main())


def test_a_cancel_is_not_lost_where_the_transaction_raises(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)

        async def work() -> None:
            async with database.write() as c:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await c.execute(sa.text("UPDATE counter SET n = 5"))
                raise ValueError

        task = asyncio.create_task(work())
        await asyncio.wait([task])
        assert task.cancelled()
        assert await counted(database) == 0
        await database.close()

    asyncio.run(main())


def test_a_deadline_over_a_transaction_is_a_timeout(tmp_path: Path) -> None:
    async def main() -> None:
        database = await with_counter(tmp_path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                while True:
                    await increment(database)
        await asyncio.wait_for(increment(database), 20)
        await database.close()

    asyncio.run(main())


def test_a_page_says_where_the_next_begins() -> None:
    class Row:
        def __init__(self, n: int) -> None:
            self.id = f"row_{n}"

    rows = [Row(n) for n in range(3)]
    assert page(rows, 3).next_cursor is None
    assert page(rows, 2).next_cursor == "row_1"
    assert page(rows, 2).items == rows[:2]

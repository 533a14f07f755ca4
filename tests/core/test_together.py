"""Small writes that share transactions: fewer commits, and each as if it were alone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database
from sourcebook.database.together import Together
from sourcebook.errors import NotFound, StoreError

from .support import new_database


async def with_numbers(folder: Path) -> tuple[Database, Together]:
    database = new_database(folder)
    async with database.write() as c:
        await c.execute(sa.text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    return database, Together(database)


async def numbers(database: Database) -> list[int]:
    async with database.read() as c:
        return list((await c.execute(sa.text("SELECT n FROM numbers ORDER BY n"))).scalars())


async def put(together: Together, n: int, error: Exception | None = None) -> int:
    async def work(c: AsyncConnection) -> int:
        await c.execute(sa.text("INSERT INTO numbers VALUES (:n)"), {"n": n})
        if error is not None:
            raise error
        return n

    return await together.write(work)


def counting(database: Database, patch: pytest.MonkeyPatch) -> list[int]:
    """How many transactions are begun from now on."""
    begun: list[int] = []
    write = database.write

    def counted(**how: Any) -> Any:
        begun.append(1)
        return write(**how)

    patch.setattr(database, "write", counted)
    return begun


def test_what_comes_at_once_takes_two_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        database, together = await with_numbers(tmp_path)
        begun = counting(database, monkeypatch)
        assert await asyncio.gather(*(put(together, n) for n in range(40))) == list(range(40))
        assert (len(begun), await numbers(database)) == (2, list(range(40)))
        assert await put(together, 99) == 99
        assert len(begun) == 3
        await database.close()

    asyncio.run(main())


def test_one_that_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        database, together = await with_numbers(tmp_path)
        works = [put(together, n, NotFound("no") if n % 5 == 3 else None) for n in range(10)]
        works.append(put(together, 1))  # is there already
        *found, last = await asyncio.gather(*works, return_exceptions=True)
        assert [n for n in found if isinstance(n, int)] == await numbers(database) == [0, 1, 2, 4, 5, 6, 7, 9]
        assert [isinstance(found[n], NotFound) for n in (3, 8)] == [True, True]
        assert isinstance(last, StoreError)
        await database.close()

    asyncio.run(main())


def test_whoever_leaves_keeps_nobody_from_being_written(tmp_path: Path) -> None:
    async def main() -> None:
        database, together = await with_numbers(tmp_path)
        tasks = [asyncio.create_task(put(together, n)) for n in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [n for n in found if isinstance(n, int)] == [1, 2, 4, 5]
        assert await put(together, 9) == 9
        assert set(await numbers(database)) >= {1, 2, 4, 5, 9}
        await database.close()

    asyncio.run(main())

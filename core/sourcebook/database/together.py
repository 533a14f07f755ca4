"""Small writes that share transactions: what comes while one is being committed goes into the next one together.

A commit waits for the disk, and SQLite has one writer: a hundred questions at once would wait for a hundred of them,
one after the other. Nobody waits for company: whoever comes first is written alone, and at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database

T = TypeVar("T")

Work = Callable[[AsyncConnection], Awaitable[T]]
"""What one writes; it may be called twice, the first time in a transaction that came to nothing."""

_MOST = 64  # of one transaction


class Together:
    """Writes of one kind. Each is whole or not at all; none fails because of another."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._writing = False
        self._waiting: list[tuple[Work[Any], asyncio.Future[Any]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, work: Work[T]) -> T:
        """What `work` gives, once it is committed. Raises what it raises."""
        if not self._db.sqlite:  # which has as many writers as connections
            return await self._alone(work)
        if self._writing:
            future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._waiting.append((work, future))
            return await future
        self._writing = True
        try:
            return await self._alone(work)
        finally:
            self._go_on()

    def _go_on(self) -> None:
        self._waiting = [one for one in self._waiting if not one[1].done()]  # without those who have left
        batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        self._writing = bool(batch)
        if batch:  # on nobody's behalf
            self._task = asyncio.create_task(self._write(batch), name="writing together", context=Context())

    async def _write(self, batch: Sequence[tuple[Work[Any], asyncio.Future[Any]]]) -> None:
        try:
            outcomes = await self._all([work for work, _ in batch])
        except BaseException as error:
            outcomes = [error] * len(batch)
            if not isinstance(error, Exception):
                raise
        finally:
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            self._go_on()

    async def _all(self, works: Sequence[Work[Any]]) -> list[Any]:
        """What each gives or raises: in one transaction or, where one of them fails, each in its own."""
        wrong = False
        try:
            async with self._db.write(small=True) as c:
                try:
                    return [await work(c) for work in works]
                except Exception:
                    wrong = True
                    raise
        except Exception:
            if not wrong:  # it may be committed: then to write it again would be wrong
                raise
        outcomes: list[Any] = []
        for work in works:
            try:
                outcomes.append(await self._alone(work))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    async def _alone(self, work: Work[T]) -> T:
        async with self._db.write(small=True) as c:
            return await work(c)

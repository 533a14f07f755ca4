"""What has just been committed, told to whoever waits for it: a hint to look, never the news itself.

Within a process at once; between processes through PostgreSQL's LISTEN and NOTIFY, where there is one. A hint may be
lost, so that everybody who waits also looks once in a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = logging.getLogger(__name__)

QUEUED = "queued"
"""A job was added."""

_CHANNEL = "sourcebook"
_WAITING = "signals"  # in the connection's `info`, until it commits
_AGAIN = 2.0  # seconds before the next attempt to listen


class Signals:
    """Subscribers by topic. A topic is `queued`, `job:<id>` or `notebook:<id>`."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        self._engine = engine  # of PostgreSQL; None where all who could signal are in this process
        self._waiting: dict[str, set[Callable[[], None]]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def send(self, c: AsyncConnection, *topics: str) -> None:
        """Tell it when, and only when, the caller's transaction is committed."""
        if self._engine is None:
            c.info.setdefault(_WAITING, {}).update(dict.fromkeys(topics))
            return
        for topic in topics:
            await c.execute(_NOTIFY, {"topic": topic})

    def sent(self, c: AsyncConnection) -> Iterable[str]:
        """What was sent within this transaction, to be told when it is committed."""
        topics: Iterable[str] = c.info.pop(_WAITING, ())
        return topics

    def tell(self, topic: str) -> None:
        """Wake those in this process who wait for `topic`."""
        for wake in list(self._waiting.get(topic, ())):
            wake()

    @asynccontextmanager
    async def following(self, topic: str) -> AsyncGenerator[asyncio.Event]:
        """An event that is set whenever `topic` is told; clear it before looking."""
        event = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(event.set)
        self.listen()
        try:
            yield event
        finally:
            self._waiting[topic].discard(event.set)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def listen(self) -> None:
        """Hear other processes from now on, where they can be heard."""
        if self._engine is not None and self._listening is None:
            self._listening = asyncio.create_task(self._listen(self._engine), name="signals", context=Context())

    async def close(self) -> None:
        """Hear nothing more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
            self._listening = None

    async def _listen(self, engine: AsyncEngine) -> None:
        import psycopg

        parts, keywords = engine.dialect.create_connect_args(engine.url)
        while True:
            try:
                # A connection of its own: it does nothing else, and is not given back.
                connection = await psycopg.AsyncConnection.connect(*parts, autocommit=True, **keywords)
                async with connection:
                    await connection.execute(f"LISTEN {_CHANNEL}")
                    for topic in list(self._waiting):  # what was told while nobody listened
                        self.tell(topic)
                    async for told in connection.notifies():
                        self.tell(told.payload)
            except psycopg.Error as error:
                log.info("not listening to the database for now: %s", str(error).strip())
            await asyncio.sleep(_AGAIN)


_NOTIFY = sa.text(f"SELECT pg_notify('{_CHANNEL}', :topic)")

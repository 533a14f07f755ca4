"""What the configuration is wired to: pipelines, and all that searches, answers and reads with them.

A reload builds a wiring beside the one that serves, and swaps them whole. Who works with the old one goes on with it to
the end; when the last of them is gone, it is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sourcebook.answering import Answering
from sourcebook.configuration import Configuration
from sourcebook.deletion import Deletion
from sourcebook.dropping import Dropping
from sourcebook.embeddings import Embeddings, import_numpy
from sourcebook.errors import SourcebookError
from sourcebook.generations import Retiring
from sourcebook.ingestion import Ingestion
from sourcebook.jail import Jail
from sourcebook.jobs import Job
from sourcebook.links import Links
from sourcebook.pages import Pages
from sourcebook.pipelines import Pipelines, jail_limits, preload
from sourcebook.reindexing import Reindexing
from sourcebook.searching import Searching
from sourcebook.sharing import Shared
from sourcebook.specs import Specs

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook

log = logging.getLogger(__name__)

Doing = tuple[Callable[[Job], Awaitable[None]], Callable[[Job, SourcebookError], Awaitable[object]]]


class Wiring:
    """One configuration at work. `before`: the one that it will replace, whose jail it takes over if it is the same."""

    def __init__(
        self, book: Sourcebook, configuration: Configuration, pipelines: Pipelines, before: Wiring | None = None
    ) -> None:
        settings = configuration.settings
        self.configuration = configuration
        self.pipelines = pipelines
        self.specs = Specs(book.database, pipelines)
        filters, metrics = settings.filters, book.metrics
        self.searching = Searching(
            pipelines, book.plugins, book.reading, self.specs, filters, settings.cache.queries, metrics
        )
        self.links = Links(settings.links, book.database)
        self.answering = Answering(pipelines, book.plugins, self.searching, book.reading, self.links, metrics)
        self._jail = self._jail_of(book, before)
        self.jail = self._jail.thing
        self.pages = Pages(book.reading, book.sources, pipelines, book.blobs, self.jail)
        self._wire_jobs(book)
        self.users = 0

    def _jail_of(self, book: Sourcebook, before: Wiring | None) -> Shared[Jail]:
        jail, files = self.configuration.settings.jail, self.pipelines.jail_files()
        if before is not None:
            same = before.configuration.settings.jail == jail and before.pipelines.jail_files() == files
            if same:
                return before._jail.hold()
        limits = jail_limits(jail)
        modules = preload(book.plugins)
        made = Jail(limits, modules, jail.slots, grants=jail.grants, folder=book.folder, readable=files)
        return Shared(made, lambda jail: jail.close())

    def _wire_jobs(self, book: Sourcebook) -> None:
        """What does the jobs; nothing is begun yet."""
        settings = self.configuration.settings
        self.ingestion = Ingestion(
            book.database,
            book.jobs,
            book.sources,
            self.pipelines,
            book.blobs,
            self.jail,
            self.specs,
            settings.filters,
            Embeddings(book.database, settings.cache.embeddings),
            settings.jail,
            book.metrics,
        )
        self.deletion = Deletion(book.database, book.jobs, self.pipelines, book.blobs)
        self.retiring = Retiring(book.database, book.jobs, self.pipelines, book.blobs)
        self.dropping = Dropping(book.database, book.jobs)
        self.reindexing = Reindexing(
            book.database, book.jobs, book.notebooks, self.pipelines, self.specs, self.dropping
        )
        self.doing: dict[str, Doing] = {
            "ingest": (self.ingestion.ingest, self.ingestion.failed),
            "delete": (self.deletion.delete, self.deletion.failed),
            "retire": (self.retiring.retire, self.retiring.failed),
            "reindex": (self.reindexing.build, self.reindexing.failed),
            "drop": (self.dropping.drop, self.dropping.failed),
        }
        """Who does the jobs of a kind, and what becomes of one that fails."""

    async def open(self, *, mending: bool = False) -> None:
        """Open what notebooks still lie in. Raises `ConfigError` where stored vectors would not fit any more."""
        await self.specs.check(mending=mending)
        await self.links.open()
        if any(p.embedder for p in self.pipelines):
            await import_numpy()
        self.pipelines.settle()

    async def close(self) -> list[str]:
        """Close what no other wiring uses; the names of the components."""
        await self._jail.let_go()
        return await self.pipelines.close()


class Wirings:
    """The wiring that serves, and those before it that somebody still works with."""

    def __init__(self, first: Wiring) -> None:
        self.current = first
        self._old: set[Wiring] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return 1 + len(self._old)

    def take(self) -> Wiring:
        """The current one, for somebody who will `leave` it."""
        self.current.users += 1
        return self.current

    def leave(self, wiring: Wiring) -> None:
        """One of its users is done."""
        wiring.users -= 1
        self._close_unused(wiring)

    @contextmanager
    def used(self) -> Iterator[Wiring]:
        """The current one, which stays open for as long as this lasts."""
        wiring = self.take()
        try:
            yield wiring
        finally:
            self.leave(wiring)

    def swap(self, wiring: Wiring) -> None:
        """Whoever comes from now on gets this one."""
        before, self.current = self.current, wiring
        self._old.add(before)
        self._close_unused(before)

    async def close(self) -> None:
        """Close all, whoever still uses them."""
        await asyncio.gather(*self._closing)
        for wiring in (*self._old, self.current):
            await wiring.close()
        self._old.clear()

    def _close_unused(self, wiring: Wiring) -> None:
        if wiring in self._old and not wiring.users:
            self._old.discard(wiring)
            task = asyncio.create_task(self._close(wiring), name="old configuration")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, wiring: Wiring) -> None:
        if closed := await wiring.close():
            log.info("nobody uses the configuration before any more: closed %s", ", ".join(sorted(closed)))

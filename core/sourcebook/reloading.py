"""Reads the configuration again and goes over to it whole, or not at all.

First everything is checked, as `sourcebook config check` does. Then what is new or changed is opened beside what
serves. Only when all of it is open, new runs, searches and jobs take it; those under way end with what they began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sourcebook.config_check import check
from sourcebook.database.engine import now
from sourcebook.errors import Conflict, SourcebookError, StoreError
from sourcebook.pipelines import Pipelines
from sourcebook.settings import Settings
from sourcebook.wiring import Wiring

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook

log = logging.getLogger(__name__)

RESTART = (
    "storage",
    "server.host",
    "server.port",
    "server.workers",
    "server.audit_log",
    "plugins.enabled",
    "plugins.disabled",
    "plugins.mount",
    "plugins.import_deadline",
    "jobs.workers",
    "jobs.lease",
    "runs.log",
    "limits.counters",
)
"""Keys and sections that are read when a process starts, and never again."""

_CODE = "restart_needed"
_REMEDY = "Restart Sourcebook to change these, or undo that; nothing was changed."


@dataclass(frozen=True)
class Reloaded:
    """What a reload did: `changed` names keys, `opened` components that were built, as `llms.fast`.

    `number` counts the configurations that this process has had; `in_use` those that somebody still works with.
    """

    changed: tuple[str, ...]
    opened: tuple[str, ...]
    number: int
    in_use: int
    at: datetime


class Reloading:
    """The reloads of one Sourcebook: one at a time."""

    def __init__(self, book: Sourcebook) -> None:
        self._book = book
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reloaded]] = set()
        self._closed = False
        self.number = 1
        self.problem = ""
        """Why the last one failed; empty where it did not."""
        self.listeners: list[Callable[[Settings], None]] = []
        """Told of new settings in the same moment in which everybody else gets them; they may not fail."""

    async def reload(self) -> Reloaded:
        """Go over to what the layers say now.

        Raises, with nothing changed: `ConfigError` with every mistake; `Conflict` (code `restart_needed`) where a key
        has changed that is read at the start alone, and `StoreError` (code `stopping`) while this process ends; and
        whatever keeps a component from opening. Goes on although whoever asked does not wait for it.
        """
        if self._closed or not self._book.is_open:
            raise StoreError("This process is stopping, and reloads nothing any more.", code="stopping", retry_after=1)
        task = asyncio.create_task(self._counted(), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise StoreError("This process stopped before the reload was done.", code="stopping") from None

    async def close(self) -> None:
        """Give up what is under way: what it opened is closed, and the old one goes on to the end."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _counted(self) -> Reloaded:
        async with self._turn:
            try:
                done = await self._reload()
            except Exception as error:
                self.problem = error.detail if isinstance(error, SourcebookError) else f"{type(error).__name__}"
                refused = isinstance(error, SourcebookError) and error.problem_code in ("config_invalid", _CODE)
                self._book.metrics.reloaded("refused" if refused else "failed")
                log.error("the configuration was not reloaded, and the one before goes on: %s", error)
                raise
            self.problem = ""
            self._book.metrics.reloaded("done" if done.changed or done.opened else "unchanged")
            log.info("configuration %d: changed %s; opened %s", done.number, _list(done.changed), _list(done.opened))
            await self._automatic()
            return done

    async def _reload(self) -> Reloaded:
        book, before = self._book, self._book.wirings.current
        configuration, wrong = await asyncio.to_thread(book.configuration.again)
        changed = differences(book.settings, configuration.settings)
        stuck = sorted(key for key in changed if _needs_restart(key, book.settings))
        if not wrong and any(key.startswith("plugins.") for key in stuck):
            # What they would bring cannot be judged here.
            raise _refusal(stuck)
        pipelines = Pipelines(book.plugins, configuration, book.folder, book.http, before.pipelines, book.metrics)
        check(configuration, wrong, pipelines)
        if stuck:
            raise _refusal(stuck)
        try:
            await pipelines.open()
            await pipelines.blob_store()
            wiring = Wiring(book, configuration, pipelines, before)
        except BaseException:
            await pipelines.close()
            raise
        try:
            await wiring.open()
        except BaseException:
            await wiring.close()
            raise
        self._swap(wiring)
        return Reloaded(tuple(changed), tuple(sorted(pipelines.opened)), self.number, len(book.wirings), now())

    def _swap(self, wiring: Wiring) -> None:
        """Awaits nothing: nobody sees one half."""
        book, settings = self._book, wiring.configuration.settings
        book.wirings.swap(wiring)
        book.configuration, book.settings = wiring.configuration, settings
        book.jobs.options = settings.jobs
        book.quotas.limits = settings.limits
        book.runs.change(settings.runs)
        book.plugins.calls.deadline = settings.hook_deadline
        for tell in self.listeners:
            tell(settings)
        self.number += 1

    async def _automatic(self) -> None:
        """As after a start: what pipelines with `reindex = "auto"` have left is built anew."""
        if not self._book.workers:
            return
        with self._book.wirings.used() as wiring:
            try:
                await wiring.reindexing.automatic()
            except SourcebookError as error:
                log.warning("nothing is reindexed: %s", error)


def _refusal(keys: list[str]) -> Conflict:
    return Conflict(f"{', '.join(keys)}: read when a process starts.", code=_CODE, remedy=_REMEDY, keys=keys)


def _needs_restart(key: str, settings: Settings) -> bool:
    fixed = (*RESTART, f"blob_stores.{settings.storage.blobs}")
    return any(f"{key}.".startswith(f"{one}.") for one in fixed)


def differences(before: Settings, after: Settings) -> list[str]:
    """The keys whose values differ, in order; never a value."""
    old, new = dict(_flat(before.model_dump(), "")), dict(_flat(after.model_dump(), ""))
    nothing: dict[str, Any] = {}  # an empty table is as good as none
    return sorted(key for key in old.keys() | new.keys() if old.get(key, nothing) != new.get(key, nothing))


def _flat(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{path}{key}.")
        else:
            yield f"{path}{key}", inner


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"

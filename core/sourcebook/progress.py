"""How far the work is, told as it goes: of one job, and of all that is being ingested into a notebook."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import generations, jobs, sources
from sourcebook.jobs import ACTIVE, Job, Jobs

_LOOK = 1.0  # seconds: what another process wrote to SQLite is not heard of
_REST = 0.2  # seconds between two looks at a notebook, however much happens in it
_SHOWN = 20  # running jobs in one event
_TELL = 1.0  # seconds between two pages that are told: each is a write


class Pace:
    """How fast something goes, from when it began: units a second, and the seconds that are left."""

    def __init__(self, done: int = 0) -> None:
        self._start = time.monotonic()
        self._before = done

    def of(self, done: int, total: int) -> dict[str, Any]:
        """`done`, `total`, `left`, and once it is known `rate` (a second) and `left_seconds`."""
        shown: dict[str, Any] = {"done": done, "total": total, "left": total - done}
        seconds = time.monotonic() - self._start
        if done > self._before and seconds > 0:
            rate = (done - self._before) / seconds
            shown |= {"rate": round(rate, 1), "left_seconds": round((total - done) / rate, 1)}
        return shown


class Reached:
    """The page at which a long file is being read: from `at` to whoever awaits `next`, once in a while."""

    def __init__(self) -> None:
        self._page = 0
        self._changed = asyncio.Event()

    def at(self, page: int) -> None:
        """It has been read as far as this."""
        if page > self._page:
            self._page = page
            self._changed.set()

    async def next(self) -> int:
        """The furthest page, when it has changed; not twice within a second."""
        await asyncio.sleep(_TELL)
        await self._changed.wait()
        self._changed.clear()
        return self._page


@dataclass(frozen=True)
class NotebookProgress:
    """Sources of a notebook by what is happening to them.

    `done` of `total` are over, since this was followed; `rate` is sources a second, `left_seconds` an estimate; both
    are None before there is one. `running` shows the first jobs that are being done, each with its stage.
    """

    queued: int
    working: int
    ready: int
    failed: int
    done: int
    total: int
    left: int
    rate: float | None = None
    left_seconds: float | None = None
    running: list[dict[str, Any]] = field(default_factory=list)


class Following:
    """Progress as it happens: told by commits, with a look once in a while behind it."""

    def __init__(self, database: Database, queue: Jobs) -> None:
        self._db = database
        self._jobs = queue

    async def job(self, job: Job) -> AsyncGenerator[Job]:
        """The job whenever it has changed, first as it is now; ends with the one that is over."""
        async with self._db.signals.following(f"job:{job.id}") as changed:
            shown = None
            while True:
                changed.clear()
                job = await self._jobs.get(job.id, job.owner_id)
                if job != shown:
                    yield job
                    shown = job
                if job.state not in ACTIVE:
                    return
                await _either(changed, _LOOK)

    async def notebook(self, notebook_id: str) -> AsyncGenerator[NotebookProgress]:
        """The notebook's progress whenever it has changed, first as it is now. It does not end by itself."""
        async with self._db.signals.following(f"notebook:{notebook_id}") as changed:
            shown, start, at_start = None, time.monotonic(), -1
            while True:
                changed.clear()
                looked = time.monotonic()
                counts, running = await self._look(notebook_id)
                over = counts.get("ready", 0) + counts.get("failed", 0)
                left = sum(counts.values()) - over
                if at_start < 0 or (left and shown is not None and not shown.left):
                    start, at_start = time.monotonic(), over  # work begins: what was there before is not its doing
                now = _progress(counts, running, over - at_start, left, time.monotonic() - start)
                if shown is None or _plain(now) != _plain(shown):
                    yield now
                    shown = now
                await _either(changed, _LOOK)
                await asyncio.sleep(looked + _REST - time.monotonic())  # no pause where it was quiet before

    async def _look(self, notebook_id: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
        of = {"notebook": notebook_id}
        async with self._db.read() as c:
            counts = {str(state): int(n) for state, n in (await c.execute(_BY_STATE, of)).all()}
            rows = (await c.execute(_DOING, of)).all()
        running = [
            {"job_id": r.id, "source_id": r.source_id, "name": r.name, **dict(r.checkpoint.get("progress", {}))}
            for r in rows
        ]
        return counts, running


# Built once: to build them takes longer than to run them.
_BY_STATE = (
    sa.select(generations.c.state, sa.func.count())
    .join(sources, sources.c.id == generations.c.source_id)
    .where(sources.c.notebook_id == sa.bindparam("notebook"), sources.c.deleted_at.is_(None))
    .group_by(generations.c.state)
)
_DOING = (
    sa.select(jobs.c.id, jobs.c.source_id, sources.c.name, jobs.c.checkpoint)
    .join(sources, sources.c.id == jobs.c.source_id)
    .where(jobs.c.notebook_id == sa.bindparam("notebook"), jobs.c.state == "leased")
    .order_by(jobs.c.id)
    .limit(_SHOWN)
)


def _progress(
    counts: dict[str, int], running: list[dict[str, Any]], done: int, left: int, seconds: float
) -> NotebookProgress:
    rate = done / seconds if done > 0 and seconds > 0 else None
    ready, failed, queued = (counts.get(state, 0) for state in ("ready", "failed", "queued"))
    return NotebookProgress(
        queued=queued,
        working=left - queued,
        ready=ready,
        failed=failed,
        done=done,
        total=done + left,
        left=left,
        rate=round(rate, 2) if rate else None,
        left_seconds=round(left / rate, 1) if rate else None,
        running=running,
    )


def _plain(progress: NotebookProgress) -> tuple[Any, ...]:
    """What counts as a change: not the clock."""
    stages = [(r["job_id"], r.get("stage"), r.get("page"), r.get("done")) for r in progress.running]
    return (progress.queued, progress.working, progress.ready, progress.failed, stages)


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

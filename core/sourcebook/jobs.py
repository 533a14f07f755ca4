"""Leased jobs: work that survives the death of whoever does it.

A job is queued, leased, done, failed or cancelled. A worker leases it for a while and renews; every write it makes is
fenced by worker and attempt in the same transaction, so whoever lost the lease can write nothing more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook import settings
from sourcebook.database.engine import Database, now
from sourcebook.database.tables import grants, jobs
from sourcebook.errors import Lost, NotFound, SourcebookError
from sourcebook.ids import new_id

log = logging.getLogger(__name__)

ACTIVE = ("queued", "leased")
_DEATHS = 4  # times as many attempts: a worker's death is seldom its job's fault, but may be


@dataclass(frozen=True)
class Job:
    """A job as its worker holds it. `checkpoint` says how far it is; `progress` in it is for people."""

    id: str
    owner_id: str
    kind: str
    notebook_id: str | None
    source_id: str | None
    generation_id: str | None
    payload: Mapping[str, Any]
    state: str
    attempt: int
    worker: str | None
    cancel: bool
    checkpoint: Mapping[str, Any]
    problem: Mapping[str, Any] | None
    run_at: datetime
    created_at: datetime
    updated_at: datetime


class Jobs:
    """The queue in SQL."""

    def __init__(self, database: Database, options: settings.Jobs) -> None:
        self._db = database
        self.options = options
        self.added = asyncio.Event()
        self.keeping: Callable[[], None] = lambda: None
        self.keeper = f"{socket.gethostname()}-{os.getpid()}-{new_id('keep')[-6:]}"
        self._random = random.Random()  # jitter of our own: the global one belongs to the program

    async def add(self, c: AsyncConnection, kind: str, owner_id: str, **values: Any) -> str:
        """Enqueue within the caller's transaction, so that the job stands exactly when its subject does."""
        job_id, at = new_id("job"), now()
        row = {"payload": {}, "checkpoint": {}, "state": "queued", "run_at": at, "created_at": at, "updated_at": at}
        await c.execute(jobs.insert().values(id=job_id, kind=kind, owner_id=owner_id, **{**row, **values}))
        return job_id

    def kept(self) -> dict[str, Any]:
        """Values for `add` of a job that this process alone can do: leased to it from the start.

        Its workers claim it as if it were queued; when this process dies, the lease runs out and others may.
        """
        self.keeping()
        return {"state": "leased", "worker": self.keeper, "lease_until": self._until(now())}

    async def renew_kept(self) -> None:
        """Keep the lease of what waits for this process's workers."""
        mine = sa.and_(jobs.c.state == "leased", jobs.c.worker == self.keeper)
        async with self._db.write() as c:
            await c.execute(jobs.update().where(mine).values(lease_until=self._until(now())))

    def wake(self) -> None:
        """Tell this process's workers, after the commit, that there is something to do."""
        self.added.set()

    async def claim(self, worker: str, *, kept_only: bool = False) -> Job | None:
        """Lease the next job that is due: queued, kept for this process, or one whose worker let its lease run out."""
        at = now()
        kept = sa.and_(jobs.c.state == "leased", jobs.c.worker == self.keeper, jobs.c.run_at <= at)
        due = kept
        if not kept_only:
            due = sa.or_(
                sa.and_(jobs.c.state == "queued", jobs.c.run_at <= at),
                sa.and_(jobs.c.state == "leased", jobs.c.lease_until < at),
                kept,
            )
        first = sa.select(jobs.c.id).where(due).order_by(jobs.c.priority.desc(), jobs.c.run_at).limit(1)
        taken = (
            jobs.update()
            .where(jobs.c.id == first.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state="leased", worker=worker, attempt=jobs.c.attempt + 1, lease_until=self._until(at), updated_at=at
            )
            .returning(jobs)
        )
        async with self._db.read() as c:  # looking costs no write lock, and mostly there is nothing
            if (await c.execute(first)).scalar() is None:
                return None
        async with self._db.write() as c:
            row = (await c.execute(taken)).mappings().first()
        return _job(row) if row else None

    async def save(self, c: AsyncConnection, job: Job, checkpoint: Mapping[str, Any] | None = None) -> Job:
        """Renew the lease within the caller's transaction, and store the checkpoint. Raises `Lost`."""
        at = now()
        values: dict[str, Any] = {"lease_until": self._until(at), "updated_at": at}
        if checkpoint is not None:
            values["checkpoint"] = dict(checkpoint)
        await self._fenced(c, job, values)
        return replace(job, checkpoint=checkpoint) if checkpoint is not None else job

    async def finish(self, c: AsyncConnection, job: Job) -> None:
        """It is done. Raises `Lost`."""
        await self._fenced(c, job, {"state": "done", "lease_until": None, "problem": None, "updated_at": now()})

    async def fail(self, c: AsyncConnection, job: Job, error: SourcebookError, *, kept: bool = False) -> bool:
        """Queue again after a pause where the error is transient and attempts are left; else fail. True if final.

        `kept`: it is queued for this process alone.
        """
        at = now()
        final = not error.transient or job.attempt >= self.options.attempts
        pause = self.options.backoff * 2 ** (job.attempt - 1) * self._random.uniform(0.5, 1.5)
        values: dict[str, Any] = {"problem": error.problem(), "updated_at": at, "lease_until": None}
        values |= {"state": "failed"} if final else {"state": "queued", "run_at": at + timedelta(seconds=pause)}
        if kept and not final:
            values |= self.kept()
        await self._fenced(c, job, values)
        return final

    async def release(self, job: Job) -> None:
        """Give it back untouched, as at shutdown; nothing happens where the lease is lost already."""
        values = {"state": "queued", "lease_until": None, "attempt": jobs.c.attempt - 1, "run_at": now()}
        async with self._db.write() as c:
            await c.execute(jobs.update().where(*_held(job)).values(**values))

    async def cancel_for(self, c: AsyncConnection, source_id: str) -> None:
        """Stop all work on a source: what is queued now, what is leased at its next write."""
        mine = sa.and_(jobs.c.source_id == source_id, jobs.c.kind == "ingest")
        await c.execute(jobs.update().where(mine, jobs.c.state == "queued").values(state="cancelled", updated_at=now()))
        await c.execute(jobs.update().where(mine, jobs.c.state == "leased").values(cancel=True))

    async def cancelled(self, job: Job) -> None:
        """Its worker has seen the wish, and stopped."""
        async with self._db.write() as c:
            stopped = {"state": "cancelled", "lease_until": None, "updated_at": now()}
            await c.execute(jobs.update().where(*_held(job), jobs.c.cancel.is_(True)).values(**stopped))

    async def postpone(self, c: AsyncConnection, job: Job, seconds: float) -> None:
        """Queue again without counting an attempt: something else must end first."""
        later = now() + timedelta(seconds=seconds)
        values = {"state": "queued", "run_at": later, "lease_until": None, "attempt": jobs.c.attempt - 1}
        await self._fenced(c, job, values)

    async def get(self, job_id: str, owner_id: str) -> Job:
        """Raises `NotFound` also for another owner's, unless it is of a notebook that this owner may write into."""
        shared = sa.select(grants.c.notebook_id).where(grants.c.owner_id == owner_id, grants.c.permission == "write")
        mine = sa.or_(jobs.c.owner_id == owner_id, jobs.c.notebook_id.in_(shared))
        query = sa.select(jobs).where(jobs.c.id == job_id, mine)
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no job {job_id}.")
        return _job(row)

    async def _fenced(self, c: AsyncConnection, job: Job, values: Mapping[str, Any]) -> None:
        done = await c.execute(jobs.update().where(*_held(job), jobs.c.cancel.is_(False)).values(**values))
        if done.rowcount != 1:
            raise Lost(f"Job {job.id} is no longer held by {job.worker}.")

    def _until(self, at: datetime) -> datetime:
        return at + timedelta(seconds=self.options.lease)


def _held(job: Job) -> list[sa.ColumnElement[bool]]:
    return [jobs.c.id == job.id, jobs.c.worker == job.worker, jobs.c.attempt == job.attempt, jobs.c.state == "leased"]


def _job(row: Any) -> Job:
    return Job(**{name: row[name] for name in Job.__dataclass_fields__})


class Worker:
    """Does jobs in this process: `count` at a time, until `close`.

    `handle(job)` does one; what it raises is stored with the job by `failed(job, error)`.
    """

    def __init__(
        self,
        queue: Jobs,
        database: Database,
        handle: Callable[[Job], Awaitable[None]],
        failed: Callable[[Job, SourcebookError], Awaitable[None]],
    ) -> None:
        self._jobs = queue
        self._db = database
        self._handle = handle
        self._failed = failed
        queue.keeping = self.keep
        self._tasks: list[asyncio.Task[None]] = []
        self._base = f"{socket.gethostname()}-{os.getpid()}-{new_id('w')[-6:]}"
        self._random = random.Random()

    def start(self, count: int) -> None:
        """Begin to take jobs."""
        self._tasks = [asyncio.create_task(self._work(f"{self._base}-{n}"), name=f"worker {n}") for n in range(count)]

    def keep(self) -> None:
        """A job is kept for this process: see that its lease is renewed, and that there is a worker to do it."""
        if any(task.get_name() == "keeper" for task in self._tasks):
            return
        if not self._tasks:
            work = self._work(f"{self._base}-kept", kept_only=True)
            self._tasks.append(asyncio.create_task(work, name="worker of kept jobs"))
        self._tasks.append(asyncio.create_task(self._keep(), name="keeper"))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._jobs.options.lease / 3)
            try:
                await self._jobs.renew_kept()
            except SourcebookError as error:
                log.warning("the leases of kept jobs could not be renewed: %s", error)

    async def close(self) -> None:
        """Stop; what was being done goes back to the queue."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _work(self, name: str, *, kept_only: bool = False) -> None:
        while True:
            # Cleared before looking: what is added while we look sets it again, and is not slept over.
            self._jobs.added.clear()
            try:
                job = await self._jobs.claim(name, kept_only=kept_only)
            except SourcebookError as error:
                log.warning("no job could be claimed: %s", error)
                job = None
            if job is None:
                await self._rest()
                continue
            try:
                await self._do(job)
            except Exception:  # not even the failure could be stored: its lease runs out, and it is taken again
                log.exception("job %s (%s) was dropped", job.id, job.kind)
                await self._rest()

    async def _rest(self) -> None:
        """Until something is added here, or the poll interval is over: other processes add too."""
        try:
            async with asyncio.timeout(self._jobs.options.poll * self._random.uniform(0.8, 1.2)):
                await self._jobs.added.wait()
        except TimeoutError:
            return

    async def _do(self, job: Job) -> None:
        beat = asyncio.create_task(self._renew(job))
        try:
            if job.attempt > _DEATHS * self._jobs.options.attempts:
                raise SourcebookError(f"Its worker died {job.attempt - 1} times over it.", code="worker_died")
            await self._handle(job)
        except asyncio.CancelledError:
            await asyncio.shield(self._jobs.release(job))
            raise
        except Lost:
            await self._jobs.cancelled(job)
        except SourcebookError as error:
            await self._failed(job, error)
        except Exception as error:  # a bug of ours or a plugin's: the job fails by name, the worker lives on
            log.exception("job %s (%s) failed", job.id, job.kind)
            detail = f"An unexpected {type(error).__name__}; the server's log says more."
            await self._failed(job, SourcebookError(detail, transient=True))
        finally:
            beat.cancel()
            await asyncio.wait([beat])

    async def _renew(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._jobs.options.lease / 3)
            try:
                async with self._db.write() as c:
                    await self._jobs.save(c, job)
            except Lost:
                return  # the next write of the handler finds out
            except SourcebookError as error:
                log.warning("job %s: the lease could not be renewed: %s", job.id, error)

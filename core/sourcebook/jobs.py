"""Leased jobs: work that survives the death of whoever does it.

A job is queued, leased, done, failed or cancelled. A worker leases it for a while and renews; every write it makes is
fenced by worker and attempt in the same transaction, so whoever lost the lease can write nothing more. Times are the
database's, never the worker's own; and on one machine, where the clock may be moved, a lock tells who is dead.
"""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable

from sourcebook import claiming, settings
from sourcebook.database.engine import Database, now
from sourcebook.database.signals import QUEUED
from sourcebook.database.tables import generations, grants, jobs, owner_turns, sources
from sourcebook.errors import Conflict, Lost, NotFound, SourcebookError, StoreError
from sourcebook.ids import new_id
from sourcebook.presence import Presence, process_of
from sourcebook.quotas import Far
from sourcebook.urgency import Shares

log = logging.getLogger(__name__)

ACTIVE = ("queued", "leased")
LONGEST_PAUSE = 600.0
"""Seconds between two tries."""

_TOGETHER, _FEW = 32, 1000  # jobs that are held at once, however few are being worked on; and that wait
_RETRY_AFTER = (2.0, 120.0)  # seconds: the least and the most that is asked of those who find the queue full


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
    failures: int
    worker: str | None
    cancel: bool
    checkpoint: Mapping[str, Any]
    problem: Mapping[str, Any] | None
    run_at: datetime
    created_at: datetime
    updated_at: datetime


class Jobs:
    """The queue in SQL. `presence` knows which processes of this machine live; without it, leases alone decide."""

    def __init__(self, database: Database, options: settings.Jobs, presence: Presence | None = None) -> None:
        self._db = database
        self.options = options
        self._presence = presence
        self.keeping: Callable[[], None] = lambda: None
        base = presence.name if presence else f"{socket.gethostname()[:40]}-{os.getpid()}-{new_id('p')[-6:]}"
        self.keeper = f"{base}-kept"
        self._random = random.Random()  # jitter of our own: the global one belongs to the program
        # What this process does, never taken from itself wherever its clock goes; and how each gives up its room.
        self.held: dict[str, Callable[[], None]] = {}
        self._still: dict[str, tuple[datetime, float]] = {}  # late leases of others: as seen, and since when
        self._finished: deque[float] = deque(maxlen=50)
        self._keeps = False  # whether a job was ever kept for this process
        self._far = Far()
        self._few = True  # whether so few wait that looking among them takes no time
        self._looked = -math.inf  # when late leases were last looked for
        self._shares = Shares()

    async def add(self, c: AsyncConnection, kind: str, owner_id: str, **values: Any) -> str:
        """Enqueue within the caller's transaction, so that the job stands exactly when its subject does."""
        job_id, at = new_id("job"), now()
        row = {"payload": {}, "checkpoint": {}, "state": "queued", "created_at": at, "updated_at": at}
        row |= {"run_at": self._db.clock(), "kind": kind, "owner_id": owner_id}
        plain = {name: value for name, value in {"id": job_id, **row, **values}.items() if not claiming.is_sql(value)}
        sql = {name: value for name, value in {**row, **values}.items() if claiming.is_sql(value)}
        await c.execute(jobs.insert().values(sql) if sql else claiming.ADD, plain)
        await self._db.signals.send(c, QUEUED, *([f"notebook:{n}"] if (n := values.get("notebook_id")) else []))
        return job_id

    def has_room(self) -> bool:
        """Whether there is room for sure; else it has to be counted."""
        return "" in self._far

    async def check_room(self, c: AsyncConnection) -> None:
        """Raise `StoreError` (`server_queue_full`) where the server takes no more; an owner's own bound is a quota."""
        # Counting ends at the bound: a short queue, as nearly every one is, costs next to nothing.
        waiting = int((await c.execute(claiming.COUNT, {"most": self.options.queue})).scalar_one())
        self._far.counted("", waiting, self.options.queue)
        if waiting >= self.options.queue:
            raise StoreError(
                "The server has as many sources to ingest as it takes.",
                code="server_queue_full",
                remedy="Try again later, or ask the operator for more workers.",
                retry_after=self._pause(),
            )

    def kept(self) -> dict[str, Any]:
        """Values for `add` of a job that this process alone can do: leased to it from the start.

        Its workers claim it as if it were queued; when this process dies, the lease runs out and others may.
        """
        self._keeps = True
        self.keeping()
        return {"state": "leased", "worker": self.keeper, "lease_until": self._db.clock(self.options.lease)}

    async def renew_kept(self) -> None:
        """Keep the lease of what waits for this process's workers."""
        mine = sa.and_(jobs.c.state == "leased", jobs.c.worker == self.keeper)
        async with self._db.write(small=True) as c:
            await c.execute(jobs.update().where(mine).values(lease_until=self._db.clock(self.options.lease)))

    async def claim(self, worker: str, *, kept_only: bool = False) -> Job | None:
        """Lease the next job that is due: see `claim_some`."""
        return next(iter(await self.claim_some(worker, 1, kept_only=kept_only)), None)

    async def claim_some(self, worker: str, most: int, *, kept_only: bool = False) -> list[Job]:
        """Lease the next jobs that are due: kept for this process, let go by a worker that is gone, or queued.

        Of the queued, mostly the more urgent; then whoever has the fewest jobs being done, then whoever was served
        longest ago: many jobs of one owner delay another's by one at most, or by `most` that were leased before, and
        deletions without end leave a share. More than one is leased only where one owner alone has work.
        """
        async with self._db.read(small=self._few) as c:  # looking costs no write lock, and mostly there is nothing
            at = await self._db.now(c)
            due = {"at": at, "far": at + timedelta(seconds=LONGEST_PAUSE)}
            kept = (await c.execute(claiming.KEPT, {"keeper": self.keeper, "at": at})).scalar() if self._keeps else None
            waiting = [] if kept_only else (await c.execute(claiming.WAITING, due)).all()
            late = [] if kept_only else await self._late(c, at, hurry=not waiting)
        self._few = sum(row.number for row in waiting) <= _FEW
        if not kept and not late and not waiting:
            return []
        lease = {"by": worker, "until": at + timedelta(seconds=self.options.lease), "stamp": now()}
        async with self._db.write(small=self._few, lasting=False) as c:  # what is not leased after all is queued
            if most > 1 and self._db.sqlite and len(waiting) == 1 and not kept and not late:
                several = {**lease, **due, "owner": waiting[0].owner_id, "urgency": waiting[0].priority, "most": most}
                return [_job(row) for row in (await c.execute(claiming.TAKE_SEVERAL, several)).mappings()]
            found = None
            if kept:
                found = await _take(c, claiming.TAKE_KEPT, lease, job=kept, keeper=self.keeper, at=at)
            for job_id, since in () if found else late:
                if found := await _take(c, claiming.TAKE_LATE, lease, job=job_id, since=since):
                    break
            for row in () if found else self._shares.in_turn(waiting):
                if found := await _take(c, claiming.TAKE_NEXT, lease, owner=row.owner_id, urgency=row.priority, **due):
                    if any(other.owner_id != row.owner_id for other in waiting):
                        await self._served(c, row.owner_id)
                    break
        return [found] if found else []

    async def save(self, c: AsyncConnection, job: Job, checkpoint: Mapping[str, Any] | None = None) -> Job:
        """Renew the lease within the caller's transaction, and store the checkpoint. Raises `Lost`."""
        values: dict[str, Any] = {"lease_until": self._db.clock(self.options.lease), "updated_at": now()}
        if checkpoint is not None:
            values["checkpoint"] = dict(checkpoint)
        await self._fenced(c, job, values, tell=checkpoint is not None)
        return replace(job, checkpoint=checkpoint) if checkpoint is not None else job

    async def finish(self, c: AsyncConnection, job: Job) -> None:
        """It is done, with its last checkpoint. Raises `Lost`."""
        values = {"state": "done", "lease_until": None, "problem": None, "updated_at": now()}
        await self._fenced(c, job, {**values, "checkpoint": dict(job.checkpoint)})
        self._finished.append(time.monotonic())

    async def fail(self, c: AsyncConnection, job: Job, error: SourcebookError, *, kept: bool = False) -> bool:
        """Queue again after a pause where the error is transient and attempts are left; else fail. True if final.

        `kept`: it is queued for this process alone.
        """
        failures = job.failures + 1
        final = not error.transient or failures >= self.options.attempts
        values: dict[str, Any] = {"problem": error.problem(), "updated_at": now(), "lease_until": None}
        values |= {"failures": failures, "state": "failed" if final else "queued"}
        if not final:
            pause = self.options.backoff * 2 ** (failures - 1) * self._random.uniform(0.5, 1.5)
            values["run_at"] = self._db.clock(min(pause, LONGEST_PAUSE))
        if kept and not final:
            values |= self.kept()
        await self._fenced(c, job, values)
        return final

    async def try_on(self, job: Job, error: SourcebookError) -> None:
        """What must come to its end whatever fails is queued again, later and later."""
        error.transient = True
        try:
            async with self._db.write() as c:
                if await self.fail(c, job, error):
                    longest = min(self.options.backoff * 2**self.options.attempts, LONGEST_PAUSE)
                    again = {"state": "queued", "attempt": 1, "failures": 0, "run_at": self._db.clock(longest)}
                    await c.execute(jobs.update().where(jobs.c.id == job.id).values(**again))
        except Lost:
            log.info("job %s (%s) goes on elsewhere", job.id, job.kind)

    async def ingesting(self, which: sa.ColumnElement[bool]) -> bool:
        """Whether a worker may still be writing for one of these ingestions."""
        leased = (jobs.c.kind == "ingest", jobs.c.state == "leased", jobs.c.lease_until > self._db.clock())
        async with self._db.read() as c:
            return (await c.execute(sa.select(jobs.c.id).where(which, *leased).limit(1))).first() is not None

    async def release(self, job: Job) -> None:
        """Give it back untouched, as at shutdown; nothing happens where the lease is lost already."""
        values = {"state": "queued", "lease_until": None, "attempt": jobs.c.attempt - 1}
        values["run_at"] = claiming.where_it_stood(self._db.clock())
        async with self._db.write(small=True) as c:
            await c.execute(jobs.update().where(*_held(job)).values(**values))
            await self._db.signals.send(c, QUEUED, *_topics(job))

    async def cancel_for(self, c: AsyncConnection, source_id: str) -> None:
        """Stop all work on a source: what is queued now, what is leased at its next write."""
        mine = sa.and_(jobs.c.source_id == source_id, jobs.c.kind == "ingest")
        await c.execute(jobs.update().where(mine, jobs.c.state == "queued").values(state="cancelled", updated_at=now()))
        await c.execute(jobs.update().where(mine, jobs.c.state == "leased").values(cancel=True))

    async def cancelled(self, job: Job) -> None:
        """Its worker has seen the wish, and stopped."""
        async with self._db.write(small=True) as c:
            stopped = {"state": "cancelled", "lease_until": None, "updated_at": now()}
            done = await c.execute(jobs.update().where(*_held(job), jobs.c.cancel.is_(True)).values(**stopped))
            if done.rowcount:
                await self._stopped(c, job)

    async def postpone(self, c: AsyncConnection, job: Job, seconds: float) -> None:
        """Queue again without counting an attempt: something else must end first."""
        values = {"state": "queued", "run_at": self._db.clock(seconds), "lease_until": None}
        await self._fenced(c, job, {**values, "attempt": jobs.c.attempt - 1})

    def make_room(self, job: Job) -> None:
        """All that is left of this job is to wait, together with others: its worker may begin another meanwhile."""
        if len(self.held) < _TOGETHER:
            self.held.get(job.id, _nothing)()

    # What people ask for.

    async def get(self, job_id: str, owner_id: str | None) -> Job:
        """Raises `NotFound` also for another owner's, unless it is of a notebook that this owner may write into.

        None is the operator, who sees every job.
        """
        shared = sa.select(grants.c.notebook_id).where(grants.c.owner_id == owner_id, grants.c.permission == "write")
        mine = sa.or_(jobs.c.owner_id == owner_id, jobs.c.notebook_id.in_(shared))
        query = sa.select(jobs).where(jobs.c.id == job_id, sa.true() if owner_id is None else mine)
        async with self._db.read(small=True) as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no job {job_id}.")
        return _job(row)

    async def listing(self, state: str = "", limit: int = 100) -> list[Job]:
        """Of all owners, the newest first, for the operator: of one state, or all that are not done."""
        which = jobs.c.state == state if state else jobs.c.state != "done"
        async with self._db.read(small=True) as c:
            rows = (await c.execute(sa.select(jobs).where(which).order_by(jobs.c.id.desc()).limit(limit))).mappings()
            return [_job(row) for row in rows]

    async def cancel(self, job_id: str, owner_id: str | None) -> Job:
        """Stop an ingestion: at once where it waits, at its next write where it runs. What is over stays as it is.

        Raises `NotFound`, and `Conflict` (code `not_cancellable`) for a deletion, which always goes to its end.
        """
        job = await self.get(job_id, owner_id)
        if job.kind == "delete":
            raise Conflict("What is being deleted is deleted to the end.", code="not_cancellable")
        async with self._db.write(small=True) as c:
            queued = sa.and_(jobs.c.id == job_id, jobs.c.state == "queued")
            done = await c.execute(jobs.update().where(queued).values(state="cancelled", updated_at=now()))
            if done.rowcount:
                await self._stopped(c, job)
            else:
                leased = sa.and_(jobs.c.id == job_id, jobs.c.state == "leased")
                await c.execute(jobs.update().where(leased).values(cancel=True, updated_at=now()))
        return await self.get(job_id, owner_id)

    async def retry(self, job_id: str, owner_id: str | None) -> Job:
        """Queue a failed or cancelled ingestion again; it goes on at the stage that it had reached.

        Raises `NotFound`, and `Conflict` (code `not_retryable`) where it runs, is done, or its source is deleted.
        """
        job = await self.get(job_id, owner_id)
        alive = sa.exists().where(sources.c.id == jobs.c.source_id, sources.c.deleted_at.is_(None))
        over = sa.and_(jobs.c.id == job_id, jobs.c.state.in_(("failed", "cancelled")), jobs.c.kind == "ingest", alive)
        again = {"state": "queued", "failures": 0, "attempt": 0, "cancel": False, "problem": None}
        async with self._db.write(small=True) as c:
            values = {**again, "run_at": self._db.clock(), "updated_at": now()}
            if (await c.execute(jobs.update().where(over).values(**values))).rowcount != 1:
                raise Conflict(f"The job {job_id} is {job.state}, and cannot be retried.", code="not_retryable")
            state = "indexing" if "next" in job.checkpoint else "queued"
            of = generations.c.id == job.generation_id
            await c.execute(generations.update().where(of).values(state=state, problem=None))
            await self._db.signals.send(c, QUEUED, *_topics(job))
        return await self.get(job_id, owner_id)

    async def bury(self) -> None:
        """End the leases of processes of this machine that are dead: nobody need wait until they run out."""
        if self._presence is None:
            return
        query = sa.select(jobs.c.worker).where(jobs.c.state == "leased").distinct()
        async with self._db.read(small=True) as c:
            workers = (await c.execute(query)).scalars().all()
        dead = [w for w in workers if w and not self._presence.alive(process_of(w))]
        if dead:
            of = sa.and_(jobs.c.state == "leased", jobs.c.worker.in_(dead))
            async with self._db.write(small=True) as c:
                await c.execute(jobs.update().where(of).values(lease_until=self._db.clock(-1)))

    # The parts of claiming.

    async def _late(self, c: AsyncConnection, at: datetime, *, hurry: bool) -> list[tuple[str, datetime]]:
        """Leases that ran out; where there is other work (no `hurry`), looked for once in a while."""
        if not hurry and time.monotonic() - self._looked < self.options.poll:
            return []
        self._looked = time.monotonic()
        return self._takeable((await c.execute(claiming.LATE, {"at": at})).all())

    def _takeable(self, late: Any) -> list[tuple[str, datetime]]:
        """Of late leases, those that nobody here knows better of: where the clock was moved, all of them are late."""
        found, seen = [], {}
        for job_id, worker, lease in late:
            if job_id in self.held or worker == self.keeper:
                continue
            if self._presence is not None and self._presence.alive(process_of(worker)):
                before, since = self._still.get(job_id, (None, 0.0))
                seen[job_id] = (lease, since if before == lease else time.monotonic())
                if time.monotonic() - seen[job_id][1] < self.options.lease:
                    continue  # it lives; so it renews, or has stopped and is taken over after as long as any lease
            found.append((job_id, lease))
        self._still = seen
        return found

    async def _served(self, c: AsyncConnection, owner_id: str) -> None:
        turns = owner_turns.alias()
        latest = sa.select(sa.func.coalesce(sa.func.max(turns.c.turn), 0) + 1).scalar_subquery()
        of = owner_turns.c.owner_id == owner_id
        if (await c.execute(owner_turns.update().where(of).values(turn=latest))).rowcount == 0:
            await c.execute(self._db.insert_or_ignore(owner_turns).values(owner_id=owner_id, turn=latest))

    async def _fenced(self, c: AsyncConnection, job: Job, values: Mapping[str, Any], *, tell: bool = True) -> None:
        plain = {name: value for name, value in values.items() if not claiming.is_sql(value)}
        update = claiming.fenced(tuple(plain))
        if len(plain) < len(values):
            update = update.values({name: value for name, value in values.items() if name not in plain})
        held = {"held_id": job.id, "held_worker": job.worker, "held_attempt": job.attempt}
        done = await c.execute(update, {**plain, **held})
        if done.rowcount != 1:
            raise Lost(f"Job {job.id} is no longer held by {job.worker}.")
        if tell:
            await self._db.signals.send(c, *_topics(job))

    async def _stopped(self, c: AsyncConnection, job: Job) -> None:
        problem = {"code": "cancelled", "title": "Cancelled", "detail": "Its ingestion was cancelled."}
        of = sa.and_(generations.c.id == job.generation_id, generations.c.state != "ready")
        await c.execute(generations.update().where(of).values(state="failed", problem=problem))
        await self._db.signals.send(c, *_topics(job))

    def _pause(self) -> float:
        """Seconds after which there is room for one more, at the pace of the last fifty."""
        each = _RETRY_AFTER[0]
        if len(self._finished) > 1:
            each = (time.monotonic() - self._finished[0]) / len(self._finished)
        return min(max(each, _RETRY_AFTER[0]), _RETRY_AFTER[1])


async def _take(c: AsyncConnection, statement: Executable, lease: Mapping[str, Any], **which: Any) -> Job | None:
    row = (await c.execute(statement, {**lease, **which})).mappings().first()
    return _job(row) if row else None


def _nothing() -> None:
    """Of a job that no worker holds."""


def _topics(job: Job) -> list[str]:
    return [f"job:{job.id}", *([f"notebook:{job.notebook_id}"] if job.notebook_id else [])]


def _held(job: Job) -> list[sa.ColumnElement[bool]]:
    return [jobs.c.id == job.id, jobs.c.worker == job.worker, jobs.c.attempt == job.attempt, jobs.c.state == "leased"]


def _job(row: Any) -> Job:
    return Job(**{name: row[name] for name in Job.__dataclass_fields__})

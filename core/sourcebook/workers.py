"""Who does the jobs: as many at a time as there is room for, in any process that shares the database."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context

from sourcebook.about import about
from sourcebook.database.engine import Database
from sourcebook.database.signals import QUEUED
from sourcebook.errors import Lost, SourcebookError, StoreError
from sourcebook.ids import new_id
from sourcebook.jobs import Job, Jobs
from sourcebook.later import later
from sourcebook.presence import Presence
from sourcebook.steps import Tracer, inside, root

log = logging.getLogger(__name__)

_MOMENT, _AHEAD = 0.1, 7  # seconds, and how many jobs more than there is a place for are claimed at most
_DEATHS = 4  # times as many attempts: a worker's death is seldom its job's fault, but may be


def once(call: Callable[[], None]) -> Callable[[], None]:
    """`call`, but only the first time."""
    left = [call]
    return lambda: left.pop()() if left else None


class Worker:
    """Does jobs in this process: `count` at a time, until `close`; beside them, those that only wait for an index.

    `handle(job)` does one; what it raises is stored with the job by `failed(job, error)`. One task claims for all, so
    that a job that is added makes one look, however many could take it.
    """

    def __init__(
        self,
        queue: Jobs,
        database: Database,
        handle: Callable[[Job], Awaitable[None]],
        failed: Callable[[Job, SourcebookError], Awaitable[None]],
        presence: Presence | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._jobs = queue
        self._db = database
        self._handle = handle
        self._failed = failed
        self._presence = presence
        queue.keeping = self.keep
        self._keeping: asyncio.Task[None] | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._doing: set[asyncio.Task[None]] = set()
        self._claimed: deque[Job] = deque()  # and not begun
        self._begun: deque[float] = deque(maxlen=_AHEAD)  # when the last jobs were
        self._random = random.Random()

    def start(self, count: int) -> None:
        """Begin to take jobs."""
        if count > 0:
            self._begin(count)

    def keep(self) -> None:
        """A job is kept for this process: see that its lease is renewed, and that there is a worker to do it."""
        if self._claiming is None:
            self._begin(1, kept_only=True)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="keeper", context=Context())

    def _begin(self, count: int, *, kept_only: bool = False) -> None:
        base = f"{socket.gethostname()[:40]}-{os.getpid()}-{new_id('p')[-6:]}"
        if self._presence is not None:
            self._presence.enter()
            base = self._presence.name
        # A request may have begun this, and its jobs are not that request's.
        claim = self._claim(f"{base}-w", count, kept_only)
        self._claiming = asyncio.create_task(claim, name="worker", context=Context())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._jobs.options.lease / 3)
            try:
                await self._jobs.renew_kept()
            except SourcebookError as error:
                log.warning("the leases of kept jobs could not be renewed: %s", error)

    async def close(self) -> None:
        """Stop; what was being done goes back to the queue."""
        for task in (self._claiming, self._keeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._claiming = self._keeping = None
        await self._hand_back()
        for task in list(self._doing):
            task.cancel()
        await asyncio.gather(*self._doing, return_exceptions=True)
        if self._presence is not None:
            self._presence.leave()

    async def _claim(self, name: str, count: int, kept_only: bool) -> None:
        room = asyncio.Semaphore(count)
        async with self._db.signals.following(QUEUED) as added:
            while True:
                await room.acquire()
                # Cleared before looking: what is added while we look sets it again, and is not slept over.
                added.clear()
                self._claimed.extend(await self._next(name, kept_only))
                if not self._claimed:
                    room.release()
                    await self._rest(added)
                    continue
                self._take_up(room)
                while self._claimed and await self._room_soon(room):
                    self._take_up(room)
                await self._hand_back()

    async def _room_soon(self, room: asyncio.Semaphore) -> bool:
        """A place for the next of the claimed, or False where that takes too long: nobody renews their leases."""
        try:
            async with asyncio.timeout(self._jobs.options.lease / 3):
                return await room.acquire()
        except TimeoutError:
            return False

    async def _hand_back(self) -> None:
        """To the queue, what was claimed and not begun."""
        while self._claimed:
            await self._release(self._claimed.popleft())

    def _take_up(self, room: asyncio.Semaphore) -> None:
        """Begin the next of the claimed jobs, in a place that was acquired for it."""
        job = self._claimed.popleft()
        self._begun.append(asyncio.get_running_loop().time())
        self._jobs.held[job.id] = once(room.release)
        task = asyncio.create_task(self._work(job), name=f"job {job.id}")
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def _pace(self) -> int:
        """Jobs that began a moment ago: as many more will have a moment from now."""
        since = asyncio.get_running_loop().time() - _MOMENT
        return sum(at > since for at in self._begun)

    async def _next(self, name: str, kept_only: bool) -> list[Job]:
        """Claimed to the end: what is claimed while we are told to stop is given back, not forgotten.

        A claim costs as much for some as for one, so where they are short, those of the next moment come along.
        """
        claim = asyncio.ensure_future(self._jobs.claim_some(name, 1 + self._pace(), kept_only=kept_only))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            found = (await asyncio.gather(claim, return_exceptions=True))[0]
            for job in found if isinstance(found, list) else ():
                await self._jobs.release(job)
            raise
        except SourcebookError as error:
            log.warning("no job could be claimed: %s", error)
            return []

    async def _rest(self, added: asyncio.Event) -> None:
        """Until something is added, or the poll interval is over: not every addition is heard of."""
        try:
            async with asyncio.timeout(self._jobs.options.poll * self._random.uniform(0.8, 1.2)):
                await added.wait()
        except TimeoutError:
            try:
                await self._jobs.bury()
            except SourcebookError as error:
                log.warning("whose workers died could not be seen: %s", error)

    async def _work(self, job: Job) -> None:
        try:
            await self.do(job)
        except StoreError as error:  # a full disk, a database that went away: not even the failure could be stored
            log.warning("job %s (%s) waits for the database: %s", job.id, job.kind, error)
            await self._give_back(job)
        except Exception:  # not even the failure could be stored: its lease runs out, and it is taken again
            log.exception("job %s (%s) was dropped", job.id, job.kind)
        finally:
            self._jobs.held.pop(job.id)()

    async def _release(self, job: Job) -> None:
        try:
            await self._jobs.release(job)
        except SourcebookError as error:  # its lease runs out
            log.warning("job %s could not be given back: %s", job.id, error)

    async def _give_back(self, job: Job) -> None:
        """To the queue as soon as the database takes it, at the latest until the lease is over anyway."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._jobs.options.lease
        while loop.time() < until:
            await asyncio.sleep(self._jobs.options.poll)
            try:
                await self._jobs.release(job)
            except SourcebookError:
                continue
            return

    async def do(self, job: Job) -> None:
        """One claimed job, to its end: done, failed, released where this is cancelled, or left to another."""
        told = root("job", job.kind, self._tracer, job_id=job.id, job_kind=job.kind, attempt=job.attempt)
        with about(job_id=job.id, source_id=job.source_id), inside(told):
            try:
                told.failed = await self._do(job)
            finally:
                told.end()

    async def _do(self, job: Job) -> str:
        """The code of what it failed with, or nothing."""
        beating: list[asyncio.Task[None]] = []
        try:
            with later(self._jobs.options.lease / 3, lambda: self._renew(job)) as beating:
                return await self._handled(job)
        finally:
            if beating:
                await asyncio.wait(beating)

    async def _handled(self, job: Job) -> str:
        try:
            if job.attempt > _DEATHS * self._jobs.options.attempts:
                raise SourcebookError(f"Its worker died {job.attempt - 1} times over it.", code="worker_died")
            await self._handle(job)
            return ""
        except asyncio.CancelledError:
            await asyncio.shield(self._jobs.release(job))
            raise
        except Lost as error:
            await self._jobs.cancelled(job)
            return error.problem_code
        except SourcebookError as error:
            await self._failed(job, error)
            return error.problem_code
        except Exception as error:  # a bug of ours or a plugin's: the job fails by name, the worker lives on
            log.exception("job %s (%s) failed", job.id, job.kind)
            detail = f"An unexpected {type(error).__name__}; the server's log says more."
            await self._failed(job, SourcebookError(detail, transient=True))
            return type(error).__name__

    async def _renew(self, job: Job) -> None:
        while True:
            try:
                async with self._db.write() as c:
                    await self._jobs.save(c, job)
            except Lost:
                return  # the next write of the handler finds out
            except SourcebookError as error:
                log.warning("job %s: the lease could not be renewed: %s", job.id, error)
            await asyncio.sleep(self._jobs.options.lease / 3)

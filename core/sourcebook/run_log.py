"""What of a run stands in SQL, so that any process can follow it, cancel it, or end it when its worker is lost.

Every process writes for all of its runs together: their frames, joined into one segment a run, in one transaction a
tick, never a row a token. The cursor is `(run, seq)`: ids of rows would be committed out of order on PostgreSQL. In the
memory form no frames are written, and the rest is asked and told at longer intervals.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from sourcebook import settings
from sourcebook.database.engine import Database, now
from sourcebook.database.tables import run_segments, runs
from sourcebook.errors import SourcebookError
from sourcebook.ids import new_id
from sourcebook.run import Run
from sourcebook.turns import drop_frames

log = logging.getLogger(__name__)

_LINGER = 0.5  # seconds for which the ticks go on without a run: the next one is often near


@dataclass(frozen=True)
class Segment:
    """Frames `seq` to `last_seq` of a run, as they went over the wire."""

    seq: int
    last_seq: int
    frames: bytes

    def after(self, seq: int) -> bytes:
        """Those behind number `seq`. Frames end in a blank line and hold no other."""
        if seq < self.seq:
            return self.frames
        return b"".join(frame + b"\n\n" for frame in self.frames.split(b"\n\n")[seq + 1 - self.seq : -1])


class RunLog:
    """Writes this process's runs, renews their leases, and sees who asks for their end.

    `several`: other processes serve too, so that frames are written unless the options say otherwise.
    """

    def __init__(self, database: Database, options: settings.Runs, *, several: bool = False) -> None:
        self._db = database
        self.options = options
        self.worker = f"{socket.gethostname()[:60]}:{os.getpid()}:{new_id('w')[-6:]}"
        wanted = options.log
        self.durable = wanted == "sql" or (wanted == "auto" and (several or not database.sqlite))
        self._saved: dict[str, int] = {}  # run -> the last frame that is written
        self._runs: dict[str, Run] = {}
        self._task: asyncio.Task[None] | None = None
        self._renewed = 0.0
        self._closing = asyncio.Event()

    def lease(self) -> datetime:
        """Until when a run of this process is believed to go on, counted from now."""
        return now() + timedelta(seconds=self.options.lease)

    def add(self, run: Run) -> None:
        """A run begins, and its row is there."""
        self._runs[run.id] = run
        self._saved[run.id] = 0
        if self._task is None or self._task.done():
            self._renewed = asyncio.get_running_loop().time()
            # For all runs, not for the one that it begins with.
            self._task = asyncio.create_task(self._ticks(), name="run log", context=Context())

    async def close(self) -> None:
        """Write what is left, once every run has ended."""
        self._closing.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ticks(self) -> None:
        pause = self.options.flush if self.durable else min(0.5, self.options.lease / 3)
        idle = 0.0
        while idle < _LINGER and not (self._closing.is_set() and not self._runs):
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):  # `wait_for` would begin a task for every tick
                    await self._closing.wait()
            idle = 0.0 if self._runs else idle + pause
            try:
                await self._write()
                await self._told()
            except SourcebookError as error:  # the next tick writes what this one could not
                log.warning("the run log was not written: %s", error)
                if self._closing.is_set():
                    return

    async def _write(self) -> None:
        """The new frames of every run, and the leases when it is time, in one transaction."""
        rows: list[dict[str, Any]] = []
        ended = [run_id for run_id, run in self._runs.items() if run.finished_at is not None]
        for run_id, run in self._runs.items():
            frames = run.since(self._saved[run_id]) if self.durable else ()
            if frames:
                wire = b"".join(frame.wire for frame in frames)
                rows.append({"run_id": run_id, "seq": frames[0].seq, "last_seq": frames[-1].seq, "frames": wire})
        time = asyncio.get_running_loop().time()
        due = time - self._renewed > self.options.lease / 3
        if rows or (due and self._runs):
            async with self._db.write() as c:
                if rows:
                    await c.execute(run_segments.insert(), rows)
                    # What they cited may have been deleted before their last frames came here.
                    await drop_frames(c, ended)
                if due:
                    mine = sa.and_(runs.c.id.in_(list(self._runs)), runs.c.state == "running")
                    await c.execute(runs.update().where(mine).values(lease_until=self.lease()))
        if due:
            self._renewed = time
        for row in rows:
            self._saved[row["run_id"]] = row["last_seq"]
        for run_id in ended:
            if not self.durable or self._saved[run_id] >= self._runs[run_id].last_seq:
                del self._runs[run_id], self._saved[run_id]

    async def _told(self) -> None:
        """What other processes want of our runs."""
        alive = [run_id for run_id, run in self._runs.items() if run.finished_at is None]
        if not alive:
            return
        query = sa.select(runs.c.id, runs.c.cancel, runs.c.followed_until, runs.c.state).where(runs.c.id.in_(alive))
        async with self._db.read() as c:
            rows = (await c.execute(query)).all()
        clock = asyncio.get_running_loop().time()
        for run_id, cancel, until, state in rows:
            run = self._runs.get(run_id)
            if run is None:
                continue
            if until is not None:
                run.followed_elsewhere = clock + (until - now()).total_seconds()
            if cancel:
                run.stop("asked")
            elif state != "running":  # we were thought lost, and it was ended for us
                run.stop("lease lost")

    # What any process may ask.

    async def ask_to_cancel(self, run_id: str) -> None:
        """Raise the flag that the run's own process looks for."""
        async with self._db.write() as c:
            await c.execute(runs.update().where(runs.c.id == run_id, runs.c.state == "running").values(cancel=True))

    async def say_followed(self, run_ids: list[str], seconds: float) -> None:
        """Tell the processes of these runs that somebody follows them from here."""
        until = now() + timedelta(seconds=seconds)
        async with self._db.write() as c:
            await c.execute(runs.update().where(runs.c.id.in_(run_ids)).values(followed_until=until))

    async def states(self, run_ids: list[str]) -> dict[str, Mapping[str, Any]]:
        """State, lease, last number and message of these runs."""
        columns = (runs.c.id, runs.c.state, runs.c.lease_until, runs.c.last_seq, runs.c.message_id)
        async with self._db.read() as c:
            found = (await c.execute(sa.select(*columns).where(runs.c.id.in_(run_ids)))).mappings()
            return {row["id"]: dict(row) for row in found}

    async def segments(self, cursors: Mapping[str, int], most: int = 500) -> dict[str, list[Segment]]:
        """What was written of each of these runs behind its number, in order."""
        t = run_segments.c
        behind = (sa.and_(t.run_id == run_id, t.last_seq > seq) for run_id, seq in cursors.items())
        query = sa.select(run_segments).where(sa.or_(sa.false(), *behind)).order_by(t.run_id, t.seq).limit(most)
        found: dict[str, list[Segment]] = {}
        async with self._db.read() as c:
            for run_id, seq, last_seq, frames in (await c.execute(query)).all():
                found.setdefault(run_id, []).append(Segment(seq, last_seq, bytes(frames)))
        return found

    async def prune(self) -> None:
        """Drop the frames of runs that ended long ago: their answers are stored as messages."""
        if not self.durable:
            return
        ended = runs.c.finished_at < now() - timedelta(seconds=self.options.keep)
        old = sa.select(runs.c.id).where(ended)
        there = sa.select(run_segments.c.run_id).where(run_segments.c.run_id.in_(old)).limit(500).distinct()
        async with self._db.read() as c:
            ids = list((await c.execute(there)).scalars())
        if ids:
            async with self._db.write() as c:
                await c.execute(run_segments.delete().where(run_segments.c.run_id.in_(ids)))

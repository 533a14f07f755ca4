"""Follows runs of other processes: what they wrote to SQL, what they are doing, and what they left when they were lost.

One poller serves every follower of this process. It reads what is new of all followed runs at once; who resumes from
further back reads that part alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field

from sourcebook.database.engine import now
from sourcebook.errors import SourcebookError
from sourcebook.run_log import RunLog, Segment

log = logging.getLogger(__name__)

_HELD = 200  # segments a run that wait for slow readers; who is further behind reads SQL again
_TELL = 1.0  # seconds between two notices that somebody follows
_PATIENCE = 1.5  # seconds after a run's end for its last frames to be written

Recover = Callable[[str], Awaitable[None]]


@dataclass
class _Followed:
    """A run of another process, for all who follow it from here."""

    head: int  # the newest frame that was read
    segments: list[Segment] = field(default_factory=list)
    state: str = "running"
    ended_at: float = 0.0
    followers: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Waiters hold the old event, so none can miss this."""
        self.grown.set()
        self.grown = asyncio.Event()


class Following:
    """The runs of other processes that clients of this one follow. `recover` ends a run whose worker is lost."""

    def __init__(self, runs: RunLog, recover: Recover) -> None:
        self._log = runs
        self._recover = recover
        self._followed: dict[str, _Followed] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop to poll. Whoever still follows ends with what there is."""
        for followed in self._followed.values():
            followed.state = followed.state if followed.state != "running" else "left"
            followed.ended_at = -_PATIENCE
            followed.wake()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def wires(self, run_id: str, after: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """(last number, frames) behind number `after`, up to the run's end, whether or not that could be written."""
        followed = self._followed.get(run_id)
        if followed is None:
            followed = self._followed[run_id] = _Followed(after)
        followed.followers += 1
        try:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._polls(), name="following", context=Context())
            while True:
                grown = followed.grown
                for segment in await self._behind(run_id, followed, after):
                    wire = segment.after(after)
                    after = segment.last_seq
                    yield after, wire
                if after < followed.head:
                    continue
                if followed.state != "running" and _clock() >= followed.ended_at + _PATIENCE:
                    return
                if grown is followed.grown:
                    await grown.wait()
        finally:
            followed.followers -= 1
            if followed.followers == 0 and self._followed.get(run_id) is followed:
                del self._followed[run_id]

    async def _behind(self, run_id: str, followed: _Followed, after: int) -> list[Segment]:
        """The next segments behind a number: of those held, or read again."""
        held = followed.segments
        if after < followed.head and (not held or after + 1 < held[0].seq):
            return (await self._log.segments({run_id: after}, 50)).get(run_id, [])
        return [segment for segment in held if segment.last_seq > after]

    async def _polls(self) -> None:
        told = 0.0
        while self._followed:
            try:
                if _clock() - told >= _TELL:
                    told = _clock()
                    await self._tell()
                await self._poll()
            except SourcebookError as error:
                log.warning("runs of other processes could not be read: %s", error)
            await asyncio.sleep(self._log.options.flush)

    async def _tell(self) -> None:
        running = [run_id for run_id, followed in self._followed.items() if followed.state == "running"]
        if running:
            await self._log.say_followed(running, 3 * _TELL)

    async def _poll(self) -> None:
        states = await self._log.states(list(self._followed))
        found = await self._log.segments({run_id: f.head for run_id, f in self._followed.items()})
        for run_id, followed in list(self._followed.items()):
            for segment in found.get(run_id, ()):
                followed.segments.append(segment)
                followed.head = segment.last_seq
            del followed.segments[:-_HELD]
            row = states.get(run_id)
            state = row["state"] if row else "gone"
            if state != "running" and followed.state == "running":
                followed.state, followed.ended_at = state, _clock()
            if run_id in found or state != "running":
                followed.wake()
            if row and state == "running" and row["lease_until"] is not None and row["lease_until"] < now():
                with suppress(SourcebookError):
                    await self._recover(run_id)


def _clock() -> float:
    return asyncio.get_running_loop().time()

"""How long another server may take, and the clock that holds it to that. Every way of being late has its own code."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar

from sourcebook.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines in seconds. `first_byte` and `total` run from the start of the call, `gap` from the last byte."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    connect: float = 5.0
    first_byte: float = 60.0
    gap: float = 30.0
    total: float = 300.0

    def __post_init__(self) -> None:
        if min(self.connect, self.first_byte, self.gap, self.total) <= 0:
            raise ValueError("a timeout must be more than 0 seconds")


class Clock:
    """When the next byte of one call is due."""

    def __init__(self, limits: Timeouts) -> None:
        self._time = asyncio.get_running_loop().time
        start = self._time()
        self.end = start + limits.total
        self.first = start + limits.first_byte
        self.gap = limits.gap
        self.answering = False

    def due(self) -> float:
        """When the next byte must be here, in the event loop's time."""
        return min(self._time() + self.gap if self.answering else self.first, self.end)

    def late(self, where: str) -> UpstreamError:
        """The error for a deadline that has just passed."""
        if self._time() >= self.end:
            return _late("upstream_total_timeout", f"{where} did not finish its answer in time.")
        if self.answering:
            return _late("upstream_gap_timeout", f"{where} stopped in the middle of its answer.")
        return _late("upstream_first_byte_timeout", f"{where} did not begin to answer in time.")


class Watch:
    """`asyncio.timeout` for many short waits in a row: one timer, moved only when it goes off.

    A timer for each chunk costs a quarter of what reading the chunk does.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None  # who waits now
        self._cancelling = 0
        self._due = 0.0
        self._expired = False

    def begin(self, due: float) -> None:
        """The running task is about to wait until `due` at most."""
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task else 0
        self._due = due
        if self._timer is None or self._timer.when() > due:
            self.stop()
            self._timer = self._loop.call_at(due, self._ring)

    def end(self) -> bool:
        """The wait is over. Whether a cancellation that ended it was ours, and nobody else's as well."""
        task, self._task = self._task, None
        if not self._expired or task is None:
            return False
        self._expired = False
        return task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """No more waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._task is None:
            return  # the reader is busy; its next wait winds the timer up
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self._expired = True
            self._task.cancel()


def _late(code: str, detail: str) -> UpstreamError:
    return UpstreamError(detail, code=code, transient=True)

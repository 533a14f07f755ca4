"""Jailed children that read on: several short files of one notebook in one process, one after the other.

To fork, to confine, and to copy what Python writes to as it reads takes several times as long as a short text does.
Only what is memory-safe reads on (`Parser.memory_safe`): no file can take its process over, so none can see or change
what comes after it, and what a file could still do, to use up time or memory, is no verdict in a child that has read
others: it is read again in a child of its own.
"""

from __future__ import annotations

import asyncio
import time

from sourcebook.jail_process import Child

MOST = 64
"""Documents in one child."""

_SHARE = 4  # of the wall clock's limit: a child's deadline is that of its first document
_IDLE = 0.5  # seconds without a document


class Kept:
    """Children that wait for another document of their notebook: at most `most`, none for long."""

    def __init__(self, most: int, wall_seconds: float) -> None:
        self._most = most
        self._age = wall_seconds / _SHARE
        self._waiting: list[tuple[str, Child, float]] = []  # notebook, child, since when
        self._timer: asyncio.TimerHandle | None = None

    def take(self, notebook: str) -> Child | None:
        """One that has read of this notebook alone. Whoever takes it keeps or closes it."""
        for one in self._waiting:
            if one[0] == notebook:
                self._waiting.remove(one)
                return one[1]
        return None

    def keep(self, notebook: str, child: Child) -> None:
        """It has read a document of this notebook, and all was well."""
        if child.read >= MOST or time.monotonic() - child.born > self._age:
            child.close()
            return
        self._waiting.append((notebook, child, time.monotonic()))
        if len(self._waiting) > self._most:
            self._waiting.pop(0)[1].close()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_IDLE, self._end_idle)

    def close(self) -> None:
        """End all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.pop()[1].close()

    def _end_idle(self) -> None:
        self._timer = None
        due = time.monotonic() - _IDLE
        while self._waiting and self._waiting[0][2] <= due:
            self._waiting.pop(0)[1].close()
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(self._waiting[0][2] - due, self._end_idle)

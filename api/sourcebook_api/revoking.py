"""A stream outlives the check that let it in: its key is looked at again, and a revoked one ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from sourcebook.errors import SourcebookError, Unauthenticated

log = logging.getLogger(__name__)


class StillValid:
    """`async with StillValid(check, streams, every):` around the answer to one request.

    Every so many seconds, while `streams()`, `check()` is awaited; where it raises `Unauthenticated`, the body of the
    `async with` is cancelled and `revoked` is set. Whatever else it raises says nothing of the key.
    """

    def __init__(self, check: Callable[[], Awaitable[object]], streams: Callable[[], bool], every: float) -> None:
        self._check = check
        self._streams = streams
        self._every = every
        self._checking: asyncio.Task[None] | None = None
        self.revoked = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._serving = asyncio.current_task()
        # A timer costs next to nothing; a task is made for the few answers that last so long.
        self._timer = self._loop.call_later(self._every, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()
        if self.revoked and kind is asyncio.CancelledError and self._serving is not None:
            self._serving.uncancel()
            return True
        return False

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._every, self._look)
        if self._streams() and (self._checking is None or self._checking.done()):
            self._checking = self._loop.create_task(self._again())

    async def _again(self) -> None:
        try:
            await self._check()
        except Unauthenticated:
            self.revoked = True
            if self._serving is not None:
                self._serving.cancel()
        except SourcebookError as error:
            log.warning("the key of an open stream could not be checked again: %s", error)

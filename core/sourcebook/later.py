"""What is done only where something else takes long: a task that is not even made where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def later(seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[list[asyncio.Task[None]]]:
    """Begin `work` after so long in here, and cancel it at the end: the list then holds its task, to be awaited."""
    begun: list[asyncio.Task[None]] = []
    timer = asyncio.get_running_loop().call_later(seconds, lambda: begun.append(asyncio.create_task(work())))
    try:
        yield begun
    finally:
        timer.cancel()
        for task in begun:
            task.cancel()

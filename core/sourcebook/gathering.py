"""Small calls of many documents made as few large ones: what comes while one is under way goes into the next together.

Nobody waits for company, but where that is asked for: whoever comes first goes alone, and at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_LITTLE = 0.01  # seconds

_Waiting = tuple[T, asyncio.Future[R], Context]


class Gathering(Generic[T, R]):
    """`call(items)` gives a result for each; at most `limit` weight goes into one call, but always one item.

    `hold(items)` says, of so many that wait, whether the next call may wait a little yet for more to go into it.
    What `call` raises, all of its items get. A caller that is cancelled leaves; the others' call goes on. A call
    for one item is made in that caller's context, one that several share in an empty one: it belongs to none of
    them.
    """

    def __init__(
        self,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        limit: int,
        weight: Callable[[T], int] = lambda item: 1,
        hold: Callable[[int], bool] = lambda items: False,
    ) -> None:
        self._call = call
        self._hold = hold
        self._limit = limit
        self._weight = weight
        self._waiting: list[_Waiting[T, R]] = []
        self._running: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> R:
        """The result of this item, from a call that others may share."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future, copy_context()))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), context=Context())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                while self._hold(len(self._waiting)):  # noqa: ASYNC110 - what it hangs on tells nobody when it changes
                    await asyncio.sleep(_LITTLE)
                batch = self._next()
                if not batch:
                    continue
                try:
                    results = await self._called(batch)
                except BaseException as error:
                    for _, future, _ in batch:
                        if not future.done():
                            future.set_exception(error)
                            future.exception()  # seen, also where its caller has left
                    if not isinstance(error, Exception):
                        raise
                    continue
                for (_, future, _), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
        finally:
            self._running = None

    async def _called(self, batch: Sequence[_Waiting[T, R]]) -> Sequence[R]:
        items = [item for item, _, _ in batch]
        if len(batch) > 1:
            return await self._call(items)

        async def alone() -> Sequence[R]:
            return await self._call(items)

        return await asyncio.create_task(alone(), context=batch[0][2])

    def _next(self) -> list[_Waiting[T, R]]:
        self._waiting = [one for one in self._waiting if not one[1].done()]
        batch: list[_Waiting[T, R]] = []
        total = 0
        while self._waiting:
            weight = self._weight(self._waiting[0][0])
            if batch and total + weight > self._limit:
                break
            total += weight
            batch.append(self._waiting.pop(0))
        return batch

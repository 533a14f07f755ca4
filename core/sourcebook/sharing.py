"""What several wirings use at a time: it is closed when the last of them lets go of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Something open, and how many hold it; whoever makes it is the first."""

    def __init__(self, thing: T, end: Callable[[T], Awaitable[None]]) -> None:
        self.thing = thing
        self._end = end
        self._holders = 1

    def hold(self) -> Shared[T]:
        """For one more, who lets go of it too. Only while somebody else still holds it."""
        self._holders += 1
        return self

    async def let_go(self) -> bool:
        """Closed, if nobody holds it any more: then True."""
        self._holders -= 1
        if self._holders:
            return False
        await self._end(self.thing)
        return True

"""Who is worked for, and who waits for somebody else: a server does so much at a time, and waiting is no work.

A request that the server works on has a place. What waits for another server says so here, wherever it is called from,
and somebody else is worked for until it goes on. Jobs and commands have no place, and nothing of this concerns them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Place(Protocol):
    """The place of one request. Each `rest` is followed by one `back`, and neither waits; `leave` gives it up for good.

    `held`: a stream's answer has begun, and yet there is work to do before it only waits.
    """

    held: bool

    def rest(self) -> None:
        """Somebody else is waited for."""

    def back(self) -> None:
        """It goes on, also where there is no room: who has begun is not kept waiting."""

    def leave(self) -> None:
        """From here on it only waits, and what is left to do is little. Idempotent."""


PLACE: ContextVar[Place | None] = ContextVar("sourcebook_place", default=None)
"""That of the request that this is done for."""


@contextmanager
def resting() -> Iterator[None]:
    """While another server is waited for."""
    place = PLACE.get()
    if place is None:
        yield
        return
    place.rest()
    try:
        yield
    finally:
        place.back()


def held() -> None:
    """There is work to do, although an answer may have begun: `left` follows."""
    if (place := PLACE.get()) is not None:
        place.held = True


def left() -> None:
    """All that can be waited for from here on is others."""
    if (place := PLACE.get()) is not None:
        place.leave()

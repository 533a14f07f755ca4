"""How many requests are worked on at a time, and whose turn it is: more at once would only get in each other's way.

Beyond the places, requests wait in line, each caller's by itself and the lines in turn, so that many of one caller
delay another's by one. A line that does not get on is not made longer: what would wait for too long is refused at once,
which costs little, so that what is served under any load is what can be.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable
from typing import TypeVar

from sourcebook import settings
from sourcebook.errors import StoreError

T = TypeVar("T")

_SOON = 0.05  # seconds after which a client that is waited for keeps nobody from being worked for


class Overloaded(StoreError):
    """This server has as much to do as it takes; the same request will do later."""

    code = "overloaded"
    title = "The server is busy"


class Place:
    """A request that is being worked on: see `sourcebook.elsewhere`."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._resting = 0
        self._left = False
        self.held = False

    def rest(self) -> None:
        """Somebody else is waited for."""
        self._resting += 1
        if self._resting == 1 and not self._left:
            self._places._given_back()

    def back(self) -> None:
        """It goes on at once."""
        self._resting -= 1
        if self._resting == 0 and not self._left:
            self._places.taken += 1

    def leave(self) -> None:
        """Give it up for good. Idempotent."""
        if not self._left:
            self._left = True
            if not self._resting:
                self._places._given_back()

    async def client(self, work: Awaitable[T]) -> T:
        """What the client does: to send its body, to take an answer. One that takes its time keeps no place."""
        if self._left:
            return await work
        slow = False

        def rest() -> None:
            nonlocal slow
            slow = True
            self.rest()

        timer = asyncio.get_running_loop().call_later(_SOON, rest)
        try:
            return await work
        finally:
            timer.cancel()
            if slow:
                self.back()


class Places:
    """The places of one server. `taken` may be over the limit for a while, where many go on at once."""

    def __init__(self, options: settings.Limits) -> None:
        self._options = options
        self._lines: OrderedDict[str, deque[tuple[float, asyncio.Future[None]]]] = OrderedDict()
        self.taken = 0

    def change(self, options: settings.Limits) -> None:
        """Go by these from now on."""
        self._options = options
        self._serve()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(len(line) for line in self._lines.values())

    async def take(self, who: str) -> Place:
        """A place, when it is this caller's turn. Raises `Overloaded` where the caller's line does not get on."""
        if self._lines or not self._room():
            await self._turn(who)
        else:
            self.taken += 1
        return Place(self)

    async def _turn(self, who: str) -> None:
        loop = asyncio.get_running_loop()
        line = self._lines.setdefault(who, deque())
        if line and (waited := loop.time() - line[0][0]) > self._options.patience:
            raise Overloaded(
                f"This server works on {self._options.working} requests at a time, and others wait already.",
                retry_after=max(1, round(2 * waited)),  # sooner, the line would be as long still
            )
        turn: asyncio.Future[None] = loop.create_future()
        line.append((loop.time(), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled() or not turn.done():
                self._without(who, turn)
            else:
                self._given_back()
            raise

    def _without(self, who: str, turn: asyncio.Future[None]) -> None:
        if (line := self._lines.get(who)) is not None:
            left = deque(one for one in line if one[1] is not turn)
            if left:
                self._lines[who] = left
            else:
                del self._lines[who]

    def _room(self) -> bool:
        return not self._options.working or self.taken < self._options.working

    def _given_back(self) -> None:
        self.taken -= 1
        self._serve()

    def _serve(self) -> None:
        """Whoever is first in the line whose turn it is."""
        while self._lines and self._room():
            who, line = next(iter(self._lines.items()))
            _, turn = line.popleft()
            if line:
                self._lines.move_to_end(who)
            else:
                del self._lines[who]
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

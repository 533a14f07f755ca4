"""How much one key, one address and all together may ask: requests a minute, and requests at a time.

The counting is done by the library `limits`, in this process or in Redis where several servers share one limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from sourcebook import settings
from sourcebook.errors import QuotaExceeded
from sourcebook.owners import Principal
from sourcebook_api.places import Overloaded, Place, Places

_MINUTE = 60


class RateLimited(QuotaExceeded):
    """Too many requests in a minute, or at a time. `retry_after` is in seconds."""

    code = "rate_limited"
    title = "Too many requests"


class Pass:
    """One request that was let in: what its answer says of the limit. `leave` it when the answer has been given."""

    def __init__(self, active: Counter[str], who: str, headers: Mapping[bytes, bytes]) -> None:
        self._active = active
        self._who = who
        self.headers = headers

    def leave(self) -> None:
        """It is over. Idempotent."""
        if self._who:
            self._active[self._who] -= 1
            if not self._active[self._who]:
                del self._active[self._who]  # so that nothing grows with the keys that ever came by
            self._who = ""


class Limiter:
    """The limits of one server. 0 anywhere is without a limit."""

    def __init__(self, options: settings.Limits) -> None:
        self._options = options
        self._active: Counter[str] = Counter()
        self._in_flight = 0
        self.places = Places(options)
        self._counting: Any = None

    def change(self, options: settings.Limits) -> None:
        """Go by these from now on; where requests are counted stays as it was."""
        self._options = options
        self.places.change(options)

    def admit(self) -> None:
        """Raises `Overloaded` where the server is full. Whoever was admitted is `dismiss`ed in the end."""
        if self._options.in_flight and self._in_flight >= self._options.in_flight:
            raise Overloaded(
                f"This server is answering {self._in_flight} requests, and takes no more at a time.", retry_after=1
            )
        self._in_flight += 1

    def dismiss(self) -> None:
        """One of the admitted is done."""
        self._in_flight -= 1

    async def enter(self, principal: Principal) -> Pass:
        """Count one request of this caller. Raises `RateLimited`. Without keys, nobody is counted."""
        if principal.key_id is None and principal.local:
            return Pass(self._active, "", {})
        who = principal.key_id or f"{principal.owner_id}/{principal.name}"
        own = principal.limits or {}
        headers = await self._count(who, own.get("requests", self._options.requests))
        most = own.get("concurrent", self._options.concurrent)
        if most and self._active[who] >= most:
            raise RateLimited(
                f"This key has {most} requests under way, and may have no more at a time.",
                code="too_many_at_once",
                remedy="Wait until one of them has ended.",
                retry_after=1,
            )
        self._active[who] += 1
        return Pass(self._active, who, headers)

    async def place(self, principal: Principal) -> Place:
        """A place among those that are worked for, when it is this caller's turn. Raises `Overloaded`."""
        return await self.places.take(principal.key_id or principal.owner_id)

    async def refused(self, address: str) -> None:
        """Count a credential that was no good. Raises `RateLimited` where there were too many of them."""
        if self._options.failures:
            await self._hit(f"refused {address}", self._options.failures)

    async def _count(self, who: str, per_minute: int) -> dict[bytes, bytes]:
        if not per_minute:
            return {}
        left, reset = await self._hit(who, per_minute)
        return {
            b"ratelimit-limit": str(per_minute).encode(),
            b"ratelimit-remaining": str(left).encode(),
            b"ratelimit-reset": str(reset).encode(),
        }

    async def _hit(self, who: str, per_minute: int) -> tuple[int, int]:
        """How many are left, and the seconds until there are more. Raises `RateLimited`."""
        if self._counting is None:
            # To import it takes so long that others would wait for it.
            self._counting = await asyncio.to_thread(_strategy, self._options.counters)
        item = _a_minute(per_minute)
        taken = await self._counting.hit(item, who)
        stats = await self._counting.get_window_stats(item, who)
        reset = max(1, min(_MINUTE, round(stats.reset_time - time.time())))
        if not taken:
            raise RateLimited(
                f"More than {per_minute} requests in a minute.",
                remedy="Wait for as many seconds as Retry-After says.",
                retry_after=reset,
                limit=per_minute,
            )
        return int(stats.remaining), reset


def _strategy(counters: str) -> Any:
    from limits.aio.strategies import MovingWindowRateLimiter
    from limits.storage import storage_from_string

    return MovingWindowRateLimiter(storage_from_string(f"async+{counters}"))


@cache
def _a_minute(requests: int) -> Any:
    from limits import RateLimitItemPerMinute

    return RateLimitItemPerMinute(requests)

"""What one owner may keep and have waiting, from `[limits]`. Whoever shares a notebook uses its owner's room."""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.tables import jobs, notebooks, owners, sources
from sourcebook.errors import QuotaExceeded
from sourcebook.settings import Limits

_SPARED = 100  # times in a row that a count is spared, at most
_MOMENT = 1.0  # seconds for which it is


class StorageFull(QuotaExceeded):
    """An owner has as much as they may keep: nothing changes until something is deleted."""

    code = "storage_quota_exceeded"
    title = "The storage quota is used up"
    transient = False


class Far:
    """How often a count may be spared, since what was counted last is far from its bound.

    A twentieth of what is left, and only for a moment: so one process never goes over a bound, and several at once only
    by what each of them adds in that moment, as twenty that count together do not. Near it, every time counts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[int, float]] = {}  # how often yet, and until when

    def __contains__(self, key: str) -> bool:
        """Whether it need not be counted now."""
        left, until = self._left.pop(key, (0, 0.0))
        if not left or self._clock() > until:
            return False
        if left > 1:
            self._left[key] = left - 1, until
        return True

    def counted(self, key: str, count: int, bound: int) -> None:
        """It was, and one is added to it now."""
        if (spared := min((bound - count) // 20 - 1, _SPARED)) > 0:
            self._left[key] = spared, self._clock() + _MOMENT


class Quotas:
    """Asked within the transaction that would add a source, so that two uploads cannot both take the last room."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._far = Far()

    @property
    def light(self) -> bool:
        """Whether a check reads few rows: without a bound on what is stored, nothing is summed up."""
        return not (self.limits.storage or self.limits.owners or self.limits.sources)

    def spares(self, owner_id: str) -> bool:
        """Whether nothing need be counted for one small source more."""
        return self.light and (not self.limits.queued or owner_id in self._far)

    async def check(self, c: AsyncConnection, owner_id: str, size: int = 0, *, added: bool = True) -> None:
        """Raises `StorageFull` where `size` bytes more are too much, `QuotaExceeded` where too many jobs wait.

        `added`: it is one source more, and not other bytes for one that is there.
        """
        limits = self.limits
        if limits.storage or limits.owners or limits.sources:
            await self._storage(c, owner_id, size, added)
        if limits.queued and owner_id not in self._far:
            # Counting ends at the limit: a short queue, as nearly every one is, costs next to nothing.
            waiting = (await c.execute(_WAITING, {"owner": owner_id, "most": limits.queued})).scalar_one()
            if int(waiting) >= limits.queued:
                raise QuotaExceeded(
                    f"{limits.queued} jobs of this owner wait to be done, and no more may.",
                    code="queue_full",
                    remedy="Wait until some of them are done, then send this again.",
                    retry_after=10,
                )
            self._far.counted(owner_id, int(waiting), limits.queued)

    async def used(self, c: AsyncConnection, owner_id: str) -> tuple[int, int]:
        """Bytes and sources of an owner, without what is deleted."""
        query = (
            sa.select(sa.func.coalesce(sa.func.sum(sources.c.size), 0), sa.func.count())
            .select_from(sources.join(notebooks, notebooks.c.id == sources.c.notebook_id))
            .where(notebooks.c.owner_id == owner_id, sources.c.deleted_at.is_(None))
        )
        held, number = (await c.execute(query)).one()
        return int(held), int(number)

    async def _storage(self, c: AsyncConnection, owner_id: str, size: int, added: bool) -> None:
        name = (await c.execute(sa.select(owners.c.name).where(owners.c.id == owner_id))).scalar()
        most = self.limits.owners.get(str(name), self.limits.storage)
        held, number = await self.used(c, owner_id)
        if most and (held + size > most or held >= most):
            raise StorageFull(
                f"This owner's sources hold {held:,} of {most:,} bytes, and {size:,} more are too many.",
                remedy="Delete sources, or ask the operator for more room.",
                limit=most,
                used=held,
            )
        if added and self.limits.sources and number >= self.limits.sources:
            raise StorageFull(
                f"This owner has {number} sources, and no more may be added.",
                remedy="Delete sources, or ask the operator for more room.",
                limit=self.limits.sources,
                used=number,
            )


_MINE = sa.select(jobs.c.id).where(jobs.c.owner_id == sa.bindparam("owner"), jobs.c.state == "queued")
_WAITING = sa.select(sa.func.count()).select_from(_MINE.limit(sa.bindparam("most", type_=sa.Integer)).subquery())

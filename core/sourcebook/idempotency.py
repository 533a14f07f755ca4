"""Answers that are kept under a key of the client's, so that a call that is sent again is not done again.

After draft-ietf-httpapi-idempotency-key-header: the same key with the same request gets the kept answer, with another
request it is refused, and while the first is still being served it is told to wait.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import idempotency_keys as kept
from sourcebook.errors import Conflict

LIFE = timedelta(hours=24)
"""How long an answer is kept."""

BEAT = 10.0
"""Seconds between two signs of life of a call that is being served."""

_SILENT = timedelta(seconds=3 * BEAT)  # after this its process must have died
_ROWS = 500


@dataclass(frozen=True)
class Kept:
    """An answer that was given: the hash of its request, and what was said."""

    request_hash: str
    status: int
    response: bytes


@dataclass(frozen=True)
class Claim:
    """The right to do a call under a key. `token` stands in the row for as long as it is being done."""

    owner_id: str
    key: str
    token: str


class Idempotency:
    """Kept answers in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(self, owner_id: str, key: str) -> Claim | Kept:
        """The right to do this call, or the answer that it had. Raises `Conflict` while somebody does it."""
        claim = Claim(owner_id, key, secrets.token_hex(32))
        at = now()
        old = sa.or_(
            kept.c.created_at < at - LIFE,
            sa.and_(kept.c.status.is_(None), kept.c.created_at < at - _SILENT),
        )
        row = {"owner_id": owner_id, "key": key, "request_hash": claim.token, "created_at": at}
        async with self._db.write() as c:
            await self._prune(c, owner_id, key, old)
            done = await c.execute(self._db.insert_or_ignore(kept).values(**row))
            if done.rowcount == 1:
                return claim
            found = (await c.execute(sa.select(kept).where(_named(owner_id, key)))).mappings().one()
        if found["status"] is None:
            raise Conflict(
                "A request with this Idempotency-Key is still being served.",
                code="idempotency_in_progress",
                remedy="Wait, and send the same request again.",
                retry_after=1,
            )
        return Kept(found["request_hash"], found["status"], found["response"])

    async def beat(self, claim: Claim) -> None:
        """It is still being done."""
        await self._update(claim, created_at=now())

    async def finish(self, claim: Claim, answer: Kept) -> None:
        """Keep the answer."""
        told = {"request_hash": answer.request_hash, "status": answer.status, "response": answer.response}
        await self._update(claim, **told, created_at=now())

    async def release(self, claim: Claim) -> None:
        """Nothing was made: the key is free again."""
        async with self._db.write() as c:
            await c.execute(kept.delete().where(_held(claim)))

    async def _update(self, claim: Claim, **values: object) -> None:
        async with self._db.write() as c:
            await c.execute(kept.update().where(_held(claim)).values(**values))

    async def _prune(self, c: AsyncConnection, owner_id: str, key: str, old: sa.ColumnElement[bool]) -> None:
        """This key's row where it no longer counts, and some of this owner's other old ones."""
        await c.execute(kept.delete().where(_named(owner_id, key), old))
        some = sa.select(kept.c.key).where(kept.c.owner_id == owner_id, old).limit(_ROWS)
        await c.execute(kept.delete().where(kept.c.owner_id == owner_id, kept.c.key.in_(some.scalar_subquery())))


def _named(owner_id: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(kept.c.owner_id == owner_id, kept.c.key == key)


def _held(claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(_named(claim.owner_id, claim.key), kept.c.request_hash == claim.token, kept.c.status.is_(None))

"""Who owns and who asks: owners, their keys, and the principal that a key stands for."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.pages import Page, page
from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import deletions, keys, owners
from sourcebook.errors import InvalidInput, NotFound, StoreError, Unauthenticated
from sourcebook.ids import new_id

log = logging.getLogger(__name__)

Permission = Literal["read", "write", "admin"]
PERMISSIONS: tuple[Permission, ...] = ("read", "write", "admin")
LOCAL = "local"
"""The owner of everything that is made without keys, on a loopback address."""

_PREFIX = "sbk_"
_ENTROPY, _CHECK = 43, 6  # characters: 256 random bits, and a checksum by which scanners tell a key from a lookalike
_LIMITS = ("requests", "concurrent")
_USED_EVERY = timedelta(minutes=1)  # so that reading costs no writing


@dataclass(frozen=True)
class Principal:
    """Who asks. `permissions` are not implied by each other.

    `limits` are the key's own (`requests` a minute, `concurrent`), before those of the settings; `local` is whoever
    uses a server without keys from its own machine.
    """

    owner_id: str
    name: str
    permissions: frozenset[str]
    key_id: str | None = None
    limits: Mapping[str, int] | None = None
    local: bool = False

    def may(self, permission: Permission) -> bool:
        """Whether this permission was given."""
        return permission in self.permissions


@dataclass(frozen=True)
class Key:
    """A key without its secret, which nobody can read again."""

    id: str
    owner_id: str
    owner: str
    name: str
    permissions: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None
    limits: Mapping[str, int] | None = None


class Owners:
    """Owners and keys in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def ensure(self, name: str) -> str:
        """The id of the owner called `name`, who is made if new."""
        if not name.strip() or len(name) > 200:
            raise InvalidInput("An owner's name has 1 to 200 characters.")
        async with self._db.write() as c:
            query = sa.select(owners.c.id).where(owners.c.name == name)
            if found := (await c.execute(query)).scalar():
                return str(found)
            row = {"id": new_id("own"), "name": name, "created_at": now()}
            await c.execute(self._db.insert_or_ignore(owners).values(**row))
            return str((await c.execute(query)).scalar_one())  # another may have made the same meanwhile

    async def deletion(self, deletion_id: str) -> dict[str, Any]:
        """What a deletion removed, by table; empty until it is over."""
        async with self._db.read() as c:
            report = (await c.execute(sa.select(deletions.c.report).where(deletions.c.id == deletion_id))).scalar()
        return dict(report or {})

    async def local(self) -> Principal:
        """The principal of a server without keys."""
        return Principal(await self.ensure(LOCAL), LOCAL, frozenset(PERMISSIONS), local=True)

    async def operator(self, name: str = LOCAL) -> Principal:
        """Whoever runs the command line owns the data folder, so may act for any owner, who is made if new."""
        return Principal(await self.ensure(name), name, frozenset(PERMISSIONS))

    async def find(self, name: str) -> str:
        """The id of an owner. Raises `NotFound` (code `no_such_owner`)."""
        async with self._db.read() as c:
            found = (await c.execute(sa.select(owners.c.id).where(owners.c.name == name))).scalar()
        if found is None:
            raise NotFound(f"There is no owner {name!r}.", code="no_such_owner", remedy="An owner begins with a key.")
        return str(found)

    async def create_key(
        self,
        owner: str,
        permissions: Iterable[str],
        name: str = "",
        expires_at: datetime | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret: 256 random bits and a checksum, of which only the SHA-256 is kept.

        `limits` are its own `requests` a minute and `concurrent`, in place of the settings'; 0 is without a limit.
        """
        asked = set(permissions)
        wanted = tuple(p for p in PERMISSIONS if p in asked)
        if unknown := asked - set(PERMISSIONS):
            raise InvalidInput(f"Unknown permissions {sorted(unknown)}; there are: {', '.join(PERMISSIONS)}.")
        if not wanted:
            raise InvalidInput("A key needs at least one permission.")
        if any(name not in _LIMITS or value < 0 for name, value in (limits or {}).items()):
            raise InvalidInput(f"A key's limits are {' and '.join(_LIMITS)}, each at least 0.")
        owner_id = await self.ensure(owner)
        secret = new_secret()
        row = {
            "id": new_id("key"),
            "owner_id": owner_id,
            "name": name,
            "permissions": list(wanted),
            "created_at": now(),
            "expires_at": expires_at,
            "limits": dict(limits) if limits else None,
        }
        async with self._db.write() as c:
            await c.execute(keys.insert().values(hash=_hash(secret), **row))
        return Key(owner=owner, revoked_at=None, used_at=None, **{**row, "permissions": wanted}), secret  # type: ignore[arg-type]

    async def revoke(self, key_id: str) -> None:
        """From now on it opens nothing. Raises `NotFound`."""
        async with self._db.write() as c:
            done = await c.execute(
                keys.update().where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now())
            )
            if done.rowcount == 0:
                raise NotFound(f"There is no active key {key_id}.")

    async def list_keys(self) -> list[Key]:
        """Every key, oldest first."""
        async with self._db.read() as c:
            return [_key(row) for row in (await c.execute(_keys())).mappings()]

    async def listing(self, limit: int = 50, cursor: str | None = None) -> Page[Key]:
        """A page of the keys, oldest first."""
        query = _keys().where(keys.c.id > cursor) if cursor else _keys()
        async with self._db.read() as c:
            return page([_key(row) for row in (await c.execute(query.limit(limit + 1))).mappings()], limit)

    async def any_keys(self) -> bool:
        """Whether there is an active key: then every request needs one."""
        async with self._db.glance() as c:
            return await _ANY.first(c, {}) is not None

    async def authenticate(self, secret: str) -> Principal:
        """Who this secret stands for. Raises `Unauthenticated`: unknown, revoked and expired are not told apart."""
        row = None
        if may_be_a_key(secret):
            async with self._db.glance() as c:
                row = await _BY_SECRET.first(c, {"secret": _hash(secret)})
        if row is None or row.revoked_at or (row.expires_at and row.expires_at <= now()):
            raise Unauthenticated(
                "This key is not valid.", remedy="Send `Authorization: Bearer <key>` with an active key."
            )
        await self._used(row)
        return Principal(row.owner_id, row.owner, frozenset(row.permissions), row.id, row.limits)

    async def _used(self, row: Any) -> None:
        """Remember when, to the minute; that it could not be written down is no reason to refuse."""
        at = now()
        if row.used_at is not None and row.used_at > at - _USED_EVERY:
            return
        try:
            async with self._db.write() as c:
                await c.execute(keys.update().where(keys.c.id == row.id).values(used_at=at))
        except StoreError as error:
            log.warning("the last use of key %s was not stored: %s", row.id, error)


def new_secret() -> str:
    """A secret that nobody has had before."""
    entropy = secrets.token_urlsafe(32)
    return _PREFIX + entropy + _checksum(entropy)


def may_be_a_key(secret: str) -> bool:
    """Whether the checksum is right. Keys of before there were checksums are taken too."""
    entropy, check = secret[len(_PREFIX) :][:_ENTROPY], secret[len(_PREFIX) + _ENTROPY :]
    if not secret.startswith(_PREFIX) or len(entropy) != _ENTROPY:
        return False
    return not check or hmac.compare_digest(check.encode(), _checksum(entropy).encode())


def _checksum(entropy: str) -> str:
    """CRC-32 in base 36."""
    number, digits = zlib.crc32(entropy.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, 36)
        digits += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return digits


# Every request asks one of these.
_ANY = Prepared(sa.select(keys.c.id).where(keys.c.revoked_at.is_(None)).limit(1))
_BY_SECRET = Prepared(
    sa.select(keys, owners.c.name.label("owner")).join(owners).where(keys.c.hash == sa.bindparam("secret"))
)


def _keys() -> sa.Select[Any]:
    return sa.select(keys, owners.c.name.label("owner")).join(owners).order_by(keys.c.id)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> Key:
    return Key(
        row["id"],
        row["owner_id"],
        row["owner"],
        row["name"],
        tuple(row["permissions"]),
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        row["used_at"],
        row["limits"],
    )

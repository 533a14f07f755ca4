"""Notebooks, who may use them, and the index spec each has pinned."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, insert_or_ignore, now
from sourcebook.database.lists import one_of
from sourcebook.database.pages import Page, page
from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import UTCDateTime, grants, index_specs, notebooks, owners
from sourcebook.errors import Conflict, InvalidInput, NotFound, StoreError
from sourcebook.ids import new_id
from sourcebook.interfaces import Scope, ScopedNotebook
from sourcebook.owners import Principal

log = logging.getLogger(__name__)

_USED_EVERY = timedelta(minutes=1)

Order = Literal["made", "used"]
"""Of a list of notebooks: the newest first, or the last used first."""


@dataclass(frozen=True)
class Notebook:
    """A notebook as its owner sees it. `version` goes up with every edit, `epoch` with what is found in it.

    `used_at`: when it was last asked, searched or changed; a question counts to the minute.
    """

    id: str
    owner_id: str
    title: str
    description: str
    pipeline: str
    index_spec_id: str
    metadata: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    used_at: datetime
    epoch: int = 0


Scoped = tuple[Scope, list[Notebook]]
"""What one request may see, and the notebooks behind it: `Notebooks.scope` gives it."""


def touched(notebook_id: str) -> sa.Update:
    """To run in the transaction that makes sources appear, change or go: what was remembered is not used again."""
    return used(notebook_id).values(epoch=notebooks.c.epoch + 1)


def used(notebook_id: str) -> sa.Update:
    """To run in the transaction that changes something of it."""
    at: sa.BindParameter[datetime] = sa.bindparam("used_now", callable_=now, type_=UTCDateTime())
    return notebooks.update().where(notebooks.c.id == notebook_id).values(used_at=at)


TOUCH = touched(cast(str, sa.bindparam("touched")))
"""The same for the notebook `touched`, built once."""


@dataclass(frozen=True)
class Share:
    """One other owner's part in a notebook. `permission`: read or write."""

    id: str
    owner: str
    permission: str
    created_at: datetime


def visible(principal: Principal, permission: str = "read") -> sa.ColumnElement[bool]:
    """The SQL condition for notebooks that a principal may read (or write): the only place where this is decided."""
    return _visible(sa.literal(principal.owner_id), permission)


def visible_to_owner(permission: str = "read") -> sa.ColumnElement[bool]:
    """The same for the owner whose id is the parameter `owner`, in statements that are prepared."""
    return _visible(sa.bindparam("owner", type_=sa.String), permission)


def _visible(owner_id: sa.ColumnElement[str], permission: str = "read") -> sa.ColumnElement[bool]:
    allowed = sa.or_(*(grants.c.permission == one for one in dict.fromkeys((permission, "write"))))
    granted = sa.select(grants.c.notebook_id).where(grants.c.owner_id == owner_id, allowed)
    mine = sa.or_(notebooks.c.owner_id == owner_id, notebooks.c.id.in_(granted))
    return sa.and_(mine, notebooks.c.deleted_at.is_(None))


# Most requests ask one of these.
_ONE = {
    permission: Prepared(
        sa.select(notebooks).where(notebooks.c.id == sa.bindparam("notebook"), visible_to_owner(permission))
    )
    for permission in ("read", "write")
}


class Notebooks:
    """Notebooks in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database
        among = one_of(notebooks.c.id, "ids", database)
        self._scoped = Prepared(sa.select(notebooks).where(among, visible_to_owner()))

    async def create(
        self,
        principal: Principal,
        title: str,
        *,
        pipeline: str,
        spec: Mapping[str, Any],
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Notebook:
        """A new, empty notebook that pins `spec` as its index spec."""
        at = now()
        row = {
            "id": new_id("nb"),
            "owner_id": principal.owner_id,
            "title": title,
            "description": description,
            "pipeline": pipeline,
            "metadata": dict(metadata or {}),
            "version": 1,
            "created_at": at,
            "updated_at": at,
            "used_at": at,
        }
        async with self._db.write() as c:
            row["index_spec_id"] = await pin_spec(c, spec)
            await c.execute(notebooks.insert().values(**row))
        return Notebook(**row)  # type: ignore[arg-type]

    async def get(self, principal: Principal, notebook_id: str, permission: str = "read") -> Notebook:
        """Raises `NotFound` also for what is somebody else's."""
        async with self._db.glance() as c:
            row = await _ONE[permission].first(c, {"notebook": notebook_id, "owner": principal.owner_id})
        if row is None:
            raise NotFound(f"There is no notebook {notebook_id}.")
        return notebook_of(row._asdict())

    async def find(self, principal: Principal, name: str) -> Notebook | None:
        """By id or title; the newest where a title is there twice."""
        found = await self.named(principal, name)
        return found[0] if found else None

    async def named(self, principal: Principal, name: str) -> list[Notebook]:
        """All with this id or title, the newest first."""
        query = (
            sa.select(notebooks)
            .where(sa.or_(notebooks.c.id == name, notebooks.c.title == name), visible(principal))
            .order_by(notebooks.c.id.desc())
        )
        async with self._db.read() as c:
            return [notebook_of(row) for row in (await c.execute(query)).mappings()]

    async def listing(
        self, principal: Principal, limit: int = 50, cursor: str | None = None, order: Order = "made"
    ) -> Page[Notebook]:
        """Newest first, or the last used first. Raises `InvalidInput` for a cursor of another order."""
        made = notebooks.c.id
        by = [_LAST_USED.desc(), made.desc()] if order == "used" else [made.desc()]
        query = sa.select(notebooks).where(visible(principal)).order_by(*by).limit(limit + 1)
        if cursor:
            after, at = _after(cursor, order)
            older = sa.tuple_(_LAST_USED, made) < sa.tuple_(sa.literal(at, UTCDateTime()), sa.literal(after))
            query = query.where(older if order == "used" else made < after)
        async with self._db.read() as c:
            rows = [notebook_of(row) for row in (await c.execute(query)).mappings()]
        found = page(rows, limit)
        if order == "used" and found.next_cursor:
            return Page(found.items, _cursor(found.items[-1]))
        return found

    async def note_use(self, found: Sequence[Notebook]) -> None:
        """Remember that these are used now, to the minute; that it could not be written down is no reason to fail."""
        at = now()
        ids = [n.id for n in found if n.used_at <= at - _USED_EVERY]
        if not ids:
            return
        try:
            async with self._db.write(small=True) as c:
                await c.execute(notebooks.update().where(notebooks.c.id.in_(ids)).values(used_at=at))
        except StoreError as error:
            log.warning("the last use of %d notebooks was not stored: %s", len(ids), error)

    async def edit(
        self, principal: Principal, notebook_id: str, changes: Mapping[str, Any], version: int | None = None
    ) -> Notebook:
        """Change title, description or metadata. Raises `Conflict` (code `edited_meanwhile`) on another version."""
        await self.get(principal, notebook_id, "write")
        where = [notebooks.c.id == notebook_id, notebooks.c.deleted_at.is_(None)]
        if version is not None:
            where.append(notebooks.c.version == version)
        values = {k: v for k, v in changes.items() if k in ("title", "description", "metadata")}
        async with self._db.write(small=True) as c:
            done = await c.execute(
                notebooks.update()
                .where(*where)
                .values(**values, version=notebooks.c.version + 1, updated_at=(at := now()), used_at=at)
            )
        if done.rowcount == 0:
            raise Conflict(
                "Somebody edited this notebook meanwhile.", code="edited_meanwhile", remedy="Read it again, then retry."
            )
        return await self.get(principal, notebook_id)

    async def share(self, principal: Principal, notebook_id: str, owner_id: str, permission: str) -> None:
        """Let another owner read or write this notebook; only its own may. Raises `InvalidInput` for another word."""
        if permission not in ("read", "write"):
            raise InvalidInput(f"A notebook is shared for 'read' or 'write', not {permission!r}.")
        notebook = await self.own(principal, notebook_id)
        if owner_id == notebook.owner_id:
            raise InvalidInput("A notebook is its owner's already.", code="already_owner")
        async with self._db.write() as c:
            same = sa.and_(grants.c.notebook_id == notebook_id, grants.c.owner_id == owner_id)
            await c.execute(grants.delete().where(same))
            row = {"notebook_id": notebook_id, "owner_id": owner_id, "permission": permission}
            await c.execute(grants.insert().values(id=new_id("grant"), created_at=now(), **row))

    async def unshare(self, principal: Principal, notebook_id: str, owner_id: str) -> None:
        """From now on it does not exist for them. Raises `NotFound` where it was not shared with them."""
        await self.own(principal, notebook_id)
        async with self._db.write() as c:
            same = sa.and_(grants.c.notebook_id == notebook_id, grants.c.owner_id == owner_id)
            if (await c.execute(grants.delete().where(same))).rowcount == 0:
                raise NotFound("The notebook is not shared with this owner.", code="not_shared")

    async def shares(
        self, principal: Principal, notebook_id: str, limit: int = 50, cursor: str | None = None
    ) -> Page[Share]:
        """With whom it is shared, oldest first; its owner alone is told."""
        await self.own(principal, notebook_id)
        query = sa.select(grants, owners.c.name.label("owner")).join(owners, owners.c.id == grants.c.owner_id)
        query = query.where(grants.c.notebook_id == notebook_id).order_by(grants.c.id).limit(limit + 1)
        if cursor:
            query = query.where(grants.c.id > cursor)
        names = Share.__dataclass_fields__
        async with self._db.read() as c:
            return page([Share(**{n: row[n] for n in names}) for row in (await c.execute(query)).mappings()], limit)

    async def own(self, principal: Principal, notebook_id: str) -> Notebook:
        """A notebook of this owner's own. Raises `NotFound` also for one that is shared with them."""
        notebook = await self.get(principal, notebook_id, "write")
        if notebook.owner_id != principal.owner_id:
            raise NotFound(f"There is no notebook {notebook_id}.")
        return notebook

    async def scope(self, principal: Principal, notebook_ids: Sequence[str]) -> Scoped:
        """The scope of one request. Raises `NotFound` for any notebook that is not the principal's to read."""
        asked = {"ids": list(notebook_ids), "owner": principal.owner_id}
        async with self._db.glance() as c:
            found = {row.id: notebook_of(row._asdict()) for row in await self._scoped.rows(c, asked)}
        if missing := [n for n in notebook_ids if n not in found]:
            raise NotFound(f"There is no notebook {missing[0]}.")
        chosen = [found[n] for n in dict.fromkeys(notebook_ids)]
        return Scope(tuple(ScopedNotebook(n.id, n.owner_id, n.index_spec_id) for n in chosen)), chosen


async def pin_spec(c: AsyncConnection, spec: Mapping[str, Any]) -> str:
    """The id of this index spec, which is stored if new. Its `hints` do not decide about passages, so not of that."""
    told = {key: value for key, value in spec.items() if key != "hints"}
    fingerprint = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()
    query = sa.select(index_specs.c.id).where(index_specs.c.fingerprint == fingerprint)
    found = (await c.execute(query)).scalar()
    if found:
        return str(found)
    row = {"id": new_id("spec"), "fingerprint": fingerprint, "spec": dict(spec), "created_at": now()}
    await c.execute(insert_or_ignore(index_specs, c.dialect.name).values(**row))
    return str((await c.execute(query)).scalar_one())  # another may have stored the same meanwhile


_LAST_USED = sa.func.coalesce(notebooks.c.used_at, notebooks.c.updated_at, type_=UTCDateTime())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _cursor(last: Notebook) -> str:
    """Where a list that begins with the last used goes on: after this time and id."""
    return f"{(last.used_at - _EPOCH) // _MICROSECOND:x}.{last.id}"


def _after(cursor: str, order: Order) -> tuple[str, datetime]:
    at, _, after = cursor.rpartition(".")
    if bool(at) != (order == "used"):
        raise InvalidInput("This cursor comes from a list in another order.", code="invalid_request")
    return after, _EPOCH + int(at or "0", 16) * _MICROSECOND


def notebook_of(row: Any) -> Notebook:
    """A row of the table."""
    values = {k: row[k] for k in Notebook.__dataclass_fields__}
    return Notebook(**values | {"used_at": row["used_at"] or row["updated_at"]})

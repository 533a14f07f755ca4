"""Notebooks, who may use them, and the index spec each has pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, insert_or_ignore, now
from sourcebook.database.pages import Page, page
from sourcebook.database.tables import grants, index_specs, notebooks, owners
from sourcebook.errors import Conflict, InvalidInput, NotFound
from sourcebook.ids import new_id
from sourcebook.interfaces import Scope, ScopedNotebook
from sourcebook.owners import Principal


@dataclass(frozen=True)
class Notebook:
    """A notebook as its owner sees it. `version` goes up with every edit, `epoch` with what is found in it."""

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
    epoch: int = 0


Scoped = tuple[Scope, list[Notebook]]
"""What one request may see, and the notebooks behind it: `Notebooks.scope` gives it."""


def touched(notebook_id: str) -> sa.Update:
    """To run in the transaction that makes sources appear, change or go: what was remembered is not used again."""
    return notebooks.update().where(notebooks.c.id == notebook_id).values(epoch=notebooks.c.epoch + 1)


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


def _visible(owner_id: sa.ColumnElement[str], permission: str = "read") -> sa.ColumnElement[bool]:
    allowed = ("read", "write") if permission == "read" else ("write",)
    granted = sa.select(grants.c.notebook_id).where(grants.c.owner_id == owner_id, grants.c.permission.in_(allowed))
    mine = sa.or_(notebooks.c.owner_id == owner_id, notebooks.c.id.in_(granted))
    return sa.and_(mine, notebooks.c.deleted_at.is_(None))


# Every question asks this: to build it takes about as long as to run it.
_SCOPED = sa.select(notebooks).where(
    notebooks.c.id.in_(sa.bindparam("ids", expanding=True)), _visible(sa.bindparam("owner", type_=sa.String))
)


class Notebooks:
    """Notebooks in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

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
        }
        async with self._db.write() as c:
            row["index_spec_id"] = await pin_spec(c, spec)
            await c.execute(notebooks.insert().values(**row))
        return Notebook(**row)  # type: ignore[arg-type]

    async def get(self, principal: Principal, notebook_id: str, permission: str = "read") -> Notebook:
        """Raises `NotFound` also for what is somebody else's."""
        query = sa.select(notebooks).where(notebooks.c.id == notebook_id, visible(principal, permission))
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no notebook {notebook_id}.")
        return _notebook(row)

    async def find(self, principal: Principal, name: str) -> Notebook | None:
        """By id or else by title, for the command line; the newest where a title is there twice."""
        query = (
            sa.select(notebooks)
            .where(sa.or_(notebooks.c.id == name, notebooks.c.title == name), visible(principal))
            .order_by(notebooks.c.id.desc())
        )
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        return _notebook(row) if row else None

    async def listing(self, principal: Principal, limit: int = 50, cursor: str | None = None) -> Page[Notebook]:
        """Newest first."""
        query = sa.select(notebooks).where(visible(principal)).order_by(notebooks.c.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(notebooks.c.id < cursor)
        async with self._db.read() as c:
            rows = [_notebook(row) for row in (await c.execute(query)).mappings()]
        return page(rows, limit)

    async def edit(
        self, principal: Principal, notebook_id: str, changes: Mapping[str, Any], version: int | None = None
    ) -> Notebook:
        """Change title, description or metadata. Raises `Conflict` (code `edited_meanwhile`) on another version."""
        await self.get(principal, notebook_id, "write")
        where = [notebooks.c.id == notebook_id, notebooks.c.deleted_at.is_(None)]
        if version is not None:
            where.append(notebooks.c.version == version)
        values = {k: v for k, v in changes.items() if k in ("title", "description", "metadata")}
        async with self._db.write() as c:
            done = await c.execute(
                notebooks.update().where(*where).values(**values, version=notebooks.c.version + 1, updated_at=now())
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
        async with self._db.read(small=True) as c:
            found = {row["id"]: _notebook(row) for row in (await c.execute(_SCOPED, asked)).mappings()}
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


def _notebook(row: Any) -> Notebook:
    values = {k: row[k] for k in Notebook.__dataclass_fields__}
    return Notebook(**values)

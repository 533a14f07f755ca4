"""Files found inside files: how deep they are followed, and what a whole tree of them may cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sourcebook import settings
from sourcebook.database.engine import Database
from sourcebook.database.tables import sources
from sourcebook.documents import Warn
from sourcebook.errors import LimitExceeded
from sourcebook.jail_collector import Raw
from sourcebook.notebooks import Notebook
from sourcebook.sources import MAX_DEPTH, Sources
from sourcebook.writer import Member

Found = Raw | Member


@dataclass(frozen=True)
class Admitted:
    """Members that become sources of their own, and what is said of those that do not."""

    members: Sequence[Found]
    warnings: Sequence[Warn] = ()


class Members:
    """Child sources, within one budget for all that stems from one upload."""

    def __init__(self, database: Database, accepted: Sources, limits: settings.Jail) -> None:
        self._db = database
        self._sources = accepted
        self._limits = limits

    async def admit(self, source: Mapping[str, Any], found: Sequence[Found]) -> Admitted:
        """Which of these files, found inside `source`, may become sources."""
        if not found:
            return Admitted(())
        top, depth = await self._top(source)
        if depth >= MAX_DEPTH:
            said = f"{len(found)} files inside were left out: archives in archives are followed {MAX_DEPTH} deep."
            return Admitted((), (Warn("members_too_deep", said),))
        files, size = await self._spent(top, source["id"])
        admitted: list[Found] = []
        for member in found:
            if files >= self._limits.members or size + member.size > self._limits.member_bytes:
                break
            admitted.append(member)
            files, size = files + 1, size + member.size
        left = len(found) - len(admitted)
        if not left:
            return Admitted(admitted)
        limits = f"{self._limits.members:,} files and {self._limits.member_bytes:,} bytes"
        said = f"{left:,} of {len(found):,} files inside were left out: one upload may hold {limits} in all."
        return Admitted(admitted, (Warn("members_left_out", said),))

    async def accept(self, notebook: Notebook, source: Mapping[str, Any], found: Sequence[Found]) -> None:
        """Each becomes a child source with its own job; a repeated attempt finds them there.

        What an earlier reading of `source` found in it, and this one does not, is removed.
        """
        there = set()
        for n, member in enumerate(found, start=1):
            name = member.name.strip(" ./\\") or f"member {n}"  # some mails name an attachment '..'
            accepted = await self._sources.accept(notebook, name, _chunks(member), parent_id=source["id"])
            there.add(accepted[0])
        async with self._db.read(small=True) as c:
            gone = [one for one in (await c.execute(_CHILDREN, {"parent": source["id"]})).scalars() if one not in there]
        if gone:
            async with self._db.write() as c:
                for one in gone:
                    await self._sources.removing.source(c, notebook.owner_id, one)

    async def check_time(self, source: Mapping[str, Any]) -> None:
        """Raises `LimitExceeded` (code `timeout`) for a member where its tree has used up its seconds."""
        if source["parent_id"] is None:
            return
        top, _ = await self._top(source)
        async with self._db.read() as c:
            spent = (await c.execute(sa.select(sources.c.tree_seconds).where(sources.c.id == top))).scalar() or 0.0
        if spent > self._limits.member_seconds:
            raise LimitExceeded(
                f"The files inside one upload took more than {self._limits.member_seconds:g} seconds together.",
                code="timeout",
                remedy="Upload this file by itself.",
                what="tree",
                limit=self._limits.member_seconds,
            )

    async def spend(self, source: Mapping[str, Any], seconds: float) -> None:
        """Count what reading a member took."""
        if source["parent_id"] is None:
            return
        top, _ = await self._top(source)
        more = {"tree_seconds": sources.c.tree_seconds + seconds}
        async with self._db.write() as c:
            await c.execute(sources.update().where(sources.c.id == top).values(**more))

    async def _top(self, source: Mapping[str, Any]) -> tuple[str, int]:
        """The source that was uploaded, and how deep in it this one lies."""
        top, parent, depth = str(source["id"]), source["parent_id"], 0
        async with self._db.read() as c:
            while parent is not None:
                top, depth = str(parent), depth + 1
                parent = (await c.execute(sa.select(sources.c.parent_id).where(sources.c.id == parent))).scalar()
        return top, depth

    async def _spent(self, top: str, but: str) -> tuple[int, int]:
        """Files and bytes below `top`, without those below `but`: they are counted anew."""
        if top == but:
            return 0, 0
        first = sa.select(sources.c.id, sources.c.size).where(
            sources.c.parent_id == top, sources.c.deleted_at.is_(None)
        )
        tree = first.cte(recursive=True)
        below = sources.alias()
        inner = sa.select(below.c.id, below.c.size).join(tree, below.c.parent_id == tree.c.id)
        tree = tree.union_all(inner.where(tree.c.id != but, below.c.deleted_at.is_(None)))
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(tree.c.size), 0))
        async with self._db.read() as c:
            files, size = (await c.execute(query)).one()
        return int(files), int(size)


_CHILDREN = sa.select(sources.c.id).where(sources.c.parent_id == sa.bindparam("parent"), sources.c.deleted_at.is_(None))


async def _chunks(member: Found) -> AsyncIterator[bytes]:
    for piece in member.pieces:
        yield piece

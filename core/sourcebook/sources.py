"""Sources: accepted bytes, what became of them, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.pages import Page, page
from sourcebook.database.tables import generations, notebooks, sources
from sourcebook.errors import Conflict, InvalidInput, NotFound, SourcebookError, StoreError
from sourcebook.failpoints import failpoint
from sourcebook.gathering import Gathering
from sourcebook.generations import SUPERSEDED, Generations
from sourcebook.ids import new_id
from sourcebook.interfaces import Blob, BlobStore
from sourcebook.jobs import Jobs
from sourcebook.media_types import media_type_of
from sourcebook.notebooks import Notebook
from sourcebook.owners import Principal
from sourcebook.passwords import Passwords
from sourcebook.quotas import Quotas
from sourcebook.removing import Removing
from sourcebook.same_bytes import source_of_bytes, take_lost, take_words
from sourcebook.settings import Limits
from sourcebook.source_rows import FEW, LAST, newest_sources, one_source, select_sources, source_of
from sourcebook.source_rows import Source as Source
from sourcebook.writer import clean

MAX_DEPTH = 2
"""How deep members of archives and mails are followed."""

_ARRIVALS = 16  # sources that are accepted in one transaction


@dataclass(frozen=True)
class _Arrived:
    """Bytes that are stored, and not yet anybody's."""

    notebook: Notebook
    blob: Blob
    values: Mapping[str, Any]
    password: str | None


@dataclass(frozen=True)
class _Recorded:
    """What became of them. `begun`: they are to be read. `surplus`: the blob that nobody needs."""

    source_id: str
    begun: bool
    surplus: str | None = None


class Sources:
    """Sources in SQL, their bytes in the blob store."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore[Any],
        queue: Jobs,
        quotas: Quotas | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        self._db = database
        self._blobs = blobs
        self._jobs = queue
        self.removing = Removing(queue)
        self._quotas = quotas or Quotas(Limits())
        self._generations = Generations(queue)
        self.passwords = passwords or Passwords()
        self._arrivals: Gathering[_Arrived, _Recorded | SourcebookError] = Gathering(self._record_all, _ARRIVALS)

    async def accept(
        self,
        notebook: Notebook,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        media_type: str = "",
        url: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        parent_id: str | None = None,
        password: str | None = None,
    ) -> tuple[str, bool]:
        """Store the bytes, then source, generation and job in one transaction. The source's id, and whether it is read.

        The same bytes in the same notebook are the source that is there already, and are not read anew, unless it has
        failed: then it takes the name and the type that they have now, and is read again. When this returns, nothing
        that was accepted can be lost any more, but for the password: it is kept in memory alone, so this process does
        the job. Raises `QuotaExceeded` and `StoreError` where no more may wait.
        """
        values = {
            "name": safe_name(name),
            "media_type": media_type or media_type_of(safe_name(name)),
            "url": url,
            "tags": list(tags),
            "metadata": dict(metadata or {}),
            "parent_id": parent_id,
        }
        await self._check_room(notebook.owner_id, inside=parent_id is not None)  # before the bytes: none come in vain
        blob = await self._blobs.put(new_id("blob"), chunks)
        await failpoint("accept.blob")
        # A caller who goes away now must not part the row from its bytes: this goes to its end without them.
        return await asyncio.shield(self._record(_Arrived(notebook, blob, values, password)))

    async def _check_room(self, owner_id: str, *, inside: bool) -> None:
        """What was found `inside` of a file has been let in with it."""
        fits, few = inside or self._jobs.has_room(), self._quotas.spares(owner_id)
        if fits and few:
            return
        async with self._db.read(small=self._quotas.light) as c:
            if not fits:
                await self._jobs.check_room(c)
            if not few:
                await self._quotas.check(c, owner_id)

    async def _record(self, arrived: _Arrived) -> tuple[str, bool]:
        # Where the database failed, the commit may stand and only its answer be lost: what became of the row is not
        # known, so the bytes are left to the sweep of strays, which looks when it is.
        recorded = await self._arrivals.submit(arrived)
        if isinstance(recorded, SourcebookError):
            if not isinstance(recorded, StoreError):
                await self._blobs.delete(arrived.blob.key)
            raise recorded
        if recorded.surplus is not None:
            await self._blobs.delete(recorded.surplus)
        await failpoint("accept.row")
        return recorded.source_id, recorded.begun

    async def _record_all(self, arrived: Sequence[_Arrived]) -> Sequence[_Recorded | SourcebookError]:
        """Those that arrived at the same time, in one transaction; whoever is refused is so before a row is written."""
        found: dict[int, _Recorded | SourcebookError] = {}
        async with self._db.write(small=self._quotas.light) as c:
            # In one order everywhere, so that no two processes wait for each other's notebooks.
            for n, one in sorted(enumerate(arrived), key=lambda numbered: numbered[1].notebook.id):
                try:
                    found[n] = await self._record_one(c, one)
                except SourcebookError as error:
                    found[n] = error
        return [found[n] for n in range(len(arrived))]

    async def _record_one(self, c: AsyncConnection, arrived: _Arrived) -> _Recorded:
        notebook, blob, values = arrived.notebook, arrived.blob, arrived.values
        await self._take_turns(c, notebook.id)
        same = await source_of_bytes(c, notebook.id, blob, values["parent_id"])
        if same is None:
            return _Recorded(await self._insert(c, notebook, blob, values, arrived.password), True)
        lost = await take_lost(c, same, blob)
        # Members come whenever their archive is read, and not because somebody hopes for more.
        begun = values["parent_id"] is None and await self._read_failed(c, arrived, same)
        return _Recorded(same, begun, lost or blob.key)

    async def _take_turns(self, c: AsyncConnection, notebook_id: str) -> None:
        """Those who bring the same bytes at once, also where writers do not: the second sees what the first began."""
        if not self._db.sqlite:
            row = sa.select(notebooks.c.id).where(notebooks.c.id == notebook_id)
            await c.execute(row.with_for_update(key_share=True))

    async def _read_failed(self, c: AsyncConnection, arrived: _Arrived, source_id: str) -> bool:
        """Where its source has failed, a file that comes again is read again: maybe its name, its password or the
        parsers are better now. Whether it is.
        """
        row = await self._alive(c, source_id)
        if row["state"] != "failed":
            return False
        await take_words(c, row, arrived.values)
        await self._begin(c, row, arrived.notebook.owner_id, arrived.password)
        return True

    async def reparse(self, principal: Principal, source_id: str, password: str | None = None) -> str:
        """Read the source's bytes again, as a new generation; the job's id. The one that serves does so until then."""
        await self.get(principal, source_id, "write")
        async with self._db.write(small=True) as c:
            row = await self._alive(c, source_id)
            return await self._begin(c, row, row["owner_id"], password)

    async def replace(
        self,
        principal: Principal,
        source_id: str,
        chunks: AsyncIterator[bytes],
        *,
        media_type: str = "",
        url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        password: str | None = None,
    ) -> str | None:
        """Give a source new bytes, as a new generation; the job's id, or None where they are those that it has.

        The old bytes serve until the new generation is ready, and stay where it fails. Where nothing serves, as the
        source has failed, the same bytes are read again.
        """
        source = await self.get(principal, source_id, "write")
        blob = await self._blobs.put(new_id("blob"), chunks)
        content = {"media_type": media_type, "url": url, "metadata": dict(metadata or {})}
        return await asyncio.shield(self._replaced(source, blob, content, password))

    async def _replaced(
        self, source: Source, blob: Blob, content: Mapping[str, Any], password: str | None
    ) -> str | None:
        job_id = None
        try:
            async with self._db.write(small=self._quotas.light) as c:
                await self._take_turns(c, source.notebook_id)
                row = await self._alive(c, source.id)
                other = await self._newest_bytes(c, row) != blob.sha256
                if other:
                    await self._quotas.check(c, row["owner_id"], blob.size, added=False)
                if other or row["state"] == "failed":
                    job_id = await self._begin(c, row, row["owner_id"], password, blob, content)
        finally:
            if job_id is None:
                await self._blobs.delete(blob.key)
        return job_id

    async def _alive(self, c: AsyncConnection, source_id: str) -> Any:
        row = (await c.execute(select_sources().where(sources.c.id == source_id))).mappings().first()
        if row is None:  # deleted meanwhile
            raise NotFound(f"There is no source {source_id}.")
        return row

    async def _newest_bytes(self, c: AsyncConnection, row: Mapping[str, Any]) -> str:
        """The SHA-256 of what was last given to the source, whatever became of it."""
        newest = sa.select(generations.c.content).where(
            generations.c.source_id == row["id"], generations.c.state != SUPERSEDED
        )
        content = (await c.execute(newest.order_by(generations.c.id.desc()).limit(1))).scalar()
        return str((content or {}).get("sha256") or row["sha256"])

    async def _begin(
        self,
        c: AsyncConnection,
        row: Mapping[str, Any],
        owner_id: str,
        password: str | None = None,
        blob: Blob | None = None,
        content: Mapping[str, Any] | None = None,
        *,
        first: bool = False,
    ) -> str:
        spec_id = row["pinned"]
        held = password is not None
        generation_id, job_id = await self._generations.begin(
            c, row, owner_id, spec_id, blob=blob, content=content, held=held, first=first
        )
        if password is not None:
            self.passwords.keep(generation_id, password)
        return job_id

    async def get(self, principal: Principal, source_id: str, permission: str = "read") -> Source:
        """Raises `NotFound` also for what is somebody else's."""
        async with self._db.glance() as c:
            row = await one_source(permission).first(c, {"source": source_id, "owner": principal.owner_id})
        if row is None:
            raise NotFound(f"There is no source {source_id}.")
        return source_of(row._asdict())

    async def edit(
        self, principal: Principal, source_id: str, changes: Mapping[str, Any], version: int | None = None
    ) -> Source:
        """Change name, tags or metadata. Raises `Conflict` (code `edited_meanwhile`) on another version.

        They are filtered by, so the index has them too: a new generation is begun beside the one that serves.
        """
        await self.get(principal, source_id, "write")
        values = {k: v for k, v in changes.items() if k in ("name", "tags", "metadata")}
        if "name" in values:
            values["name"] = safe_name(values["name"])
        where = [sources.c.id == source_id, sources.c.deleted_at.is_(None)]
        where += [sources.c.version == version] if version is not None else []
        async with self._db.write(small=True) as c:
            stamps = {"version": sources.c.version + 1, "updated_at": now()}
            if (await c.execute(sources.update().where(*where).values(**values, **stamps))).rowcount == 0:
                raise Conflict(
                    "Somebody edited this source meanwhile.",
                    code="edited_meanwhile",
                    remedy="Read it again, then retry.",
                )
            row = await self._alive(c, source_id)
            await self._begin(c, row, row["owner_id"])
        return await self.get(principal, source_id)

    async def named(self, notebook_id: str, name: str) -> str | None:
        """The newest source of this name that lies in a notebook itself, not in an archive in it."""
        query = sa.select(sa.func.max(sources.c.id)).where(
            sources.c.notebook_id == notebook_id,
            sources.c.name == safe_name(name),
            sources.c.parent_id.is_(None),
            sources.c.deleted_at.is_(None),
        )
        async with self._db.read(small=True) as c:
            found = (await c.execute(query)).scalar()
        return str(found) if found is not None else None

    async def pipeline_of(self, source_id: str) -> str:
        """The pipeline of the notebook that a source lies in. Raises `NotFound`."""
        query = sa.select(notebooks.c.pipeline).join(sources).where(sources.c.id == source_id)
        async with self._db.read(small=True) as c:
            found = (await c.execute(query)).scalar()
        if found is None:
            raise NotFound(f"There is no source {source_id}.")
        return str(found)

    async def listing(
        self, principal: Principal, notebook_id: str, limit: int = 50, cursor: str | None = None
    ) -> Page[Source]:
        """Newest first."""
        asked = {"notebook": notebook_id, "owner": principal.owner_id, "most": limit + 1, "before": cursor or LAST}
        async with self._db.glance() if limit <= FEW else self._db.read() as c:
            return page([source_of(row._asdict()) for row in await newest_sources().rows(c, asked)], limit)

    async def delete(self, principal: Principal, source_id: str) -> str:
        """Invisible at once; the job whose id is returned removes the rest, and checks that it is gone."""
        source = await self.get(principal, source_id, "write")
        async with self._db.write() as c:
            return await self.removing.source(c, principal.owner_id, source.id)

    async def delete_notebook(self, principal: Principal, notebook: Notebook) -> str:
        """The notebook and all its sources are invisible at once, and removed by their jobs. Its owner alone may.

        The job whose id is returned ends when nothing of the notebook is left.
        """
        if notebook.owner_id != principal.owner_id:
            raise NotFound(f"There is no notebook {notebook.id}.")
        async with self._db.write() as c:
            return await self.removing.notebook(c, principal.owner_id, notebook.id)

    async def delete_owner(self, owner_id: str) -> str:
        """Keys open nothing and notebooks are gone at once; the job whose id is returned ends when nothing is left."""
        async with self._db.write() as c:
            return await self.removing.owner(c, owner_id)

    async def _insert(
        self, c: AsyncConnection, notebook: Notebook, blob: Blob, values: Mapping[str, Any], password: str | None
    ) -> str:
        # The notebook is read again here: it may have been deleted while the bytes came in.
        # With its row held, so that a reindex cannot switch between this look and the commit.
        spec_id = (await c.execute(_PINNED, {"notebook": notebook.id})).scalar()
        if spec_id is None:
            raise NotFound(f"There is no notebook {notebook.id}.")
        if parent_id := values["parent_id"]:
            whole = sa.select(sources.c.id).where(sources.c.id == parent_id, sources.c.deleted_at.is_(None))
            if (await c.execute(whole)).scalar() is None:
                raise NotFound(f"There is no source {parent_id}.")
        await self._quotas.check(c, notebook.owner_id, blob.size)
        source_id, at = new_id("src"), now()
        row = {"notebook_id": notebook.id, "blob_key": blob.key, "sha256": blob.sha256, "size": blob.size}
        stamps = {"created_at": at, "updated_at": at}
        await c.execute(_ADD, {"id": source_id, **row, **values, **stamps})
        made = {"id": source_id, "pinned": spec_id, **row}
        await self._begin(c, made, notebook.owner_id, password, first=True)
        return source_id


# Built once: to build them takes longer than to run them.
_ADD = sources.insert()
_PINNED = (
    sa.select(notebooks.c.index_spec_id)
    .where(notebooks.c.id == sa.bindparam("notebook"), notebooks.c.deleted_at.is_(None))
    .with_for_update(read=True)
)


def safe_name(name: str) -> str:
    """A user's file name is only data: its last part, cleaned, at most 255 characters. Raises `InvalidInput`."""
    last = PurePosixPath(clean(name).replace("\\", "/")).name.replace("\n", " ").strip()
    if not last or last in (".", ".."):
        raise InvalidInput("A source needs a name, such as 'report.pdf'.")
    return last[-255:]

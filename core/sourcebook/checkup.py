"""The stores against each other: every difference that doctor knows, and how each is mended."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.database.tables import (
    deletions,
    document_segments,
    documents,
    embedding_cache,
    generations,
    jobs,
    metadata,
    notebooks,
    passages,
    sources,
)
from sourcebook.errors import SourcebookError
from sourcebook.generations import SUPERSEDED
from sourcebook.interfaces import Index, Scope, ScopedNotebook, SearchQuery
from sourcebook.jobs import ACTIVE
from sourcebook.mending import LOST, Mending
from sourcebook.strays import stray_blobs

_NAMED = 10  # examples in a finding
_SOME = 200


@dataclass(frozen=True)
class Finding:
    """One check. `ok` False makes `sourcebook doctor` exit with 1; `data` is JSON-safe; `repaired` says what was done.

    What was repaired is not `ok`: the next run is.
    """

    check: str
    ok: bool
    detail: str
    data: dict[str, Any] = field(default_factory=dict)
    repaired: str = ""


class Checkup:
    """The checks over one open Sourcebook; with `repair`, each mends what it finds."""

    def __init__(self, book: Sourcebook, *, repair: bool) -> None:
        self._book = book
        self._db = book.database
        self._repair = repair
        self._mending = Mending(book)
        self.checks: tuple[Callable[[], Awaitable[Finding]], ...] = (
            self.database,
            self.foreign_keys,
            self.jobs,
            self.documents,
            self.deletions,
            self.blobs,
            self.dimensions,
            self.index,
            self.generations,
        )

    async def database(self) -> Finding:
        """The database's own pages."""
        if not self._db.sqlite:
            return Finding("database", True, "PostgreSQL looks after its own pages")
        async with self._db.read() as c:
            said = list((await c.execute(sa.text("PRAGMA quick_check(20)"))).scalars())
        whole = said == ["ok"]
        detail = "every page is whole" if whole else "damaged: restore the newest backup into a new folder"
        return Finding("database", whole, detail, {} if whole else {"found": said})

    async def foreign_keys(self) -> Finding:
        """Rows whose reference leads nowhere. They go, or forget it where they may."""
        if not self._db.sqlite:
            return Finding("foreign_keys", True, "PostgreSQL keeps them")
        async with self._db.read() as c:
            broken = (await c.execute(sa.text("PRAGMA foreign_key_check"))).all()
        if not broken:
            return Finding("foreign_keys", True, "every reference leads somewhere")
        shown = [f"{table} {row} -> {parent}" for table, row, parent, _ in broken[:_NAMED]]
        done = await self._mend_keys(broken) if self._repair else ""
        return Finding("foreign_keys", False, f"{len(broken)} lead nowhere", {"broken": shown}, done)

    async def _mend_keys(self, broken: Any) -> str:
        names = set(metadata.tables)
        async with self._db.write() as c:
            for table, row, _, number in broken:
                if table not in names:
                    continue
                keys = {r[0]: r[3] for r in (await c.execute(sa.text(f'PRAGMA foreign_key_list("{table}")'))).all()}
                column = metadata.tables[table].c[keys[number]]
                at = sa.text("rowid = :row").bindparams(row=row)
                gone: sa.Update | sa.Delete = metadata.tables[table].delete().where(at)
                if column.nullable:
                    gone = metadata.tables[table].update().where(at).values({column.name: None})
                await c.execute(gone)
        return f"{len(broken)} rows removed or unlinked"

    async def jobs(self) -> Finding:
        """Leases that ran out, and sources that no job will ever make ready."""
        late = sa.select(jobs.c.id).where(jobs.c.state == "leased", jobs.c.lease_until < self._db.clock())
        ids = [r.id for r in await self._rows(late)]
        active = sa.select(jobs.c.generation_id).where(jobs.c.generation_id.is_not(None), jobs.c.state.in_(ACTIVE))
        waiting = (
            sa.select(generations.c.id, generations.c.document_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .where(generations.c.state.not_in(("ready", "failed", SUPERSEDED)), sources.c.deleted_at.is_(None))
            .where(generations.c.id.not_in(active))
        )
        forgotten = await self._rows(waiting)
        failed = (await self._rows(sa.select(sa.func.count().label("n")).where(jobs.c.state == "failed")))[0].n
        detail = f"{len(ids)} with a lease that ran out, {len(forgotten)} without a job, {failed} failed"
        data = {"stuck": ids[:_NAMED], "forgotten": [r.id for r in forgotten[:_NAMED]], "failed": failed}
        if not ids and not forgotten:
            return Finding("jobs", True, detail, data)
        done = ""
        if self._repair:
            async with self._db.write() as c:
                over = {"state": "queued", "worker": None, "lease_until": None, "run_at": self._db.clock()}
                await c.execute(jobs.update().where(jobs.c.id.in_(ids)).values(**over))
            await self._mending.start_over([r.id for r in forgotten if not r.document_id])
            await self._mending.index_again([r.id for r in forgotten if r.document_id])
            done = f"{len(ids) + len(forgotten)} queued again"
        return Finding("jobs", False, detail, data, done)

    async def documents(self) -> Finding:
        """Text that is not as long as its document says, and passages that reach beyond it."""
        length = sa.func.coalesce(sa.func.sum(sa.func.length(document_segments.c.text)), 0)
        cut = (
            sa.select(documents.c.id)
            .outerjoin(document_segments)
            .where(documents.c.complete)
            .group_by(documents.c.id, documents.c.length)
            .having(length != documents.c.length)
        )
        beyond = (
            sa.select(generations.c.document_id.label("id"))
            .join(passages, passages.c.generation_id == generations.c.id)
            .join(documents, documents.c.id == generations.c.document_id)
            .where(passages.c.end > documents.c.length)
        )
        lacking = (
            sa.select(generations.c.document_id.label("id"))
            .outerjoin(passages, passages.c.generation_id == generations.c.id)
            .where(generations.c.state == "ready")
            .group_by(generations.c.id, generations.c.document_id, generations.c.passages)
            .having(sa.func.count(passages.c.id) != generations.c.passages)
        )
        bad = {r.id for query in (cut, beyond, lacking) for r in await self._rows(query)}
        detail = f"{len(bad)} are not what they were when they were read"
        done = ""
        if bad and self._repair:
            of = sa.select(generations.c.id).where(generations.c.document_id.in_(bad))
            done = f"{await self._mending.start_over([r.id for r in await self._rows(of)])} read again"
        return Finding("documents", not bad, detail, {"documents": sorted(bad)[:_NAMED]}, done)

    async def deletions(self) -> Finding:
        """What was deleted is gone, or a job sees to it."""
        active = sa.select(jobs.c.source_id).where(
            jobs.c.kind == "delete", jobs.c.state.in_(ACTIVE), jobs.c.source_id.is_not(None)
        )
        left = sa.exists().where(generations.c.source_id == sources.c.id)
        lingering = (
            sa.select(sources.c.id, notebooks.c.owner_id)
            .join(notebooks)
            .where(
                sources.c.deleted_at.is_not(None),
                left,
                sources.c.id.not_in(active.where(jobs.c.source_id.is_not(None))),
            )
        )
        found = await self._rows(lingering)
        detail = f"{len(found)} deleted sources linger"
        done = ""
        if found and self._repair:
            for row in found:
                async with self._db.write() as c:
                    deletion = sa.select(deletions.c.id).where(deletions.c.subject_id == row.id)
                    known = (await c.execute(deletion)).scalar()
                    if known is None:
                        await self._book.sources.removing.source(c, row.owner_id, row.id)
                    else:
                        of = {"source_id": row.id, "payload": {"deletion_id": known}, "priority": 1}
                        await self._book.jobs.add(c, "delete", row.owner_id, **of)
            await self._mending.until_deleted([row.id for row in found])
            done = f"{len(found)} removed"
        return Finding("deletions", not found, detail, {"sources": [r.id for r in found[:_NAMED]]}, done)

    async def blobs(self) -> Finding:
        """Every source has its bytes, exactly those that were accepted; and no bytes are nobody's."""
        query = sa.select(sources.c.id, sources.c.blob_key, sources.c.size, sources.c.sha256, sources.c.deleted_at)
        rows = await self._rows(query)
        newest = {r.source_id: r for r in await self._rows(sa.select(generations).order_by(generations.c.id))}
        bad: dict[str, str] = {}
        known = 0
        for row in rows:
            if row.deleted_at is None and (why := await self._blob_problem(row)):
                of = newest.get(row.id)
                if of is not None and (of.problem or {}).get("code") == LOST["code"]:
                    known += 1
                else:
                    bad[row.id] = why
        age = self._book.settings.storage.stray_age
        strays = sorted(await stray_blobs(self._db, self._book.blobs, age))
        detail = f"{len(rows)} sources, {len(bad)} without their bytes, {len(strays)} files of nobody"
        detail += f", {known} known to be lost" if known else ""
        done = ""
        if self._repair and (bad or strays):
            await self._mending.mark_lost(bad)
            for key in strays:
                await self._book.blobs.delete(key)
            done = f"{len(bad)} marked (upload them again to mend them), {len(strays)} files removed"
        return Finding(
            "blobs", not bad and not strays, detail, {**bad, **dict.fromkeys(strays[:_NAMED], "stray")}, done
        )

    async def _blob_problem(self, row: Any) -> str:
        try:
            have = await self._book.blobs.size(row.blob_key)
            if have != row.size:
                return f"{have} of {row.size} bytes"
            digest = hashlib.sha256()
            async for chunk in await self._book.blobs.read(row.blob_key):
                digest.update(chunk)
        except SourcebookError as error:
            return error.detail
        return "" if digest.hexdigest() == row.sha256 else "its bytes are not those that were accepted"

    async def dimensions(self) -> Finding:
        """Cached vectors have as many numbers as their embedder gives, and so have those in the index."""
        wrong = 0
        refused: list[str] = []
        for pipeline in self._book.pipelines:
            embedder = pipeline.embedder
            if embedder is None:
                continue
            for space in embedder.spaces:
                of = sa.and_(
                    embedding_cache.c.identity == embedder.identity,
                    embedding_cache.c.space == space.name,
                    sa.func.length(embedding_cache.c.vector) != 4 * space.dimensions,
                )
                if space.kind == "dense":
                    wrong += (await self._rows(sa.select(sa.func.count().label("n")).where(of)))[0].n
                    if self._repair:
                        async with self._db.write() as c:
                            await c.execute(embedding_cache.delete().where(of))
            refused += await self._probe(pipeline)
        ok = not wrong and not refused
        detail = f"{wrong} cached vectors of another size; " + ("; ".join(refused) or "the index takes all spaces")
        done = f"{wrong} removed" if wrong and self._repair else ""
        return Finding("dimensions", ok, detail, {"cached": wrong, "refused": refused}, done)

    async def _probe(self, pipeline: Any) -> list[str]:
        """Ask each index for the neighbours of nothing: one that holds vectors of another size says so."""
        import numpy as np

        spaces = [s for s in pipeline.embedder.spaces if s.kind == "dense"]
        vectors = {s.name: np.zeros((1, s.dimensions), dtype=np.float32) for s in spaces}
        scope = Scope((ScopedNotebook("nb_none", "own_none", "spec_none"),))
        found = []
        for index in pipeline.indexes:
            try:
                await index.ensure(pipeline.embedder.spaces)
                await index.search(SearchQuery(texts=("",), scope=scope, limit=1, vectors=vectors))
            except SourcebookError as error:
                found.append(f"{index.instance}: {error.detail}")
        return found

    async def index(self) -> Finding:
        """Every point is a passage's, at its owner's; every passage of a ready generation has its point."""
        data: dict[str, Any] = {"orphans": {}, "missing": {}, "foreign": {}}
        counts, lost, done = [], 0, []
        for index in self._book.pipelines.indexes:
            points = {ref.id: ref async for page in index.scroll(None) for ref in page}
            # SQL is read after the index: what is written meanwhile stands in SQL first, and is never an orphan.
            known, wanted = await self._passages(index)
            orphans = [ref for i, ref in points.items() if i not in known]
            missing = {wanted[i] for i in wanted.keys() - points.keys()}
            foreign = await self._foreign(index, points, wanted)
            counts.append(f"{index.instance}: {len(points)} points of {len(wanted)} passages")
            for name, ids in (
                ("orphans", [r.id for r in orphans]),
                ("missing", sorted(wanted.keys() - points.keys())),
                ("foreign", sorted(foreign)),
            ):
                if ids:
                    data[name][index.instance] = sorted(ids)[:_NAMED]
                    lost += len(ids)
            if self._repair and (orphans or missing or foreign):
                await self._mending.remove_points(index, orphans)
                again = await self._mending.index_again({*missing, *(wanted[i] for i in foreign)})
                done.append(f"{len(orphans)} points removed, {again} sources indexed again")
        ok = lost == 0
        detail = "; ".join(counts) + ("" if ok else f"; {lost} do not agree")
        return Finding("index", ok, detail, data, "; ".join(done))

    async def _passages(self, index: Index[Any]) -> tuple[set[str], dict[str, str]]:
        """Of all passages that may have a point: their ids; of those that must: id -> generation."""
        base = (
            sa.select(passages.c.id, passages.c.generation_id, generations.c.state, notebooks.c.pipeline)
            .join(generations, generations.c.id == passages.c.generation_id)
            .join(sources, sources.c.id == generations.c.source_id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .where(sources.c.deleted_at.is_(None))
        )
        rows = await self._rows(base)
        writes = {p.name for p in self._book.pipelines if index in p.indexes}
        known = {r.id for r in rows}
        return known, {r.id: r.generation_id for r in rows if r.state == "ready" and r.pipeline in writes}

    async def _foreign(self, index: Index[Any], points: Collection[str], wanted: dict[str, str]) -> list[str]:
        """Points that are there, and that a search by their own owner would not see: of a wrong owner or spec."""
        query = (
            sa.select(notebooks.c.id, notebooks.c.owner_id, generations.c.index_spec_id)
            .join(sources, sources.c.notebook_id == notebooks.c.id)
            .join(generations, generations.c.source_id == sources.c.id)
            .where(sources.c.deleted_at.is_(None), generations.c.state == "ready")
            .distinct()
        )
        seen: set[str] = set()
        for row in await self._rows(query):
            scope = Scope((ScopedNotebook(*row),))
            seen |= {ref.id async for page in index.scroll(scope) for ref in page}
        return [i for i in wanted if i in points and i not in seen]

    async def generations(self) -> Finding:
        """Ready generations that a later one of the same source and index spec has replaced."""
        later = generations.alias()
        query = sa.select(generations.c.id, generations.c.source_id).where(
            generations.c.state == "ready",
            sa.exists().where(
                later.c.source_id == generations.c.source_id,
                later.c.index_spec_id == generations.c.index_spec_id,
                later.c.state == "ready",
                later.c.id > generations.c.id,
            ),
        )
        stale = await self._rows(query)
        done = ""
        if stale and self._repair:
            for row in stale:
                await self._mending.retire(row.id, row.source_id)
            done = f"{len(stale)} removed"
        ids = [r.id for r in stale[:_NAMED]]
        return Finding(
            "generations", not stale, f"{len(stale)} were replaced and are still there", {"stale": ids}, done
        )

    async def _rows(self, query: sa.Select[Any]) -> list[Any]:
        async with self._db.read() as c:
            return list((await c.execute(query)).all())

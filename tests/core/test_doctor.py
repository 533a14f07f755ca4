"""What `doctor` says of stores that do not agree: every planted difference is found, mended, and not found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.database.engine import now
from sourcebook.database.tables import (
    deletions,
    document_segments,
    embedding_cache,
    generations,
    jobs,
    passages,
    sources,
)
from sourcebook.doctor import Finding, examine
from sourcebook.ids import first_id_at, new_id, passage_id
from sourcebook.interfaces import Point, Scope, ScopedNotebook
from sourcebook.owners import Principal

TEXT = "\n\n".join(f"The lamp number {n} is lit at dusk, and burns until dawn." for n in range(40))


class Patient:
    """A real Sourcebook with one ready source."""

    def __init__(self, book: Sourcebook, me: Principal, source_id: str) -> None:
        self.book, self.me, self.source_id = book, me, source_id
        self.index = book.pipelines.indexes[0]

    async def findings(self, *, repair: bool = False) -> dict[str, Finding]:
        return {f.check: f async for f in examine(self.book, repair=repair)}

    async def source(self) -> Any:
        return await self.book.sources.get(self.me, self.source_id)

    async def scope(self, owner: str = "") -> Scope:
        async with self.book.database.read() as c:
            spec = (await c.execute(sa.select(generations.c.index_spec_id))).scalars().first()
        source = await self.source()
        return Scope((ScopedNotebook(source.notebook_id, owner or self.me.owner_id, str(spec)),))

    async def write(self, statement: Any) -> None:
        async with self.book.database.write() as c:
            await c.execute(statement)

    async def insert_again(self, table: sa.Table, **changes: Any) -> None:
        """A copy of the table's first row, changed."""
        async with self.book.database.write() as c:
            row = dict((await c.execute(sa.select(table))).mappings().first() or {})
            await c.execute(table.insert().values(**{**row, **changes}))


@asynccontextmanager
async def patient(folder: Path) -> AsyncIterator[Patient]:
    overrides: dict[str, Any] = {"storage": {"path": str(folder / "data")}}
    overrides["retrievers"] = {"qdrant": {"idle_seconds": 0}}
    async with Sourcebook(load(environ={}, overrides=overrides)) as book:
        me = await book.owners.local()
        notebook = await book.create_notebook(me, "n")
        source_id, _ = await book.sources.accept(notebook, "a.txt", _bytes())
        while (await book.sources.get(me, source_id)).state != "ready":
            await asyncio.sleep(0.02)
        yield Patient(book, me, source_id)


async def _bytes() -> AsyncIterator[bytes]:
    yield TEXT.encode()


async def orphan(p: Patient) -> None:
    point = Point(passage_id("gen_stray", 0), "own_x", "nb_x", "spec_x", "src_x", "gen_stray", "stray")
    await p.index.upsert(Scope((ScopedNotebook("nb_x", "own_x", "spec_x"),)), [point], None)


async def missing(p: Patient) -> None:
    await p.index.delete(await p.scope(), p.source_id)


async def wrong_owner(p: Patient) -> None:
    source = await p.source()
    passage = (await p.book.reading.passages_of(source.generation_id, 1))[0]
    theirs = await p.scope("own_other")
    spec = theirs.notebooks[0].index_spec_id
    ours = ("own_other", source.notebook_id, spec, p.source_id, source.generation_id)
    await p.index.upsert(theirs, [Point(passage.id, *ours, passage.indexed)], None)


async def stale_generation(p: Patient) -> None:
    """An older one, with passages and points, that nobody removed."""
    old = first_id_at("gen", now() - timedelta(days=1))
    await p.insert_again(generations, id=old)
    await p.insert_again(passages, id=passage_id(old, 0), generation_id=old)
    source, scope = await p.source(), await p.scope()
    ours = (p.me.owner_id, source.notebook_id, scope.notebooks[0].index_spec_id, p.source_id, old)
    await p.index.upsert(scope, [Point(passage_id(old, 0), *ours, "old")], None)
    await p.write(generations.update().where(generations.c.id == old).values(passages=1))


async def truncated_blob(p: Patient) -> None:
    async with p.book.blobs.local((await p.source()).blob_key) as path:
        path.write_bytes(path.read_bytes()[:8])


async def flipped_blob(p: Patient) -> None:
    async with p.book.blobs.local((await p.source()).blob_key) as path:
        data = bytearray(path.read_bytes())
        data[20] ^= 1
        path.write_bytes(data)


async def lost_blob(p: Patient) -> None:
    async with p.book.blobs.local((await p.source()).blob_key) as path:
        path.unlink()


async def stray_blob(p: Patient) -> None:
    await p.book.blobs.put(first_id_at("blob", now() - timedelta(days=1)), _bytes())


async def stuck_job(p: Patient) -> None:
    """Leased by a process that is long gone, on another machine as far as anybody can tell."""
    await p.write(generations.update().values(state="indexing"))
    late = {"state": "leased", "worker": "gone-1-x-w", "lease_until": now() - timedelta(hours=1)}
    p.book.jobs._presence = None  # or its worker would be found dead before doctor looks
    p.book._worker._claiming.cancel()  # type: ignore[union-attr]
    await p.write(jobs.update().values(**late))


async def forgotten(p: Patient) -> None:
    """Not ready, and no job will make it so."""
    await p.write(generations.update().values(state="indexing"))


async def cut_text(p: Patient) -> None:
    await p.write(document_segments.update().values(text=document_segments.c.text.op("||")("more")))


async def lost_passages(p: Patient) -> None:
    await p.write(passages.delete().where(passages.c.ordinal > 0))


async def broken_key(p: Patient) -> None:
    async with p.book.database.write() as c:
        await c.execute(sa.text("COMMIT"))
        await c.execute(sa.text("PRAGMA foreign_keys=OFF"))
        await c.execute(sa.text("BEGIN IMMEDIATE"))
        await c.execute(
            sa.text("UPDATE passages SET generation_id = 'gen_none' WHERE ordinal = 0"),
        )
        await c.execute(sa.text("COMMIT"))
        await c.execute(sa.text("PRAGMA foreign_keys=ON"))
        await c.execute(sa.text("BEGIN IMMEDIATE"))


async def lingering(p: Patient) -> None:
    """Deleted, and forgotten before anything of it was removed."""
    await p.write(sources.update().values(deleted_at=now()))
    row = {"id": new_id("del"), "owner_id": p.me.owner_id, "kind": "source", "subject_id": p.source_id}
    await p.write(deletions.insert().values(report={}, created_at=now(), **row))


async def open_folder(p: Patient) -> None:
    p.book.folder.chmod(0o755)


PLANTED: dict[Callable[[Patient], Awaitable[None]], str] = {
    orphan: "index",
    missing: "index",
    wrong_owner: "index",
    stale_generation: "generations",
    truncated_blob: "blobs",
    flipped_blob: "blobs",
    lost_blob: "blobs",
    stray_blob: "blobs",
    forgotten: "jobs",
    cut_text: "documents",
    lost_passages: "documents",
    broken_key: "foreign_keys",
    lingering: "deletions",
    open_folder: "folder",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda f: f.__name__)
@pytest.mark.slow
def test_what_is_planted_is_found_and_mended_and_a_second_run_is_clean(
    plant: Callable[[Patient], Awaitable[None]], tmp_path: Path
) -> None:
    async def main() -> None:
        async with patient(tmp_path) as p:
            before = await p.findings()
            assert all(f.ok for f in before.values()), before
            await plant(p)
            found = (await p.findings())[PLANTED[plant]]
            assert not found.ok, found
            assert found.repaired == ""  # looking changes nothing
            mended = (await p.findings(repair=True))[PLANTED[plant]]
            assert mended.repaired, mended
            after = await p.findings()
            assert all(f.ok for f in after.values()), [f for f in after.values() if not f.ok]
            if plant is lingering:
                return
            source = await p.source()
            assert source.state == "ready"
            assert await p.index.count(await p.scope()) == source.passages > 0

    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_lease_that_ran_out_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with patient(tmp_path) as p:
            await stuck_job(p)
            assert not (await p.findings())["jobs"].ok

    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_source_whose_bytes_were_lost_answers_and_takes_them_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with patient(tmp_path) as p:
            await lost_blob(p)
            await p.findings(repair=True)
            source = await p.source()
            assert (source.state, (source.problem or {})["code"]) == ("ready", "blob_missing")
            assert "known to be lost" in (await p.findings())["blobs"].detail
            notebook = await p.book.notebooks.get(p.me, source.notebook_id)
            assert await p.book.sources.accept(notebook, "a.txt", _bytes()) == (p.source_id, False)
            assert (await p.source()).problem is None
            assert (await p.findings())["blobs"].detail.startswith("1 sources, 0 without")

    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_vector_of_another_size_is_found_and_removed(tmp_path: Path) -> None:
    from .support import Store, furnished

    async def main() -> None:
        async with furnished(Store(tmp_path)) as room:
            await room.ready("a.txt", "One.\n\nTwo.")
            await room.change(embedding_cache, vector=b"\0" * 12)
            seen = []
            for repair in (False, True, False):
                found = {f.check: f async for f in examine(room.book, repair=repair)}["dimensions"]
                seen.append((found.ok, bool(found.repaired)))
            assert seen == [(False, False), (False, True), (True, False)]
            assert await room.rows(embedding_cache) == []

    asyncio.run(main())

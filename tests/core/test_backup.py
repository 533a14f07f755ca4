"""A backup is whole or refused; what it restores is what there was; a notebook can be taken elsewhere."""

from __future__ import annotations

import asyncio
import errno
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.backup import fill, read_backup, write_backup
from sourcebook.bundle import decode_row, encode_row
from sourcebook.configuration import load
from sourcebook.database.engine import now
from sourcebook.database.tables import citations, embedding_cache, jobs, metadata, notes, sources
from sourcebook.errors import Conflict, InvalidInput, StoreError
from sourcebook.ids import new_id
from sourcebook.portable import export, import_
from sourcebook.strays import sweep

from .support import Room, Store, both_stores, furnished, in_a_room
from .test_ingestion import TEXT

pytestmark = both_stores


def in_two_rooms(test: Any) -> Any:
    """A test that is given a room and a store for another, on the same kind of database."""

    def run(store: Store, request: pytest.FixtureRequest) -> None:
        url = request.getfixturevalue("postgres").migrated() if store.url else ""
        other = Store(store.folder / "other", url)

        async def main() -> None:
            async with furnished(store) as room:
                await asyncio.wait_for(test(room, other), 100)

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def talk(room: Room) -> None:
    run = await room.book.ask(room.me, "What is paragraph 3 about?", [room.notebook.id])
    await run.wait()


@in_two_rooms
async def test_what_a_backup_restores_is_what_there_was_and_nothing_is_paid_for_again(room: Room, other: Store) -> None:
    source_id = await room.ready("a.txt", TEXT)
    gone = await room.ready("b.txt", "Deleted.")
    await room.book.sources.delete(room.me, gone)
    await room.work()
    await talk(room)
    waiting = await room.add("c.txt", "Still queued.")
    path = room.book.folder / "all.zip"
    done = await write_backup(room.book, path)
    assert (done["sources"], done["blobs"]) == (2, 2)
    assert path.stat().st_mode & 0o077 == 0

    async with furnished(other) as empty:
        with pytest.raises(Conflict, match="not empty"):  # a notebook is there
            await fill(empty.book, path)
        for table in reversed(metadata.sorted_tables):
            async with empty.book.database.write() as c:
                await c.execute(table.delete())
        await fill(empty.book, path)
        await empty.work()
        assert (await empty.book.sources.get(room.me, source_id)).state == "ready"
        assert (await empty.book.sources.get(room.me, waiting)).state == "ready"
        assert len(empty.index.points) == 11
        assert sum(empty.embedder.texts.values()) == 1  # the one that was still queued
        found, before = [
            [p.text for p in (await one.book.search(room.me, "paragraph 3", [room.notebook.id])).passages]
            for one in (empty, room)
        ]
        assert found == before
        assert [c["quote"] for c in await empty.rows(citations)] == [c["quote"] for c in await room.rows(citations)]


def test_a_new_installation_is_filled_and_its_links_are_those_of_the_old_one(
    store: Store, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres").migrated() if store.url else ""
    fresh = load(environ={}, overrides={"storage": {"path": str(store.folder / "fresh"), "database": url}})

    async def main() -> None:
        async with furnished(store) as room:
            await room.ready("a.txt", TEXT)
            path = room.book.folder / "all.zip"
            await write_backup(room.book, path)
            token = room.book.links.token("cit_1")
        assert (await read_backup(fresh, path))["sources"] == 1
        async with Sourcebook(fresh, workers=0) as book:
            assert book.links.read(token) == "cit_1"

    asyncio.run(asyncio.wait_for(main(), 60))


@in_a_room()
async def test_a_backup_that_is_cut_or_changed_is_refused_before_anything_happens(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    path = room.book.folder / "all.zip"
    await write_backup(room.book, path)
    for table in reversed(metadata.sorted_tables):
        async with room.book.database.write() as c:
            await c.execute(table.delete())
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as found:
        info = found.getinfo(next(n for n in found.namelist() if n.startswith("blobs/")))
    for at in (len(whole) // 2, len(whole) - 30, 100):
        path.write_bytes(whole[:at])
        with pytest.raises(InvalidInput) as caught:
            await fill(room.book, path)
        assert caught.value.problem_code == "bundle_invalid"
    inside = info.header_offset + 30 + len(info.filename) + 40  # within its bytes
    path.write_bytes(whole[:inside] + bytes([whole[inside] ^ 1]) + whole[inside + 1 :])
    with pytest.raises(InvalidInput, match="damaged"):
        await fill(room.book, path)


@in_a_room()
async def test_a_backup_under_load_is_of_one_moment(room: Room) -> None:
    """Sources come, become ready and go meanwhile: every row in the file has what it refers to."""
    for n in range(4):
        await room.ready(f"{n}.txt", f"{TEXT}\n\nRun {n}.")
    stop = asyncio.Event()

    async def load() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            made = await room.add(f"more {n}.txt", f"{TEXT}\n\nMore {n}.")
            await room.work()
            await room.book.sources.delete(room.me, made)
            await room.work()

    working = asyncio.create_task(load())
    paths = [room.book.folder / f"{n}.zip" for n in range(3)]
    for path in paths:
        await write_backup(room.book, path)
        await asyncio.sleep(0.05)
    stop.set()
    await working
    for path in paths:
        _consistent(path)


def _consistent(path: Path) -> None:
    import orjson

    with zipfile.ZipFile(path) as found:
        rows = {
            t.name: [orjson.loads(line) for line in found.read(f"tables/{t.name}.jsonl").splitlines()]
            for t in metadata.sorted_tables
            if f"tables/{t.name}.jsonl" in found.namelist()
        }
    ids = {name: {row["id"] for row in found if "id" in row} for name, found in rows.items()}
    for table in metadata.sorted_tables:
        for column in table.columns:
            for key in column.foreign_keys:
                for row in rows.get(table.name, ()):
                    value = row[column.name]
                    assert value is None or value in ids[key.column.table.name], (table.name, column.name)


@in_two_rooms
async def test_a_notebook_taken_elsewhere_has_its_text_its_vectors_its_talk_and_its_notes(
    room: Room, other: Store
) -> None:
    await room.ready("a.txt", TEXT)
    await talk(room)
    note = {"id": new_id("note"), "notebook_id": room.notebook.id, "title": "Seen", "text": "By me.", "version": 1}
    async with room.book.database.write() as c:
        await c.execute(notes.insert().values(**note, created_at=now(), updated_at=now()))
    await room.ready("elsewhere.txt", "Of another notebook.", await room.book.create_notebook(room.me, "Other"))
    path = room.book.folder / "garden.zip"
    counts = await export(room.book, room.notebook, path)
    assert (counts["sources"], counts["passages"], counts["citations"], counts["notes"]) == (1, 10, 1, 1)
    assert counts["embedding_cache"] == 10

    async with furnished(other) as empty:
        made = await import_(empty.book, empty.me, path)
        assert made["queued"] == 1
        await empty.work()
        assert empty.jail.parsed == []  # not read again
        assert sum(empty.embedder.texts.values()) == 0  # and not paid for again
        found = await empty.book.search(empty.me, "paragraph 3", [made["notebook_id"]])
        assert "Paragraph 3 is about the number 3." in [p.text for p in found.passages]
        cited = (await empty.rows(citations))[0]
        assert cited["quote"] == (await room.rows(citations))[0]["quote"]
        assert cited["passage_id"] in empty.index.points
        assert (await empty.rows(notes))[0]["text"] == "By me."
        # Once more is another notebook, not the same one twice.
        again = await import_(empty.book, empty.me, path)
        assert again["notebook_id"] != made["notebook_id"]


@in_two_rooms
async def test_a_notebook_for_another_index_spec_is_made_anew_from_its_sources(room: Room, other: Store) -> None:
    source_id = await room.ready("a.txt", TEXT)
    path = room.book.folder / "garden.zip"
    await export(room.book, room.notebook, path)
    async with furnished(other, pipeline={"embedder": ""}) as empty:
        made = await import_(empty.book, empty.me, path)
        await empty.work()
        assert empty.jail.parsed == ["a.txt"]
        listed = (await empty.book.sources.listing(empty.me, made["notebook_id"])).items
        assert [(s.state, s.passages) for s in listed] == [("ready", 10)]
        assert listed[0].id != source_id
        assert await empty.rows(embedding_cache) == []
        assert [j["state"] for j in await empty.rows(jobs)] == ["done"]


async def three_exported(room: Room) -> Path:
    """A file with a notebook of three sources."""
    for n in range(3):
        await room.ready(f"{n}.txt", f"Number {n}.")
    path = room.book.folder / "garden.zip"
    await export(room.book, room.notebook, path)
    return path


@in_two_rooms
async def test_an_import_that_takes_longer_than_strays_are_left_alone_keeps_its_files(room: Room, other: Store) -> None:
    path = await three_exported(room)
    async with furnished(other) as empty:
        put = empty.blobs.put

        async def slow(*args: Any) -> Any:
            stored = await put(*args)
            assert await sweep(empty.book.database, empty.blobs, 0.0) == 0
            return stored

        empty.blobs.put = slow  # type: ignore[method-assign, assignment]
        await import_(empty.book, empty.me, path)
        await empty.work()
        assert {row["blob_key"] for row in await empty.rows(sources)} == set(empty.blobs.blobs)
        assert {row["state"] for row in await empty.rows(jobs)} == {"done"}


@in_two_rooms
async def test_the_files_of_an_import_that_died_go_away_by_themselves(room: Room, other: Store) -> None:
    path = await three_exported(room)
    async with furnished(other) as empty:
        put = empty.blobs.put

        async def dying(*args: Any) -> Any:
            if len(empty.blobs.blobs) == 2:
                raise RuntimeError("killed")
            return await put(*args)

        empty.blobs.put = dying  # type: ignore[method-assign, assignment]
        with pytest.raises(RuntimeError):
            await import_(empty.book, empty.me, path)
        await empty.work()
        assert len(empty.blobs.blobs) == 2  # nobody can know yet that it died
        await empty.change(jobs, run_at=now())
        await empty.work()
        assert empty.blobs.blobs == {}
        assert await empty.rows(sources) == []


def test_every_column_survives_the_file(store: Store) -> None:
    for table in metadata.sorted_tables:
        row: dict[str, Any] = {}
        for column in table.columns:
            kind = column.type
            if isinstance(kind, sa.LargeBinary):
                row[column.name] = b"\x00\xff"
            elif isinstance(kind, sa.TypeDecorator):
                row[column.name] = now()
            elif isinstance(kind, sa.JSON):
                row[column.name] = {"a": [1, None]}
            else:
                row[column.name] = 3 if isinstance(kind, sa.Integer) else "ü"
        assert decode_row(table, encode_row(table, row)) == row


@in_a_room()
async def test_a_disk_that_is_full_is_said_and_leaves_nothing(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    whole = room.book.folder / "all.zip"
    await write_backup(room.book, whole)
    before = whole.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for write in (write_backup(room.book, whole), export(room.book, room.notebook, whole)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sourcebook.bundle.os.fsync", full)
            with pytest.raises(StoreError, match="cannot be written: No space left on device"):
                await write
        assert whole.read_bytes() == before
        assert [p.name for p in room.book.folder.glob("all.zip*")] == ["all.zip"]

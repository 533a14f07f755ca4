"""Sources: accepted once, with their bytes, and never without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.tables import jobs, sources
from sourcebook.errors import InvalidInput, NotFound, StoreError
from sourcebook.media_types import media_type_of
from sourcebook.sources import safe_name
from sourcebook.strays import sweep

from .support import Room, Store, in_a_room, pieces


@in_a_room()
async def test_what_is_accepted_is_queued_with_its_bytes(room: Room) -> None:
    source_id = await room.add("notes/../My report.txt", "Roses need water.")
    source = await room.source(source_id)
    assert (source.name, source.state, source.size, source.media_type) == ("My report.txt", "queued", 17, "text/plain")
    assert room.blobs.blobs[source.blob_key] == b"Roses need water."
    assert (await room.book.jobs.get(source.job_id or "", room.me.owner_id)).state == "queued"


@in_a_room()
async def test_the_same_bytes_in_the_same_notebook_are_the_same_source(room: Room) -> None:
    first = await room.add("a.txt", "Roses.")
    again = await room.book.sources.accept(room.notebook, "b.txt", pieces(b"Roses."))
    assert again == (first, False)
    assert len(room.blobs.blobs) == 1
    other = await room.book.create_notebook(room.me, "Other")
    assert await room.add("a.txt", "Roses.", other) != first
    assert await room.add("a.txt", "Tulips.") != first


@in_a_room()
async def test_the_same_bytes_at_the_same_time_are_one_source(room: Room) -> None:
    ids = await asyncio.gather(*(room.add(f"{n}.txt", "Roses.") for n in range(8)))
    assert len(set(ids)) == 1
    assert len(room.blobs.blobs) == len(await room.rows(jobs)) == 1


@in_a_room()
async def test_bytes_that_were_deleted_may_come_again(room: Room) -> None:
    first = await room.ready("a.txt", "Roses.")
    await room.book.sources.delete(room.me, first)
    second = await room.ready("a.txt", "Roses.")
    assert second != first
    assert [s.id for s in (await room.book.sources.listing(room.me, room.notebook.id)).items] == [second]


@in_a_room()
async def test_an_upload_that_breaks_off_leaves_nothing(room: Room) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await room.book.sources.accept(room.notebook, "a.txt", broken())
    assert room.blobs.blobs == {}
    assert await room.rows(sources) == []


@in_a_room()
async def test_a_notebook_that_was_deleted_meanwhile_takes_nothing(room: Room) -> None:
    await room.book.sources.delete_notebook(room.me, room.notebook)
    with pytest.raises(NotFound):
        await room.add("a.txt", "Roses.")
    assert room.blobs.blobs == {}


@in_a_room()
async def test_a_parent_that_was_deleted_meanwhile_takes_no_member(room: Room) -> None:
    parent = await room.ready("a.txt", "Roses.")
    await room.book.sources.delete(room.me, parent)
    with pytest.raises(NotFound):
        await room.book.sources.accept(room.notebook, "b.txt", pieces(b"x"), parent_id=parent)


@pytest.mark.parametrize("stands", [True, False], ids=["committed", "refused"])
def test_bytes_are_kept_where_the_database_did_not_answer_until_it_is_known_whether_their_row_stands(
    store: Store, stands: bool
) -> None:
    @in_a_room()
    async def test(room: Room) -> None:
        write = room.book.database.write

        @asynccontextmanager
        async def broken(**how: bool) -> AsyncIterator[AsyncConnection]:
            async with write(**how) as c:
                yield c
                if not stands:
                    raise StoreError("The connection broke.")
            raise StoreError("The answer to the commit was lost.")

        room.book.database.write = broken  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await room.add("b.txt", "Tulips.")
        room.book.database.write = write  # type: ignore[method-assign]
        (key,) = room.blobs.blobs
        assert [row["blob_key"] for row in await room.rows(sources)] == ([key] if stands else [])
        assert await sweep(room.book.database, room.blobs, 0.0) == (0 if stands else 1)
        assert set(room.blobs.blobs) == ({key} if stands else set())

    test(store)


@in_a_room()
async def test_a_caller_who_goes_away_never_parts_a_row_from_its_bytes(room: Room) -> None:
    """Cancelled at any step: afterwards every row has its blob, and every blob its row."""
    for steps in range(0, 60, 2):
        task = asyncio.create_task(room.add(f"{steps}.txt", f"Text {steps}."))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await room.add("last.txt", "Behind all of them in the writer's queue.")
    assert {row["blob_key"] for row in await room.rows(sources)} == set(room.blobs.blobs)
    assert len(room.blobs.blobs) > 1


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a b.pdf", "a b.pdf"),
        ("a\r\nb\x00.txt", "a b.txt"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
        ("u\u0308ber.txt", "über.txt"),
    ],
)
def test_a_file_name_is_only_data(given: str, kept: str) -> None:
    assert safe_name(given) == kept


@pytest.mark.parametrize("name", ["", "  ", "..", "a/..", "\x00"])
def test_a_source_needs_a_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        safe_name(name)


def test_a_media_type_comes_from_the_extension() -> None:
    assert media_type_of("A.MD") == "text/markdown"
    assert media_type_of("a.pdf") == "application/pdf"
    assert media_type_of("a") == media_type_of("a.unheard-of") == "application/octet-stream"


@in_a_room()
async def test_a_list_is_read_page_by_page_newest_first(room: Room) -> None:
    ids = [await room.add(f"{n}.txt", f"Text {n}.") for n in range(3)]
    first = await room.book.sources.listing(room.me, room.notebook.id, 2)
    second = await room.book.sources.listing(room.me, room.notebook.id, 2, first.next_cursor)
    assert [s.id for s in first.items + second.items] == sorted(ids, reverse=True)
    assert second.next_cursor is None

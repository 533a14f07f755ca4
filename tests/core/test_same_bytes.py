"""The same bytes again: nothing is read twice, and what has failed gets another chance under its id."""

from __future__ import annotations

import asyncio
from typing import Any

from sourcebook.database.tables import jobs
from sourcebook.errors import DocumentError

from .support import Room, both_stores, in_a_room, pieces

pytestmark = both_stores

ROSES = b"Roses need water."


async def failed(room: Room, name: str = "roses.txt", **about: Any) -> str:
    """A source whose bytes could not be read; from now on they can."""
    room.jail.error = DocumentError("This is no such file.")
    source_id, _ = await room.book.sources.accept(room.notebook, name, pieces(ROSES), **about)
    await room.work()
    assert (await room.source(source_id)).state == "failed"
    room.jail.error = None
    return source_id


async def queued(room: Room) -> int:
    return len(await room.rows(jobs, jobs.c.kind == "ingest", jobs.c.state == "queued"))


@in_a_room()
async def test_a_source_that_failed_under_a_wrong_name_is_read_under_the_right_one(room: Room) -> None:
    source_id = await failed(room, "roses.docx", tags=["garden"], metadata={"by": "Ann", "year": 1999})
    again = await room.book.sources.accept(
        room.notebook, "roses.lines", pieces(ROSES), media_type="text/plain", metadata={"year": 2001}
    )
    assert again == (source_id, True)
    source = await room.source(source_id)
    assert (source.name, source.media_type, source.state) == ("roses.lines", "text/plain", "queued")
    assert (source.tags, source.metadata) == (["garden"], {"by": "Ann", "year": 2001})
    await room.work()
    assert room.jail.parsed == ["roses.lines"]
    assert (await room.source(source_id)).state == "ready"
    assert list(room.blobs.blobs) == [source.blob_key]


@in_a_room()
async def test_a_source_that_failed_is_read_again_under_the_same_name(room: Room) -> None:
    """The parser that it needed may be there now."""
    source_id = await failed(room)
    version = (await room.source(source_id)).version
    assert await room.book.sources.accept(room.notebook, "roses.txt", pieces(ROSES)) == (source_id, True)
    await room.work()
    source = await room.source(source_id)
    assert (source.state, source.version) == ("ready", version)


@in_a_room()
async def test_failed_bytes_that_come_several_times_at_once_are_read_once(room: Room) -> None:
    source_id = await failed(room)
    sent = [room.book.sources.accept(room.notebook, f"{n}.txt", pieces(ROSES)) for n in range(8)]
    answers = await asyncio.gather(*sent)
    assert {answer[0] for answer in answers} == {source_id}
    assert sorted(answer[1] for answer in answers) == [False] * 7 + [True]
    assert await queued(room) == 1
    await room.work()
    assert len(room.jail.parsed) == 2


@in_a_room()
async def test_what_is_ready_or_under_way_keeps_its_name_and_is_not_read_again(room: Room) -> None:
    waiting = await room.add("a.txt", "Roses.")
    assert await room.book.sources.accept(room.notebook, "b.txt", pieces(b"Roses.")) == (waiting, False)
    assert await queued(room) == 1
    await room.work()
    assert await room.book.sources.accept(room.notebook, "c.txt", pieces(b"Roses.")) == (waiting, False)
    assert await queued(room) == 0
    assert (await room.source(waiting)).name == "a.txt"


@in_a_room()
async def test_one_name_given_the_bytes_that_failed_reads_them_again_and_once(room: Room) -> None:
    source_id = await failed(room)
    replace = room.book.sources.replace
    sent = [replace(room.me, source_id, pieces(ROSES), media_type="text/plain") for _ in range(4)]
    begun = [job for job in await asyncio.gather(*sent) if job is not None]
    assert len(begun) == await queued(room) == 1
    await room.work()
    source = await room.source(source_id)
    assert (source.state, source.media_type) == ("ready", "text/plain")
    assert list(room.blobs.blobs) == [source.blob_key]
    assert await replace(room.me, source_id, pieces(ROSES)) is None


@in_a_room()
async def test_a_member_that_failed_is_not_read_again_with_the_next_reading_of_its_archive(room: Room) -> None:
    archive = await room.ready("all.txt", "An archive.")
    room.jail.error = DocumentError("This is no such file.")
    first, _ = await room.book.sources.accept(room.notebook, "a.txt", pieces(ROSES), parent_id=archive)
    await room.work()
    assert await room.book.sources.accept(room.notebook, "a.txt", pieces(ROSES), parent_id=archive) == (first, False)
    assert await queued(room) == 0

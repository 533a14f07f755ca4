"""Points and flushes of several documents share calls to an index, and the next document is read meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sourcebook import tasks
from sourcebook.indexing import Indexing
from sourcebook.reading import Reading

from .support import Memory, Room, both_stores, in_a_room


class Counted(Memory):
    """Counts its flushes; each takes a moment."""

    flushes = 0

    async def flush(self) -> None:
        self.flushes += 1
        await asyncio.sleep(0.01)


def test_a_flush_waits_for_nobody_where_no_other_job_is_on_its_way() -> None:
    async def main() -> None:
        index, indexing = Counted(Counted.Settings()), Indexing(lambda: 1)
        for n in range(1, 4):
            await indexing.flush(index)
            assert index.flushes == n

    asyncio.run(main())


def test_jobs_that_are_on_their_way_share_the_flush_after_the_next() -> None:
    async def main() -> None:
        begun = [4]
        index, indexing = Counted(Counted.Settings()), Indexing(lambda: begun[0])
        await indexing.flush(index)
        begun[0] = 3
        waiting = [asyncio.create_task(indexing.flush(index))]
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(indexing.flush(index)) for _ in range(2)]
        await asyncio.gather(*waiting)
        assert index.flushes == 2

    asyncio.run(main())


def test_a_flush_is_not_put_off_for_a_job_that_takes_long() -> None:
    async def main() -> None:
        index, indexing = Counted(Counted.Settings()), Indexing(lambda: 2)
        async with asyncio.timeout(10):
            for _ in range(3):
                await indexing.flush(index)
        assert index.flushes == 3

    asyncio.run(main())


async def order_of_work(room: Room) -> list[str]:
    """What happened to a document of four batches, of: its place given up, points upserted."""
    await room.add("long.txt", "\n\n".join(f"Paragraph {n}." for n in range(12)))
    job = await room.book.jobs.claim("worker")
    assert job is not None
    told: list[str] = []
    room.book.jobs.held[job.id] = lambda: told.append("place")
    room.index.tick = told.append
    await room.book._worker.do(job)
    assert len(room.index.points) == 12
    return [what for n, what in enumerate(told) if what in ("place", "upsert") and what not in told[:n]]


@both_stores
@in_a_room(jobs={"batch": 3}, pipeline={"embedder": ""})
async def test_a_document_that_is_only_indexed_gives_up_its_place_first(room: Room) -> None:
    assert await order_of_work(room) == ["place", "upsert"]


@both_stores
@in_a_room(jobs={"batch": 3}, pipeline={"embedder": "letters"})
async def test_a_document_that_is_embedded_keeps_its_place_meanwhile(room: Room) -> None:
    assert await order_of_work(room) == ["upsert", "place"]


@both_stores
@in_a_room(jobs={"batch": 3})
async def test_passages_that_were_just_cut_are_not_read_from_the_store(room: Room) -> None:
    """A document that is very long is, batch by batch, and so is one whose indexing goes on after a death."""
    read = list[int]()
    passages_of = Reading.passages_of

    async def counted(self: Reading, *given: Any, **more: Any) -> Any:
        read.append(1)
        return await passages_of(self, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reading, "passages_of", counted)
        await room.ready("short.txt", "\n\n".join(f"Paragraph {n}." for n in range(12)))
        assert not read
        patch.setattr(tasks, "_HELD", 10)
        await room.ready("long.txt", "\n\n".join(f"Sentence {n}." for n in range(12)))
        assert len(read) == 4
    assert len(room.index.points) == 24

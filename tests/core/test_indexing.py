"""Points and flushes of several documents share calls to an index."""

from __future__ import annotations

import asyncio

from sourcebook.indexing import Indexing

from .support import Memory


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

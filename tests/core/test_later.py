"""What is done only where something else takes long."""

from __future__ import annotations

import asyncio

import pytest

from sourcebook.later import later


def test_where_nothing_takes_long_nothing_is_begun() -> None:
    async def main() -> None:
        begun = []

        async def work() -> None:
            begun.append(1)

        with later(0.0, work) as tasks:
            pass
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not begun
        assert not tasks

    asyncio.run(main())


def test_where_it_takes_long_the_work_begins_once_and_is_cancelled_at_the_end() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        with later(0.0, work) as tasks:
            await begun.wait()
            await asyncio.sleep(0)
        assert len(tasks) == 1
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()

    asyncio.run(main())


def test_the_work_may_clean_up_before_whoever_waits_for_it_goes_on() -> None:
    async def main() -> None:
        begun, cleaned = asyncio.Event(), []

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(1)

        with later(0.0, work) as tasks:
            await begun.wait()
        await asyncio.wait(tasks)
        assert cleaned

    asyncio.run(main())


def test_an_exception_inside_ends_the_work_too() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        with pytest.raises(ValueError, match="so"), later(0.0, work) as tasks:
            await begun.wait()
            raise ValueError("so")
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()

    asyncio.run(main())

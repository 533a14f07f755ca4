"""What comes while a call is under way goes into the next one together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sourcebook.gathering import Gathering


def test_the_first_goes_at_once_and_the_others_together_up_to_the_limit() -> None:
    async def main() -> None:
        calls: list[list[int]] = []

        async def double(items: Sequence[int]) -> Sequence[int]:
            calls.append(list(items))
            await asyncio.sleep(0.01)
            return [2 * item for item in items]

        gathering = Gathering(double, 3)
        assert await asyncio.gather(*(gathering.submit(n) for n in range(6))) == [0, 2, 4, 6, 8, 10]
        assert calls == [[0, 1, 2], [3, 4, 5]]
        assert await gathering.submit(7) == 14
        heavy = Gathering(double, 3, lambda item: 5)
        assert await asyncio.gather(*(heavy.submit(n) for n in range(2))) == [0, 2]

    asyncio.run(main())


def test_a_failure_is_everybodys_of_that_call_and_nobody_elses() -> None:
    async def main() -> None:
        async def odd_fails(items: Sequence[int]) -> Sequence[int]:
            await asyncio.sleep(0)
            if items[0] % 2:
                raise ValueError("odd")
            return items

        gathering = Gathering(odd_fails, 1)
        found = await asyncio.gather(*(gathering.submit(n) for n in range(4)), return_exceptions=True)
        assert [f if isinstance(f, int) else str(f) for f in found] == [0, "odd", 2, "odd"]

    asyncio.run(main())


def test_whoever_is_cancelled_leaves_and_the_others_go_on() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def slow(items: Sequence[int]) -> Sequence[int]:
            await go_on.wait()
            return items

        gathering = Gathering(slow, 8)
        first, second, third = [asyncio.create_task(gathering.submit(n)) for n in range(3)]
        await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        assert list(await asyncio.gather(first, third)) == [0, 2]

    asyncio.run(main())


def test_where_a_call_is_held_back_what_comes_meanwhile_goes_along() -> None:
    async def main() -> None:
        calls: list[list[int]] = []

        async def keep(items: Sequence[int]) -> Sequence[int]:
            calls.append(list(items))
            return items

        gathering = Gathering(keep, 8, hold=lambda waiting: waiting < 3)
        first = asyncio.create_task(gathering.submit(0))
        await asyncio.sleep(0.02)
        assert not calls
        assert list(await asyncio.gather(first, gathering.submit(1), gathering.submit(2))) == [0, 1, 2]
        assert calls == [[0, 1, 2]]

    asyncio.run(main())


def test_a_call_that_was_held_back_is_not_made_where_all_have_left() -> None:
    async def main() -> None:
        calls: list[list[int]] = []

        async def keep(items: Sequence[int]) -> Sequence[int]:
            calls.append(list(items))
            return items

        gone = asyncio.Event()
        gathering = Gathering(keep, 8, hold=lambda waiting: not gone.is_set())
        one = asyncio.create_task(gathering.submit(0))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        gone.set()
        assert await gathering.submit(1) == 1
        assert calls == [[1]]

    asyncio.run(main())

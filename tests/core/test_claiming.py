"""Claiming: several jobs at once, and what becomes of those that were claimed ahead."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from sourcebook.database.engine import now
from sourcebook.database.tables import owners
from sourcebook.jobs import Job, Jobs
from sourcebook.quotas import Far

from .support import Store, both_stores
from .test_jobs import Queue, queue


async def second_owner(q: Queue) -> None:
    async with q.db.write() as c:
        await c.execute(owners.insert().values(id="own_2", name="you", created_at=now()))
        await q.jobs.add(c, "ingest", "own_2")


@both_stores
def test_the_next_jobs_of_one_owner_are_leased_together_in_their_order(store: Store) -> None:
    """On SQLite; PostgreSQL leases one at a time."""

    async def main() -> None:
        async with queue(store) as q:
            ids = [await q.add() for _ in range(4)]
            taken = await q.jobs.claim_some("w", 3)
            assert [job.id for job in taken] == (ids[:3] if q.db.sqlite else ids[:1])
            assert {(job.state, job.worker, job.attempt) for job in taken} == {("leased", "w", 1)}
            rest = [(await q.get(i)).state for i in ids[len(taken) :]]
            assert set(rest) == {"queued"}
            assert await q.save(taken[-1], {"next": 1})

    asyncio.run(main())


@both_stores
def test_where_others_have_work_only_one_is_leased(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            for _ in range(3):
                await q.add()
            await second_owner(q)
            assert [len(await q.jobs.claim_some("w", 3)) for _ in range(2)] == [1, 1]

    asyncio.run(main())


@both_stores
def test_where_urgencies_differ_only_one_is_leased(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            await q.add()
            urgent = await q.add(priority=1)
            assert [job.id for job in await q.jobs.claim_some("w", 3)] == [urgent]

    asyncio.run(main())


@both_stores
def test_a_late_lease_is_taken_over_alone(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            late = await q.add()
            await q.jobs.claim("gone")
            await q.expire(late)
            for _ in range(2):
                await q.add()
            q.jobs._looked = 0.0  # it may look again
            taken = await q.jobs.claim_some("w", 3)
            assert [(job.id, job.attempt) for job in taken] == [(late, 2)]

    asyncio.run(main())


@both_stores
def test_what_is_not_due_is_not_leased_with_the_rest(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            due = [await q.add() for _ in range(2)]
            later = await q.add(run_at=now() + timedelta(seconds=60))
            await q.jobs.claim_some("w", 5)
            await q.jobs.claim_some("w", 5)
            assert [(await q.get(i)).state for i in (*due, later)] == ["leased", "leased", "queued"]

    asyncio.run(main())


@both_stores
def test_what_was_claimed_ahead_is_handed_back_where_a_document_takes_long(store: Store) -> None:
    """Nobody renews the lease of what has not begun: another process does it meanwhile, as its first attempt."""

    async def main() -> None:
        async with queue(store, lease=1.05) as q:
            ids = [await q.add() for _ in range(4)]
            begun, may = list[str](), asyncio.Event()

            async def handle(job: Job) -> None:
                begun.append(job.id)
                if len(begun) > 1:
                    await may.wait()
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            other, taken = Jobs(store.open(), q.jobs.options), list[Job]()
            async with asyncio.timeout(30):
                while len(begun) < 2:
                    await asyncio.sleep(0.005)
                while len(taken) < 2:
                    taken += await other.claim_some("other", 1)
                    await asyncio.sleep(0.005)
                assert [(job.id, job.attempt) for job in sorted(taken, key=lambda job: job.id)] == [
                    (i, 1) for i in sorted(ids[2:])
                ]
                assert begun == ids[:2]
                may.set()
                await q.until(ids[1], "done")
            await worker.close()
            await other._db.close()

    asyncio.run(main())


@both_stores
def test_closing_gives_back_what_was_claimed_and_not_begun(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            ids = [await q.add() for _ in range(3)]
            begun = list[str]()

            async def handle(job: Job) -> None:
                begun.append(job.id)
                if len(begun) > 1:
                    await asyncio.sleep(60)
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            async with asyncio.timeout(30):
                while len(begun) < 2:
                    await asyncio.sleep(0.005)
            await worker.close()
            assert [((await q.get(i)).state, (await q.get(i)).attempt) for i in ids[1:]] == [("queued", 0)] * 2

    asyncio.run(main())


@both_stores
def test_what_is_given_back_stands_where_it_stood_and_is_due_also_when_the_clock_was_set_back(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            first, second = await q.add(run_at=now() - timedelta(seconds=5)), await q.add()
            job = await q.jobs.claim("w")
            assert job is not None
            await q.jobs.release(job)
            assert (await q.get(first)).run_at == job.run_at
            again = [await q.jobs.claim("w") for _ in range(2)]
            assert [job.id if job else None for job in again] == [first, second]
            await q.change(first, run_at=now() + timedelta(seconds=300))  # as if the clock had been set back since
            assert again[0] is not None
            await q.jobs.release(again[0])
            due = await q.jobs.claim("w")
            assert due is not None
            assert due.id == first

    asyncio.run(main())


# How often a count is spared.


def test_near_its_bound_every_time_counts() -> None:
    far = Far()
    assert "own_1" not in far
    far.counted("own_1", 990, 1000)
    assert "own_1" not in far


def test_far_from_its_bound_one_in_a_twentieth_of_what_is_left_is_counted() -> None:
    far = Far()
    far.counted("own_1", 800, 1000)
    assert [("own_1" in far) for _ in range(10)] == [True] * 9 + [False]


def test_a_count_is_spared_a_hundred_times_at_most_and_for_each_owner_alone() -> None:
    far = Far()
    far.counted("own_1", 0, 1_000_000)
    assert "own_2" not in far
    assert sum("own_1" in far for _ in range(500)) == 100


def test_a_count_is_not_spared_for_long() -> None:
    """What others add meanwhile is seen."""
    seconds = [0.0]
    far = Far(lambda: seconds[0])
    far.counted("own_1", 0, 1000)
    assert "own_1" in far
    seconds[0] = 1.1
    assert "own_1" not in far


@pytest.mark.parametrize("processes", [1, 20])
@pytest.mark.parametrize("bound", [3, 100, 1000, 5000])
def test_processes_that_add_in_turn_end_at_their_bound(processes: int, bound: int) -> None:
    fars = [Far() for _ in range(processes)]
    held = 0
    for turn in range(3 * bound):
        far = fars[turn % processes]
        if "own_1" not in far:
            if held >= bound:
                continue
            far.counted("own_1", held, bound)
        held += 1
    assert held == bound

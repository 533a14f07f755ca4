"""Jobs: one worker at a time, taken over when it is late, fenced when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import jobs, owners
from sourcebook.errors import Conflict, Lost, Malformed, NotFound, SourcebookError, StoreError
from sourcebook.jobs import Job, Jobs
from sourcebook.presence import Presence
from sourcebook.settings import Jobs as Options
from sourcebook.workers import Worker

from .support import Store, both_stores

pytestmark = both_stores


class Queue:
    """Jobs on a database with one owner."""

    def __init__(self, database: Database, options: Options) -> None:
        self.db = database
        self.jobs = Jobs(database, options)
        self.failures: list[SourcebookError] = []

    async def add(self, **values: Any) -> str:
        async with self.db.write() as c:
            return await self.jobs.add(c, "ingest", "own_1", **values)

    async def get(self, job_id: str) -> Job:
        return await self.jobs.get(job_id, "own_1")

    async def change(self, job_id: str, **values: Any) -> None:
        async with self.db.write() as c:
            await c.execute(jobs.update().where(jobs.c.id == job_id).values(**values))

    async def expire(self, job_id: str) -> None:
        await self.change(job_id, lease_until=now() - timedelta(seconds=1))

    async def save(self, job: Job, checkpoint: dict[str, Any]) -> Job:
        async with self.db.write() as c:
            return await self.jobs.save(c, job, checkpoint)

    async def finish(self, job: Job) -> None:
        async with self.db.write() as c:
            await self.jobs.finish(c, job)

    async def fail(self, job: Job, error: SourcebookError) -> bool:
        async with self.db.write() as c:
            return await self.jobs.fail(c, job, error)

    async def failed(self, job: Job, error: SourcebookError) -> None:
        self.failures.append(error)
        await self.fail(job, error)

    def worker(self, handle: Callable[[Job], Awaitable[None]]) -> Worker:
        return Worker(self.jobs, self.db, handle, self.failed)

    async def until(self, job_id: str, state: str) -> Job:
        while (job := await self.get(job_id)).state != state:
            await asyncio.sleep(0.005)
        return job


@asynccontextmanager
async def queue(store: Store, **options: Any) -> AsyncIterator[Queue]:
    database = store.open()
    async with database.write() as c:
        await c.execute(owners.insert().values(id="own_1", name="me", created_at=now()))
    yield Queue(database, Options(**{"poll": 0.02, "backoff": 0.001, **options}))
    await database.close()


def test_two_workers_never_hold_one_job(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            ids = [await q.add() for _ in range(20)]
            other = Jobs(store.open(), q.jobs.options)  # as another process

            async def take(j: Jobs, name: str) -> list[str]:
                taken = []
                while job := await j.claim(name):
                    taken.append(job.id)
                return taken

            taken = await asyncio.gather(*(take(j, f"{n}") for n in range(3) for j in (q.jobs, other)))
            assert sorted(i for one in taken for i in one) == sorted(ids)
            await other._db.close()

    asyncio.run(main())


def test_the_more_urgent_and_then_the_older_comes_first_and_what_is_not_due_waits(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            young = await q.add()
            old = await q.add(run_at=now() - timedelta(seconds=5))
            await q.add(run_at=now() + timedelta(seconds=60))
            urgent = await q.add(priority=1)
            got = [await q.jobs.claim("w") for _ in range(4)]
            assert [job.id if job else None for job in got] == [urgent, old, young, None]

    asyncio.run(main())


def test_an_expired_lease_is_taken_over_and_the_first_workers_write_raises_lost(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            await q.add()
            first = await q.jobs.claim("first")
            assert first is not None
            first = await q.save(first, {"next": 1})
            assert await q.jobs.claim("second") is None
            await q.expire(first.id)
            second = await q.jobs.claim("second")
            assert second is not None
            assert (second.worker, second.attempt, second.checkpoint) == ("second", 2, {"next": 1})
            for write in (q.save(first, {"next": 9}), q.finish(first), q.fail(first, StoreError("x"))):
                with pytest.raises(Lost):
                    await write
            await q.jobs.release(first)
            held = await q.get(first.id)
            assert (held.state, held.worker, held.attempt, held.checkpoint) == ("leased", "second", 2, {"next": 1})

    asyncio.run(main())


def test_the_same_worker_in_a_later_attempt_is_another_holder(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            await q.add()
            first = await q.jobs.claim("w")
            assert first is not None
            await q.expire(first.id)
            second = await q.jobs.claim("w")
            assert second is not None
            with pytest.raises(Lost):
                await q.finish(first)
            await q.finish(second)

    asyncio.run(main())


def test_what_is_written_with_a_lost_lease_is_rolled_back(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            await q.add()
            job = await q.jobs.claim("w")
            assert job is not None
            await q.expire(job.id)
            await q.jobs.claim("other")
            with pytest.raises(Lost):
                async with q.db.write() as c:
                    await c.execute(owners.insert().values(id="own_2", name="ghost", created_at=now()))
                    await q.jobs.save(c, job)
            async with q.db.read() as c:
                assert (await c.execute(sa.select(sa.func.count()).select_from(owners))).scalar() == 1

    asyncio.run(main())


def test_a_transient_failure_backs_off_and_then_fails_for_good(store: Store) -> None:
    async def main() -> None:
        async with queue(store, attempts=3, backoff=10.0) as q:
            job_id = await q.add()
            pauses = []
            for attempt in (1, 2, 3):
                await q.change(job_id, run_at=now())
                job = await q.jobs.claim("w")
                assert job is not None
                assert job.attempt == attempt
                final = await q.fail(job, StoreError("The disk is busy."))
                assert final is (attempt == 3)
                pauses.append(((await q.get(job_id)).run_at - now()).total_seconds())
            assert 4 < pauses[0] < 16
            assert 9 < pauses[1] < 31
            job = await q.get(job_id)
            assert (job.state, (job.problem or {})["code"]) == ("failed", "store_failed")
            assert await q.jobs.claim("w") is None

    asyncio.run(main())


def test_a_failure_that_is_not_transient_is_final_at_once(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            job_id = await q.add()
            job = await q.jobs.claim("w")
            assert job is not None
            assert await q.fail(job, Malformed("It is damaged."))
            assert (await q.get(job_id)).state == "failed"

    asyncio.run(main())


def test_another_owners_job_is_not_found(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            with pytest.raises(NotFound):
                await q.jobs.get(await q.add(), "own_2")

    asyncio.run(main())


def test_something_else_may_have_to_end_first_which_costs_no_attempt(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            job_id = await q.add()
            for _ in range(10):
                await q.change(job_id, run_at=now())
                job = await q.jobs.claim("w")
                assert job is not None
                assert job.attempt == 1
                async with q.db.write() as c:
                    await q.jobs.postpone(c, job, 5)
            assert (await q.get(job_id)).run_at > now()

    asyncio.run(main())


# Workers.


def test_workers_do_what_is_added(store: Store) -> None:
    async def main() -> None:
        async with queue(store, poll=60.0) as q:
            done = []

            async def handle(job: Job) -> None:
                done.append(job.id)
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(2)
            await asyncio.sleep(0.02)
            ids = [await q.add() for _ in range(5)]
            for job_id in ids:
                await q.until(job_id, "done")
            assert sorted(done) == sorted(ids)
            await worker.close()

    asyncio.run(main())


def test_a_job_that_only_waits_gives_its_room_to_another_once(store: Store) -> None:
    """And no further one is begun while its own work goes on, however often it says so."""

    async def main() -> None:
        async with queue(store) as q:
            ids = [await q.add() for _ in range(4)]
            begun, may = [], asyncio.Event()

            async def handle(job: Job) -> None:
                begun.append(job.id)
                if job.id in ids[:2]:
                    q.jobs.make_room(job)
                    q.jobs.make_room(job)
                await may.wait()
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            async with asyncio.timeout(30):
                while len(begun) < 3:
                    await asyncio.sleep(0.005)
                await asyncio.sleep(0.1)
                assert begun == ids[:3]
                may.set()
                for job_id in ids:
                    await q.until(job_id, "done")
            assert begun == ids
            await worker.close()
            assert q.jobs.held == {}

    asyncio.run(main())


def test_closing_releases_what_was_being_done_without_costing_an_attempt(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            started = asyncio.Event()

            async def handle(job: Job) -> None:
                await q.save(job, {"next": 3})
                started.set()
                await asyncio.sleep(60)

            worker = q.worker(handle)
            worker.start(1)
            job_id = await q.add()
            await started.wait()
            await worker.close()
            job = await q.get(job_id)
            assert (job.state, job.attempt, job.checkpoint) == ("queued", 0, {"next": 3})

    asyncio.run(main())


def test_a_long_job_keeps_its_lease(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            # Shorter than a setting may be, so that the test is not as long as a lease.
            q.jobs.options = q.jobs.options.model_copy(update={"lease": 0.3})
            go_on = asyncio.Event()

            async def handle(job: Job) -> None:
                await go_on.wait()
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            job_id = await q.add()
            await q.until(job_id, "leased")
            async with q.db.read() as c:
                first = (await c.execute(sa.select(jobs.c.lease_until))).scalar_one()
            later = first
            while later < first + timedelta(seconds=0.4):  # renewed more than once
                async with q.db.read() as c:
                    later = (await c.execute(sa.select(jobs.c.lease_until))).scalar_one()
                await asyncio.sleep(0.01)
            go_on.set()
            await q.until(job_id, "done")
            await worker.close()

    asyncio.run(main())


def test_a_leased_job_that_is_cancelled_stops_at_its_next_write(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            started, go_on = asyncio.Event(), asyncio.Event()

            async def handle(job: Job) -> None:
                started.set()
                await go_on.wait()
                await q.save(job, {})

            worker = q.worker(handle)
            worker.start(1)
            job_id = await q.add()
            await started.wait()
            await q.change(job_id, cancel=True)
            go_on.set()
            await q.until(job_id, "cancelled")
            assert q.failures == []
            await worker.close()

    asyncio.run(main())


def test_an_unknown_exception_fails_the_job_by_its_type_alone_and_the_worker_lives_on(store: Store) -> None:
    async def main() -> None:
        async with queue(store, attempts=1) as q:

            async def handle(job: Job) -> None:
                if job.payload:
                    raise ValueError("/etc/secret: a user's text")
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            bad, good = await q.add(payload={"bad": True}), await q.add()
            problem = (await q.until(bad, "failed")).problem or {}
            assert "ValueError" in problem["detail"]
            assert "secret" not in str(problem)
            await q.until(good, "done")
            await worker.close()

    asyncio.run(main())


def test_a_failure_that_cannot_be_stored_gives_the_job_back_and_the_worker_lives_on(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            tries: list[str] = []

            async def handle(job: Job) -> None:
                if job.payload:
                    tries.append(job.id)
                    if len(tries) < 3:
                        raise StoreError("The disk is full.")
                await q.finish(job)

            async def failed(job: Job, error: SourcebookError) -> None:
                raise error

            worker = Worker(q.jobs, q.db, handle, failed)
            worker.start(1)
            bad, good = await q.add(payload={"bad": True}), await q.add()
            await q.until(good, "done")
            await q.until(bad, "done")  # long before its lease is over
            assert len(tries) == 3
            await worker.close()

    asyncio.run(main())


def test_a_job_that_kills_its_workers_is_given_up(store: Store) -> None:
    async def main() -> None:
        async with queue(store, attempts=2) as q:

            async def handle(job: Job) -> None:
                raise AssertionError("it must not be tried again")

            job_id = await q.add(attempt=8)
            worker = q.worker(handle)
            worker.start(1)
            job = await q.until(job_id, "failed")
            assert (job.problem or {})["code"] == "worker_died"
            await worker.close()

    asyncio.run(main())


# Shares, bounds, and what people ask for.


def test_many_jobs_of_one_owner_delay_anothers_by_one_at_most(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            async with q.db.write() as c:
                await c.execute(owners.insert().values(id="own_2", name="other", created_at=now()))
            for _ in range(8):
                await q.add()
            async with q.db.write() as c:
                late = await q.jobs.add(c, "ingest", "own_2")
                second = await q.jobs.add(c, "ingest", "own_2")
            order = []
            while job := await q.jobs.claim("w"):
                order.append(job.id)
                await q.finish(job)
            assert order.index(late) <= 1
            assert order.index(second) <= 3

    asyncio.run(main())


def test_deletions_without_end_leave_uploads_a_share(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            uploads = [await q.add() for _ in range(4)]
            rebuilt = [await q.add(priority=-1) for _ in range(2)]

            async def delete() -> None:
                async with q.db.write() as c:
                    await q.jobs.add(c, "delete", "own_1", priority=1)

            await delete()
            order: list[Job] = []
            for _ in range(50):
                await delete()  # there is always another one
                job = await q.jobs.claim("w")
                assert job is not None
                order.append(job)
                await q.finish(job)
            ids = [job.id for job in order]
            assert [i for i in ids if i in uploads] == uploads
            assert [i for i in ids if i in rebuilt] == rebuilt
            assert [job.kind for job in order].count("delete") == 44
            assert order[0].kind == "delete"
            # Nor do they come in one heap: within any ten, an upload gets its turn while there is one.
            assert ids.index(uploads[0]) < 10

    asyncio.run(main())


def test_a_deletion_need_not_wait_for_many_uploads(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            for _ in range(20):
                await q.add()
            first = await q.jobs.claim("w")
            async with q.db.write() as c:
                deletion = await q.jobs.add(c, "delete", "own_1", priority=1)
            second = await q.jobs.claim("w")
            assert first is not None
            assert second is not None
            assert second.id == deletion

    asyncio.run(main())


def test_the_share_of_an_owner_holds_within_an_urgency(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            async with q.db.write() as c:
                await c.execute(owners.insert().values(id="own_2", name="other", created_at=now()))
                for owner in ("own_1",) * 6 + ("own_2",) * 2:
                    await q.jobs.add(c, "delete", owner, priority=1)
                    await q.jobs.add(c, "ingest", owner)
            order: list[Job] = []
            while job := await q.jobs.claim("w"):
                order.append(job)
                await q.finish(job)
            assert len(order) == 16
            for kind in ("delete", "ingest"):
                whose = [job.owner_id for job in order if job.kind == kind]
                assert whose.index("own_2") <= 1

    asyncio.run(main())


def test_whoever_has_jobs_being_done_waits_for_those_who_have_none(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            async with q.db.write() as c:
                await c.execute(owners.insert().values(id="own_2", name="other", created_at=now()))
            for _ in range(5):
                await q.add()
            first = await q.jobs.claim("w")
            assert first is not None
            async with q.db.write() as c:
                await q.jobs.add(c, "ingest", "own_2")
            second = await q.jobs.claim("w")
            assert second is not None
            assert (first.owner_id, second.owner_id) == ("own_1", "own_2")

    asyncio.run(main())


def test_a_full_queue_refuses_and_says_when_to_come_back(store: Store) -> None:
    async def main() -> None:
        async with queue(store, queue=3) as q:
            for _ in range(3):
                async with q.db.read() as c:
                    await q.jobs.check_room(c)
                await q.add()
            async with q.db.read() as c:
                with pytest.raises(StoreError) as caught:
                    await q.jobs.check_room(c)
            assert caught.value.problem_code == "server_queue_full"
            assert 1 < caught.value.details["retry_after"] <= 120
            assert await q.jobs.claim("w") is not None
            async with q.db.read() as c:
                await q.jobs.check_room(c)

    asyncio.run(main())


def test_a_waiting_job_is_cancelled_at_once_and_can_be_retried(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            job_id = await q.add()
            assert (await q.jobs.cancel(job_id, "own_1")).state == "cancelled"
            assert await q.jobs.claim("w") is None
            with pytest.raises(NotFound):
                await q.jobs.retry(job_id, "own_2")
            with pytest.raises(Conflict):  # it has no source that could still be ingested
                await q.jobs.retry(job_id, "own_1")

    asyncio.run(main())


def test_a_deletion_cannot_be_cancelled(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            async with q.db.write() as c:
                job_id = await q.jobs.add(c, "delete", "own_1")
            with pytest.raises(Conflict):
                await q.jobs.cancel(job_id, "own_1")

    asyncio.run(main())


# Clocks and deaths.


def test_what_was_queued_before_the_clock_was_set_back_is_due_now(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            job_id = await q.add(run_at=now() + timedelta(hours=1))
            job = await q.jobs.claim("w")
            assert job is not None
            assert job.id == job_id

    asyncio.run(main())


def test_a_process_does_not_take_its_own_job_wherever_the_clock_goes(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            started, go_on = asyncio.Event(), asyncio.Event()
            begun = []

            async def handle(job: Job) -> None:
                begun.append(job.attempt)
                started.set()
                await go_on.wait()
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(2)
            job_id = await q.add()
            await started.wait()
            await q.expire(job_id)  # the clock jumps a day ahead
            await asyncio.sleep(0.1)
            go_on.set()
            await q.until(job_id, "done")
            assert begun == [1]
            await worker.close()

    asyncio.run(main())


def test_the_jobs_of_a_dead_process_are_free_at_once_and_those_of_a_living_one_are_not(store: Store) -> None:
    async def main() -> None:
        async with queue(store) as q:
            alive, dead = Presence(store.folder / "workers"), Presence(store.folder / "workers")
            alive.enter()
            dead.enter()
            mine = Jobs(q.db, q.jobs.options, Presence(store.folder / "workers"))
            await q.add()
            await q.add()
            of_the_living, of_the_dead = [await mine.claim(f"{p.name}-w") for p in (alive, dead)]
            assert of_the_living is not None
            assert of_the_dead is not None
            await mine.bury()
            assert await mine.claim("me-w") is None
            dead.leave()
            await mine.bury()
            job = await mine.claim("me-w")
            assert job is not None
            assert job.id == of_the_dead.id
            # A lease that looks over, as after a jump of the clock, is the living one's all the same.
            await q.expire(of_the_living.id)
            assert await mine.claim("me-w") is None
            alive.leave()
            await mine.bury()
            assert (await mine.claim("me-w")) is not None

    asyncio.run(main())


def test_jobs_that_are_added_by_another_connection_are_heard_of(store: Store) -> None:
    """At once on PostgreSQL; within the poll on SQLite."""

    async def main() -> None:
        async with queue(store, poll=60.0 if store.url else 0.1) as q:

            async def handle(job: Job) -> None:
                await q.finish(job)

            worker = q.worker(handle)
            worker.start(1)
            await asyncio.sleep(1.0 if store.url else 0.0)  # until it listens
            other = store.open()
            async with other.write() as c:
                job_id = await Jobs(other, q.jobs.options).add(c, "ingest", "own_1")
            await asyncio.wait_for(q.until(job_id, "done"), 20)
            await worker.close()
            await other.close()

    asyncio.run(main())

"""Work that waits, and whether a worker is there to do it."""

from __future__ import annotations

from datetime import timedelta

from sourcebook.database.engine import now
from sourcebook.database.tables import jobs
from sourcebook.presence import Presence
from sourcebook.queued import attended, queued

from .support import Room, both_stores, in_a_room

pytestmark = both_stores


@in_a_room()
async def test_a_worker_is_seen_while_it_is_at_work_and_not_after_its_end(room: Room) -> None:
    database, folder = room.book.database, room.book.folder
    await room.add("a.txt", "Roses.")
    assert (await queued(database), await attended(database, folder)) == (1, False)
    presence = Presence(folder / "workers")
    presence.enter()
    lease = {"state": "leased", "worker": f"{presence.name}-w0", "attempt": 1}
    await room.change(jobs, jobs.c.state == "queued", **lease, lease_until=now() + timedelta(seconds=60))
    assert (await queued(database), await attended(database, folder)) == (0, True)
    presence.leave()
    await room.change(jobs, jobs.c.state == "leased", lease_until=now() - timedelta(seconds=1))
    assert not await attended(database, folder)

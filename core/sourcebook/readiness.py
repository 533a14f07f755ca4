"""What is so now: whether every part works, and the gauges that operators watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from sourcebook.database.tables import jobs
from sourcebook.database.upgrade import mismatch
from sourcebook.errors import SourcebookError

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook


async def ready(book: Sourcebook) -> dict[str, str]:
    """Part -> `ok` or what is wrong with it, for `/readyz`."""
    state = {"database": "ok", "index": "ok", "plugins": "ok"}
    try:
        state["database"] = await mismatch(book.database) or "ok"
    except SourcebookError as error:
        state["database"] = error.detail
    with book.wirings.used() as wiring:
        for index in wiring.pipelines.indexes:
            try:
                await index.ensure(())
            except SourcebookError as error:
                state["index"] = f"{index.instance}: {error.detail}"
    failed = [f"{i.name}: {i.reason}" for i in book.plugins.infos.values() if i.state == "failed"]
    if failed:
        state["plugins"] = "; ".join(failed)
    if book.reloading.problem:
        state["configuration"] = f"the last reload failed: {book.reloading.problem}"
    return state


async def gauges(book: Sourcebook) -> dict[str, float]:
    """The values of `metrics_made`'s gauges. Raises `StoreError`."""
    runs, streams = book.runs.counted()
    async with book.database.read() as c:
        counted = {str(row.state): int(row.number) for row in (await c.execute(_BY_STATE)).all()}
        due = (await c.execute(_LONGEST)).scalar()
        at = await book.database.now(c)
    return {
        "open_runs": runs,
        "open_streams": streams,
        "queued_jobs": counted.get("queued", 0),
        "leased_jobs": counted.get("leased", 0),
        "queue_age_seconds": max((at - due).total_seconds(), 0.0) if due is not None else 0.0,
        "open_configurations": len(book.wirings),
        "plugins_failed": sum(info.state == "failed" for info in book.plugins.infos.values()),
    }


_BY_STATE = (
    sa.select(jobs.c.state, sa.func.count().label("number"))
    .where(jobs.c.state.in_(("queued", "leased")))
    .group_by(jobs.c.state)
)
_LONGEST = sa.select(sa.func.min(jobs.c.run_at)).where(jobs.c.state == "queued")

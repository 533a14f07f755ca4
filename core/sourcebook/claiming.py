"""The statements by which jobs are claimed and held, built once: to build one takes longer than to run it."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate

from sourcebook.database.tables import UTCDateTime, jobs, owner_turns


def _at(name: str) -> sa.BindParameter[datetime]:
    return sa.bindparam(name, type_=UTCDateTime())


def _due() -> sa.ColumnElement[bool]:
    # No pause of these is as long: the clock was set back. Only a `retire` job waits for longer on purpose.
    strange = sa.and_(jobs.c.run_at > _at("far"), jobs.c.kind.in_(("ingest", "delete")))
    return sa.and_(jobs.c.state == "queued", sa.or_(jobs.c.run_at <= _at("at"), strange))


def _waiting() -> sa.Select[Any]:
    """A row for each owner who has something due, and each urgency of it, with what speaks for the others."""
    doing = jobs.alias()
    running = sa.select(sa.func.count()).where(doing.c.state == "leased", doing.c.owner_id == jobs.c.owner_id)
    turn = sa.select(owner_turns.c.turn).where(owner_turns.c.owner_id == jobs.c.owner_id)
    return (
        sa.select(
            jobs.c.owner_id,
            jobs.c.priority,
            sa.func.min(jobs.c.run_at).label("run_at"),
            sa.func.count().label("number"),
            running.scalar_subquery().label("running"),
            turn.scalar_subquery().label("turn"),
        )
        .where(_due())
        .group_by(jobs.c.owner_id, jobs.c.priority)
    )


def _leasing(*which: sa.ColumnElement[bool]) -> ReturningUpdate[Any]:
    values = {"state": "leased", "worker": sa.bindparam("by"), "attempt": jobs.c.attempt + 1}
    values |= {"lease_until": _at("until"), "updated_at": _at("stamp")}
    return jobs.update().where(*which).values(**values).returning(jobs)


def _in_turn() -> sa.Select[Any]:
    which = (jobs.c.owner_id == sa.bindparam("owner"), jobs.c.priority == sa.bindparam("urgency"))
    return sa.select(jobs.c.id).where(*which, _due()).order_by(jobs.c.run_at, jobs.c.id)


def _next() -> sa.ScalarSelect[Any]:
    return _in_turn().limit(1).with_for_update(skip_locked=True).scalar_subquery()


_HELD_HERE = sa.and_(jobs.c.state == "leased", jobs.c.worker == sa.bindparam("keeper"), jobs.c.run_at <= _at("at"))
KEPT = sa.select(jobs.c.id).where(_HELD_HERE).limit(1)
WAITING = _waiting()
LATE = sa.select(jobs.c.id, jobs.c.worker, jobs.c.lease_until).where(
    jobs.c.state == "leased", jobs.c.lease_until < _at("at")
)
TAKE_KEPT = _leasing(_HELD_HERE, jobs.c.id == sa.bindparam("job"))
TAKE_LATE = _leasing(jobs.c.id == sa.bindparam("job"), jobs.c.lease_until == _at("since"))
TAKE_NEXT = _leasing(jobs.c.id == _next())
# On SQLite alone: PostgreSQL may run such a subquery more than once, and lease more.
TAKE_SEVERAL = _leasing(jobs.c.id.in_(_in_turn().limit(sa.bindparam("most", type_=sa.Integer))))

_QUEUED = sa.select(jobs.c.id).where(jobs.c.state == "queued", jobs.c.kind == "ingest")
COUNT = sa.select(sa.func.count()).select_from(_QUEUED.limit(sa.bindparam("most", type_=sa.Integer)).subquery())
"""Of what waits to be ingested, up to `most`."""
ADD = jobs.insert()


def where_it_stood(at: datetime | sa.ColumnElement[datetime]) -> sa.ColumnElement[datetime]:
    """`run_at` of a job that goes back into the queue; not after now (`at`), should the clock have been set back."""
    clock = sa.literal(at, UTCDateTime()) if isinstance(at, datetime) else at
    return sa.case((jobs.c.run_at < clock, jobs.c.run_at), else_=clock)


@cache
def fenced(names: tuple[str, ...]) -> sa.Update:
    """Sets these columns of a job held still (`held_id`, `held_worker`, `held_attempt`), unless it is to stop."""
    held = [jobs.c[name] == sa.bindparam(f"held_{name}") for name in ("id", "worker", "attempt")]
    values = {name: sa.bindparam(name, type_=jobs.c[name].type) for name in names}
    return jobs.update().where(*held, jobs.c.state == "leased", jobs.c.cancel.is_(False)).values(**values)


def is_sql(value: Any) -> bool:
    """Whether the database works a value out."""
    return isinstance(value, sa.ColumnElement)

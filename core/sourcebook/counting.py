"""How much lies in notebooks: sources by what became of them, notes, conversations; SQL is asked once for a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database
from sourcebook.database.tables import conversations, generations, notebooks, notes, sources
from sourcebook.generations import SUPERSEDED
from sourcebook.owners import Principal


@dataclass(frozen=True)
class Counts:
    """Of one notebook. `working`: sources that are on their way; `conversations` are the asking owner's own."""

    sources: int = 0
    ready: int = 0
    failed: int = 0
    working: int = 0
    notes: int = 0
    conversations: int = 0


class Counting:
    """Counts in SQL: three statements, however many notebooks."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def of(self, principal: Principal, notebook_ids: Sequence[str]) -> dict[str, Counts]:
        """By notebook's id. Whether the principal may read them has been asked before."""
        if not notebook_ids:
            return {}
        async with self._db.read() as c:
            by_state = {row.notebook_id: row for row in (await c.execute(_sources(notebook_ids))).all()}
            written = dict(await _pairs(c, _notes(notebook_ids)))
            talk = dict(await _pairs(c, self._conversations(principal, notebook_ids)))
        counted = {}
        for one in notebook_ids:
            total, ready, failed = (
                (by_state[one].total, by_state[one].ready, by_state[one].failed) if one in by_state else (0, 0, 0)
            )
            counted[one] = Counts(total, ready, failed, total - ready - failed, written.get(one, 0), talk.get(one, 0))
        return counted

    def _conversations(self, principal: Principal, ids: Sequence[str]) -> sa.Select[str, int]:
        each, among = each_of(conversations.c.notebooks, self._db.sqlite)
        return (
            sa.select(among, sa.func.count(sa.distinct(conversations.c.id)))
            .select_from(conversations.join(each, sa.true()))
            .where(
                conversations.c.owner_id == principal.owner_id,
                conversations.c.deleted_at.is_(None),
                conversations.c.origin == "",
                among.in_(ids),
            )
            .group_by(among)
        )


def each_of(column: sa.ColumnElement[Any], sqlite: bool) -> tuple[sa.TableValuedAlias, sa.ColumnElement[str]]:
    """The strings of a JSON list as rows, and their column: to be joined with the column's own table."""
    function = sa.func.json_each if sqlite else sa.func.json_array_elements_text
    each = function(column).table_valued(sa.column("value", sa.String), name="each_one")
    return each, each.c.value


def _sources(ids: Sequence[str]) -> sa.Select[Any]:
    """A source that serves is ready, whatever becomes of a later reading; any other is what its newest reading is."""
    serves = sa.and_(generations.c.state == "ready", generations.c.index_spec_id == notebooks.c.index_spec_id)
    each = (
        sa.select(
            sources.c.notebook_id,
            sa.func.max(sa.case((serves, 1), else_=0)).label("serving"),
            sa.func.max(sa.case((generations.c.state != SUPERSEDED, generations.c.id))).label("newest"),
        )
        .join(notebooks, notebooks.c.id == sources.c.notebook_id)
        .outerjoin(generations, generations.c.source_id == sources.c.id)
        .where(sources.c.notebook_id.in_(ids), sources.c.deleted_at.is_(None))
        .group_by(sources.c.id, sources.c.notebook_id)
        .subquery()
    )
    newest = generations.alias()
    ready = sa.or_(each.c.serving == 1, newest.c.state == "ready")
    failed = sa.and_(each.c.serving == 0, newest.c.state == "failed")
    return (
        sa.select(
            each.c.notebook_id,
            sa.func.count().label("total"),
            sa.func.sum(sa.case((ready, 1), else_=0)).label("ready"),
            sa.func.sum(sa.case((failed, 1), else_=0)).label("failed"),
        )
        .select_from(each.outerjoin(newest, newest.c.id == each.c.newest))
        .group_by(each.c.notebook_id)
    )


def _notes(ids: Sequence[str]) -> sa.Select[str, int]:
    return (
        sa.select(notes.c.notebook_id, sa.func.count())
        .where(notes.c.notebook_id.in_(ids))
        .group_by(notes.c.notebook_id)
    )


async def _pairs(c: AsyncConnection, query: sa.Select[str, int]) -> list[tuple[str, int]]:
    return [(str(key), int(count)) for key, count in (await c.execute(query)).all()]

"""What a reindex asks of SQL about the sources of its notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sourcebook.database.tables import documents, generations, notebooks, sources
from sourcebook.generations import SUPERSEDED

if TYPE_CHECKING:
    from sourcebook.reindexing import Reindex

FINAL = ("ready", "failed")


def is_live(row: Reindex) -> sa.ColumnElement[bool]:
    """A generation under one of the two specs that is not on its way out."""
    both = generations.c.index_spec_id.in_((row.from_spec_id, row.to_spec_id))
    return sa.and_(both, generations.c.state != SUPERSEDED)


def missing(row: Reindex) -> sa.Select[Any]:
    """Sources without a generation under the new spec of the bytes that they have, best old generation first."""
    new, read = generations.alias("new"), documents.alias("read")
    has_new = (
        sa.exists()
        .where(new.c.source_id == sources.c.id, new.c.index_spec_id == row.to_spec_id, new.c.state != SUPERSEDED)
        .where(sa.or_(new.c.state != "ready", sa.exists().where(read.c.id == new.c.document_id, _same_bytes(read))))
    )
    return (
        sa.select(sources.c.id, notebooks.c.owner_id, generations.c.id, generations.c.state, documents.c.parser)
        .join(notebooks, notebooks.c.id == sources.c.notebook_id)
        .join(generations, generations.c.source_id == sources.c.id)
        .outerjoin(documents, documents.c.id == generations.c.document_id)
        .where(
            sources.c.notebook_id == row.notebook_id,
            sources.c.deleted_at.is_(None),
            generations.c.index_spec_id == row.from_spec_id,
            generations.c.state.in_(FINAL),
            ~has_new,
        )
        .order_by(sources.c.id, generations.c.state.desc(), generations.c.id.desc())
    )


def _same_bytes(read: Any) -> sa.ColumnElement[bool]:
    return sa.and_(read.c.source_id == sources.c.id, read.c.sha256 == sources.c.sha256)

"""A source as it is shown: its row, joined with the generation that serves, and a later one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import documents, generations, jobs, notebooks, sources
from sourcebook.generations import SUPERSEDED
from sourcebook.notebooks import visible_to_owner


@dataclass(frozen=True)
class Source:
    """A source with what its generations say of it.

    `state`: queued, parsing, chunking, embedding, indexing, ready or failed; `problem` says why it failed. A source
    that is being read again stays as it was; `pending` tells of the new generation: its state, problem and job.
    """

    id: str
    notebook_id: str
    parent_id: str | None
    name: str
    media_type: str
    url: str | None
    size: int
    sha256: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    blob_key: str
    state: str
    problem: Mapping[str, Any] | None
    passages: int
    generation_id: str | None
    document_id: str | None
    job_id: str | None
    progress: Mapping[str, Any]
    document: Mapping[str, Any] | None
    pending: Mapping[str, Any] | None = None


@cache  # to build it takes longer than to run it
def select_sources() -> sa.Select[Any]:
    """Sources joined with notebook, the generation that is shown, its document and job, and a later generation.

    Shown is the one that serves (ready under the notebook's index spec), else the newest.
    """
    ready, any_ = generations.alias(), generations.alias()
    serving = sa.select(sa.func.max(ready.c.id)).where(
        ready.c.source_id == sources.c.id,
        ready.c.state == "ready",
        ready.c.index_spec_id == notebooks.c.index_spec_id,
    )
    newest = sa.select(sa.func.max(any_.c.id)).where(any_.c.source_id == sources.c.id, any_.c.state != SUPERSEDED)
    later, later_job = generations.alias("later"), jobs.alias("later_job")
    shown = sa.func.coalesce(serving.scalar_subquery(), newest.scalar_subquery())
    ingest = sa.and_(jobs.c.generation_id == generations.c.id, jobs.c.kind == "ingest")
    behind = sa.and_(later.c.id == newest.scalar_subquery(), later.c.id > generations.c.id)
    behind_job = sa.and_(later_job.c.generation_id == later.c.id, later_job.c.kind == "ingest")
    return (
        sa.select(
            sources,
            notebooks.c.owner_id,
            notebooks.c.index_spec_id.label("pinned"),
            generations.c.id.label("generation_id"),
            generations.c.state,
            generations.c.problem,
            generations.c.passages,
            generations.c.document_id,
            jobs.c.id.label("job_id"),
            jobs.c.checkpoint,
            documents.c.length.label("document_length"),
            documents.c.metadata.label("document_metadata"),
            documents.c.warnings.label("document_warnings"),
            documents.c.parser.label("document_parser"),
            later.c.id.label("later_id"),
            later.c.state.label("later_state"),
            later.c.problem.label("later_problem"),
            later_job.c.id.label("later_job_id"),
        )
        .select_from(sources)
        .join(notebooks, notebooks.c.id == sources.c.notebook_id)
        .outerjoin(generations, generations.c.id == shown)
        .outerjoin(documents, documents.c.id == generations.c.document_id)
        .outerjoin(jobs, ingest)
        .outerjoin(later, behind)
        .outerjoin(later_job, behind_job)
        .where(sources.c.deleted_at.is_(None))
    )


FEW = 100
"""Of a list that is read at once."""

LAST = "z"
"""Sorts behind every id."""


@cache
def one_source(permission: str) -> Prepared:
    """The `source` of this id that the `owner` may read or write."""
    return Prepared(select_sources().where(sources.c.id == sa.bindparam("source"), visible_to_owner(permission)))


@cache
def newest_sources() -> Prepared:
    """The `most` newest of a `notebook` that the `owner` may read, `before` an id."""
    of = sources.c.notebook_id == sa.bindparam("notebook")
    query = select_sources().where(of, visible_to_owner(), sources.c.id < sa.bindparam("before"))
    return Prepared(query.order_by(sources.c.id.desc()).limit(sa.bindparam("most", type_=sa.Integer)))


def source_of(row: Any) -> Source:
    """A row of `select_sources`."""
    plain = {name: row[name] for name in Source.__dataclass_fields__ if name in row}
    document = pending = None
    if row["document_id"]:
        document = {
            "id": row["document_id"],
            "length": row["document_length"],
            "metadata": row["document_metadata"],
            "warnings": row["document_warnings"],
            "parser": row["document_parser"],
        }
    if row["later_id"]:
        pending = {"state": row["later_state"], "problem": row["later_problem"], "job_id": row["later_job_id"]}
    progress = (row["checkpoint"] or {}).get("progress", {})
    return Source(**plain, progress=progress, document=document, pending=pending)

"""What an ingest job is about: its source, the notebook, the pipeline that serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import documents, generations, notebooks, passages, sources
from sourcebook.documents import SEGMENT, indexed_text
from sourcebook.errors import Lost
from sourcebook.filters import FieldType, FieldValue, source_fields
from sourcebook.ids import passage_id
from sourcebook.interfaces import Point, Scope, ScopedNotebook
from sourcebook.jail import Parsed
from sourcebook.jobs import Job
from sourcebook.notebooks import Notebook, notebook_of
from sourcebook.pipelines import Pipeline
from sourcebook.specs import Specs

_HELD = 16 * SEGMENT  # of a longer document the passages are read from the store again, batch by batch


@dataclass(frozen=True)
class Cut:
    """A document that this process has just cut: its passages as points. `short`: all of it is one segment."""

    points: tuple[Point, ...]
    short: bool

    async def batch(self, first: int, most: int) -> Sequence[Point]:
        """At most `most`, from the passage of this number on."""
        return self.points[first : first + most]


@dataclass(frozen=True)
class Task:
    """A job's subject, read once at its start.

    `half`: an earlier attempt left something of it half done. `parent`: sources were found inside it.
    """

    source: Mapping[str, Any]
    notebook: Notebook
    pipeline: Pipeline
    generation_id: str
    half: bool
    parent: bool

    @property
    def scope(self) -> Scope:
        """Only this notebook."""
        n = self.notebook
        return Scope((ScopedNotebook(n.id, n.owner_id, n.index_spec_id),))

    @property
    def stage(self) -> str:
        """What comes when all is stored."""
        return "embedding" if self.pipeline.embedder else "indexing"

    def cut(self, parsed: Parsed, filters: Mapping[str, FieldType]) -> Cut | None:
        """A document that is not very long, ready to be indexed."""
        if parsed.length > _HELD:
            return None
        text, language = "".join(s.text for s in parsed.segments), str(parsed.metadata.get("language", ""))
        fields = source_fields(filters, self.source, parsed.metadata)
        points = []
        for n, c in enumerate(parsed.chunks):
            indexed = indexed_text(c.context, text[c.start : c.end])
            points.append(self.point(passage_id(self.generation_id, n), indexed, language, fields))
        return Cut(tuple(points), short=len(parsed.segments) == 1)

    def point(self, passage: str, text: str, language: str, fields: Mapping[str, FieldValue]) -> Point:
        """A passage as an index takes it. `text`: what is embedded and indexed."""
        return Point(
            id=passage,
            owner_id=self.notebook.owner_id,
            notebook_id=self.notebook.id,
            index_spec_id=self.notebook.index_spec_id,
            source_id=str(self.source["id"]),
            generation_id=self.generation_id,
            text=text,
            language=language,
            fields=fields,
        )


async def task_of(database: Database, specs: Specs, job: Job) -> Task:
    """Raises `Lost` where the source is gone."""
    async with database.read(small=True) as c:
        found = (await c.execute(_SUBJECT, {"generation": job.generation_id})).first()
    if found is None:
        raise Lost(f"The source {job.source_id} is gone.")
    row = {column.name: value for column, value in zip(_OF_SOURCE, found, strict=False)}
    book = {column.name: value for column, value in zip(notebooks.c, found[len(_OF_SOURCE) :], strict=False)}
    notebook = replace(notebook_of(book), index_spec_id=row["index_spec_id"])
    # A reindex builds for the pipeline that the notebook will have.
    name = str(job.payload.get("pipeline", notebook.pipeline))
    pipeline = await specs.serving(name, notebook.index_spec_id)
    return Task(_with_new_bytes(row), notebook, pipeline, str(job.generation_id), bool(found.half), bool(found.parent))


# Built once: to build them takes longer than to run them.
_INSIDE = sources.alias()
_OF_SOURCE = (
    *sources.c,
    generations.c.index_spec_id,
    generations.c.blob_key.label("new_blob_key"),
    generations.c.content,
)
_SUBJECT = (
    sa.select(
        *_OF_SOURCE,
        *notebooks.c,  # some by the same names as the source's: these are told apart by their order
        sa.or_(
            sa.exists().where(passages.c.generation_id == generations.c.id),
            sa.exists().where(documents.c.source_id == sources.c.id, documents.c.complete.is_(False)),
        ).label("half"),
        sa.exists().where(_INSIDE.c.parent_id == sources.c.id, _INSIDE.c.deleted_at.is_(None)).label("parent"),
    )
    .join(generations, generations.c.source_id == sources.c.id)
    .join(notebooks, notebooks.c.id == sources.c.notebook_id)
    .where(generations.c.id == sa.bindparam("generation"), sources.c.deleted_at.is_(None))
)


def _with_new_bytes(row: Mapping[str, Any]) -> dict[str, Any]:
    """The source as this generation reads it: with the bytes that it brings, where it brings any."""
    values = dict(row)
    blob_key, content = values.pop("new_blob_key"), values.pop("content")
    if blob_key is not None:
        given = {name: content[name] for name in ("sha256", "size", "media_type") if content.get(name)}
        values |= {"blob_key": blob_key, "metadata": {**values["metadata"], **content.get("metadata", {})}, **given}
    return values

"""Passages that are stored, as points: of a document that is very long, or whose indexing goes on after a death."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import documents, generations
from sourcebook.filters import FieldType, source_fields
from sourcebook.interfaces import Point
from sourcebook.jobs import Job
from sourcebook.reading import Reading
from sourcebook.tasks import Task


class Stored:
    """Those of a job's generation, batch by batch."""

    def __init__(
        self, database: Database, reading: Reading, job: Job, task: Task, filters: Mapping[str, FieldType]
    ) -> None:
        self._db = database
        self._reading = reading
        self._generation = str(job.generation_id)
        self._task = task
        self._filters = filters
        self._metadata: Mapping[str, Any] | None = None

    async def batch(self, first: int, most: int) -> Sequence[Point]:
        """As `Cut.batch`."""
        if self._metadata is None:
            self._metadata = await self._of_document()
        language = str(self._metadata.get("language", ""))
        fields = source_fields(self._filters, self._task.source, self._metadata)
        batch = await self._reading.passages_of(self._generation, most, first - 1, placed=False)
        return [self._task.point(p.id, p.indexed, language, fields) for p in batch]

    async def _of_document(self) -> Mapping[str, Any]:
        """An index stems by its language."""
        of = sa.select(documents.c.metadata).join(generations, generations.c.document_id == documents.c.id)
        async with self._db.read(small=True) as c:
            metadata = (await c.execute(of.where(generations.c.id == self._generation))).scalar()
        return metadata or {}

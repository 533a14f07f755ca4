"""What a reindex will cost, told before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import documents, generations, sources
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipelines
from sourcebook.specs import Specs, changes


@dataclass(frozen=True)
class Estimate:
    """What a reindex will cost, from what is stored now; another parser or chunker may make more passages or fewer.

    `parsed` sources are read and cut again; the others keep their passages. `embedded` passages go to the embedder in
    at most `calls` calls, with about `characters` characters together. What the embedding cache holds is not asked for
    again, and not subtracted here.
    """

    sources: int
    passages: int
    parsed: int
    embedded: int
    calls: int
    characters: int


class Estimator:
    """Counts in SQL. `batch` is how many passages a job embeds at a time."""

    def __init__(self, database: Database, pipelines: Pipelines, specs: Specs, batch: int) -> None:
        self._db = database
        self._pipelines = pipelines
        self._specs = specs
        self._batch = batch

    async def of(self, notebook: Notebook, spec: Mapping[str, Any]) -> Estimate:
        """The cost for one notebook, from its ready generations."""
        pinned, today = await self._specs.get(notebook.index_spec_id), self._pipelines.parser_identities()
        differs = changes(pinned, spec)
        embedder = next(
            (
                p.embedder
                for p in self._pipelines
                if p.embedder and p.spec == {k: v for k, v in spec.items() if k != "read_with"}
            ),
            None,
        )
        batch = min(self._batch, embedder.max_batch if embedder else self._batch)
        g, d = generations.c, documents.c
        query = (
            sa.select(
                d.parser,
                sa.func.count(),
                sa.func.sum(g.passages),
                sa.func.sum(d.length),
                sa.func.sum((g.passages + batch - 1) // batch),
            )
            .join(generations, g.document_id == d.id)
            .join(sources, sources.c.id == g.source_id)
            .where(
                sources.c.notebook_id == notebook.id,
                sources.c.deleted_at.is_(None),
                g.index_spec_id == notebook.index_spec_id,
                g.state == "ready",
            )
            .group_by(d.parser)
        )
        async with self._db.read() as c:
            rows = (await c.execute(query)).all()
        total = Estimate(0, 0, 0, 0, 0, 0)
        for parser, count, cut, length, calls in rows:
            again = "chunker" in differs or "parsers" in differs or parser not in today
            paid = bool(spec.get("embedder")) and (again or "embedder" in differs)
            total = Estimate(
                total.sources + count,
                total.passages + cut,
                total.parsed + (count if again else 0),
                total.embedded + (cut if paid else 0),
                total.calls + (calls if paid else 0),
                total.characters + (length if paid else 0),
            )
        return total

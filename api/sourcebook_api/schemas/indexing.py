"""How a notebook is indexed, and its way to another index."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from sourcebook_api.schemas.common import Body, Plain, Shown, StoredProblem


class EstimateShown(Shown):
    """What a reindex will cost: `parsed` sources are read again, `embedded` passages take at most `calls` calls."""

    sources: int = 0
    passages: int = 0
    parsed: int = 0
    embedded: int = 0
    calls: int = 0
    characters: int = 0


class ReindexShown(Shown):
    """One reindex. `state`: building, switched, failed, cancelled, rolled_back or dropped; the job has its progress."""

    id: str
    notebook_id: str
    pipeline: str
    state: str
    job_id: str
    estimate: EstimateShown
    problem: StoredProblem | None
    created_at: datetime
    switched_at: datetime | None
    finished_at: datetime | None


class IndexingShown(Shown):
    """A notebook's standing. `changed` names what its pipeline does otherwise now: chunker, embedder, indexes, parsers.

    `dense` is false where vectors are stored that no configured embedder makes any more: words alone are searched.
    """

    notebook_id: str
    pipeline: str
    stale: bool
    changed: list[str]
    embedder: str
    dense: bool
    estimate: EstimateShown | None
    reindex: ReindexShown | None


class NewReindex(Body):
    """How to reindex; without anything, for the pipeline that the notebook has."""

    pipeline: Annotated[str, Field(max_length=100, description="Move to this pipeline at the switch."), Plain] = ""
    skip_failed: Annotated[
        bool, Field(description="Switch although sources that are ready now could not be built.")
    ] = False


class Dropping(Shown):
    """The job that removes what the last switch left."""

    job_id: str

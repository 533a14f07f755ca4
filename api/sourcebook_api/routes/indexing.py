"""A notebook's index: whether its pipeline moved on, and the way to another."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import Body, Response

from sourcebook.errors import InvalidInput
from sourcebook_api.access import Asking, Wired
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.indexing import Dropping, EstimateShown, IndexingShown, NewReindex, ReindexShown

router = api_router("notebooks")

_EXAMPLE = {"as configured": {"value": {}}, "another pipeline": {"value": {"pipeline": "default"}}}


@router.get("/notebooks/{notebook_id}/index", responses=problems(404))
async def get_notebook_index(asking: Asking, wired: Wired, notebook_id: str) -> IndexingShown:
    """Whether the notebook is stale, what has changed, what a reindex would cost, and how the last one stands."""
    notebook = await asking.notebook(notebook_id)
    standing = (await wired.specs.standing([notebook]))[notebook.id]
    last = await wired.reindexing.latest(notebook.id)
    estimate = None
    if standing.stale and "pipeline" not in standing.changed:
        estimate = EstimateShown.model_validate(await wired.reindexing.estimate(notebook))
    return IndexingShown(
        notebook_id=notebook.id,
        pipeline=notebook.pipeline,
        stale=standing.stale,
        changed=list(standing.changed),
        embedder=standing.embedder,
        dense=standing.dense,
        estimate=estimate,
        reindex=ReindexShown.model_validate(dataclasses.asdict(last)) if last else None,
    )


@router.post("/notebooks/{notebook_id}/reindex", status_code=202, responses=problems(404, 409, 422))
async def reindex_notebook(
    asking: Asking,
    wired: Wired,
    notebook_id: str,
    body: Annotated[NewReindex, Body(openapi_examples=_EXAMPLE)],
    response: Response,
) -> ReindexShown:
    """Build the notebook's index anew beside the old one, which answers until one transaction switches.

    Follow the job for its progress. What failed before is tried again; what is being built already is returned.
    """
    notebook = await asking.notebook(notebook_id, "write")
    known = sorted(p.name for p in wired.pipelines)
    if (body.pipeline or notebook.pipeline) not in known:
        raise InvalidInput(f"There is no such pipeline; there are: {', '.join(known)}.", code="no_such_pipeline")
    started = await wired.reindexing.start(
        asking.principal, notebook, pipeline=body.pipeline, skip_failed=body.skip_failed
    )
    response.headers["Location"] = f"/api/v1/jobs/{started.job_id}"
    return ReindexShown.model_validate(dataclasses.asdict(started))


@router.post("/notebooks/{notebook_id}/reindex/cancel", status_code=202, responses=problems(404, 409))
async def cancel_reindex(asking: Asking, wired: Wired, notebook_id: str) -> ReindexShown:
    """Stop building, and remove what was built. The old index goes on answering."""
    notebook = await asking.notebook(notebook_id, "write")
    found = await wired.reindexing.cancel(asking.principal, notebook)
    return ReindexShown.model_validate(dataclasses.asdict(found))


@router.post("/notebooks/{notebook_id}/reindex/rollback", status_code=202, responses=problems(404, 409))
async def roll_back_reindex(asking: Asking, wired: Wired, notebook_id: str, response: Response) -> ReindexShown:
    """Go back to the index before the last switch. Sources that came since are built under it first."""
    notebook = await asking.notebook(notebook_id, "write")
    found = await wired.reindexing.rollback(asking.principal, notebook)
    response.headers["Location"] = f"/api/v1/jobs/{found.job_id}"
    return ReindexShown.model_validate(dataclasses.asdict(found))


@router.post("/notebooks/{notebook_id}/reindex/drop", status_code=202, responses=problems(404, 409))
async def drop_replaced_index(asking: Asking, wired: Wired, notebook_id: str) -> Dropping:
    """Remove what the last switch replaced now, and not after `jobs.keep_replaced`: there is no rollback then."""
    notebook = await asking.notebook(notebook_id, "write")
    return Dropping(job_id=await wired.reindexing.drop(asking.principal, notebook))

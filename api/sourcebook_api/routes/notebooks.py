"""Notebooks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response

from sourcebook.errors import InvalidInput
from sourcebook.notebooks import Notebook
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import NOT_MODIFIED, api_router, problems
from sourcebook_api.preconditions import IfMatch, IfNoneMatch, versioned
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.library import NewNotebook, NotebookChanges, NotebookShown

router = api_router("notebooks")

_EXAMPLE = {"harbour": {"value": {"title": "Tolvane harbour", "pipeline": "default"}}}


@router.post("/notebooks", status_code=201, responses=problems(422))
async def create_notebook(
    asking: Asking, body: Annotated[NewNotebook, Body(openapi_examples=_EXAMPLE)], response: Response
) -> NotebookShown:
    """Make a notebook. Its pipeline decides how its sources are cut, indexed and answered from."""
    known = sorted(p.name for p in asking.book.pipelines)
    if body.pipeline not in known:
        raise InvalidInput(f"There is no such pipeline; there are: {', '.join(known)}.", code="no_such_pipeline")
    made = await asking.book.create_notebook(
        asking.principal,
        body.title,
        pipeline=body.pipeline,
        description=body.description,
        metadata=body.metadata,
    )
    response.headers["Location"] = f"/api/v1/notebooks/{made.id}"
    shown: NotebookShown = await _shown(asking, made, response)
    return shown


@router.get("/notebooks")
async def list_notebooks(asking: Asking, limit: Limit = 50, cursor: Cursor = None) -> Listing[NotebookShown]:
    """The notebooks that this key may read, newest first."""
    page = await asking.book.notebooks.listing(asking.principal, limit, cursor)
    with asking.book.wirings.used() as wiring:
        standings = await wiring.specs.standing(page.items)
    items = [NotebookShown.of(n, stale=standings[n.id].stale) for n in page.items]
    return Listing[NotebookShown](items=items, next_cursor=page.next_cursor)


@router.get("/notebooks/{notebook_id}", response_model=NotebookShown, responses={**NOT_MODIFIED, **problems(404)})
async def get_notebook(asking: Asking, notebook_id: str, response: Response, if_none_match: IfNoneMatch = None) -> Any:
    """One notebook, with its version as ETag."""
    return await _shown(asking, await asking.notebook(notebook_id), response, if_none_match)


@router.patch("/notebooks/{notebook_id}", responses=problems(404, 412, 428))
async def edit_notebook(
    asking: Asking,
    notebook_id: str,
    body: Annotated[NotebookChanges, Body(openapi_examples={"rename": {"value": {"title": "Tolvane"}}})],
    response: Response,
    if_match: IfMatch,
) -> NotebookShown:
    """Change title, description or metadata. With `If-Match`, only where nobody has edited it meanwhile."""
    notebook = await asking.notebook(notebook_id, "write")
    version = if_match.against(notebook.version)
    changes = body.model_dump(exclude_none=True)
    if changes:
        notebook = await asking.book.notebooks.edit(asking.principal, notebook_id, changes, version)
    shown: NotebookShown = await _shown(asking, notebook, response)
    return shown


@router.delete("/notebooks/{notebook_id}", status_code=204, responses=problems(404))
async def delete_notebook(asking: Asking, notebook_id: str) -> None:
    """Delete a notebook with all its sources. They are invisible at once; what is stored is removed by jobs."""
    notebook = await asking.notebook(notebook_id, "write")
    await asking.book.sources.delete_notebook(asking.principal, notebook)


async def _shown(asking: Caller, notebook: Notebook, response: Response, if_none_match: str | None = None) -> Any:
    with asking.book.wirings.used() as wiring:
        standing = (await wiring.specs.standing([notebook]))[notebook.id]
    shown = NotebookShown.of(notebook, stale=standing.stale)
    return versioned(shown, notebook.version, response, if_none_match)

"""Notebooks."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Body, Query, Response

from sourcebook.accepting import once
from sourcebook.errors import InvalidInput
from sourcebook.notebooks import Notebook, Order
from sourcebook_api import bundled
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import NOT_MODIFIED, api_router, problems
from sourcebook_api.preconditions import IfMatch, IfNoneMatch, versioned
from sourcebook_api.schemas.common import Limit, Listing
from sourcebook_api.schemas.library import CountsShown, NewNotebook, NotebookChanges, NotebookShown

router = api_router("notebooks")

NotebookCursor = Annotated[
    str | None,
    Query(
        pattern=r"^(?:[0-9a-f]{1,14}\.)?nb_[0-9a-z]{26}$",
        description="`next_cursor` of the page before, in the same order; without it, the first page.",
    ),
]
ListOrder = Annotated[Order, Query(description="`made`: newest first; `used`: last used first.")]
WithCounts = Annotated[bool, Query(description="Also count what lies in each.")]
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


@router.post("/notebooks/example", status_code=201)
async def create_example_notebook(asking: Asking, response: Response) -> NotebookShown:
    """Make a notebook of the two bundled documents, to try things with. Its `metadata` has questions to ask it."""
    metadata = {"example": True, "questions": bundled.questions()}
    made = await asking.book.create_notebook(
        asking.principal, bundled.TITLE, description=bundled.DESCRIPTION, metadata=metadata
    )
    for file in bundled.documents():
        await asking.book.sources.accept(made, file.name, once(await asyncio.to_thread(file.read_bytes)))
    response.headers["Location"] = f"/api/v1/notebooks/{made.id}"
    shown: NotebookShown = await _shown(asking, made, response)
    return shown


@router.get("/notebooks")
async def list_notebooks(
    asking: Asking,
    limit: Limit = 50,
    cursor: NotebookCursor = None,
    order: ListOrder = "made",
    counts: WithCounts = False,
) -> Listing[NotebookShown]:
    """The notebooks that this key may read. One that is used while the list is read goes to the front of `used`."""
    page = await asking.book.notebooks.listing(asking.principal, limit, cursor, order)
    with asking.book.wirings.used() as wiring:
        standings = await wiring.specs.standing(page.items)
    counted = await asking.counts(page.items) if counts else {}
    items = [NotebookShown.of(n, stale=standings[n.id].stale, counts=counted.get(n.id)) for n in page.items]
    return Listing[NotebookShown](items=items, next_cursor=page.next_cursor)


@router.get("/notebooks/{notebook_id}", response_model=NotebookShown, responses={**NOT_MODIFIED, **problems(404)})
async def get_notebook(
    asking: Asking,
    notebook_id: str,
    response: Response,
    if_none_match: IfNoneMatch = None,
    counts: WithCounts = False,
) -> Any:
    """One notebook, with its version as ETag: of what can be edited, so that `counts` are always told anew."""
    notebook = await asking.notebook(notebook_id)
    if not counts:
        return await _shown(asking, notebook, response, if_none_match)
    shown = await _shown(asking, notebook, response)
    counted = await asking.counts([notebook])
    return shown.model_copy(update={"counts": CountsShown.model_validate(counted[notebook.id])})


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

"""Notebooks."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Body, Header, Response

from sourcebook.errors import Conflict, InvalidInput
from sourcebook.notebooks import Notebook
from sourcebook_api.access import Asking
from sourcebook_api.openapi import problems
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.library import NewNotebook, NotebookChanges, NotebookShown

router = APIRouter(tags=["notebooks"])

IfMatch = Annotated[str | None, Header(max_length=100, description="The ETag that this edit is based on.")]
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
    return _shown(made, response)


@router.get("/notebooks")
async def list_notebooks(asking: Asking, limit: Limit = 50, cursor: Cursor = None) -> Listing[NotebookShown]:
    """The notebooks that this key may read, newest first."""
    page = await asking.book.notebooks.listing(asking.principal, limit, cursor)
    return Listing[NotebookShown].model_validate(page)


@router.get("/notebooks/{notebook_id}", responses=problems(404))
async def get_notebook(asking: Asking, notebook_id: str, response: Response) -> NotebookShown:
    """One notebook, with its version as ETag."""
    return _shown(await asking.notebook(notebook_id), response)


@router.patch("/notebooks/{notebook_id}", responses=problems(404, 412))
async def edit_notebook(
    asking: Asking,
    notebook_id: str,
    body: Annotated[NotebookChanges, Body(openapi_examples={"rename": {"value": {"title": "Tolvane"}}})],
    response: Response,
    if_match: IfMatch = None,
) -> NotebookShown:
    """Change title, description or metadata. With `If-Match`, only where nobody has edited it meanwhile."""
    notebook = await asking.notebook(notebook_id, "write")
    version = version_of(if_match, "notebook")
    changes = body.model_dump(exclude_none=True)
    if not changes and version in (None, notebook.version):
        return _shown(notebook, response)
    return _shown(await asking.book.notebooks.edit(asking.principal, notebook_id, changes, version), response)


@router.delete("/notebooks/{notebook_id}", status_code=204, responses=problems(404))
async def delete_notebook(asking: Asking, notebook_id: str) -> None:
    """Delete a notebook with all its sources. They are invisible at once; what is stored is removed by jobs."""
    notebook = await asking.notebook(notebook_id, "write")
    await asking.book.sources.delete_notebook(asking.principal, notebook)


def _shown(notebook: Notebook, response: Response) -> NotebookShown:
    response.headers["ETag"] = f'"v{notebook.version}"'
    return NotebookShown.model_validate(notebook)


def version_of(if_match: str | None, what: str) -> int | None:
    """The version that an `If-Match` names; None for none and for `*`. Raises `Conflict` for one that never was."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = re.fullmatch(r'"v(\d{1,9})"', if_match.strip())
    if match is None:
        raise Conflict(f"The If-Match header is no ETag of this {what}.", code="edited_meanwhile")
    return int(match[1])

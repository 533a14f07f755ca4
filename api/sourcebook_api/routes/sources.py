"""Sources: listing, deleting, and their original bytes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Response

from sourcebook.sources import Source
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.preconditions import IfMatch, etag
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.library import Deleting, Password, ReadAgain, SourceChanges, SourceShown

router = api_router("sources")

_CHANGED = {"tags": {"value": {"tags": ["harbour", "2026"], "metadata": {"year": 2026}}}}
_SAME: dict[int | str, dict[str, Any]] = {200: {"model": ReadAgain, "description": "The bytes are the same."}}


@router.get("/notebooks/{notebook_id}/sources", responses=problems(404))
async def list_sources(
    asking: Asking, notebook_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Listing[SourceShown]:
    """A notebook's sources, newest first."""
    notebook = await asking.notebook(notebook_id)
    page = await asking.book.sources.listing(asking.principal, notebook.id, limit, cursor)
    return Listing[SourceShown].model_validate(page)


@router.get("/sources/{source_id}", responses=problems(404))
async def get_source(asking: Asking, source_id: str, response: Response) -> SourceShown:
    """One source, with how far its ingestion is. The ETag is of what can be edited."""
    return _shown(await asking.source(source_id), response)


@router.patch("/sources/{source_id}", responses=problems(404, 412, 428))
async def edit_source(
    asking: Asking,
    source_id: str,
    body: Annotated[SourceChanges, Body(openapi_examples=_CHANGED)],
    response: Response,
    if_match: IfMatch,
) -> SourceShown:
    """Change name, tags or metadata. Filters find the new values once the source is indexed again (`pending`)."""
    source = await asking.source(source_id, "write")
    version = if_match.against(source.version)
    changes = body.model_dump(exclude_none=True)
    if changes:
        source = await asking.book.sources.edit(asking.principal, source_id, changes, version)
    return _shown(source, response)


def _shown(source: Source, response: Response) -> SourceShown:
    response.headers["ETag"] = etag(source.version)
    return SourceShown.model_validate(source)


@router.delete("/sources/{source_id}", status_code=202, responses=problems(404))
async def delete_source(asking: Asking, source_id: str) -> Deleting:
    """Delete a source and what came out of it. It is invisible at once; the job removes the rest."""
    source = await asking.source(source_id, "write")
    return Deleting(job_id=await asking.book.sources.delete(asking.principal, source.id))


@router.post("/sources/{source_id}/reparse", status_code=202, responses=problems(404))
async def reparse_source(
    asking: Asking,
    source_id: str,
    body: Annotated[Password | None, Body(openapi_examples={"plain": {"value": {}}})] = None,
) -> ReadAgain:
    """Read a source's file again, as after a parser's update, or with the password that it needs.

    What was read before serves until the new reading is ready, and stays where that fails.
    """
    source = await asking.source(source_id, "write")
    given = body.password.get_secret_value() if body is not None and body.password is not None else None
    job_id = await asking.book.sources.reparse(asking.principal, source.id, given)
    return await _read_again(asking, source_id, job_id)


@router.post("/sources/{source_id}/refresh", status_code=202, responses={**problems(404, 409, 422, 502), **_SAME})
async def refresh_source(asking: Asking, source_id: str, response: Response) -> ReadAgain:
    """Fetch the address that a source came from again. Changed bytes are read; unchanged ones change nothing."""
    source = await asking.source(source_id, "write")
    job_id = await asking.book.refresh(asking.principal, source.id)
    response.status_code = 202 if job_id is not None else 200
    return await _read_again(asking, source_id, job_id)


async def _read_again(asking: Caller, source_id: str, job_id: str | None) -> ReadAgain:
    source = SourceShown.model_validate(await asking.source(source_id))
    return ReadAgain(changed=job_id is not None, job_id=job_id, source=source)

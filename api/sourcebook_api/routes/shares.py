"""Sharing a notebook with other owners."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Path

from sourcebook.errors import NotFound
from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.library import NewShare, ShareShown

router = api_router("notebooks", "/notebooks/{notebook_id}/shares")

_EXAMPLE = {"read": {"value": {"permission": "read"}}}
OwnerName = Annotated[str, Path(min_length=1, max_length=200, description="The other owner's name.")]


@router.get("", responses=problems(404))
async def list_shares(
    asking: Asking, notebook_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Listing[ShareShown]:
    """With whom a notebook is shared, and for what. Its owner alone may ask."""
    notebook = await asking.own_notebook(notebook_id)
    found = await asking.book.notebooks.shares(asking.principal, notebook.id, limit, cursor)
    return Listing[ShareShown].model_validate(found)


@router.put("/{owner}", status_code=204, responses=problems(404))
async def share_notebook(
    asking: Asking, notebook_id: str, owner: OwnerName, body: Annotated[NewShare, Body(openapi_examples=_EXAMPLE)]
) -> None:
    """Let another owner read this notebook, or write into it too. It replaces what was shared with them before."""
    notebook = await asking.own_notebook(notebook_id)
    other = await asking.book.owners.find(owner)
    await asking.book.notebooks.share(asking.principal, notebook.id, other, body.permission)


@router.delete("/{owner}", status_code=204, responses=problems(404))
async def unshare_notebook(asking: Asking, notebook_id: str, owner: OwnerName) -> None:
    """Share it no longer: from now on it does not exist for them."""
    notebook = await asking.own_notebook(notebook_id)
    try:
        other = await asking.book.owners.find(owner)
    except NotFound:
        raise NotFound("The notebook is not shared with this owner.", code="not_shared") from None
    await asking.book.notebooks.unshare(asking.principal, notebook.id, other)

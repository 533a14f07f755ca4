"""Keys. An administrator's key is for the whole server: it makes and revokes the keys of every owner."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Body, Request

from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.system import KeyMade, KeyShown, NewKey

router = api_router("keys")

_EXAMPLE = {"reader": {"value": {"owner": "ada", "permissions": ["read"], "name": "dashboard"}}}


@router.get("/keys")
async def list_keys(asking: Asking, limit: Limit = 50, cursor: Cursor = None) -> Listing[KeyShown]:
    """Every key, oldest first, without the secrets."""
    return Listing[KeyShown].model_validate(await asking.book.owners.listing(limit, cursor))


@router.post("/keys", status_code=201)
async def create_key(
    asking: Asking, body: Annotated[NewKey, Body(openapi_examples=_EXAMPLE)], request: Request
) -> KeyMade:
    """Make a key. Its secret is in this answer and nowhere else. With the first key, every request needs one."""
    limits = body.limits.model_dump(exclude_none=True) if body.limits else None
    key, secret = await asking.book.owners.create_key(body.owner, body.permissions, body.name, body.expires_at, limits)
    request.app.state.authenticator.forget()
    return KeyMade.model_validate({**asdict(key), "secret": secret})


@router.delete("/keys/{key_id}", status_code=204, responses=problems(404))
async def revoke_key(asking: Asking, key_id: str, request: Request) -> None:
    """Revoke a key: from now on it opens nothing."""
    await asking.book.owners.revoke(key_id)
    request.app.state.authenticator.forget()

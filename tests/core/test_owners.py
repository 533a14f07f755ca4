"""Owners and their keys."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sourcebook.database.engine import now
from sourcebook.database.tables import keys
from sourcebook.errors import InvalidInput, NotFound, Unauthenticated

from .support import Room, both_stores, in_a_room

pytestmark = both_stores


@in_a_room()
async def test_an_owner_is_made_once(room: Room) -> None:
    owners = room.book.owners
    assert await owners.ensure("ann") == await owners.ensure("ann") != await owners.ensure("bob")
    for bad in ("", "  ", "x" * 201):
        with pytest.raises(InvalidInput):
            await owners.ensure(bad)


@in_a_room()
async def test_a_key_stands_for_its_owner_and_has_only_what_it_was_given(room: Room) -> None:
    key, secret = await room.book.owners.create_key("ann", (p for p in ("write", "read")))
    principal = await room.book.owners.authenticate(secret)
    assert (principal.name, principal.owner_id, principal.key_id) == ("ann", key.owner_id, key.id)
    assert key.permissions == ("read", "write")
    assert [principal.may(p) for p in ("read", "write", "admin")] == [True, True, False]


@in_a_room()
async def test_the_secret_is_stored_nowhere(room: Room) -> None:
    _, secret = await room.book.owners.create_key("ann", ["read"])
    assert len(secret) >= 43
    assert secret not in str(await room.rows(keys))
    assert secret.removeprefix("sbk_") not in str(await room.book.owners.list_keys())


@in_a_room()
async def test_an_unknown_a_revoked_and_an_expired_key_are_not_told_apart(room: Room) -> None:
    owners = room.book.owners
    revoked, revoked_secret = await owners.create_key("ann", ["read"])
    await owners.revoke(revoked.id)
    _, expired_secret = await owners.create_key("ann", ["read"], expires_at=now() - timedelta(seconds=1))
    said = set()
    for secret in ("sbk_nothing", "", "ü", revoked_secret, expired_secret):
        with pytest.raises(Unauthenticated) as caught:
            await owners.authenticate(secret)
        said.add(str(caught.value.problem()))
    assert len(said) == 1


@in_a_room()
async def test_a_key_is_revoked_once(room: Room) -> None:
    key, _ = await room.book.owners.create_key("ann", ["read"])
    assert await room.book.owners.any_keys()
    await room.book.owners.revoke(key.id)
    assert not await room.book.owners.any_keys()
    for key_id in (key.id, "key_none"):
        with pytest.raises(NotFound):
            await room.book.owners.revoke(key_id)
    assert [k.revoked_at is not None for k in await room.book.owners.list_keys()] == [True]


@in_a_room()
async def test_a_key_needs_known_permissions(room: Room) -> None:
    for permissions in ([], ["root"], ["read", "root"]):
        with pytest.raises(InvalidInput):
            await room.book.owners.create_key("ann", permissions)
    assert not await room.book.owners.any_keys()

"""Embeddings are paid for once, and an embedder's promise is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sourcebook.database.tables import embedding_cache
from sourcebook.embeddings import Embeddings, embed
from sourcebook.errors import EmbedderError, PluginError

from .support import Room, both_stores, in_a_room

pytestmark = both_stores


@in_a_room()
async def test_a_text_is_embedded_once_per_owner_and_identity(room: Room) -> None:
    cached, embedder, me = Embeddings(room.book.database), room.embedder, room.me.owner_id
    first = await cached.passages(embedder, me, ["a", "b", "a", "c", "d"])
    assert embedder.batches == [3, 1]  # in batches that it takes, the repeated one once
    again = await cached.passages(embedder, me, ["d", "a", "e"])
    assert embedder.texts == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}
    assert np.array_equal(again["letters"][1], first["letters"][0])
    assert first["letters"].shape == (5, 26)
    assert [row.argmax() for row in first["letters"]] == [0, 1, 0, 2, 3]  # in the order of the texts

    bob = (await room.principal("bob")).owner_id
    await cached.passages(embedder, bob, ["a"])
    embedder.identity = "letters/2"
    await cached.passages(embedder, me, ["a"])
    assert embedder.texts["a"] == 3


@in_a_room()
async def test_the_exact_string_is_the_key(room: Room) -> None:
    await Embeddings(room.book.database).passages(room.embedder, room.me.owner_id, ["a", "a ", "A"])
    assert len(room.embedder.texts) == 3


@in_a_room()
async def test_what_a_failing_batch_follows_is_kept(room: Room) -> None:
    cached, embedder = Embeddings(room.book.database), room.embedder
    real = embedder.embed

    async def failing(texts: Sequence[str], kind: str) -> Any:
        if "d" in texts:
            raise EmbedderError("It is down.")
        return await real(texts, kind)

    embedder.embed = failing  # type: ignore[method-assign]
    with pytest.raises(EmbedderError):
        await cached.passages(embedder, room.me.owner_id, ["a", "b", "c", "d"])
    embedder.embed = real  # type: ignore[method-assign]
    await cached.passages(embedder, room.me.owner_id, ["a", "b", "c", "d"])
    assert embedder.texts == {"a": 1, "b": 1, "c": 1, "d": 1}


@in_a_room()
async def test_forgetting_texts_leaves_other_owners_theirs(room: Room) -> None:
    cached, bob = Embeddings(room.book.database), (await room.principal("bob")).owner_id
    for owner in (room.me.owner_id, bob):
        await cached.passages(room.embedder, owner, ["a", "b"])
    async with room.book.database.write() as c:
        await cached.forget(c, room.me.owner_id, ["a"])
    assert sorted((row["owner_id"] == bob, row["kind"]) for row in await room.rows(embedding_cache)) == [
        (False, "passage"),
        (True, "passage"),
        (True, "passage"),
    ]


@in_a_room()
async def test_no_texts_cost_nothing(room: Room) -> None:
    found = await Embeddings(room.book.database).passages(room.embedder, room.me.owner_id, [])
    assert found["letters"].shape == (0, 26)
    assert room.embedder.batches == []


@in_a_room()
async def test_vectors_of_another_shape_are_the_embedders_fault(room: Room) -> None:
    given: dict[str, Any] = {}

    async def wrong(*_: Any) -> Any:
        return given

    room.embedder.embed = wrong  # type: ignore[method-assign, assignment]
    shapes = [((1, 26), "float32"), ((2, 25), "float32"), ((2, 26), "float64"), ((52,), "float32")]
    for vectors in ({}, *({"letters": np.zeros(shape, kind)} for shape, kind in shapes)):
        given = vectors
        with pytest.raises(PluginError, match=r"The embedder letters returned .* not float32 of \(2, 26\)"):
            await embed(room.embedder, ["a", "b"], "query")

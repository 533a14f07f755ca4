"""Embeddings that are paid for once: cached by owner, identity, kind and the SHA-256 of the exact string."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.tables import embedding_cache as cache
from sourcebook.errors import PluginError
from sourcebook.failpoints import failpoint
from sourcebook.gathering import Gathering
from sourcebook.interfaces import Embedder, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sourcebook.interfaces import Vectors


_ROWS = 500  # in one transaction
_LOOK = 200  # batches between two looks at how many rows there are


class Embeddings:
    """Calls embedders, in batches that they take, through the cache in SQL, which keeps about `most` rows."""

    def __init__(self, database: Database, most: int = 1_000_000) -> None:
        self._db = database
        self._calls: dict[int, Gathering[list[str], Vectors]] = {}
        self._most = most
        self._kept = 0

    async def passages(self, embedder: Embedder[Any], owner_id: str, texts: Sequence[str]) -> Vectors:
        """float32[len(texts), dimensions] for every space. What was embedded before, also by a crash, is not again."""
        hashes = _hashes(texts)
        known = await self._known(embedder, owner_id, hashes)
        missing = {h: text for h, text in zip(hashes, texts, strict=True) if h not in known}
        items = list(missing.items())
        for first in range(0, len(items), embedder.max_batch):
            batch = items[first : first + embedder.max_batch]
            vectors = await self._together(embedder, [text for _, text in batch])
            await failpoint("embed.embedded")
            fresh = {h: {s: v[i].tobytes() for s, v in vectors.items()} for i, (h, _) in enumerate(batch)}
            await self._keep(embedder, owner_id, fresh)
            await failpoint("embed.cached")
            known |= fresh
        return {space.name: _stack([known[h][space.name] for h in hashes], space) for space in embedder.spaces}

    async def _together(self, embedder: Embedder[Any], texts: list[str]) -> Vectors:
        """The vectors of these texts, from a call that other documents may share."""
        if id(embedder) not in self._calls:

            async def call(waiting: Sequence[list[str]]) -> Sequence[Vectors]:
                vectors = await embed(embedder, [text for texts in waiting for text in texts], "passage")
                if len(waiting) == 1:
                    return [vectors]
                ends = list(accumulate(len(texts) for texts in waiting))
                cuts = zip([0, *ends], ends, strict=False)
                return [{name: rows[a:b] for name, rows in vectors.items()} for a, b in cuts]

            self._calls[id(embedder)] = Gathering(call, embedder.max_batch, len)
        return await self._calls[id(embedder)].submit(texts)

    async def forget(self, c: AsyncConnection, owner_id: str, texts: Sequence[str]) -> None:
        """Drop what is kept of these texts, by whatever embedder, within the caller's transaction."""
        of = sa.and_(cache.c.owner_id == owner_id, cache.c.sha256.in_(set(_hashes(texts))))
        await c.execute(cache.delete().where(of))

    async def _known(
        self, embedder: Embedder[Any], owner_id: str, hashes: Sequence[str]
    ) -> dict[str, dict[str, bytes]]:
        query = sa.select(cache.c.sha256, cache.c.space, cache.c.vector).where(
            cache.c.owner_id == owner_id,
            cache.c.identity == embedder.identity,
            cache.c.kind == "passage",
            cache.c.sha256.in_(set(hashes)),
        )
        found: dict[str, dict[str, bytes]] = {}
        async with self._db.read() as c:
            for sha256, space, vector in (await c.execute(query)).all():
                found.setdefault(sha256, {})[space] = vector
        # A model that was replaced under the same identity may have left vectors of another size.
        sizes = {space.name: 4 * space.dimensions for space in embedder.spaces}
        return {
            h: vectors for h, vectors in found.items() if all(len(vectors.get(s, b"")) == n for s, n in sizes.items())
        }

    async def _keep(self, embedder: Embedder[Any], owner_id: str, fresh: dict[str, dict[str, bytes]]) -> None:
        stamp = {"owner_id": owner_id, "identity": embedder.identity, "kind": "passage", "created_at": now()}
        rows = [
            {**stamp, "sha256": h, "space": space, "vector": vector}
            for h, spaces in fresh.items()
            for space, vector in spaces.items()
        ]
        stale = sa.and_(
            cache.c.owner_id == owner_id,
            cache.c.identity == embedder.identity,
            cache.c.kind == "passage",
            cache.c.sha256.in_(fresh),
            sa.or_(
                *(
                    sa.and_(cache.c.space == s.name, sa.func.length(cache.c.vector) != 4 * s.dimensions)
                    for s in embedder.spaces
                )
            ),
        )
        async with self._db.write() as c:
            await c.execute(cache.delete().where(stale))
            await c.execute(self._db.insert_or_ignore(cache), rows)
        self._kept += 1
        if self._kept % _LOOK == 1:
            await self.prune()

    async def prune(self) -> int:
        """Drop the oldest rows over the limit, and a twentieth more, so that it is not full again at once. How many.

        A crash that comes now pays again for at most what was dropped: nothing is lost but time.
        """
        dropped = 0
        async with self._db.read() as c:
            over = int((await c.execute(sa.select(sa.func.count()).select_from(cache))).scalar_one()) - self._most
        over = over + self._most // 20 if over > 0 else 0
        key = [cache.c[name] for name in ("owner_id", "identity", "kind", "sha256", "space")]
        while dropped < over:
            oldest = sa.select(*key).order_by(cache.c.created_at).limit(min(over - dropped, _ROWS))
            async with self._db.write() as c:
                done = await c.execute(cache.delete().where(sa.tuple_(*key).in_(oldest)))
            if not done.rowcount:
                break
            dropped += done.rowcount
        return dropped


def _hashes(texts: Sequence[str]) -> list[str]:
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


async def embed(embedder: Embedder[Any], texts: Sequence[str], kind: Literal["passage", "query"]) -> Vectors:
    """One call, with its promise checked. Raises `PluginError` naming the embedder where the shape is wrong."""
    vectors = await embedder.embed(texts, kind)
    for space in embedder.spaces:
        got = vectors.get(space.name)
        shape = None if got is None else tuple(got.shape)
        if shape != (len(texts), space.dimensions) or str(got.dtype if got is not None else "") != "float32":
            raise PluginError(
                f"The embedder {embedder.instance} returned {shape} for the space {space.name!r}, "
                f"not float32 of ({len(texts)}, {space.dimensions})."
            )
    return vectors


def _stack(rows: Sequence[bytes], space: Space) -> NDArray[np.float32]:
    import numpy as np

    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), space.dimensions)


async def import_numpy() -> None:
    """Pay numpy's import (a tenth of a second) in a thread, before the first vector needs it."""
    await asyncio.to_thread(__import__, "numpy")

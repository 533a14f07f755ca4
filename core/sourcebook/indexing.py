"""Points into indexes, those of several documents in one call: a text file of one passage is one call no more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sourcebook.errors import StoreError
from sourcebook.gathering import Gathering
from sourcebook.interfaces import Index, Point, Scope

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors

_POINTS = 64
_LONGEST_REST = 0.25  # seconds between two flushes


@dataclass(frozen=True)
class Batch:
    """Some points of one document."""

    scope: Scope
    points: Sequence[Point]
    vectors: Vectors | None

    @property
    def spaces(self) -> tuple[str, ...]:
        """What is stored of each point: only the same can go together."""
        return tuple(sorted(self.vectors or ()))


class _Rest:
    """What an index does beside flushing gets as much time as that: many documents then share one flush.

    A flush that comes after a pause waits for nothing.
    """

    def __init__(self) -> None:
        self._until = 0.0

    @contextmanager
    def after(self) -> Iterator[None]:
        """From the end of this on, for as long as it took."""
        begun = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._until = ended + min(ended - begun, _LONGEST_REST)

    def left(self) -> float:
        """Seconds."""
        return self._until - time.monotonic()


class Indexing:
    """Upserts and flushes, for all jobs of this process."""

    def __init__(self) -> None:
        self._upserts: dict[int, Gathering[Batch, None]] = {}
        self._flushes: dict[int, Gathering[None, None]] = {}

    async def upsert(self, index: Index[Any], batch: Batch) -> None:
        """As `Index.upsert`; several batches may share one call."""
        if id(index) not in self._upserts:

            async def upsert(batches: Sequence[Batch]) -> Sequence[None]:
                for together in _alike(batches):
                    await index.upsert(*_joined(together))
                return [None] * len(batches)

            self._upserts[id(index)] = Gathering(upsert, _POINTS, lambda b: len(b.points))
        await self._upserts[id(index)].submit(batch)

    async def flush(self, index: Index[Any]) -> None:
        """As `Index.flush`: one that begins after this was called."""
        if id(index) not in self._flushes:
            rest = _Rest()

            async def flush(waiting: Sequence[None]) -> Sequence[None]:
                with rest.after():
                    await index.flush()
                return [None] * len(waiting)

            self._flushes[id(index)] = Gathering(flush, 1 << 30, pause=rest.left)
        await self._flushes[id(index)].submit(None)


async def remove_points(
    indexes: Iterable[Index[Any]], scope: Scope, source_id: str, generation_id: str | None = None
) -> int:
    """Remove a source's points, or those of one generation, from every index; how many there were.

    Raises `StoreError` (code `index_not_emptied`) where an index still holds some.
    """
    removed = 0
    for index in indexes:
        removed += await index.count(scope, source_id, generation_id)
        await index.delete(scope, source_id, generation_id)
        await check_emptied(index, scope, source_id, generation_id)
    return removed


async def check_emptied(
    index: Index[Any], scope: Scope, source_id: str | None = None, generation_id: str | None = None
) -> None:
    """Raises `StoreError` (code `index_not_emptied`) where the index holds points of these."""
    if left := await index.count(scope, source_id, generation_id):
        raise StoreError(f"The index {index.instance} still holds {left} points.", code="index_not_emptied")


def _alike(batches: Sequence[Batch]) -> list[list[Batch]]:
    found: dict[tuple[str, ...], list[Batch]] = {}
    for batch in batches:
        found.setdefault(batch.spaces, []).append(batch)
    return list(found.values())


def _joined(batches: Sequence[Batch]) -> tuple[Scope, list[Point], Vectors | None]:
    if len(batches) == 1:
        return batches[0].scope, list(batches[0].points), batches[0].vectors
    scope = Scope(tuple(dict.fromkeys(n for b in batches for n in b.scope.notebooks)))
    points = [point for b in batches for point in b.points]
    if not batches[0].spaces:
        return scope, points, None
    import numpy as np

    vectors = {name: np.concatenate([(b.vectors or {})[name] for b in batches]) for name in batches[0].spaces}
    return scope, points, vectors

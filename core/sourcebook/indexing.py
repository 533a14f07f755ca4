"""Points into indexes, those of several documents in one call: a text file of one passage is one call no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sourcebook.errors import StoreError
from sourcebook.gathering import Gathering
from sourcebook.interfaces import Index, Point, Scope

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors

_POINTS = 64
_REST, _LONGEST_REST = 4, 0.25  # times what a flush took, and seconds at most, until the next


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
    """After a flush an index has time for other work, and what comes meanwhile shares the next one.

    Only while that is longer in coming than what waits: `begun` says how many jobs are being done here.
    """

    def __init__(self, begun: Callable[[], int]) -> None:
        self._begun = begun
        self._until = 0.0

    @contextmanager
    def after(self) -> Iterator[None]:
        """From the end of this on, for some times as long as it took."""
        begun = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self._until = ended + min(_REST * (ended - begun), _LONGEST_REST)

    def goes_on(self, waiting: int) -> bool:
        """Whether it does, where so many jobs wait for the next flush."""
        return waiting < self._begun() and time.monotonic() < self._until


class Indexing:
    """Upserts and flushes, for all jobs of this process. `begun` says how many are being done."""

    def __init__(self, begun: Callable[[], int] = lambda: 0) -> None:
        self._begun = begun
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
            rest = _Rest(self._begun)

            async def flush(waiting: Sequence[None]) -> Sequence[None]:
                with rest.after():
                    await index.flush()
                return [None] * len(waiting)

            self._flushes[id(index)] = Gathering(flush, 1 << 30, hold=rest.goes_on)
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

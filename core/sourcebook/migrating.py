"""Moves an index to another of its class, as from the embedded Qdrant to a server, while the old one answers.

Passes are made until one finds nothing to do: what is written meanwhile is found by the next. Then the two are compared
by their counts and by a sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sourcebook.errors import Conflict, StoreError
from sourcebook.interfaces import Index

PASSES = 5
SAMPLE = 200
_CLOSE = 1e-4
"""How much a number of a vector may differ: it is normalised once more on the way."""


@dataclass(frozen=True)
class Migrated:
    """What a migration did: points in the new index, how many were written and removed, and the size of the sample."""

    points: int
    written: int
    removed: int
    passes: int
    sampled: int


async def migrate(source: Index[Any], target: Index[Any], report: Callable[[int], None] = lambda _: None) -> Migrated:
    """Make `target` hold exactly what `source` does. `report` is told how many points were looked at.

    May be repeated, also after it was killed: what is there already is not sent again. Raises `Conflict` (code
    `index_changing`) where the source changes faster than it is copied, and `StoreError` (code `migration_differs`).
    """
    await target.ensure(await source.held_spaces())
    written = removed = 0
    for number in range(1, PASSES + 1):
        fresh, gone, ids = await _pass(source, target, report)
        written, removed = written + fresh, removed + gone
        if not fresh and not gone:
            await target.flush()
            sampled = await _compare(source, target, ids)
            return Migrated(len(ids), written, removed, number, sampled)
    raise Conflict(
        "The index changes faster than it is copied.",
        code="index_changing",
        remedy="Stop what ingests (`serve --job-workers 0` goes on answering), and run this again: "
        "it goes on from here.",
    )


async def _pass(source: Index[Any], target: Index[Any], report: Callable[[int], None]) -> tuple[int, int, list[str]]:
    held = {p.id: _digest(p.payload) async for page in target.dump(vectors=False) for p in page}
    seen: list[str] = []
    written = 0
    async for page in source.dump():
        wanted = [p for p in page if held.get(p.id) != _digest(p.payload)]
        if wanted:
            await target.restore(wanted)
        written += len(wanted)
        seen += [p.id for p in page]
        report(len(seen))
    extra = list(held.keys() - set(seen))
    for first in range(0, len(extra), SAMPLE):
        await target.remove(extra[first : first + SAMPLE])
    return written, len(extra), seen


async def _compare(source: Index[Any], target: Index[Any], ids: list[str]) -> int:
    """Counts, and a sample with its vectors."""
    have = sum([len(page) async for page in target.dump(vectors=False)])
    if have != len(ids):
        raise StoreError(f"The new index holds {have} points, the old one {len(ids)}.", code="migration_differs")
    chosen = random.sample(ids, min(SAMPLE, len(ids)))
    old = {p.id: p async for page in source.dump(chosen) for p in page}
    new = {p.id: p async for page in target.dump(chosen) for p in page}
    for point_id in chosen:
        a, b = old.get(point_id), new.get(point_id)
        if a is not None and (b is None or a.payload != b.payload or not _alike(a.data, b.data)):
            raise StoreError(f"The point {point_id} differs in the new index.", code="migration_differs")
    return len(chosen)


def _digest(payload: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(payload), option=orjson.OPT_SORT_KEYS)


def _alike(a: Any, b: Any) -> bool:
    """The same JSON, but for the last digits of numbers."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, float | int) and isinstance(b, float | int):
        return abs(a - b) <= _CLOSE * max(1.0, abs(a))
    return bool(a == b)

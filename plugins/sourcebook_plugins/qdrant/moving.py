"""Points as they move between two Qdrants: JSON, with every vector as a list of numbers.

A point is `[id, payload, dense, sparse]`: `dense` maps a vector's name to its numbers, `sparse` is `[indices, values]`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sourcebook_plugins.qdrant.layout import SPARSE

PAGE = 128


def packed(record: Any, *, vectors: bool) -> list[Any]:
    """A record of Edge or of the client: both have `id`, `payload` and `vector`."""
    dense: dict[str, Any] = {}
    sparse: list[Any] = []
    for name, vector in ((record.vector or {}) if vectors else {}).items():
        if name == SPARSE:
            pairs = sorted(zip(vector.indices, vector.values, strict=True))
            sparse = [[i for i, _ in pairs], [v for _, v in pairs]]
        else:
            dense[name] = list(vector)
    return [str(record.id), record.payload or {}, dense, sparse]


def space_of(vector: str, distance: str) -> dict[str, Any]:
    """The space that a vector's name stands for: the other way round than `layout.vector_name`."""
    name, _, dimensions = vector.rpartition("@")
    return {"name": unquote(name), "dimensions": int(dimensions), "distance": distance}

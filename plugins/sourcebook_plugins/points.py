"""What every index of ours asks of the points and vectors that it is handed, before it stores or searches."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sourcebook.errors import PluginError
from sourcebook.interfaces import Point, ScopedNotebook

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors


def check_points(points: Sequence[Point], allowed: Container[ScopedNotebook]) -> None:
    """Raise `PluginError` for one outside the scope, or whose id is no UUID."""
    for point in points:
        if ScopedNotebook(point.notebook_id, point.owner_id, point.index_spec_id) not in allowed:
            raise PluginError(f"The point {point.id} lies outside the scope that it was to be stored in.")
        if not _is_uuid(point.id):
            raise PluginError(f"A point's id must be a UUID, in lower case and with hyphens; {point.id!r} is not.")


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def check_vectors(vectors: Vectors | None, expected: int | None) -> tuple[list[tuple[str, int]], list[Any]]:
    """Name and dimensions, and the float32 rows, of each space; `expected` rows, or equally many in all.

    Raises `PluginError` for another shape, and for a value that is not finite.
    """
    announced, rows = [], []
    for name, array in (vectors or {}).items():
        import numpy as np  # whoever made the vectors has loaded it already

        values = np.asarray(array, dtype=np.float32)
        expected = len(values) if expected is None and values.ndim else expected
        if values.ndim != 2 or len(values) != expected:
            raise PluginError(f"The space '{name}' needs {expected} rows of one vector each; it has {values.shape}.")
        if not np.isfinite(values).all():
            raise PluginError(f"A vector of the space '{name}' holds a value that is not a finite number.")
        announced.append((name, values.shape[1]))
        rows.append(values)
    return announced, rows

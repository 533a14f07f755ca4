"""Points, vectors and scopes that the contract of an index is tested with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_OID, uuid5

from sourcebook.interfaces import Context, Point, Scope, ScopedNotebook, Space

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors

SPACE = Space("contract", 4)
LEG = f"dense:{SPACE.name}"

MINE = ScopedNotebook("notebook-1", "owner-1", "spec-1")
NEIGHBOURS = (
    ScopedNotebook("notebook-2", "owner-1", "spec-1"),  # another notebook of the same owner
    ScopedNotebook("notebook-1", "owner-2", "spec-1"),  # another owner; ids alone must not be trusted
    ScopedNotebook("notebook-1", "owner-1", "spec-2"),  # the same notebook under another index spec
)
SCOPE = Scope((MINE,))


def context(folder: Path) -> Context:
    """What a component gets at `open`, for tests of components that make no requests: there is no `http` in it."""
    return Context(logging.getLogger("sourcebook.contract"), folder, cast(Any, None))


def point(
    number: int, text: str, notebook: ScopedNotebook = MINE, source: str = "source-1", generation: str = "generation-1"
) -> Point:
    """A point with a stable id."""
    point_id = str(uuid5(NAMESPACE_OID, f"{notebook}{source}{generation}{number}"))
    return Point(
        point_id, notebook.owner_id, notebook.notebook_id, notebook.index_spec_id, source, generation, text, "en"
    )


def vectors(*rows: Sequence[float]) -> Vectors:
    """Rows for the contract's space."""
    import numpy as np

    return {SPACE.name: np.array(rows, dtype=np.float32)}

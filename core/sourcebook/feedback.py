"""Pseudo-relevance feedback: what a search found best moves its question's vectors, and the dense legs are asked again.

Rocchio's rule on dense vectors (Li et al., "Pseudo Relevance Feedback with Deep Language Models and Dense Retrievers",
ACM TOIS 2023), with what lexical and dense legs found best together. Figures are in docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors

SPARE = 6
"""Hits more than are wanted that are looked at, since an index may be behind what SQL confirms."""

_WEIGHT = 0.5


def moved(vectors: Vectors, near: Mapping[str, Mapping[str, Sequence[float]]]) -> Vectors:
    """Each row of `vectors` on its way to the mean direction of `near` (space -> passage -> vector), at its own length.

    Spaces of which nothing is near are left out.
    """
    import numpy as np

    found = {}
    for space, rows in vectors.items():
        held = np.array([row for row in near.get(space, {}).values() if len(row) == rows.shape[1]], np.float32)
        lengths = np.linalg.norm(held, axis=1, keepdims=True) if held.size else held
        if not held.size or not lengths.all():
            continue
        towards = (held / lengths).mean(axis=0)
        own = np.linalg.norm(rows, axis=1, keepdims=True)
        found[space] = ((rows + _WEIGHT * own * towards) / (1 + _WEIGHT)).astype(np.float32)
    return found

"""Fuses ranked legs by reciprocal rank.

Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009: score = sum over legs of weight / (k + rank), with k = 60.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sourcebook.interfaces import Hit


@dataclass(frozen=True)
class Fused:
    """`score` lies in 0 to 1: 1 is first in every leg. `scores` has each leg's own score, for explaining."""

    passage_id: str
    score: float
    scores: Mapping[str, float]


def fuse(legs: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], k: int = 60) -> list[Fused]:
    """Best first; ties by id, so that the order is stable. A leg without a weight has 1, and 0 switches it off."""
    totals: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    best = 0.0
    for leg, hits in legs.items():
        weight = _weight(leg, weights)
        if not hits or weight <= 0:
            continue
        best += weight / (k + 1)
        once: dict[str, Hit] = {}  # a passage that is twice in a leg counts where it stands first
        for hit in hits:
            once.setdefault(hit.passage_id, hit)
        for rank, hit in enumerate(once.values(), start=1):
            totals[hit.passage_id] = totals.get(hit.passage_id, 0.0) + weight / (k + rank)
            scores.setdefault(hit.passage_id, {})[leg] = hit.score
    ordered = sorted(totals, key=lambda i: (-totals[i], i))
    return [Fused(i, totals[i] / best, scores[i]) for i in ordered]


def _weight(leg: str, weights: Mapping[str, float]) -> float:
    """Of `dense:minilm@qdrant`, as it is called there, or without the retriever, or by its kind alone."""
    for name in (leg, leg.partition("@")[0], leg.partition("@")[0].partition(":")[0]):
        if name in weights:
            return weights[name]
    return 1.0

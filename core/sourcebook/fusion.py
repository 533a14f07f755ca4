"""Fuses ranked legs into one order: by their scores' distribution, or by reciprocal rank.

`distribution`: each leg's scores are scaled so that its mean minus three standard deviations is 0 and plus three is 1
(and cut there), then added up by weight; what a leg did not find has 0 of it (Mazzeschi, "Distribution-Based Score
Fusion", 2023). `rrf`: weight / (k + rank) (Cormack, Clarke and Buettcher, SIGIR 2009). The default is what measures
better with lexical and dense legs of 100 hits each: see docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sourcebook.interfaces import Hit

Method = Literal["distribution", "rrf"]

SPREAD = 3.0
"""Standard deviations on both sides of the mean that are told apart."""


@dataclass(frozen=True)
class Fused:
    """`score` lies in 0 to 1: 1 is best in every leg. `scores` and `ranks` (from 1) are each leg's own."""

    passage_id: str
    score: float
    scores: Mapping[str, float]
    ranks: Mapping[str, int] = field(default_factory=dict)


def fuse(
    legs: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], k: int = 60, method: Method = "distribution"
) -> list[Fused]:
    """Best first; ties by id, so that the order is stable. A leg without a weight has 1, and 0 switches it off.

    A single leg is not scaled: it keeps its order, with the scores of its ranks.
    """
    used = {leg: _once(hits) for leg, hits in legs.items() if hits and _weight(leg, weights) > 0}
    totals: dict[str, float] = {}
    scores: dict[str, dict[str, float]] = {}
    ranks: dict[str, dict[str, int]] = {}
    best = 0.0
    for leg, hits in used.items():
        weight = _weight(leg, weights)
        values = _ranked(hits, k) if method == "rrf" or len(used) == 1 else _scaled(hits)
        best += weight
        for rank, (hit, value) in enumerate(zip(hits, values, strict=True), start=1):
            totals[hit.passage_id] = totals.get(hit.passage_id, 0.0) + weight * value
            scores.setdefault(hit.passage_id, {})[leg] = hit.score
            ranks.setdefault(hit.passage_id, {})[leg] = rank
    ordered = sorted(totals, key=lambda i: (-totals[i], i))
    return [Fused(i, totals[i] / best, scores[i], ranks[i]) for i in ordered]


def _once(hits: Sequence[Hit]) -> list[Hit]:
    """A passage that is twice in a leg counts where it stands first."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.passage_id, hit)
    return list(first.values())


def _ranked(hits: Sequence[Hit], k: int) -> list[float]:
    return [(k + 1) / (k + rank) for rank in range(1, len(hits) + 1)]


def _scaled(hits: Sequence[Hit]) -> list[float]:
    """0 to 1 by distance from the mean; all in the middle where all score the same."""
    mean = sum(hit.score for hit in hits) / len(hits)
    deviation = (sum((hit.score - mean) ** 2 for hit in hits) / len(hits)) ** 0.5
    if deviation <= 0:
        return [0.5] * len(hits)
    low, width = mean - SPREAD * deviation, 2 * SPREAD * deviation
    return [min(max((hit.score - low) / width, 0.0), 1.0) for hit in hits]


def _weight(leg: str, weights: Mapping[str, float]) -> float:
    """Of `dense:minilm@qdrant`, as it is called there, or without the retriever, or by its kind alone."""
    for name in (leg, leg.partition("@")[0], kind_of(leg)):
        if name in weights:
            return weights[name]
    return 1.0


def kind_of(leg: str) -> str:
    """`dense` of `dense:minilm@qdrant`."""
    return leg.partition("@")[0].partition(":")[0]

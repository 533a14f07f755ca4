"""Fuses ranked legs into one order: by their scores' distribution, or by reciprocal rank.

`distribution`: each leg's scores are scaled so that its mean minus three standard deviations is 0 and plus three is 1,
then added up by weight; what a leg did not find has 0 of it (Mazzeschi, "Distribution-Based Score Fusion", 2023). Above
1 nothing is cut: the best hits of a hundred are often more than three deviations out, and would be told apart no more.
`rrf`: weight / (k + rank) (Cormack, Clarke and Buettcher, SIGIR 2009). The default is what measures better with lexical
and dense legs of 100 hits each: see docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sourcebook.interfaces import Hit

Method = Literal["distribution", "rrf"]

SPREAD = 3.0
"""Standard deviations on both sides of the mean that 0 and 1 stand for."""


class Fused(NamedTuple):
    """`score` lies in 0 to 1: 1 is best in every leg, or the best of all where that stands out further.

    `legs` are what was fused, which all share.
    """

    passage_id: str
    score: float
    legs: Mapping[str, Mapping[str, tuple[int, float]]]

    @property
    def scores(self) -> dict[str, float]:
        """Each leg's own, by its name."""
        return {leg: found[self.passage_id][1] for leg, found in self.legs.items() if self.passage_id in found}

    @property
    def ranks(self) -> dict[str, int]:
        """The same, from 1."""
        return {leg: found[self.passage_id][0] for leg, found in self.legs.items() if self.passage_id in found}


def fuse(
    legs: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], k: int = 60, method: Method = "distribution"
) -> list[Fused]:
    """Best first; ties by id, so that the order is stable. A leg without a weight has 1, and 0 switches it off.

    A single leg is not scaled: it keeps its order, with the scores of its ranks.
    """
    used = {leg: _once(hits) for leg, hits in legs.items() if hits and _weight(leg, weights) > 0}
    totals: dict[str, float] = {}
    found: dict[str, dict[str, tuple[int, float]]] = {}
    best = 0.0
    for leg, hits in used.items():
        weight = _weight(leg, weights)
        values = _ranked(hits, k) if method == "rrf" or len(used) == 1 else _scaled(hits)
        best += weight
        mine = found[leg] = {}
        for rank, (hit, value) in enumerate(zip(hits, values, strict=True), start=1):
            totals[hit.passage_id] = totals.get(hit.passage_id, 0.0) + weight * value
            mine[hit.passage_id] = (rank, hit.score)
    ordered = sorted((-total, passage_id) for passage_id, total in totals.items())
    best = max(best, -ordered[0][0]) if ordered else best
    return [Fused(passage_id, -total / best, found) for total, passage_id in ordered]


def _once(hits: Sequence[Hit]) -> list[Hit]:
    """A passage that is twice in a leg counts where it stands first."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.passage_id, hit)
    return list(first.values())


def _ranked(hits: Sequence[Hit], k: int) -> list[float]:
    return [(k + 1) / (k + rank) for rank in range(1, len(hits) + 1)]


def _scaled(hits: Sequence[Hit]) -> list[float]:
    """From 0, by the distance from the mean; all in the middle where all score the same."""
    scores = [hit.score for hit in hits]
    mean = sum(scores) / len(scores)
    deviation = (sum([(score - mean) ** 2 for score in scores]) / len(scores)) ** 0.5
    if deviation <= 0:
        return [0.5] * len(hits)
    low, width = mean - SPREAD * deviation, 2 * SPREAD * deviation
    return [max((score - low) / width, 0.0) for score in scores]


def _weight(leg: str, weights: Mapping[str, float]) -> float:
    """Of `dense:minilm@qdrant`, as it is called there, or without the retriever, or by its kind alone."""
    for name in (leg, leg.partition("@")[0], kind_of(leg)):
        if name in weights:
            return weights[name]
    return 1.0


def kind_of(leg: str) -> str:
    """`dense` of `dense:minilm@qdrant`."""
    return leg.partition("@")[0].partition(":")[0]

"""How good a ranking is, by itself and against another.

`ranked` are ids, best first, each once; `gold` maps an id to its grade, where what is missing has 0. Every measure lies
in 0 to 1, and is 0 where nothing is relevant.

nDCG: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002, with the grade itself
as gain and log2(rank + 1) as discount, as trec_eval and BEIR compute it. The paired test is Fisher's randomisation
(Smucker, Allan and Carterette, CIKM 2007); confidence intervals are percentile bootstrap over questions (Sakai 2006).
Chunk measures: Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval", Chroma 2024.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence

Span = tuple[int, int]

ROUNDS = 2000
"""Resamples of the bootstrap and of the randomisation test."""


def ndcg(ranked: Sequence[str], gold: Mapping[str, float], k: int) -> float:
    """Discounted gain of the first `k`, over that of the best order there is."""
    best = sum(_discounted(i, g) for i, g in enumerate(sorted(gold.values(), reverse=True)[:k]))
    return sum(_discounted(i, gold.get(name, 0.0)) for i, name in enumerate(ranked[:k])) / best if best > 0 else 0.0


def recall(ranked: Sequence[str], gold: Mapping[str, float], k: int) -> float:
    """How much of what is relevant is among the first `k`."""
    wanted = {name for name, grade in gold.items() if grade > 0}
    return len(wanted & set(ranked[:k])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranked: Sequence[str], gold: Mapping[str, float], k: int) -> float:
    """1 over the rank of the first that is relevant, if it is among the first `k`."""
    return next((1 / rank for rank, name in enumerate(ranked[:k], 1) if gold.get(name, 0.0) > 0), 0.0)


def hit(pages: Sequence[Collection[int]], wanted: Collection[int], k: int) -> float:
    """1 where one of the first `k` passages stands on a wanted page."""
    return float(any(set(found) & set(wanted) for found in pages[:k]))


def characters(found: Sequence[Span], wanted: Sequence[Span]) -> tuple[float, float]:
    """Recall and precision of characters: of the wanted ones found, and of the found ones wanted, each counted once."""
    have, want = merged(found), merged(wanted)
    both = sum(max(0, min(a[1], b[1]) - max(a[0], b[0])) for a in have for b in want)
    sizes = [sum(end - start for start, end in spans) for spans in (want, have)]
    return both / sizes[0] if sizes[0] else 0.0, both / sizes[1] if sizes[1] else 0.0


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same characters as sorted spans that neither meet nor are empty."""
    joined: list[Span] = []
    for start, end in sorted(s for s in spans if s[0] < s[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def mean(values: Sequence[float]) -> float:
    """0 for none."""
    return sum(values) / len(values) if values else 0.0


def interval(values: Sequence[float], level: float = 0.95, seed: int = 1) -> tuple[float, float]:
    """In which the mean over other such questions would lie: percentile bootstrap, the same at every run."""
    if len(values) < 2:
        return mean(values), mean(values)
    draw = random.Random(seed)
    means = sorted(mean(draw.choices(values, k=len(values))) for _ in range(ROUNDS))
    cut = (1 - level) / 2
    return means[int(cut * ROUNDS)], means[min(int((1 - cut) * ROUNDS), ROUNDS - 1)]


def difference(a: Sequence[float], b: Sequence[float], seed: int = 1) -> float:
    """The two-sided p-value of the mean of `b - a`, the same questions in the same order: signs flipped at random."""
    deltas = [y - x for x, y in zip(a, b, strict=True) if x != y]
    if not deltas:
        return 1.0
    observed = abs(sum(deltas)) - 1e-12
    draw = random.Random(seed)
    flips = (sum(d if draw.random() < 0.5 else -d for d in deltas) for _ in range(ROUNDS))
    return (1 + sum(abs(total) >= observed for total in flips)) / (ROUNDS + 1)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed; 0 for none."""
    return sorted(values)[min(math.ceil(share * len(values)), len(values)) - 1] if values else 0.0


def _discounted(place: int, grade: float) -> float:
    return max(grade, 0.0) / math.log2(place + 2)

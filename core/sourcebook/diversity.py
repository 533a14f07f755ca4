"""Chooses passages that are good and do not say the same thing again.

Maximal marginal relevance: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents
and producing summaries", SIGIR 1998. How alike two passages are is the overlap of their words (Jaccard), which every
engine can give and which catches what repeats in notebooks: copies, editions, overlapping chunks.
"""

from __future__ import annotations

from collections.abc import Sequence

from sourcebook.documents import Passage
from sourcebook.sentences import terms


def diverse(passages: Sequence[Passage], limit: int, share: float) -> list[Passage]:
    """`limit` of them, best first as chosen. `share` is how much likeness weighs, 0 (nothing) to 1 (nothing else)."""
    if share <= 0 or len(passages) < 2:
        return list(passages[:limit])
    scores = [p.score for p in passages]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    words = [frozenset(terms(p.text)) for p in passages]
    left, chosen = list(range(len(passages))), list[int]()
    likeness = [0.0] * len(passages)  # to the most alike that is chosen
    while left and len(chosen) < limit:
        best = max(left, key=lambda i: ((1 - share) * (scores[i] - low) / span - share * likeness[i], -i))
        left.remove(best)
        chosen.append(best)
        for i in left:
            likeness[i] = max(likeness[i], _alike(words[i], words[best]))
    return [passages[i] for i in chosen]


def _alike(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a or b else 0.0

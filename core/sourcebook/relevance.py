"""Tells passages that have to do with the question from those that are merely the best of a bad lot.

A fused rank says which passage comes first, never whether any fits. So each is measured on its own: by the share of the
question's words that it has, or by the score that a leg gave it (`dense`, `rerank`), against the pipeline's threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sourcebook.documents import Passage
from sourcebook.sentences import terms
from sourcebook.words import asked_words, stem_of


def relevant(question: str, passages: Sequence[Passage], least: Mapping[str, float]) -> tuple[Passage, ...]:
    """Those that reach one of the thresholds; all, where none applies. `least`: measure (words, or a leg) -> value.

    A passage that a model found by its meaning need not share a word with the question: where it has the score of a
    leg other than `lexical`, only that leg's own threshold counts.
    """
    asked = {stem_of(word) for word in asked_words(question)}
    return tuple(p for p in passages if _fits(p, asked, least))


def share(asked: set[str], passage: Passage) -> float:
    """How much of what was asked the passage has, with its title and headings: 0 to 1."""
    if not asked:
        return 1.0
    return len(asked & _stems(f"{passage.title} {passage.context} {passage.prompt_text}")) / len(asked)


@lru_cache(maxsize=256)
def _stems(text: str) -> frozenset[str]:
    """To find the words of a passage takes longer than all else here, and what is asked of is asked of again."""
    return frozenset(map(stem_of, set(terms(text))))


def _fits(passage: Passage, asked: set[str], least: Mapping[str, float]) -> bool:
    legs = {leg.partition("@")[0].partition(":")[0]: score for leg, score in passage.scores.items()}
    legs.pop("lexical", None)
    measured = {leg: score for leg, score in legs.items() if leg in least}
    if any(score >= least[leg] for leg, score in measured.items()):
        return True
    if legs:
        return not measured
    return "words" not in least or share(asked, passage) >= least["words"]

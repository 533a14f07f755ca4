"""What every stage of a search did, for whoever asks why a passage stands where it does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sourcebook.documents import Passage
from sourcebook.fusion import Fused
from sourcebook.interfaces import Hit

_DROPPED = 20  # ranks that are told of what a leg found and SQL did not confirm


class Explanation:
    """Collected while a search runs, and made into JSON by `shown` when it is over: so a search hardly waits for it.

    One for all pipelines of the search.
    """

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self._fused: list[tuple[Sequence[Fused], Mapping[str, float]]] = []
        self._orders: list[tuple[str, Sequence[Passage]]] = []
        self._began = time.perf_counter()

    def begin(self) -> None:
        """The search begins now."""
        self._began = time.perf_counter()

    def stage(self, name: str, **what: Any) -> None:
        """A stage is done: it took from the last one's end to now."""
        now = time.perf_counter()
        self.stages.append({"stage": name, "took_ms": round((now - self._began) * 1000, 2), **what})
        self._began = now

    def fused(self, fused: Sequence[Fused], weight_of: Mapping[str, float]) -> None:
        """Each leg's rank and score, and what fusing made of them; `weight_of` is each passage's notebook's."""
        self._fused.append((fused, weight_of))

    def order(self, name: str, passages: Sequence[Passage]) -> None:
        """Where each stands after a stage that changed the order."""
        self._orders.append((name, passages))

    def ranks(self) -> dict[str, dict[str, Any]]:
        """What is known of every passage that was ranked, by its id, best first."""
        found: dict[str, dict[str, Any]] = {}
        for fused, weight_of in self._fused:
            for rank, one in enumerate(fused, 1):
                its = ((leg, hits[one.passage_id]) for leg, hits in one.legs.items() if one.passage_id in hits)
                legs = {leg: {"rank": place, "score": round(score, 6)} for leg, (place, score) in its}
                found[one.passage_id] = {"legs": legs, "fused": {"rank": rank, "score": round(one.score, 6)}}
                if (weight := weight_of.get(one.passage_id, 1.0)) != 1.0:
                    found[one.passage_id]["notebook_weight"] = weight
        for name, passages in self._orders:
            for rank, passage in enumerate(passages, 1):
                found.setdefault(passage.id, {})[name] = {"rank": rank, "score": round(passage.score, 6)}
        return found

    def shown(self, passages: Sequence[Passage]) -> dict[str, Any]:
        """`stages` in order, and `passages` by id for those that were found; one that a plugin added has nothing."""
        ranks = self.ranks()
        return {"stages": self.stages, "passages": {p.id: ranks.get(p.id, {}) for p in passages}}


def unconfirmed(legs: Mapping[str, Sequence[Hit]], known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each leg, how many of its hits SQL did not confirm, and which ranks they had.

    Never their ids: an index that is behind, or wrong, may have found what is not the asker's to know of.
    """
    found: dict[str, dict[str, Any]] = {}
    for leg, hits in legs.items():
        ranks = [rank for rank, hit in enumerate(hits, 1) if hit.passage_id not in known]
        if ranks:
            found[leg] = {"hits": len(ranks), "ranks": ranks[:_DROPPED]}
    return found

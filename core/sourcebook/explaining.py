"""What every stage of a search did, for whoever asks why a passage stands where it does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sourcebook.documents import Passage
from sourcebook.fusion import Fused


@dataclass
class Explanation:
    """Collected while a search runs; `shown` makes JSON of it. One for all pipelines of the search."""

    stages: list[dict[str, Any]] = field(default_factory=list)
    passages: dict[str, dict[str, Any]] = field(default_factory=dict)
    _began: float = field(default_factory=time.perf_counter)

    def stage(self, name: str, **what: Any) -> None:
        """A stage is done: it took from the last one's end to now."""
        now = time.perf_counter()
        self.stages.append({"stage": name, "took_ms": round((now - self._began) * 1000, 2), **what})
        self._began = now

    def fused(self, fused: Sequence[Fused], weight_of: Mapping[str, float]) -> None:
        """Each leg's rank and score, and what fusing made of them; `weight_of` is each passage's notebook's."""
        for rank, one in enumerate(fused, 1):
            legs = {leg: {"rank": one.ranks[leg], "score": round(s, 6)} for leg, s in one.scores.items()}
            self.passages[one.passage_id] = {"legs": legs, "fused": {"rank": rank, "score": round(one.score, 6)}}
            if (weight := weight_of.get(one.passage_id, 1.0)) != 1.0:
                self.passages[one.passage_id]["notebook_weight"] = weight

    def order(self, name: str, passages: Sequence[Passage]) -> None:
        """Where each stands after a stage that changed the order."""
        for rank, one in enumerate(passages, 1):
            self.passages.setdefault(one.id, {})[name] = {"rank": rank, "score": round(one.score, 6)}

    def shown(self, passages: Sequence[Passage]) -> dict[str, Any]:
        """`stages` in order, and `passages` by id for those that were found; one that a plugin added has nothing."""
        return {"stages": self.stages, "passages": {p.id: self.passages.get(p.id, {}) for p in passages}}

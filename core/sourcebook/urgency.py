"""Whose turn it is where jobs of several urgencies wait: the more urgent mostly, but never it alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_MORE = 4  # jobs of one urgency for each of the next below it


class Shares:
    """A share of one process's claims for every urgency that waits, so that none starves.

    Smooth weighted round robin, as nginx chooses among its servers (its commit 52327e0627f4, 2012). It is counted here
    and not in SQL: what matters is that each process that claims is fair, and a claim writes nothing more for it.
    """

    def __init__(self) -> None:
        self._credit: dict[int, int] = {}

    def next(self, waiting: Iterable[int]) -> int:
        """The urgency that is served now, of at least one that waits."""
        weights = {urgency: _MORE**rank for rank, urgency in enumerate(sorted(set(waiting)))}
        # What does not wait now keeps no claim from before.
        self._credit = {urgency: self._credit.get(urgency, 0) + weight for urgency, weight in weights.items()}
        chosen = max(self._credit, key=lambda urgency: (self._credit[urgency], urgency))
        self._credit[chosen] -= sum(weights.values())
        return chosen

    def in_turn(self, waiting: Sequence[Any]) -> list[Any]:
        """Rows of `claiming.WAITING`: those of the urgency whose turn it is; then, where others were faster, the rest.

        Of one urgency whoever has the fewest jobs being done, then whoever was served longest ago.
        """
        if not waiting:
            return []
        urgency = self.next(row.priority for row in waiting)
        return sorted(waiting, key=lambda r: (r.priority != urgency, -r.priority, r.running, r.turn or 0, r.run_at))

"""Lists are read a page at a time, after a cursor: the last id of the page before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_HasId)


@dataclass(frozen=True)
class Page(Generic[T]):
    """`next_cursor` asks for what follows; None on the last page."""

    items: list[T]
    next_cursor: str | None


def page(rows: Sequence[T], limit: int) -> Page[T]:
    """One page of `rows`, which were asked for with `limit + 1`."""
    items = list(rows[:limit])
    return Page(items, items[-1].id if len(rows) > limit else None)

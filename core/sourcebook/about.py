"""Which request, run, job or source something is done for: the ids that every line of the log carries.

They are kept in a context variable, so that what a plugin logs has them too, and the tasks that it starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Id = Literal["request_id", "run_id", "job_id", "source_id"]
IDS: tuple[Id, ...] = ("request_id", "run_id", "job_id", "source_id")

_ABOUT: ContextVar[Mapping[str, str] | None] = ContextVar("about", default=None)


def ids() -> Mapping[str, str]:
    """Name -> id, of those that are known here."""
    return _ABOUT.get() or {}


@contextmanager
def about(**known: str | None) -> Iterator[None]:
    """What is logged within carries these ids, beside those that it had."""
    above = _ABOUT.get()
    _ABOUT.set({**(above or {}), **{name: value for name, value in known.items() if value}})
    try:
        yield
    finally:
        _ABOUT.set(above)

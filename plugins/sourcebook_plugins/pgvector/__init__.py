"""The index `pgvector`: full text and vectors in PostgreSQL, for who runs that already. Extra `postgres`.

index.py     the component: settings, and the calls of `Index`
schema.py    the tables, and what a stored point looks like
queries.py   the SQL of a search, its scope and its filters
words.py     how texts become full text documents and questions
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sourcebook_plugins.pgvector.index import PgVector as PgVector

hookimpl = pluggy.HookimplMarker("sourcebook")


@hookimpl
def register_retrievers() -> list[type[PgVector]]:
    """The index named `pgvector`."""
    from sourcebook_plugins.pgvector.index import PgVector

    return [PgVector]


def __getattr__(name: str) -> Any:
    if name == "PgVector":
        from sourcebook_plugins.pgvector.index import PgVector

        return PgVector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The built-in index: Qdrant, embedded. Lexical (BM25) and dense legs over one shard per data folder.

    index.py     the component: settings, and the calls of `Index` as messages
    terms.py     how a text becomes weighted terms: stemming by language, pairs of characters, BM25
    layout.py    how a point, its payload and a filter look, in Qdrant's own JSON
    client.py    the connection to the index process; starting.py starts that process, runtime.py is where they meet
    child.py     the index process; shard.py is the only module that touches Qdrant Edge; frames.py is what they speak

The index process imports this package too, and must answer in a fraction of a second. So nothing here imports
`sourcebook` (pydantic alone costs more than the whole process) before somebody asks for the component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from sourcebook_plugins.qdrant.index import Qdrant as Qdrant

hookimpl = pluggy.HookimplMarker("sourcebook")


@hookimpl
def register_retrievers() -> list[type[Qdrant]]:
    """The index named `qdrant`."""
    from sourcebook_plugins.qdrant.index import Qdrant

    return [Qdrant]


def __getattr__(name: str) -> Any:
    if name == "Qdrant":
        from sourcebook_plugins.qdrant.index import Qdrant

        return Qdrant
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

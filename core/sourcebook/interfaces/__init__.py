"""What a component is: one small abstract class per kind, with its whole contract in the docstring.

A component has a `name` and a `Settings` model, which is filled from the config section that names it. Its module
costs under 20 ms to import: what is heavy is imported in `open`. One module a group; all names are here.
"""

from typing import TYPE_CHECKING

from sourcebook.interfaces.components import Component, ComponentSettings, Context, S
from sourcebook.interfaces.embedding import Embedder, Space
from sourcebook.interfaces.files import Blob, BlobStore, Fetched, Fetcher
from sourcebook.interfaces.generation import LLM, LLMRequest, Message
from sourcebook.interfaces.parsing import Chunker, Parser, ParserFile
from sourcebook.interfaces.retrieval import (
    Hit,
    Index,
    Point,
    PointRef,
    Reranker,
    Retriever,
    Scope,
    ScopedNotebook,
    SearchQuery,
    Stored,
)

if TYPE_CHECKING:
    from sourcebook.interfaces.embedding import Vectors as Vectors

__all__ = [
    "LLM",
    "Blob",
    "BlobStore",
    "Chunker",
    "Component",
    "ComponentSettings",
    "Context",
    "Embedder",
    "Fetched",
    "Fetcher",
    "Hit",
    "Index",
    "LLMRequest",
    "Message",
    "Parser",
    "ParserFile",
    "Point",
    "PointRef",
    "Reranker",
    "Retriever",
    "S",
    "Scope",
    "ScopedNotebook",
    "SearchQuery",
    "Space",
    "Stored",
]

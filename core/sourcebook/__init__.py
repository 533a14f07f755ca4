"""Sourcebook: answers from your own sources, cited to the character. This module is what a plugin author imports.

A name is imported when it is first used: `sourcebook --help` needs one of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sourcebook.callers import Caller
    from sourcebook.documents import Block, Chunk, Document, Locator, Passage, Place
    from sourcebook.events import Finish, Reasoning, Text, ToolCall, Usage
    from sourcebook.hookspecs import hookimpl
    from sourcebook.hosts import CommandHost, RouteHost
    from sourcebook.interfaces import (
        LLM,
        Blob,
        BlobStore,
        Chunker,
        Component,
        ComponentSettings,
        Context,
        Embedder,
        Fetched,
        Fetcher,
        Hit,
        Index,
        LLMRequest,
        Message,
        Parser,
        ParserFile,
        Point,
        PointRef,
        Reranker,
        Retriever,
        Scope,
        ScopedNotebook,
        SearchQuery,
        Space,
        Stored,
    )
    from sourcebook.writer import DocumentWriter

API_VERSION = 1
"""What a plugin is written against. A plugin module that sets another `API_VERSION` is not loaded."""

__version__ = "0.1.0"

__all__ = [
    "API_VERSION",
    "LLM",
    "Blob",
    "BlobStore",
    "Block",
    "Caller",
    "Chunk",
    "Chunker",
    "CommandHost",
    "Component",
    "ComponentSettings",
    "Context",
    "Document",
    "DocumentWriter",
    "Embedder",
    "Fetched",
    "Fetcher",
    "Finish",
    "Hit",
    "Index",
    "LLMRequest",
    "Locator",
    "Message",
    "Parser",
    "ParserFile",
    "Passage",
    "Place",
    "Point",
    "PointRef",
    "Reasoning",
    "Reranker",
    "Retriever",
    "RouteHost",
    "Scope",
    "ScopedNotebook",
    "SearchQuery",
    "Space",
    "Stored",
    "Text",
    "ToolCall",
    "Usage",
    "__version__",
    "hookimpl",
]

_HOMES = {
    "sourcebook.callers": "Caller",
    "sourcebook.documents": "Block Chunk Document Locator Passage Place",
    "sourcebook.events": "Finish Reasoning Text ToolCall Usage",
    "sourcebook.hookspecs": "hookimpl",
    "sourcebook.hosts": "CommandHost RouteHost",
    "sourcebook.interfaces": (
        "LLM Blob BlobStore Chunker Component ComponentSettings Context Embedder Fetched Fetcher Hit "
        "Index LLMRequest Message Parser ParserFile Point PointRef Reranker Retriever Scope "
        "ScopedNotebook SearchQuery Space Stored"
    ),
    "sourcebook.writer": "DocumentWriter",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'sourcebook' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value

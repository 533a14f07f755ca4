"""Sourcebook: answers from your own sources, cited to the character. This module is what a plugin author imports."""

from sourcebook.documents import Block, Chunk, Document, Locator, Passage, Place
from sourcebook.events import Finish, Reasoning, Text, ToolCall, Usage
from sourcebook.hookspecs import hookimpl
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
    "Chunk",
    "Chunker",
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

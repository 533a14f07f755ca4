"""Models behind the OpenAI API, wherever they run: chat and embeddings."""

from __future__ import annotations

from typing import Any

from sourcebook import LLM, Embedder, hookimpl
from sourcebook_plugins.openai.embedder import OpenAIEmbedder
from sourcebook_plugins.openai.llm import OpenAI

__all__ = ["OpenAI", "OpenAIEmbedder", "register_embedders", "register_llms"]


@hookimpl
def register_llms() -> list[type[LLM[Any]]]:
    """Anything that speaks `chat/completions`."""
    return [OpenAI]


@hookimpl
def register_embedders() -> list[type[Embedder[Any]]]:
    """Anything that speaks `embeddings`."""
    return [OpenAIEmbedder]

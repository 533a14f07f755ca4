"""An embedder without a model, and the plugin that brings it: for tests, and to try a pipeline with vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import ComponentSettings, Context, Embedder, Space
from sourcebook.testing.llm_server import vector_of


class FakeEmbedderSettings(ComponentSettings):
    """How many numbers a vector has."""

    dimensions: int = Field(default=64, ge=1, le=1024)


class FakeEmbedder(Embedder[FakeEmbedderSettings]):
    """The sum of one direction a word: texts that share words are near, on every machine alike."""

    name = "fake"
    Settings = FakeEmbedderSettings

    async def open(self, context: Context) -> None:
        """Know the space."""
        dimensions = self.settings.dimensions
        self.spaces = (Space("fake", dimensions, norm="unit"),)
        self.identity = f"fake/{dimensions}"

    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Any:
        """Rows of length 1."""
        import numpy as np

        rows = [vector_of(text, self.settings.dimensions) for text in texts]
        return {"fake": np.array(rows, dtype=np.float32).reshape(len(texts), self.settings.dimensions)}


class Fakes:
    """A plugin with the fakes: `plugins=[Fakes()]` makes `embedder = "fake"` possible."""

    __name__ = "sourcebook-fakes"

    @hookimpl
    def register_embedders(self) -> list[type[FakeEmbedder]]:
        """The embedder."""
        return [FakeEmbedder]

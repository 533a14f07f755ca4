"""A reranker as ONNX: a cross-encoder that reads question and passage together, from a folder on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from sourcebook.documents import Passage
from sourcebook.errors import RerankerError
from sourcebook.interfaces import ComponentSettings, Context, Reranker
from sourcebook_plugins.local.models import Lane, LocalSettings
from sourcebook_plugins.local.onnx import Graph


class CrossEncoderSettings(LocalSettings):
    """The graph takes pairs and gives one logit each; of several classes, the last is the one that fits."""

    file: str = Field("model.onnx", description="The graph in the folder.")
    max_length: int = Field(512, ge=16, le=32_768, description="Tokens of question and passage together.")


class CrossEncoder(Reranker[CrossEncoderSettings]):
    """Scores are the model's own logits: comparable within one question, and often below 0."""

    name = "cross_encoder"
    Settings: ClassVar[type[ComponentSettings]] = CrossEncoderSettings

    _lane: Lane | None = None
    _graph: Graph

    async def open(self, context: Context) -> None:
        self._lane = Lane(self.instance)
        await self._lane.run(self._load)

    async def close(self) -> None:
        if self._lane:
            self._lane.close()

    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        """See `Reranker.rerank`. Between two batches a cancelled search ends."""
        if self._lane is None:
            raise RuntimeError("open() has not been called")
        texts = [p.indexed for p in passages]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        scores = [0.0] * len(texts)
        for first in range(0, len(order), self.settings.max_batch):
            some = order[first : first + self.settings.max_batch]
            try:
                found = await self._lane.run(self._scores, question, [texts[i] for i in some])
            except (RuntimeError, ValueError, MemoryError) as error:
                raise RerankerError(f"The model of {self.instance} failed: {error}", transient=False) from error
            for i, score in zip(some, found, strict=True):
                scores[i] = score
        return scores

    def _load(self) -> None:
        s = self.settings
        self._graph = Graph(s.path, s.file, s.max_length, s.threads)

    def _scores(self, question: str, texts: list[str]) -> list[float]:
        output, _ = self._graph.run([(question, text) for text in texts])
        return [float(x) for x in output.reshape(len(texts), -1)[:, -1]]

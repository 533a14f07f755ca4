"""A reranking model behind `POST /rerank`, as Cohere, Jina, vLLM, llama.cpp and TEI serve it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from sourcebook import Passage, Reranker, hookimpl
from sourcebook.errors import RerankerError
from sourcebook.http import Http
from sourcebook.interfaces import ComponentSettings, Context
from sourcebook.upstream import Failures, Retries, ServerSettings, call


class RerankSettings(ServerSettings):
    """`base_url` ends before `/rerank`. `max_batch`: the most passages of one call; more are sent in several.

    `tei`: speak the dialect of Hugging Face's text-embeddings-inference, which wants `texts` for `documents`.
    """

    base_url: str
    max_batch: int = Field(default=256, ge=1)
    tei: bool = False


class HttpReranker(Reranker[RerankSettings]):
    """Scores passages by a cross-encoder that another server runs. Scores are that model's own."""

    name = "rerank"
    Settings: ClassVar[type[ComponentSettings]] = RerankSettings

    def __init__(self, settings: RerankSettings, instance: str = "", retries: Retries | None = None) -> None:
        super().__init__(settings, instance)
        self._retries = retries or Retries()
        self._failures = Failures(RerankerError, "reranker", self.instance, settings.secrets())
        self._http: Http | None = None

    async def open(self, context: Context) -> None:
        """Nothing is asked of the server before the first question."""
        self._http = context.http

    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        """See `Reranker.rerank`."""
        scores: list[float] = []
        for start in range(0, len(passages), self.settings.max_batch):
            batch = [p.indexed for p in passages[start : start + self.settings.max_batch]]
            scores += await self._scores(question, batch)
        return scores

    async def _scores(self, question: str, texts: list[str]) -> list[float]:
        if self._http is None:
            raise RuntimeError("open() has not been called")
        settings = self.settings
        key = "texts" if settings.tei else "documents"
        body = {"model": settings.model, "query": question, key: texts}
        data = await call(self._http, f"{settings.base_url}/rerank", body, settings, self._failures, self._retries)
        return self._read(data, len(texts))

    def _read(self, data: Any, count: int) -> list[float]:
        """`{"results": [...]}` (Cohere, Jina, vLLM), `{"data": [...]}` (Voyage) or TEI's bare list, in any order."""
        rows = data.get("results") or data.get("data") if isinstance(data, dict) else data
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._wrong("no list of results")
        scores: list[float | None] = [None] * count
        for row in rows:
            index, score = row.get("index"), row.get("relevance_score", row.get("score"))
            if type(index) is not int or not 0 <= index < count or scores[index] is not None:
                raise self._wrong("an index that names no passage, or one twice")
            if not isinstance(score, int | float) or not math.isfinite(score):
                raise self._wrong("a score that is not a number")
            scores[index] = float(score)
        known = [score for score in scores if score is not None]
        if len(known) != count:
            raise self._wrong(f"{len(known)} scores for {count} passages")
        return known

    def _wrong(self, what: str) -> RerankerError:
        return self._failures.make(
            "wrong_shape",
            f"The server of {self.instance} gave {what}.",
            remedy=f"Check `base_url` and `model` of {self.instance}.",
        )


@hookimpl
def register_rerankers() -> list[type[Reranker[Any]]]:
    """Anything that speaks `/rerank`."""
    return [HttpReranker]

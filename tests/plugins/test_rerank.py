from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from sourcebook.errors import RerankerError
from sourcebook.interfaces import Reranker
from sourcebook.testing.components import opened
from sourcebook.testing.llm_server import FakeLLMServer, json_reply
from sourcebook.testing.rerankers import RerankerContract, passage_of
from sourcebook.upstream import Retries
from sourcebook_plugins.rerank import HttpReranker, RerankSettings


def reranker_at(url: str, **settings: Any) -> HttpReranker:
    return HttpReranker(RerankSettings(base_url=url, model="m", **settings), "cross", Retries(base=0.0))


def scores(reranker: HttpReranker, texts: Sequence[str] = ("a", "b", "c")) -> list[float]:
    async def main() -> list[float]:
        async with opened(reranker):
            return list(await reranker.rerank("q", [passage_of(text, i) for i, text in enumerate(texts)]))

    return asyncio.run(main())


def given(data: Any, **settings: Any) -> list[float]:
    with FakeLLMServer() as server:
        server.script(json_reply(data), path="/v1/rerank")
        return scores(reranker_at(server.url, **settings))


def row(index: Any, score: Any, name: str = "relevance_score") -> dict[str, Any]:
    return {"index": index, name: score}


class TestContract(RerankerContract):
    @contextmanager
    def reranker(self) -> Iterator[Reranker[Any]]:
        with FakeLLMServer() as server:
            yield reranker_at(server.url)

    @contextmanager
    def failing(self) -> Iterator[Reranker[Any]]:
        with FakeLLMServer() as server:
            url = server.url
        yield reranker_at(url)


@pytest.mark.parametrize(
    "data",
    [
        {"results": [row(2, 0.9), row(0, 0.5), row(1, 0)]},
        {"results": [row(2, 0.9) | {"document": {"text": "c"}}, row(0, 0.5), row(1, 0)], "usage": {}},
        {"data": [row(2, 0.9), row(0, 0.5), row(1, 0)]},
        [row(2, 0.9, "score"), row(0, 0.5, "score"), row(1, 0, "score")],
        {"results": [row(2, 0.9, "score"), row(0, 0.5, "score"), row(1, 0, "score")]},
    ],
    ids=["cohere", "with documents", "voyage", "tei", "score in results"],
)
def test_scores_are_put_in_the_passages_order(data: Any) -> None:
    assert given(data) == [0.5, 0.0, 0.9]


@pytest.mark.parametrize(
    "data",
    [
        {}, [], "x", None, {"results": None}, {"results": [1]}, {"results": [row(0, 1), row(1, 1)]},
        {"results": [row(0, 1), row(1, 1), row(1, 1)]}, {"results": [row(0, 1), row(1, 1), row(3, 1)]},
        {"results": [row(0, 1), row(1, 1), row(-1, 1)]}, {"results": [row(0, 1), row(1, 1), row("2", 1)]},
        {"results": [row(0, 1), row(1, 1), row(2, None)]}, {"results": [row(0, 1), row(1, 1), row(2, "high")]},
        {"results": [row(0, 1), row(1, 1), row(2, 1), row(2, 1)]},
    ],
)  # fmt: skip
def test_anything_but_one_score_a_passage_is_refused(data: Any) -> None:
    with pytest.raises(RerankerError) as caught:
        given(data)
    assert caught.value.problem_code == "reranker_wrong_shape"


def test_the_request_holds_question_and_indexed_texts() -> None:
    with FakeLLMServer() as server:
        scores(reranker_at(server.url, api_key="k"))
        sent = server.requests[0]
    assert sent.path == "/v1/rerank"
    assert sent.json == {"model": "m", "query": "q", "documents": ["a", "b", "c"]}
    assert sent.headers["authorization"] == "Bearer k"


def test_teis_dialect_sends_texts() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply([row(0, 1, "score")]), path="/v1/rerank")
        assert scores(reranker_at(server.url, tei=True), ["a"]) == [1.0]
        assert server.requests[0].json["texts"] == ["a"]


def test_more_than_a_batch_is_sent_in_several_calls() -> None:
    with FakeLLMServer() as server:
        assert scores(reranker_at(server.url, max_batch=2), ["x", "q", "q x"]) == [0.0, 1.0, 0.5]
        assert [len(r.json["documents"]) for r in server.requests] == [2, 1]


def test_a_key_that_the_server_repeats_is_not_shown() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"message": "bad key sk-canary"}, 401), path="/v1/rerank")
        with pytest.raises(RerankerError) as caught:
            scores(reranker_at(server.url, api_key="sk-canary"))
    assert caught.value.problem_code == "reranker_refused"
    assert "sk-canary" not in str(caught.value.problem())

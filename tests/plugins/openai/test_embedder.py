from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytest

from sourcebook.errors import EmbedderError
from sourcebook.interfaces import Embedder
from sourcebook.testing.components import opened
from sourcebook.testing.embedders import EmbedderContract
from sourcebook.testing.llm_server import FakeLLMServer, Reply, json_reply, vector_of
from sourcebook.upstream import Retries
from sourcebook_plugins.openai import OpenAIEmbedder
from sourcebook_plugins.openai.embedder import OpenAIEmbedderSettings

PATH = "/v1/embeddings"


def embedder_at(url: str, **settings: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(OpenAIEmbedderSettings(base_url=url, model="m", **settings), "small", Retries(base=0.0))


def embed(
    embedder: OpenAIEmbedder, texts: Sequence[str], kind: Literal["passage", "query"] = "passage"
) -> list[list[float]]:
    async def main() -> Any:
        async with opened(embedder):
            return (await embedder.embed(texts, kind))["dense"].tolist()

    rows: list[list[float]] = asyncio.run(main())
    return rows


def rows_of(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


class TestContract(EmbedderContract):
    @contextmanager
    def embedder(self) -> Iterator[Embedder[Any]]:
        with FakeLLMServer() as server:
            yield embedder_at(server.url, max_batch=16)

    @contextmanager
    def failing(self) -> Iterator[Embedder[Any]]:
        with FakeLLMServer() as server:
            url = server.url
        yield embedder_at(url)


def test_dimensions_are_asked_for_once_at_open() -> None:
    async def main(server: FakeLLMServer) -> None:
        async with opened(embedder_at(server.url)) as embedder:
            assert [space.dimensions for space in embedder.spaces] == [24]
            assert embedder.identity == "openai:m:24:"
            assert len(server.requests) == 1

    with FakeLLMServer(dimensions=24) as server:
        asyncio.run(main(server))


def test_with_dimensions_set_the_server_may_be_down_at_the_start() -> None:
    async def main(url: str) -> None:
        async with opened(embedder_at(url, dimensions=8)) as embedder:
            assert embedder.spaces[0].dimensions == 8
            with pytest.raises(EmbedderError) as caught:
                await embedder.embed(["a"], "query")
            assert caught.value.problem_code == "embedder_unreachable"

    with FakeLLMServer() as server:
        url = server.url
    asyncio.run(main(url))


def test_a_server_that_is_down_at_the_start_names_both_ways_out() -> None:
    with FakeLLMServer() as server:
        url = server.url
    with pytest.raises(EmbedderError, match="cannot be reached") as caught:
        embed(embedder_at(url), ["a"])
    assert "base_url" in caught.value.remedy
    assert "dimensions" in caught.value.remedy


def test_identity_changes_with_whatever_changes_the_vectors() -> None:
    async def identity(**settings: Any) -> str:
        async with opened(embedder_at("http://127.0.0.1:9/v1", **({"dimensions": 8} | settings))) as embedder:
            return embedder.identity

    variants: list[dict[str, Any]] = [{}, {"dimensions": 9}, {"query_prefix": "a"}, {"passage_prefix": "a"}]
    variants += [{"query_prefix": "a|b"}, {"query_prefix": "a", "passage_prefix": "b|"}, {"query_prefix": "a|b|"}]
    found = [asyncio.run(identity(**variant)) for variant in variants]
    assert len(set(found)) == len(found)


def test_prefixes_are_put_before_the_texts_of_their_kind() -> None:
    with FakeLLMServer() as server:
        embedder = embedder_at(server.url, dimensions=64, query_prefix="query: ", passage_prefix="passage: ")
        embed(embedder, ["a"], "query")
        embed(embedder, ["a", "b"], "passage")
        assert [r.json["input"] for r in server.requests] == [["query: a"], ["passage: a", "passage: b"]]
        assert all("dimensions" not in r.json for r in server.requests)


def test_dimensions_are_sent_where_the_settings_say_so() -> None:
    with FakeLLMServer() as server:
        embed(embedder_at(server.url, dimensions=64, send_dimensions=True), ["a"])
        assert server.requests[0].json["dimensions"] == 64


def test_an_empty_text_is_sent_as_a_space() -> None:
    with FakeLLMServer() as server:
        embed(embedder_at(server.url, dimensions=64), ["", "a"])
        assert server.requests[0].json["input"] == [" ", "a"]


def test_more_than_a_batch_is_sent_in_several_calls_and_keeps_its_order() -> None:
    texts = [f"text {n}" for n in range(10)]
    with FakeLLMServer() as server:
        rows = embed(embedder_at(server.url, dimensions=64, max_batch=4), texts)
        assert [len(r.json["input"]) for r in server.requests] == [4, 4, 2]
    for row, text in zip(rows, texts, strict=True):
        assert row == pytest.approx(vector_of(text), abs=1e-6)


@pytest.mark.parametrize("status", [400, 413])
def test_a_batch_that_is_too_large_is_halved_and_that_is_remembered(status: int) -> None:
    texts = [f"text {n}" for n in range(8)]
    with FakeLLMServer() as server:
        server.script(*[json_reply({"error": {"message": "too large"}}, status)] * 2, path=PATH)
        rows = embed(embedder_at(server.url, dimensions=64, max_batch=8), texts)
        assert [len(r.json["input"]) for r in server.requests] == [8, 4, 2, 2, 2, 2]
    for row, text in zip(rows, texts, strict=True):
        assert row == pytest.approx(vector_of(text), abs=1e-6)


def test_a_single_text_that_is_refused_is_an_error() -> None:
    with FakeLLMServer() as server:
        server.script(*[json_reply({"error": {"message": "too large"}}, 413)] * 2, path=PATH)
        with pytest.raises(EmbedderError, match="too large"):
            embed(embedder_at(server.url, dimensions=64, max_batch=8), ["a", "b"])
        assert [len(r.json["input"]) for r in server.requests] == [2, 1]


def test_base64_is_asked_for_where_the_settings_say_so() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply(rows_of(packed(3, 4))), path=PATH)
        rows = embed(embedder_at(server.url, dimensions=2, encoding="base64"), ["a"])
        assert server.requests[0].json["encoding_format"] == "base64"
    assert rows == [pytest.approx([0.6, 0.8])]


def packed(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@pytest.mark.parametrize(
    "data",
    [
        rows_of([3.0, 4.0], [0.0, 2.0]),
        rows_of(packed(3, 4), packed(0, 2)),
        {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]},
        {"data": [{"embedding": [3, 4]}, {"embedding": [0, 2]}]},
    ],
    ids=["floats", "base64", "out of order", "no index"],
)
def test_rows_follow_their_texts_and_have_length_one(data: Any) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply(data), path=PATH)
        rows = embed(embedder_at(server.url, dimensions=2), ["a", "b"])
    assert rows == [pytest.approx([0.6, 0.8]), pytest.approx([0.0, 1.0])]


@pytest.mark.parametrize(
    "data",
    [
        {}, [], "text", None, {"data": None}, {"data": [1, 2]},
        rows_of([1, 2]), rows_of([1, 2], [1, 2], [1, 2]),
        rows_of([1, 2], [1, 2, 3]), rows_of([1, 2, 3], [1, 2, 3]), rows_of([1, 2], []), rows_of([1, 2], None),
        rows_of([1, 2], "the text itself"), rows_of([1, 2], packed(1)), rows_of([1, 2], "MTIzNDU="),
        rows_of([1, 2], [[1, 2]]), rows_of([1, 2], ["a", "b"]), rows_of([1, 2], [1, None]), rows_of([1, 2], [0, 0]),
        rows_of([1, 2], packed(1, float("nan"))), rows_of([1, 2], packed(1, float("inf"))), rows_of([1, 2], [1e39, 1]),
        {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]},
        {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 2, "embedding": [1, 2]}]},
        {"data": [{"index": "0", "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]},
    ],
)  # fmt: skip
def test_what_is_not_one_vector_a_text_is_refused(data: Any) -> None:
    with FakeLLMServer() as server:
        server.script(json_reply(data), path=PATH)
        with pytest.raises(EmbedderError) as caught:
            embed(embedder_at(server.url, dimensions=2), ["a", "b"])
    assert caught.value.problem_code == "embedder_wrong_shape"
    assert "small" in caught.value.remedy


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (json_reply({"error": {"message": "no", "code": 429}}), "embedder_rate_limited"),
        (json_reply({"detail": "no"}, 401), "embedder_refused"),
        (Reply([b"<html>"], headers={"content-type": "text/html"}), "embedder_protocol"),
        (Reply([b'{"data": [', "close"], headers={}), "embedder_truncated"),
        (Reply([b'{"data": ['], headers={}), "embedder_protocol"),
    ],
)
def test_a_failure_has_a_code(reply: Reply, code: str) -> None:
    with FakeLLMServer() as server:
        server.script(reply, reply, reply, path=PATH)
        with pytest.raises(EmbedderError) as caught:
            embed(embedder_at(server.url, dimensions=2), ["a"])
    assert caught.value.problem_code == code


def test_a_busy_server_is_asked_again() -> None:
    with FakeLLMServer() as server:
        server.script(json_reply({"error": "busy"}, 503, {"retry-after": "0"}), path=PATH)
        assert len(embed(embedder_at(server.url, dimensions=64), ["a"])) == 1
        assert len(server.requests) == 2


def test_texts_that_share_words_are_near() -> None:
    with FakeLLMServer() as server:
        embedder = embedder_at(server.url)
        roses, more, tax = embed(embedder, ["water the roses", "the roses need water", "file an income return"])
    dot = [sum(a * b for a, b in zip(roses, other, strict=True)) for other in (more, tax)]
    assert dot[0] > 0.6 > 0.4 > dot[1]

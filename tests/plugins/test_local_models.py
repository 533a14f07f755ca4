"""Models that run in this process, from a folder: tiny graphs made here, and a real one where it is at hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sourcebook.documents import Passage
from sourcebook.errors import ConfigError
from sourcebook.testing.embedders import EmbedderContract
from sourcebook.testing.indexes import context
from sourcebook_plugins.local.cross_encoder import CrossEncoder, CrossEncoderSettings
from sourcebook_plugins.local.onnx import OnnxEmbedder, OnnxSettings

onnx = pytest.importorskip("onnx")
WORDS = ["[PAD]", "[UNK]", "tea", "coffee", "green", "water", "query", ":", *"abcdefghijklmnopqrstuvwxyz"]
WORDS += ["Water", "roses", "invoice", "May"]  # of the contract's texts
SIZE = 4


def tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))


def graph(folder: Path, *, logits: bool = False, seed: int = 1) -> None:
    """A table of one vector a word, looked up: `last_hidden_state`; or, summed over all tokens, one logit a pair."""
    helper, tensor = onnx.helper, onnx.TensorProto
    table = np.random.default_rng(seed).normal(size=(len(WORDS), SIZE)).astype(np.float32)
    if logits:
        table = np.arange(len(WORDS), dtype=np.float32).reshape(-1, 1)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["hidden"])]
    shape: list[Any] = ["batch", "length", table.shape[1]]
    if logits:
        nodes.append(helper.make_node("ReduceSum", ["hidden", "axes"], ["out"], keepdims=0))
        shape = ["batch", 1]
    wanted = [onnx.numpy_helper.from_array(table, "table")]
    if logits:
        wanted.append(onnx.numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"))
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", tensor.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info(nodes[-1].output[0], tensor.FLOAT, shape)],
        wanted,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer(tmp_path)
    graph(tmp_path)
    return tmp_path


def embedder(folder: Path, **settings: Any) -> OnnxEmbedder:
    return OnnxEmbedder(OnnxSettings.model_validate({"path": folder, **settings}), "tiny")


async def rows(one: OnnxEmbedder, texts: Sequence[str], kind: Any = "passage") -> Any:
    await one.open(context(Path()))
    try:
        return (await one.embed(texts, kind))["dense"]
    finally:
        await one.close()


def test_padding_and_the_order_of_a_batch_change_no_vector(folder: Path) -> None:
    texts = ["tea", "green tea a b c d e f", "", "coffee", "water green"]
    together = asyncio.run(rows(embedder(folder, max_batch=2), texts))
    alone = np.concatenate([asyncio.run(rows(embedder(folder), [text])) for text in texts])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-6)
    lengths = np.linalg.norm(together, axis=1)
    np.testing.assert_allclose(lengths[[0, 1, 3, 4]], 1, atol=1e-6)


def test_pooling_and_normalising_are_as_they_are_set(folder: Path) -> None:
    words = {w: asyncio.run(rows(embedder(folder, normalize=False), [w]))[0] for w in ("tea", "coffee")}
    for pooling, wanted in (
        ("mean", (words["tea"] + words["coffee"]) / 2),
        ("cls", words["tea"]),
        ("last", words["coffee"]),
    ):
        found = asyncio.run(rows(embedder(folder, pooling=pooling, normalize=False), ["tea coffee", "tea tea tea tea"]))
        np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_a_prefix_belongs_to_its_kind_and_to_the_identity(folder: Path) -> None:
    prefixed = embedder(folder, query_prefix="query: ")
    asked = asyncio.run(rows(prefixed, ["tea"], "query"))
    np.testing.assert_allclose(asked, asyncio.run(rows(embedder(folder), ["query: tea"])), atol=1e-6)
    np.testing.assert_allclose(
        asyncio.run(rows(prefixed, ["tea"])), asyncio.run(rows(embedder(folder), ["tea"])), atol=1e-6
    )


def test_the_identity_is_what_changes_a_vector_and_not_where_the_folder_lies(folder: Path, tmp_path: Path) -> None:
    def identity(at: Path, **settings: Any) -> str:
        one = embedder(at, **settings)
        asyncio.run(rows(one, ["tea"]))
        return one.identity

    moved, other = tmp_path / "moved", tmp_path / "other"
    for at in (moved, other):
        at.mkdir()
        tokenizer(at)
    graph(moved)
    graph(other, seed=2)
    first = identity(folder)
    assert identity(moved) == first == identity(folder, max_batch=3, threads=1)
    changed: list[dict[str, Any]] = [
        {"query_prefix": "q"},
        {"passage_prefix": "q"},
        {"pooling": "cls"},
        {"normalize": False},
    ]
    assert len({first, identity(other), *(identity(folder, **one) for one in changed)}) == 2 + len(changed)
    assert len(first) <= 300


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no file .*model\.onnx"):
        asyncio.run(rows(embedder(tmp_path), ["tea"]))
    tokenizer(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ConfigError, match="not a graph that onnxruntime reads"):
        asyncio.run(rows(embedder(tmp_path), ["tea"]))


def test_a_missing_library_is_told_with_the_extra_that_brings_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError) as missing:
        asyncio.run(rows(embedder(folder), ["tea"]))
    assert "sourcebook[onnx]" in missing.value.remedy


def test_the_cross_encoder_scores_each_passage_with_the_question(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    graph(tmp_path, logits=True)
    passage = Passage("p", "s", "n", "d", "g", 0, 0, 1, "")
    texts = ["tea", "water water", "coffee"]

    async def run() -> Sequence[float]:
        one = CrossEncoder(CrossEncoderSettings.model_validate({"path": tmp_path, "max_batch": 1}), "tiny")
        await one.open(context(Path()))
        try:
            assert await one.rerank("green", []) == []
            return await one.rerank("green", [replace(passage, text=text) for text in texts])
        finally:
            await one.close()

    value = {word: i for i, word in enumerate(WORDS)}
    wanted = [value["green"] + sum(value[w] for w in text.split()) for text in texts]
    assert asyncio.run(run()) == pytest.approx(wanted)


MINILM = os.environ.get("SOURCEBOOK_TEST_MINILM", "")


@pytest.mark.skipif(not MINILM, reason="SOURCEBOOK_TEST_MINILM does not name the folder of bench/export_minilm.py")
def test_the_real_model_knows_what_is_alike() -> None:
    texts = ["How do I brew tea?", "Steep the leaves in hot water for three minutes.", "The stock market fell today."]
    for file, least in (("model.onnx", 0.0), ("model_int8.onnx", 0.0)):
        found = asyncio.run(rows(embedder(Path(MINILM), file=file), texts))
        assert found[0] @ found[1] > found[0] @ found[2] + 0.2 > least


class TestOnnxContract(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _folder(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def embedder(self) -> Iterator[OnnxEmbedder]:
        yield embedder(self.folder)

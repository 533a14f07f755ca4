from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sourcebook_static_embedder
from safetensors.numpy import save_file
from sourcebook_static_embedder import StaticEmbedder, StaticSettings
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from sourcebook.testing.embedders import EmbedderContract

WORDS = "[UNK] water the roses in morning invoice is due may word high low six noon harbour opens at dawn".split()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, saved as a large one is."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    matrix = np.random.default_rng(7).normal(size=(len(WORDS), 32)).astype(np.float32)
    save_file({"embeddings": matrix, "weights": np.ones(len(WORDS))}, folder / "model.safetensors")
    return folder


class TestStaticEmbedder(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _with_model(self, model: Path) -> None:
        self.model = model

    @contextmanager
    def embedder(self) -> Iterator[StaticEmbedder]:
        yield StaticEmbedder(StaticSettings(path=self.model))

    @contextmanager
    def failing(self) -> Iterator[StaticEmbedder]:
        yield StaticEmbedder(StaticSettings(path=self.model / "elsewhere"))

    def test_the_identity_is_the_models_and_not_the_folders(self, tmp_path: Path) -> None:
        for file in self.model.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        names = []
        for folder in (self.model, tmp_path):
            one = StaticEmbedder(StaticSettings(path=folder))
            one._load()
            names.append(one.identity)
        assert names[0] == names[1]


def test_it_finds_what_shares_no_word_order(sourcebook_in_process: Callable[..., Any], model: Path) -> None:
    config = {
        "embedders": {"local": {"use": "static", "path": str(model)}},
        "pipelines": {"default": {"embedder": "local"}},
    }
    book = sourcebook_in_process(sourcebook_static_embedder, config=config)
    assert book.ingest("a.md", b"high water at six").state == "ready"
    assert book.ingest("b.md", b"the invoice is due in may").state == "ready"
    best = book.search("six at water")[0]
    assert best.text == "high water at six"
    assert any(leg.startswith("dense:") for leg in best.scores)

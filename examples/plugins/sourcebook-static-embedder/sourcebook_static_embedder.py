"""Embeds with a static model in a local folder: one row of a matrix a token, averaged. No GPU, no server, no download.

The folder is as Model2Vec publishes it: `tokenizer.json`, and `model.safetensors` with a matrix `embeddings` and
maybe `weights` (one a row) and `mapping` (token to row). Source: github.com/MinishLab/model2vec, `StaticModel.encode`.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from sourcebook import ComponentSettings, Context, Embedder, Space, hookimpl
from sourcebook.errors import EmbedderError

API_VERSION = 1


class StaticSettings(ComponentSettings):
    """`path` is the model's folder; `max_tokens` of a text are read, the rest is cut."""

    path: Path
    max_tokens: int = 512


class StaticEmbedder(Embedder[StaticSettings]):
    """The mean of the tokens' rows, at length 1; a text without any known token has the matrix's mean."""

    name = "static"
    Settings = StaticSettings
    max_batch = 256

    async def open(self, context: Context) -> None:
        try:
            await asyncio.to_thread(self._load)
        except Exception as error:  # the libraries' own errors have no common root
            raise EmbedderError(
                f"No static model could be loaded from {self.settings.path}: {error}",
                code="embedder_no_model",
                remedy="It needs tokenizer.json and model.safetensors, as Model2Vec saves them.",
            ) from error
        self.spaces = (Space("static", int(self._matrix.shape[1]), norm="unit"),)

    def _load(self) -> None:
        import numpy as np
        from safetensors.numpy import load
        from tokenizers import Tokenizer

        data = (self.settings.path / "model.safetensors").read_bytes()
        tensors = load(data)
        self._tokenizer = Tokenizer.from_file(str(self.settings.path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.settings.max_tokens)
        self._matrix = tensors["embeddings"].astype(np.float32)
        weights = tensors.get("weights")
        if weights is not None:
            self._matrix = self._matrix * weights.astype(np.float32)[:, None]
        self._rows_of = tensors.get("mapping")
        self._mean = self._matrix.mean(axis=0)
        # The vectors depend on these bytes and on nothing else, wherever the folder lies.
        self.identity = f"static/{hashlib.sha256(data).hexdigest()[:16]}/{self.settings.max_tokens}"

    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Any:
        return {"static": await asyncio.to_thread(self._embed, texts)}

    def _embed(self, texts: Sequence[str]) -> Any:
        import numpy as np

        vectors = np.empty((len(texts), self._matrix.shape[1]), dtype=np.float32)
        for n, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)):
            ids = np.array(encoding.ids, dtype=np.int64)
            rows = ids if self._rows_of is None else self._rows_of[ids]
            vector = self._matrix[rows].mean(axis=0) if len(rows) else self._mean
            vectors[n] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return vectors


@hookimpl
def register_embedders() -> list[type[StaticEmbedder]]:
    return [StaticEmbedder]

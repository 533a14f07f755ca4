"""The embedder `fastembed`: any ONNX model in a folder, by Qdrant's library of that name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from sourcebook.interfaces import ComponentSettings
from sourcebook_plugins.local.models import LocalEmbedder, LocalEmbedderSettings, fingerprint, library, model_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FastEmbedSettings(LocalEmbedderSettings):
    """The folder holds the graph, config.json, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""

    file: str = Field("model.onnx", description="The graph in the folder.")
    dimensions: int = Field(384, ge=1, le=65_536, description="Of the model's vectors.")
    pooling: Literal["mean", "cls"] = "mean"


class FastEmbedEmbedder(LocalEmbedder[FastEmbedSettings]):
    """Embeds with fastembed. It is told to use this folder and nothing else, so it asks no hub."""

    name = "fastembed"
    Settings: ClassVar[type[ComponentSettings]] = FastEmbedSettings

    _model: Any

    def _load(self) -> tuple[int, str, list[Any]]:
        s = self.settings
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        library("fastembed", "fastembed")
        descriptions = library("fastembed.common.model_description", "fastembed")
        text = library("fastembed.text.text_embedding", "fastembed").TextEmbedding
        revision = fingerprint([model_file(s.path, s.file), model_file(s.path, "tokenizer.json")])
        name = f"local/{revision}-{s.pooling}-{s.normalize}"
        if name not in {model["model"] for model in text.list_supported_models()}:
            text.add_custom_model(
                model=name,
                pooling=descriptions.PoolingType.MEAN if s.pooling == "mean" else descriptions.PoolingType.CLS,
                normalization=s.normalize,
                sources=descriptions.ModelSource(url="file://unused"),
                dim=s.dimensions,
                model_file=s.file,
            )
        folder = str(s.path.expanduser())
        self._model = text(model_name=name, specific_model_path=folder, threads=s.threads or None)
        return s.dimensions, revision, [s.pooling, s.normalize]

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        return np.array(list(self._model.embed(texts, batch_size=len(texts))), dtype=np.float32)

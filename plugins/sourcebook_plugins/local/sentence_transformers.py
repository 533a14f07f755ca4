"""The embedder `sentence_transformers`: any model of that library, from a folder. It brings torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from sourcebook.interfaces import ComponentSettings
from sourcebook_plugins.local.models import LocalEmbedder, LocalEmbedderSettings, fingerprint, library, model_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SentenceTransformersSettings(LocalEmbedderSettings):
    """Pooling is what the folder's own modules say. No code from the folder is run."""

    device: str = Field("cpu", description="As torch names it: `cpu`, `cuda`, `mps`.")


class SentenceTransformersEmbedder(LocalEmbedder[SentenceTransformersSettings]):
    """Embeds with sentence-transformers."""

    name = "sentence_transformers"
    Settings: ClassVar[type[ComponentSettings]] = SentenceTransformersSettings

    _model: Any

    def _load(self) -> tuple[int, str, list[Any]]:
        s = self.settings
        folder = s.path.expanduser()
        modules = model_file(folder, "modules.json")
        weights = [*folder.rglob("*.safetensors"), *folder.rglob("pytorch_model*.bin")]
        if not weights:
            weights = [model_file(folder, "model.safetensors")]
        if s.threads:
            library("torch", "sentence-transformers").set_num_threads(s.threads)
        models = library("sentence_transformers", "sentence-transformers")
        self._model = models.SentenceTransformer(
            str(folder), device=s.device, local_files_only=True, trust_remote_code=False
        )
        revision = fingerprint([modules, *sorted(weights)])
        return self._embed(["a"]).shape[1], revision, [s.normalize]

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import numpy as np

        rows = self._model.encode(
            texts,
            batch_size=len(texts),
            normalize_embeddings=self.settings.normalize,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(rows, dtype=np.float32)

"""What local models share: the folder that they are in, the fingerprint of their weights, and work in one thread."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson
from pydantic import Field

from sourcebook.errors import ConfigError, EmbedderError
from sourcebook.interfaces import ComponentSettings, Context, Embedder, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sourcebook.interfaces import Vectors

SPACE = "dense"
T = TypeVar("T")


class LocalSettings(ComponentSettings):
    """`path` is the folder with the model's files; it is read at the start and never written."""

    path: Path = Field(description="The folder with the model's files.")
    threads: int = Field(0, ge=0, le=256, description="For one batch; 0 leaves it to the library.")
    max_batch: int = Field(64, ge=1, le=1024, description="Texts in one batch.")


class LocalEmbedderSettings(LocalSettings):
    """With the prefixes that the model was trained with, such as `query: ` and `passage: `."""

    query_prefix: str = ""
    passage_prefix: str = ""
    normalize: bool = Field(True, description="Scale every vector to length 1.")


def library(name: str, extra: str) -> Any:
    """The module, or a `ConfigError` that says which extra brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"The package {name.partition('.')[0]} is not installed.",
            remedy=f"Run: pip install 'sourcebook[{extra}]'",
            code="extra_missing",
        ) from error


def model_file(folder: Path, name: str) -> Path:
    """A file of the model; a `ConfigError` that names the path where it is not there."""
    path = folder.expanduser() / name
    if not path.is_file():
        raise ConfigError(
            f"There is no file {path}.", remedy="Let `path` name the folder with the model's files.", code="no_model"
        )
    return path


def fingerprint(files: Sequence[Path]) -> str:
    """Sixteen hex digits of the SHA-256 of these files: the revision of weights that carry no name."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()[:16]


class Lane:
    """One thread in which a model is loaded and run: it never holds the event loop, and batches do not compete."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """The result of `work(*arguments)`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def close(self) -> None:
        """Let the thread go when it is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)


S = TypeVar("S", bound=LocalEmbedderSettings)


class LocalEmbedder(Embedder[S]):
    """An embedder whose model is loaded by `_load` and run by `_embed`, both in its own thread.

    Vectors are float32, and of length 1 unless `normalize` is off. The identity is the class, the fingerprint of
    the weights, the dimensions, the prefixes and what else changes a vector: the folder may be moved without embedding
    anything anew.
    """

    def __init__(self, settings: S, instance: str = "") -> None:
        super().__init__(settings, instance)
        self.max_batch = settings.max_batch
        self._lane: Lane | None = None

    async def open(self, context: Context) -> None:
        self._lane = Lane(self.instance)
        dimensions, revision, details = await self._lane.run(self._load)
        self.spaces = (Space(SPACE, dimensions, norm="unit" if self.settings.normalize else "any"),)
        s = self.settings
        rest = orjson.dumps([s.query_prefix, s.passage_prefix, *details]).decode()
        self.identity = f"{type(self).name}:{revision}:{dimensions}:{hashlib.sha256(rest.encode()).hexdigest()[:16]}"

    async def close(self) -> None:
        if self._lane:
            self._lane.close()

    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Vectors:
        """See `Embedder.embed`."""
        if self._lane is None:
            raise RuntimeError("open() has not been called")
        prefix = self.settings.query_prefix if kind == "query" else self.settings.passage_prefix
        try:
            rows = await self._lane.run(self._all, [prefix + text for text in texts])
        except (RuntimeError, ValueError, MemoryError) as error:
            raise EmbedderError(
                f"The model of {self.instance} failed: {error}", code="embedder_failed", transient=False
            ) from error
        return {SPACE: rows}

    def _all(self, texts: list[str]) -> NDArray[np.float32]:
        """In batches of texts that are about as long, so that little is spent on padding."""
        import numpy as np

        rows = np.empty((len(texts), self.spaces[0].dimensions), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), self.max_batch):
            some = order[first : first + self.max_batch]
            rows[some] = self._embed([texts[i] for i in some])
        return rows

    @abstractmethod
    def _load(self) -> tuple[int, str, list[Any]]:
        """Dimensions, revision, and whatever else changes a vector."""

    @abstractmethod
    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        """One row a text."""


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row at length 1; a row of zeros stays."""
    import numpy as np

    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)
    return scaled

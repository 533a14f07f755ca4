"""An embedding model behind `POST /embeddings`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import orjson
from pydantic import Field

from sourcebook.errors import EmbedderError
from sourcebook.http import Http
from sourcebook.interfaces import ComponentSettings, Context, Embedder, Space
from sourcebook.upstream import Failures, Retries, ServerSettings, call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sourcebook.interfaces import Vectors

SPACE = "dense"


class OpenAIEmbedderSettings(ServerSettings):
    """`base_url` ends before `/embeddings`. `dimensions`: what the model gives; one probe finds it where it is not set.

    `send_dimensions` asks the server to shorten its vectors to `dimensions` (OpenAI's third generation and other
    Matryoshka models); most other servers refuse the field. `encoding = "base64"` asks for a quarter of the bytes,
    where the server knows how. The prefixes are what the model was trained with, such as `query: ` and `passage: `.
    """

    base_url: str = "http://localhost:11434/v1"
    dimensions: int | None = Field(default=None, ge=1, le=65_536)
    send_dimensions: bool = False
    encoding: Literal["float", "base64"] = "float"
    query_prefix: str = ""
    passage_prefix: str = ""
    max_batch: int = Field(default=64, ge=1, le=2048)


class OpenAIEmbedder(Embedder[OpenAIEmbedderSettings]):
    """Embeds with any server that speaks the OpenAI API; vectors are normalised to length 1."""

    name = "openai"
    Settings: ClassVar[type[ComponentSettings]] = OpenAIEmbedderSettings

    def __init__(self, settings: OpenAIEmbedderSettings, instance: str = "", retries: Retries | None = None) -> None:
        super().__init__(settings, instance)
        self.max_batch = settings.max_batch
        self._retries = retries or Retries()
        self._failures = Failures(EmbedderError, "embedder", self.instance, settings.secrets())
        self._http: Http | None = None

    async def open(self, context: Context) -> None:
        """Embed one word to learn the dimensions, unless they are set: then the server may be down by now."""
        self._http = context.http
        dimensions = self.settings.dimensions
        if dimensions is None:
            try:
                dimensions = len((await self._rows(["word"]))[0])
            except EmbedderError as error:
                remedy = (
                    f"Start the server, or set `dimensions` of {self.instance} so that it is not asked at the start."
                )
                raise self._failures.make(
                    error.problem_code.removeprefix("embedder_"),
                    error.detail,
                    remedy=f"{error.remedy} {remedy}".strip(),
                ) from error
        self.spaces = (Space(SPACE, dimensions, norm="unit"),)
        settings = self.settings
        # JSON, so that no two pairs of prefixes look the same.
        pair = [settings.query_prefix, settings.passage_prefix]
        prefixes = orjson.dumps(pair).decode() if any(pair) else ""
        self.identity = f"openai:{settings.model}:{dimensions}:{prefixes}"

    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Vectors:
        """See `Embedder.embed`; more than `max_batch` texts are sent in several calls."""
        import numpy as np

        prefix = self.settings.query_prefix if kind == "query" else self.settings.passage_prefix
        # Servers refuse an empty string; a space means as much.
        asked = [(prefix + text) or " " for text in texts]
        dimensions = self.spaces[0].dimensions
        found = np.empty((len(asked), dimensions), dtype=np.float32)
        start = 0
        while start < len(asked):
            rows = await self._fitting(asked[start : start + self.max_batch])
            for offset, row in enumerate(rows):
                if len(row) != dimensions:
                    raise self._wrong(f"vectors of {len(row)} dimensions where {dimensions} are expected")
                found[start + offset] = row
            start += len(rows)
        return {SPACE: self._normalised(found)}

    async def _fitting(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """The rows of as many of the first texts as the server takes at once, which is remembered.

        Servers say that a batch is too large by 413, or by 400 with whatever words.
        """
        while True:
            try:
                return await self._rows(texts)
            except EmbedderError as error:
                if error.details.get("status") not in (400, 413) or len(texts) < 2:
                    raise
            texts = texts[: len(texts) // 2]
            self.max_batch = min(self.max_batch, len(texts))

    async def _rows(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        if self._http is None:
            raise RuntimeError("open() has not been called")
        settings = self.settings
        body: dict[str, Any] = {"model": settings.model, "input": list(texts)}
        if settings.encoding == "base64":
            body["encoding_format"] = "base64"
        if settings.send_dimensions and settings.dimensions is not None:
            body["dimensions"] = settings.dimensions
        data = await call(self._http, f"{settings.base_url}/embeddings", body, settings, self._failures, self._retries)
        return self._ordered(data, len(texts))

    def _ordered(self, data: Any, count: int) -> list[NDArray[np.float32]]:
        """The rows in the order of the texts, which is that of `index`, not that of arrival."""
        items = data.get("data") if isinstance(data, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._wrong("no list of embeddings")
        if len(items) != count:
            raise self._wrong(f"{len(items)} vectors for {count} texts")
        places = [item.get("index", i) for i, item in enumerate(items)]
        if not all(type(p) is int for p in places) or sorted(places) != list(range(count)):
            raise self._wrong("indexes that do not match the texts")
        rows: list[Any] = [None] * count
        for place, item in zip(places, items, strict=True):
            rows[place] = self._vector(item.get("embedding"))
        return rows

    def _vector(self, value: Any) -> NDArray[np.float32]:
        import numpy as np

        try:
            if isinstance(value, str):
                vector = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
            elif isinstance(value, list):
                with np.errstate(over="ignore"):  # what overflows is found to be infinite below
                    vector = np.array(value, dtype=np.float32)
            else:
                raise ValueError("neither floats nor base64")
        except (ValueError, TypeError, binascii.Error) as error:
            raise self._wrong("something that is not a vector") from error
        if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
            raise self._wrong("a vector that is empty, nested or not finite")
        return vector

    def _normalised(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not lengths.all():
            raise self._wrong("a vector of length 0")
        normalised: NDArray[np.float32] = (rows / lengths).astype(np.float32)
        return normalised

    def _wrong(self, what: str) -> EmbedderError:
        return self._failures.make(
            "wrong_shape",
            f"The server of {self.instance} gave {what}.",
            remedy=f"Check `model` and `dimensions` of {self.instance}.",
        )
